package authn

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	forbidden := []struct{ prefix, why string }{
		{"github.com/envoyproxy/", "credentials are the same whatever asks; only the gate knows Envoy"},
		{"google.golang.org/protobuf", "authenticators are built from plain Go values"},
		{"google.golang.org/grpc", "the gate has the doors"},
		{"github.com/gatehouse-authz/gatehouse/extauthz/config", "imports point down: the configuration builds authenticators"},
		{"github.com/gatehouse-authz/gatehouse/extauthz/portal", "imports point down"},
		{"github.com/gatehouse-authz/gatehouse/extauthz/mint", "verifying other people's tokens and making ours are two trades"},
		{"github.com/gatehouse-authz/gatehouse/proto", "authenticators are built from plain Go values"},
		{"cel.dev/cel-go", "expressions are compiled with the configuration, where they have positions"},
		{"go.uber.org/zap", "whoever calls logs; nothing here has a logger"},
		{"github.com/prometheus/", "whoever calls counts, from State and Stats"},
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		if path == "github.com/gatehouse-authz/gatehouse/extauthz" {
			t.Errorf("authn imports %s: imports point down", path)
		}
		for _, f := range forbidden {
			if strings.HasPrefix(path, f.prefix) {
				t.Errorf("authn imports %s: %s", path, f.why)
			}
		}
	}
}
