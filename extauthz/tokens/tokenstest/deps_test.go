package tokenstest

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps the conformance suite apart from the stores that it tries.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{

		"github.com/gatehouse-authz/gatehouse/extauthz/authn":  "a store is tried without the authenticators that ask it",
		"github.com/gatehouse-authz/gatehouse/extauthz/config": "a store is tried without a configuration",
		"github.com/gatehouse-authz/gatehouse/test":            "a store elsewhere is tried without our tools",
		"database/sql":     "the suite knows no kind of store",
		"github.com/jackc": "the suite knows no kind of store",
		"modernc.org":      "the suite knows no kind of store",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for path, reason := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") {
				t.Errorf("imports %s: %s", dep, reason)
			}
		}
	}
}
