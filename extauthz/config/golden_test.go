package config

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the want sections of testdata")

// TestGolden loads every configuration in testdata and holds what the operator
// reads against `want`. An archive holds `config.yaml`, `want`, and if needed `env`
// (NAME=value lines) and files that the configuration refers to.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding testdata: %d archives, %v", len(paths), err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.ToSlash(path), "testdata/"), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := loadArchive(t, archive)
			again := loadArchive(t, archive)
			if got != again {
				t.Errorf("loading twice differs:\n%s", cmp.Diff(got, again))
			}
			for i, file := range archive.Files {
				if file.Name != "want" {
					continue
				}
				if *update {
					archive.Files[i].Data = []byte(got)
					if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
						t.Fatal(err)
					}
				} else if diff := cmp.Diff(string(file.Data), got); diff != "" {
					t.Errorf("report (-want +got):\n%s", diff)
				}
				return
			}
			t.Error("no want section")
		})
	}
}

// loadArchive writes the files of an archive to a folder, loads config.yaml there,
// and gives the report as text, "loads" if it is empty.
func loadArchive(t *testing.T, archive *txtar.Archive) string {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{}
	for _, file := range archive.Files {
		switch file.Name {
		case "want":
			continue
		case "env":
			lines := bufio.NewScanner(bytes.NewReader(file.Data))
			for lines.Scan() {
				name, value, _ := strings.Cut(lines.Text(), "=")
				env[name] = value
			}
			continue
		}
		path := filepath.Join(dir, file.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
	_, report := Load(filepath.Join(dir, "config.yaml"), lookup, nil)
	text := strings.ReplaceAll(report.String(), dir+string(filepath.Separator), "")
	if text == "" {
		return "loads\n"
	}
	return text
}
