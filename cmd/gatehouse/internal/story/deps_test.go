package story

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out what telling a story must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"os":                     "stories are told to a writer",
		"github.com/spf13/cobra": "stories know nothing of flags",
		"github.com/gatehouse-authz/gatehouse/extauthz/config": "a story needs the resolved configuration only",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		if reason, bad := forbidden[strings.TrimSpace(dep)]; bad {
			t.Errorf("imports %s: %s", strings.TrimSpace(dep), reason)
		}
	}
}
