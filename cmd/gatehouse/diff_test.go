package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var diffEnvironment = map[string]string{"KEY": "example-key", "OTHER_KEY": "other-key"}

// unpack writes the files of an archive to a folder of their own.
func unpack(t *testing.T, archive *txtar.Archive) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, f := range archive.Files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDiffGolden compares the two configurations of every archive below testdata/diff and
// holds what a person reads against `want`. The comment of an archive holds the flags.
func TestDiffGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/diff/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding testdata: %d archives, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := unpack(t, archive)
			_, flags, _ := strings.Cut(string(archive.Comment), "args:")
			args := append([]string{"diff", filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")}, strings.Fields(flags)...)
			ran := runEnv(t, diffEnvironment, "", args...)
			got := strings.ReplaceAll(ran.out+ran.err, dir+string(filepath.Separator), "")
			if widens := strings.Contains(got, "WIDENS"); (ran.code == exitRefused) != widens {
				t.Errorf("exit %d although widens is %t", ran.code, widens)
			}
			last := &archive.Files[len(archive.Files)-1]
			if last.Name != "want" {
				t.Fatalf("the last file is %s, not want", last.Name)
			}
			if *update {
				last.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(last.Data), got); diff != "" {
				t.Errorf("output differs (-want +got), go test -update rewrites it:\n%s", diff)
			}
		})
	}
}

// TestDiffFailsOn: the exit code is about the changes that were asked for.
func TestDiffFailsOn(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/diff/orders.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, archive)
	old, new := filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml")
	forward := filepath.Join(dir, "forward.yaml")
	text := strings.Replace(string(archive.Files[0].Data), `x-user: "{username}"`, `x-user: "{subject}"`, 1)
	if err := os.WriteFile(forward, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		args []string
		want int
	}{
		{"widening is the default", []string{old, new}, exitRefused},
		{"the reverse narrows", []string{"--fail-on", "narrow", new, old}, exitRefused},
		{"the same is the same", []string{"--fail-on", "any", old, old}, exitOK},
		{"another header does not widen", []string{old, forward}, exitOK},
		{"another header is a change", []string{"--fail-on", "any", old, forward}, exitRefused},
		{"an unknown kind of change", []string{"--fail-on", "widens", old, new}, exitUsage},
		{"one file", []string{old}, exitUsage},
		{"a file that is not there", []string{old, filepath.Join(dir, "nowhere.yaml")}, exitRefused},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := runEnv(t, diffEnvironment, "", append([]string{"diff"}, row.args...)...); got.code != row.want {
				t.Errorf("diff %q = exit %d, want %d\n%s%s", row.args, got.code, row.want, got.out, got.err)
			}
		})
	}
}

// TestDiffJSON: other programs get the same changes, with principals that they can use.
func TestDiffJSON(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/diff/orders.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, archive)
	got := runEnv(t, diffEnvironment, "", "diff", "--output", "json", filepath.Join(dir, "old.yaml"), filepath.Join(dir, "new.yaml"))
	var d difference
	decoder := json.NewDecoder(strings.NewReader(got.out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatalf("reading %s: %v", got.out, err)
	}
	first := d.Changes[0]
	if first.Direction != "widens" || first.Principal == nil || first.Principal.Authenticator != "people" || first.New.Route != "read-orders" || !first.New.Allowed || first.Old.Allowed {
		t.Errorf("first change = %+v, want that read-orders widens for one of the people", first)
	}
}
