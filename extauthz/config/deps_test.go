package config

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out what the package must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"testing": "the loader is part of the product",
		"github.com/gatehouse-authz/gatehouse/cmd":                      "imports point down: commands load configurations, not the reverse",
		"github.com/gatehouse-authz/gatehouse/extauthz/portal":          "imports point down: the portal stands beside the loader",
		"github.com/gatehouse-authz/gatehouse/envoy":                    "Envoy's configuration is not ours",
		"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest": "a live issuer is for tests only",
		"github.com/spf13/cobra":                                        "flags belong to the commands",
		"go.uber.org/zap":                                               "problems are returned; the outermost layer logs",
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
