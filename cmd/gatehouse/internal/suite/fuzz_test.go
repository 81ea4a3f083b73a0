package suite

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzLoad: whatever is in the file, loading says yes or no, with a place and a sentence
// for every no.
func FuzzLoad(f *testing.F) {
	demo, err := os.ReadFile("../demo/tests.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(demo)
	paths, err := filepath.Glob("../../testdata/test/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatalf("finding seeds: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if isTests(file.Name) {
				f.Add(file.Data)
			}
		}
	}
	env := func(name string) (string, bool) { return "value", len(name) < 6 }
	f.Fuzz(func(t *testing.T, data []byte) {
		s, report := Load(Source{Name: "tests.yaml", Data: data}, env)
		if (s == nil) == report.OK() {
			t.Fatalf("loaded %v with %v", s, report)
		}
		for _, p := range report.Errors {
			if p.At.Line < 1 || p.At.Column < 1 || p.Message == "" {
				t.Errorf("problem without a place or a sentence: %+v", p)
			}
			_ = p.String()
		}
	})
}
