package suite

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	forbidden := []struct{ prefix, why string }{
		{"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/serve", "tests are decided without listeners"},
		{"github.com/spf13/cobra", "flags belong to the commands"},
		{"net/http", "nothing is asked or served here; the authenticators fetch keys"},
		{"go.uber.org/zap", "what is found is returned"},
		{"testing", "the runner is part of the product"},
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		for _, f := range forbidden {
			if path == f.prefix || strings.HasPrefix(path, f.prefix+"/") {
				t.Errorf("imports %s: %s", path, f.why)
			}
		}
	}
}
