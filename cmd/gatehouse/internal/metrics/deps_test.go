package metrics

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out what counting must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"github.com/gatehouse-authz/gatehouse/extauthz/config": "metrics see what was decided, not how it was configured",
		"go.uber.org/zap": "metrics do not log",
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
