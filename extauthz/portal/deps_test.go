package portal

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"github.com/envoyproxy/":                               "the admin API is asked by people, not by Envoy",
		"github.com/gatehouse-authz/gatehouse/extauthz/config": "imports point down: whoever serves the portal tells it what the file says",
		"github.com/gatehouse-authz/gatehouse/cmd":             "imports point down",
		"github.com/prometheus/":                               "whoever serves the portal counts",
		"go.uber.org/zap":                                      "whoever serves the portal logs",
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		for prefix, why := range forbidden {
			if strings.HasPrefix(path, prefix) {
				t.Errorf("portal imports %s: %s", path, why)
			}
		}
	}
}
