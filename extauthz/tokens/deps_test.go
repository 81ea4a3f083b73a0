package tokens

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDeps keeps out what the package must not need.
func TestDeps(t *testing.T) {
	const module = "github.com/gatehouse-authz/gatehouse/"
	forbidden := map[string]string{
		module + "extauthz/authn":     "authenticators ask the store, not the other way round",
		module + "extauthz/config":    "the store knows nothing of the configuration file",
		module + "extauthz/portal":    "the admin API is a client of the store",
		module + "extauthz/mint":      "identity tokens are not kept",
		module + "proto":              "records are Go values; the admin API translates",
		"google.golang.org/grpc":      "the store is no server",
		"github.com/envoyproxy":       "the store knows nothing of Envoy",
		"github.com/mattn/go-sqlite3": "the binary is built without cgo",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for path, reason := range forbidden {
			if dep == strings.TrimSuffix(path, "/") || strings.HasPrefix(dep, path+"/") {
				t.Errorf("depends on %s: %s", dep, reason)
			}
		}
	}
}
