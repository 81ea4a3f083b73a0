package serve

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out of the service what others do.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{

		"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/demo": "the demo starts the service, not the other way round",
		"github.com/gatehouse-authz/gatehouse/test":                        "the product runs without its tests",
		"github.com/gatehouse-authz/gatehouse/extauthz/mint":               "the snapshot holds the minter",
		"github.com/spf13":      "flags are the command's; the service takes Options",
		"github.com/golang-jwt": "tokens are authn's and mint's business",
		"cel.dev":               "expressions are compiled with the configuration",
		"go.yaml.in":            "extauthz/config reads files",
		"database/sql":          "extauthz/tokens knows the store",
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
