package compare

import (
	"go/build"
	"testing"
)

func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"net/http":               "nothing is asked or served here",
		"github.com/spf13/cobra": "flags belong to the command",
		"go.uber.org/zap":        "what is found is returned",
		"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/serve": "configurations are compared without listeners",
	}
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		if why, bad := forbidden[path]; bad {
			t.Errorf("imports %s: %s", path, why)
		}
	}
}
