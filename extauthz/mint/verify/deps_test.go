package verify

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps the verifier what an upstream could copy: no part of the product.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{

		"github.com/gatehouse-authz/gatehouse": "upstreams import this package without importing gatehouse",
		"google.golang.org":                    "upstreams need no gRPC to read a header",
		"go.uber.org":                          "the upstream has a logger of its own",
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
