package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/joshdk/go-junit"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestDecisionSuites runs every archive below testdata/test and holds what a person reads
// against `want`. The comment of an archive holds the flags.
func TestDecisionSuites(t *testing.T) {
	paths, err := filepath.Glob("testdata/test/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding testdata: %d archives, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, flags, _ := strings.Cut(string(archive.Comment), "args:")
			ran := runLine(t, "", append(append([]string{"test"}, strings.Fields(flags)...), path)...)
			if ran.code != exitRefused {
				t.Errorf("exit %d, want %d", ran.code, exitRefused)
			}
			got := ran.out
			if ran.err != "" {
				got += "stderr:\n" + ran.err
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

// TestShippedSuites: the tests that ship pass, reach everything and notice every mistake.
func TestShippedSuites(t *testing.T) {
	suites, err := filepath.Glob("../../test/systems/*/*tests.yaml")
	if err != nil || len(suites) == 0 {
		t.Fatalf("no suites of systems: %v", err)
	}
	env := map[string]string{"STORE_PATH": filepath.Join(t.TempDir(), "gatehouse.db")} // of those that have one
	got := runEnv(t, env, "", append([]string{"test", "--min-coverage", "100", "--mutate", "internal/demo/tests.yaml"}, suites...)...)
	if got.code != exitOK || got.err != "" {
		t.Errorf("exit %d, stdout:\n%s\nstderr:\n%s", got.code, got.out, got.err)
	}
}

// TestPeerOutcomes: what the tests of other authorization services expect of their policies,
// in this language, comes out the same; each file says what differs and why.
func TestPeerOutcomes(t *testing.T) {
	passed := regexp.MustCompile(`(?m)^ok .*: (\d+) of \d+ tests pass$`)
	for file, least := range map[string]int{"istio": 170, "envoy-gateway": 70, "authorino": 80} {
		t.Run(file, func(t *testing.T) {
			got := runLine(t, "", "test", filepath.Join("../../test/peers", file+".txtar"))
			rows := 0
			for _, line := range passed.FindAllStringSubmatch(got.out, -1) {
				n, err := strconv.Atoi(line[1])
				if err != nil {
					t.Fatal(err)
				}
				rows += n
			}
			if got.code != exitOK || got.err != "" || rows < least {
				t.Errorf("exit %d, %d rows, want %d at least, stdout:\n%s\nstderr:\n%s", got.code, rows, least, got.out, got.err)
			}
		})
	}
}

// TestJUnit: a parser of JUnit reports that others wrote reads ours, and what it reads is what
// the text says. The counts that schemas ask of a suite are there.
func TestJUnit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.xml")
	runLine(t, "", "test", "--junit", file, "testdata/test/failing.txtar")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	suites, err := junit.Ingest(data)
	if err != nil {
		t.Fatalf("reading the report: %v\n%s", err, data)
	}
	if len(suites) != 1 || suites[0].Totals.Tests != 4 || suites[0].Totals.Failed != 4 || len(suites[0].Tests) != 4 {
		t.Fatalf("report = %+v, want 4 tests that fail in one suite", suites)
	}
	first := suites[0].Tests[0]
	if first.Name != "a reader reads" || first.Status != junit.StatusFailed || first.Properties["line"] != "7" || !strings.Contains(first.Properties["file"], "failing.txtar") ||
		!strings.Contains(first.Message, "header x-tenant") || !strings.Contains(first.Error.Error(), "decided by") {
		t.Errorf("first case = %+v", first)
	}
	for _, name := range []string{"name", "tests", "failures", "errors", "time"} {
		if suites[0].Properties[name] == "" {
			t.Errorf("the suite has no %s", name)
		}
	}
}

func TestTestUsage(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no file", nil, exitUsage, "the file of tests is missing"},
		{"a file that is not there", []string{"nowhere.yaml"}, exitRefused, "reading tests: open nowhere.yaml"},
		{"a coverage over 100", []string{"--min-coverage", "101", "x.yaml"}, exitUsage, "give a percentage from 0 to 100"},
		{"a coverage that is no number", []string{"--min-coverage", "all", "x.yaml"}, exitUsage, `invalid --min-coverage "all": give a number`},
		{"an unknown flag", []string{"--mutat", "x.yaml"}, exitUsage, "did you mean --mutate?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runLine(t, "", append([]string{"test"}, row.args...)...)
			if got.code != row.code || !strings.Contains(got.err, row.want) || strings.Contains(got.err, "Usage:") != (row.code == exitUsage) {
				t.Errorf("%q = exit %d, stderr %q; want exit %d with %q", row.args, got.code, got.err, row.code, row.want)
			}
		})
	}
}
