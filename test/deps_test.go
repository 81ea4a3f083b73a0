// Package test holds what looks at gatehouse from outside. Start reading at e2e.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-authz/gatehouse/"

// TestDeps keeps the tests outside: they know the product by its binary, its ports and
// its files. What stands in for the rest of the world must not share its code either, or
// both would be wrong in one way.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"policy":          "decisions are seen in answers",
		"extauthz":        "answers are seen through Envoy",
		"extauthz/config": "configurations are read by the binary",
		"extauthz/mint":   "identity tokens are verified with their published keys",
		"extauthz/portal": "the portal is seen in a browser",
		"extauthz/tokens": "tokens are made by the admin API",
		"proto/gatehouse": "the file and its log are read as text",
		"cmd/gatehouse":   "the binary is built and run",
		"extauthz/authn":  "credentials come from clients of others",
	}
	// Who may know more than that, and what.
	excepted := map[string]map[string]string{
		"test/kinds": {
			"extauthz/authn":  "passwords are hashed as the hash command does",
			"extauthz/tokens": "no API makes tokens that expired long ago, or that nobody has",
		},
	}
	// Whoever caches test results must see that these files matter: go list does not say so.
	if err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			_, err = os.Stat(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, path := range append(append(p.Imports, p.TestImports...), p.XTestImports...) {
			path = strings.TrimPrefix(path, module)
			reason, bad := forbidden[path]
			if !bad || excepted[name][path] != "" {
				continue
			}
			t.Errorf("%s imports %s: %s", name, path, reason)
		}
	}
}
