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

// FuzzOpen: whatever is in an archive, its files are found and read, or there is an error.
func FuzzOpen(f *testing.F) {
	paths, err := filepath.Glob("../../testdata/test/*.txtar")
	if err != nil || len(paths) == 0 {
		f.Fatalf("finding seeds: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("-- ../../outside.yaml --\nversion: 1\n-- /tests.yaml --\n-- tests.yaml --\nversion: 1\n-- tests.yaml --\n"))
	env := func(string) (string, bool) { return "", false }
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "inside", "tests.txtar")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		opened, err := Open(path)
		if err == nil {
			for _, source := range opened.Sources {
				if s, report := Load(source, env); (s == nil) == report.OK() {
					t.Errorf("loaded %v with %v", s, report)
				}
			}
			opened.Close()
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the archive has written outside: %v, %v", entries, err)
		}
	})
}
