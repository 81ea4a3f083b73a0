package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// ran is what one command line came to.
type ran struct {
	code     int
	out, err string
}

// runLine runs a command line as a shell would, with nothing in the environment.
func runLine(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	return runEnv(t, nil, stdin, args...)
}

func runEnv(t *testing.T, env map[string]string, stdin string, args ...string) ran {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{in: strings.NewReader(stdin), out: &out, err: &errs, env: func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	}}
	code := p.run(t.Context(), args)
	return ran{code, out.String(), errs.String()}
}

// golden compares got with a file below testdata, which -update rewrites.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run go test -update and review", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), go test -update rewrites it:\n%s", path, diff)
	}
}

// TestHelp holds what a person reads of every command, and that each has an example.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())
		t.Run(strings.Join(path, "_"), func(t *testing.T) {
			got := runLine(t, "", append(path[1:], "--help")...)
			if got.code != exitOK || got.err != "" {
				t.Fatalf("%v --help = exit %d, stderr %q; want 0 and nothing", path, got.code, got.err)
			}
			golden(t, filepath.Join("help", strings.Join(path, "_")+".txt"), got.out)
			if cmd.Example == "" && cmd.Name() != "help" {
				t.Errorf("%v has no example", path)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&program{}).root())
}

func TestUsageErrors(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string // in the first line of stderr
	}{
		{"an unknown command", []string{"frobnicate"}, `gatehouse: unknown command "frobnicate"`},
		{"a mistyped command gets a suggestion", []string{"vesion"}, `unknown command "vesion"; did you mean "version"?`},
		{"an unknown flag", []string{"version", "--frobnicate"}, "gatehouse version: unknown flag: --frobnicate"},
		{"a mistyped flag gets a suggestion", []string{"version", "--outptu", "json"}, "did you mean --output?"},
		{"the beginning of a flag gets a suggestion", []string{"hash", "--gen"}, "did you mean --generate?"},
		{"an argument where none belongs", []string{"version", "now"}, `unexpected argument "now"`},
		{"help on an unknown command", []string{"help", "vesion"}, `unknown command "vesion"; did you mean "version"?`},
		{"a shell that has no completion", []string{"completion", "tcsh"}, `gatehouse completion: unknown command "tcsh"`},
		{"an argument to a completion", []string{"completion", "bash", "now"}, `unexpected argument "now"`},
		{"a flag of a completion", []string{"completion", "bash", "--nope"}, "unknown flag: --nope"},
		{"a missing argument", []string{"hash"}, "the kind of hash is missing"},
		{"one argument too many", []string{"hash", "bcrypt", "sha256"}, `unexpected argument "sha256"`},
		{"an unknown kind of hash", []string{"hash", "md5"}, `unknown kind of hash "md5": give argon2id, bcrypt or sha256`},
		{"a flag without its value", []string{"version", "--output"}, "flag needs an argument"},
		{"an unknown transport", []string{"serve", "--config", "x", "--transport", "http3"}, `invalid --transport "http3": give one of direct, grpc-go`},
		{"an unknown output format", []string{"version", "--output", "xml"}, `invalid --output "xml": give text or json`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runLine(t, "", row.args...)
			first, rest, _ := strings.Cut(got.err, "\n")
			if got.code != exitUsage || !strings.Contains(first, row.want) || !strings.Contains(rest, "Usage:") || got.out != "" {
				t.Errorf("%q = exit %d, stdout %q, stderr %q; want exit 2, %q and the usage", row.args, got.code, got.out, got.err, row.want)
			}
		})
	}
}

// TestCompletion runs what a shell would load, and asks it as the shell does.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := runLine(t, "", "completion", shell); got.code != exitOK || !strings.Contains(got.out, "gatehouse") || got.err != "" {
			t.Errorf("completion %s = exit %d, %d bytes, stderr %q", shell, got.code, len(got.out), got.err)
		}
	}
	if got := runLine(t, "", "__complete", "val"); got.code != exitOK || !strings.Contains(got.out, "validate\tCheck a configuration") {
		t.Errorf("completing val: exit %d, %q", got.code, got.out)
	}
}

func TestEditDistance(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"config", "config", 0}, {"confg", "config", 1}, {"cofnig", "config", 2}, {"kitten", "sitting", 3}} {
		if got := editDistance(row.a, row.b); got != row.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", row.a, row.b, got, row.want)
		}
	}
}
