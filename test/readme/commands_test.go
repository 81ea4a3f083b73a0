package readme

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

const root = "../.."

// A documentedLine is a command line that a document shows, with its continuations.
type documentedLine struct {
	file string // below root
	line int
	text string
}

func (d documentedLine) String() string { return fmt.Sprintf("%s:%d: %s", d.file, d.line, d.text) }

// documented are the command lines of all pages, of the comments in configurations, and
// of the examples that the commands themselves print.
func documented(t *testing.T) []documentedLine {
	t.Helper()
	var lines []documentedLine
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && (entry.Name() == ".git" || entry.Name() == "node_modules") {
				return fs.SkipDir
			}
			return err
		}
		help := strings.Contains(filepath.ToSlash(path), "cmd/gatehouse/testdata/help/")
		extension := filepath.Ext(path)
		if extension != ".md" && extension != ".yaml" && !help {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case extension == ".yaml":
			lines = append(lines, inComments(file, string(text))...)
		default:
			lines = append(lines, inPage(file, string(text), help)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

var (
	fence = regexp.MustCompile("^ *```")
	span  = regexp.MustCompile("`([^`\n]+)`")
)

// inPage finds what is in fences, indented, or in a span of a sentence. In a help text all
// lines are looked at that are indented.
func inPage(file, text string, help bool) []documentedLine {
	var found []documentedLine
	fenced, open := false, false // open: the line before goes on in this one
	for i, line := range strings.Split(text, "\n") {
		if fence.MatchString(line) {
			fenced, open = !fenced, false
			continue
		}
		if fenced || strings.HasPrefix(line, "    ") || help && strings.HasPrefix(line, "  ") {
			trimmed := strings.TrimSpace(line)
			rest, more := strings.CutSuffix(trimmed, `\`)
			if open {
				found[len(found)-1].text += rest
			} else {
				found = append(found, documentedLine{file, i + 1, rest})
			}
			open = more || strings.HasSuffix(trimmed, "|")
			continue
		}
		open = false
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			found = append(found, documentedLine{file, i + 1, m[1]})
		}
	}
	return found
}

// inComments finds comments that name a file or a flag: the others are sentences, in which
// gatehouse "is" and "has".
func inComments(file, text string) []documentedLine {
	var found []documentedLine
	for i, line := range strings.Split(text, "\n") {
		_, comment, _ := strings.Cut(line, "# ")
		if _, after, ok := strings.Cut(comment, ": "); ok {
			comment = after
		}
		if !strings.Contains(comment, ".yaml") && !strings.Contains(comment, " --") {
			continue
		}
		found = append(found, documentedLine{file, i + 1, comment})
	}
	return found
}

// ours is a command of ours where a command may be: at the start, behind variables, and
// behind what passes on to another program.
var ours = regexp.MustCompile(`(?:^|\| *|-- /|\./cmd/)((?:[A-Z][A-Z_]*=\S* +)*)gatehouse ([a-z][a-z-]*(?: .*|$))`)

// wrong tells what is wrong with a line of ours: the command is unknown, or a flag. It has
// the program itself read the line, split by a shell, and print its help.
func wrong(t *testing.T, line string) string {
	t.Helper()
	dir := t.TempDir()
	script := `gatehouse() { "$GATEHOUSE" "$@" --help >> help 2>&1 || echo "exit code $?" >> help; cat > /dev/null; }
gatehouse ` + line
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GATEHOUSE="+harness.Binary(t))
	_ = cmd.Run() // what follows in the line may fail
	printed, err := os.ReadFile(filepath.Join(dir, "help"))
	if err != nil {
		return "it does not run: " + err.Error()
	}
	help := string(printed)
	name, _, _ := strings.Cut(line, " ")
	if name == "help" || name == "completion" {
		return ""
	}
	if strings.Contains(help, "exit code") || !strings.Contains(help, "Usage:\n  gatehouse "+name) {
		return strings.TrimSpace(help)
	}
	return ""
}

// TestDocumentedCommandsParse: whatever line of ours is shown anywhere, the program knows
// the command and its flags.
func TestDocumentedCommandsParse(t *testing.T) {
	seen := map[string]bool{}
	perFile := map[string]int{}
	for _, d := range documented(t) {
		m := ours.FindStringSubmatch(d.text)
		if m == nil {
			continue
		}
		perFile[d.file]++
		if seen[m[2]] {
			continue
		}
		seen[m[2]] = true
		if problem := wrong(t, m[2]); problem != "" {
			t.Errorf("%s\n%s", d, problem)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d lines were found, want at least 60", len(seen))
	}
	for _, file := range []string{
		"README.md", "extauthz/tokens/README.md", "envoy/istio/README.md", "envoy/gateway/README.md", "envoy/kubernetes/README.md",
		"test/systems/auth-o-tron/README.md", "test/systems/odj/tests.yaml", "cmd/gatehouse/testdata/help/gatehouse_replay.txt",
	} {
		if perFile[file] == 0 {
			t.Errorf("no line of ours was found in %s", file)
		}
	}
}

// TestWrongCommandsAreSeen: the check above finds what it is for.
func TestWrongCommandsAreSeen(t *testing.T) {
	for line, want := range map[string]string{
		"serve --config gatehouse.yaml --speed 9":    "unknown flag: --speed",
		"frobnicate gatehouse.yaml":                  "gatehouse [command]",
		"tokens revoke --jit 1 # a comment":          "unknown flag: --jit",
		"validate --strict x.yaml | head":            "",
		`check --path "/a b" || echo "exit code $?"`: "",
	} {
		if got := wrong(t, line); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want in it %q", line, got, want)
		}
	}
}

// TestDocumentedFilesAndTargetsExist: the files of the repository that command lines name,
// seen from their page, and the targets of make.
func TestDocumentedFilesAndTargetsExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`(?:^|\s)make ([a-z]+)(?:\s|$)`)
	named := regexp.MustCompile(`(?:^|[\s=])(\.{1,2}/[\w./-]+|[\w.-]+/[\w./-]+\.yaml|[\w-]+\.yaml)`)
	program := regexp.MustCompile(`^(gatehouse|helm|istioctl|kubectl|go|envoy|traefik|caddy|nginx) |/gatehouse `)
	// What the reader writes, or an earlier line has written.
	readers := []string{"gatehouse.yaml", "old.yaml", "new.yaml", "values.yaml"}
	files, targets := 0, 0
	for _, d := range documented(t) {
		if filepath.Ext(d.file) == ".txt" {
			continue
		}
		for _, m := range target.FindAllStringSubmatch(d.text, -1) {
			targets++
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).Match(makefile) {
				t.Errorf("%s: the Makefile has no target %s", d, m[1])
			}
		}
		if !program.MatchString(d.text) {
			continue
		}
		for _, m := range named.FindAllStringSubmatch(d.text, -1) {
			if slices.Contains(readers, m[1]) {
				continue
			}
			files++
			_, here := os.Stat(filepath.Join(root, filepath.Dir(d.file), m[1]))
			_, top := os.Stat(filepath.Join(root, m[1]))
			if here != nil && top != nil {
				t.Errorf("%s: there is no %s", d, m[1])
			}
		}
	}
	if files < 8 || targets < 5 {
		t.Errorf("%d files and %d targets were found", files, targets)
	}
}

// run runs a shell line of a document in dir, with the built gatehouse in PATH.
func run(t *testing.T, dir, line string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PATH="+filepath.Dir(harness.Binary(t))+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestSystemsStartAsTheirPagesSay: the configuration of each system loads with the variables
// that its page gives, and no others.
func TestSystemsStartAsTheirPagesSay(t *testing.T) {
	started := 0
	for _, d := range documented(t) {
		before, ok := strings.CutSuffix(d.text, "gatehouse serve --config gatehouse.yaml")
		if !ok || !strings.HasPrefix(d.file, "test/systems/") {
			continue
		}
		started++
		secrets := strings.ReplaceAll(before, "=...", "="+strings.Repeat("0123456789abcdef", 4))
		if out, err := run(t, filepath.Join(root, filepath.Dir(d.file)), secrets+"gatehouse validate gatehouse.yaml"); err != nil {
			t.Errorf("%s: %v\n%s", d, err, out)
		}
	}
	if started != 5 {
		t.Errorf("%d systems were found, want 5", started)
	}
}

// TestTokenCommands runs the lines about tokens and people on a store that has a token.
func TestTokenCommands(t *testing.T) {
	dir := t.TempDir()
	made, err := run(t, dir, "gatehouse tokens create --store=gatehouse.db --owner=eve --realm=ecmwf")
	if err != nil {
		t.Fatalf("%v\n%s", err, made)
	}
	id := regexp.MustCompile(`(?m)^id (\S+);`).FindStringSubmatch(made)
	if id == nil {
		t.Fatalf("no id in %q", made)
	}
	command := regexp.MustCompile(`^gatehouse (tokens|users) [a-z]+(?: |$)`)
	ran := 0
	for _, d := range documented(t) {
		if filepath.Ext(d.file) != ".md" || !command.MatchString(d.text) {
			continue
		}
		ran++
		line := strings.Replace(d.text, " ID", " "+id[1], 1)
		if !strings.Contains(line, "--store=") {
			line, _, _ = strings.Cut(line, " #")
			line += " --store=gatehouse.db"
		}
		out, err := run(t, dir, line)
		// Whom nobody has seen cannot be disabled; the line is right nevertheless.
		if err != nil && !strings.Contains(out, "the directory knows nobody called") {
			t.Errorf("%s: %v\n%s", d, err, out)
		}
	}
	if ran < 9 {
		t.Errorf("%d lines were run, want at least 9", ran)
	}
}
