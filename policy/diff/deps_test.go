package diff

import (
	"go/build"
	"strings"
	"testing"
)

func TestDeps(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range pkg.Imports {
		if strings.Contains(path, ".") && path != "github.com/gatehouse-authz/gatehouse/policy" {
			t.Errorf("imports %s: the comparison is pure, and reads policies only", path)
		}
		for _, loud := range []string{"context", "net", "os", "time"} {
			if path == loud || strings.HasPrefix(path, loud+"/") {
				t.Errorf("imports %s: there is no I/O and no clock here", path)
			}
		}
	}
}
