package transport

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	allowed := map[string]string{
		"github.com/gatehouse-authz/gatehouse/extauthz/patience": "who waits says so",
	}
	forbidden := []struct{ prefix, why string }{
		{"github.com/gatehouse-authz/gatehouse/", "the transport knows nothing of what it carries"},
		{"github.com/envoyproxy/", "the transport knows nothing of what it carries"},
		{"google.golang.org/protobuf", "messages are the codec's business"},
		{"net/http", "a gRPC server needs none"},
		{"go.uber.org/zap", "nothing here has a logger"},
		{"github.com/prometheus/", "interceptors count"},
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		for _, f := range forbidden {
			if strings.HasPrefix(path, f.prefix) && allowed[path] == "" {
				t.Errorf("extauthz/transport imports %s: %s", path, f.why)
			}
		}
	}
}
