package sarif

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// log is what the test looks at beside the schema.
type log struct {
	Runs []struct {
		Tool struct {
			Driver struct{ Rules []struct{ ID string } }
		}
		Results []struct {
			RuleID    string
			RuleIndex int
			Level     string
			Locations []struct {
				PhysicalLocation struct {
					ArtifactLocation struct{ URI string }
					Region           struct{ StartLine, StartColumn int }
				}
			}
		}
	}
}

// TestSchema runs the configurations of which the texts for people are golden.
func TestSchema(t *testing.T) {
	archives, err := filepath.Glob("../../extauthz/config/testdata/*/*.txtar")
	if err != nil || len(archives) < 50 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	binary := harness.Binary(t)
	logs := map[string]json.RawMessage{"no file": run(t, binary, t.TempDir(), nil)}
	rules, results := map[string]bool{}, 0
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		dir, env := t.TempDir(), []string(nil)
		for _, file := range archive.Files {
			if file.Name == "env" {
				env = strings.Fields(string(file.Data))
				continue
			}
			name := filepath.Join(dir, file.Name)
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, file.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out := run(t, binary, dir, env)
		logs[path] = out
		var l log
		if err := json.Unmarshal(out, &l); err != nil || len(l.Runs) != 1 {
			t.Errorf("%s: %d runs, %v", path, len(l.Runs), err)
			continue
		}
		for _, r := range l.Runs[0].Results {
			results++
			rules[r.RuleID] = true
			place := r.Locations[0].PhysicalLocation
			if l.Runs[0].Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID || place.ArtifactLocation.URI != "config.yaml" || place.Region.StartLine < 1 || place.Region.StartColumn < 1 {
				t.Errorf("%s: result %+v", path, r)
			}
		}
	}
	if results < 300 || len(rules) < 19 {
		t.Errorf("%d results of %d rules, want more: %v", results, len(rules), rules)
	}
	for name, wrong := range validate(t, logs) {
		t.Errorf("%s: %s", name, strings.Join(wrong, "\n"))
	}
	// The validator itself notices what is wrong.
	for name, change := range map[string][2]string{
		"no line":    {`"startLine": 1`, `"startLine": 0`},
		"a level":    {`"level": "error"`, `"level": "bad"`},
		"no message": {`"message"`, `"massage"`},
	} {
		broken := bytes.Replace(logs["no file"], []byte(change[0]), []byte(change[1]), -1)
		if len(validate(t, map[string]json.RawMessage{name: broken})) == 0 {
			t.Errorf("%s passes", name)
		}
	}
}

// run validates config.yaml in a folder.
func run(t *testing.T, binary, dir string, env []string) json.RawMessage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "validate", "--output", "sarif", "config.yaml")
	cmd.Dir, cmd.Env = dir, append([]string{"PATH="}, env...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || len(exit.Stderr) > 0) {
		t.Fatalf("validate: %v", err)
	}
	return out
}

// validate gives what is wrong, by log.
func validate(t *testing.T, logs map[string]json.RawMessage) map[string][]string {
	t.Helper()
	modules, err := Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("validate.cjs")
	if err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(logs)
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "-e", string(program))
	node.Env = append(os.Environ(), "NODE_PATH="+modules)
	node.Stdin = bytes.NewReader(input)
	out, err := node.Output()
	if err != nil {
		t.Fatalf("running the validator: %v", err)
	}
	var wrong map[string][]string
	if err := json.Unmarshal(out, &wrong); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return wrong
}
