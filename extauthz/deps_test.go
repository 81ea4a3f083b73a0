package extauthz

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	forbidden := []struct{ prefix, why string }{
		{"github.com/gatehouse-authz/gatehouse/extauthz/config", "imports point down: the configuration builds the gate"},
		{"github.com/gatehouse-authz/gatehouse/extauthz/portal", "imports point down: the portal stands behind the gate"},
		{"github.com/gatehouse-authz/gatehouse/cmd", "imports point down"},
		{"github.com/gatehouse-authz/gatehouse/proto", "the gate is built from plain Go values"},
		{"cel.dev/", "expressions are compiled with the configuration"},
		{"buf.build/", "the configuration is validated before it gets here"},
		{"go.uber.org/zap", "whoever observes the gate logs; nothing here has a logger"},
		{"github.com/prometheus/", "whoever observes the gate counts"},
		{"github.com/golang-jwt/", "tokens are authn's and mint's business"},
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		for _, f := range forbidden {
			if strings.HasPrefix(path, f.prefix) {
				t.Errorf("extauthz imports %s: %s", path, f.why)
			}
		}
	}
}
