package envoy

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out what the package must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"testing": "gatehouse demo links this package into the product",
		"github.com/gatehouse-authz/gatehouse/policy":   "configurations to copy know nothing of decisions",
		"github.com/gatehouse-authz/gatehouse/extauthz": "configurations to copy know nothing of decisions",
		"github.com/gatehouse-authz/gatehouse/test":     "the demo runs without the tests",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for path, reason := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") {
				t.Errorf("depends on %s: %s", dep, reason)
			}
		}
	}
}
