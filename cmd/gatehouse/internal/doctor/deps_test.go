package doctor

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps the look at an Envoy configuration apart from the product.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{

		"net": "doctor reads a file; it asks nobody",
		"os":  "whoever calls reads the file",
		"github.com/gatehouse-authz/gatehouse/extauthz": "Envoy's configuration is judged by itself",
		"github.com/gatehouse-authz/gatehouse/policy":   "Envoy's configuration is judged by itself",
		"github.com/envoyproxy":                         "YAML is walked as it is, so that a field of a newer Envoy is no error",
		"github.com/spf13":                              "flags are the command's",
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
