package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzConfig: whatever is in the file, loading says yes or no, with a place for
// every no, and says the same again.
func FuzzConfig(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "config.yaml" {
				f.Add(file.Data)
			}
		}
	}
	env := func(name string) (string, bool) { return "a, b", len(name) < 6 }
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.ContainsAny(data, "/") && bytes.Contains(data, []byte("file")) {
			return // do not read whatever file the fuzzer names
		}
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, report := Load(path, env, nil)
		if (loaded == nil) != (len(report.Errors) > 0) {
			t.Fatalf("loaded %v with errors %v", loaded, report.Errors)
		}
		for _, p := range report.Errors {
			if p.At.Line < 1 || p.At.Column < 1 || p.Message == "" {
				t.Errorf("problem without a place or a sentence: %+v", p)
			}
			_ = p.String()
		}
		for _, p := range report.Warnings {
			if p.At.Line < 1 || p.At.Column < 1 || p.Message == "" || p.Remedy == "" && p.Rule != ruleWeak || !p.Rule.Text().Warning {
				t.Errorf("warning without a place, a remedy or a rule: %+v", p)
			}
		}
		if _, again := Load(path, env, nil); again.String() != report.String() {
			t.Errorf("loading twice differs: %s\n%s", report, again)
		}
	})
}
