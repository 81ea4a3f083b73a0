// Package readme holds the pages to what they say: the README's commands are run, in order,
// and print what stands below them (this file); its service answers what it is asked
// (service_test.go); and every command line on any page is one that the program knows
// (commands_test.go).
package readme

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

var block = regexp.MustCompile("(?ms)^```(yaml|sh|text|grpcurl)\n(.*?)^```$")

// The hash of a configuration changes with the schema: the README does not print it.
var hash = regexp.MustCompile(`(?m)^(  hash +)[0-9a-f]{16}$`)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCommandsPrintWhatTheREADMEShows(t *testing.T) {
	dir := t.TempDir()
	bin := filepath.Dir(harness.Binary(t))
	var script strings.Builder // all sh blocks so far: variables stay
	script.WriteString("set -u\n")
	printed := "" // by the blocks so far
	ran := 0
	for _, m := range block.FindAllStringSubmatch(readme(t), -1) {
		switch kind, text := m[1], m[2]; kind {
		case "yaml":
			if err := os.WriteFile(filepath.Join(dir, "gatehouse.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		case "sh":
			script.WriteString(text)
		case "text":
			cmd := exec.Command("bash", "-c", script.String())
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			whole := hash.ReplaceAllString(string(out), "${1}HASH")
			got, isMore := strings.CutPrefix(whole, printed)
			if !isMore {
				t.Fatalf("the commands print something else the second time:\n%s", whole)
			}
			if diff := cmp.Diff(strings.TrimRight(text, "\n"), strings.TrimRight(got, "\n")); diff != "" {
				t.Errorf("README shows - and the commands print +:\n%s", diff)
			}
			printed = whole
			ran++
		}
	}
	if ran < 3 {
		t.Errorf("%d outputs were compared, want at least 3: are the blocks still there?", ran)
	}
}

// TestLinks: what the README points to is there.
func TestLinks(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readme(t), -1) {
		if strings.HasPrefix(m[1], "https://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
			t.Errorf("README links to %s: %v", m[1], err)
		}
	}
}

// TestNamedTestsExist: the tests that the README names as proof are there.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declaration.FindAllStringSubmatch(string(source), -1) {
			declared[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) == 0 {
		t.Error("the README names no test")
	}
	for _, m := range named {
		if !declared[m[1]] {
			t.Errorf("the README names %s, which is no test", m[1])
		}
	}
}
