package connections

import (
	"go/build"
	"strings"
	"testing"
)

// TestDeps: a bound is for any listener, and knows nothing of what it is part of.
func TestDeps(t *testing.T) {
	forbidden := []struct{ prefix, why string }{
		{"github.com/gatehouse-authz/gatehouse", "it is about sockets only"},
		{"github.com/prometheus", "whoever listens counts"},
		{"go.uber.org/zap", "whoever listens logs"},
		{"google.golang.org/grpc", "what is spoken is the server's business"},
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		for _, f := range forbidden {
			if strings.HasPrefix(path, f.prefix) {
				t.Errorf("connections imports %s: %s", path, f.why)
			}
		}
	}
}
