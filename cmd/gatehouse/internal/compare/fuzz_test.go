package compare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// FuzzConfigurations: two configurations that load can be compared, and each equals itself.
func FuzzConfigurations(f *testing.F) {
	f.Add([]byte(base), []byte(strings.Replace(base, "all: [admin]", "any: [admin, user]", 1)))
	f.Add([]byte(strings.Replace(base, "[{scopes: {all: [read]}}]", `[{when: 'request.method == "GET" && "x" in request.headers'}, {owner: "{context.owner}"}]`, 1)), []byte(base))
	f.Add([]byte(strings.Replace(base, `"/read/"`, `"GET,POST *.example.com/read/{a}/{b...}"`, 1)), []byte(base))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		dir := t.TempDir()
		load := func(name string, data []byte) *config.Loaded {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			loaded, _ := config.Load(path, environment, nil)
			if loaded != nil {
				t.Cleanup(loaded.Close)
			}
			return loaded
		}
		if strings.Contains(string(a)+string(b), "store") {
			return // nothing is to be written here
		}
		old, new := load("old.yaml", a), load("new.yaml", b)
		for _, loaded := range []*config.Loaded{old, new} {
			if loaded == nil {
				continue
			}
			if got := summary(Configurations(loaded, loaded)); got != "" {
				t.Errorf("a configuration differs from itself: %s", got)
			}
		}
		if old != nil && new != nil {
			Configurations(old, new)
		}
	})
}
