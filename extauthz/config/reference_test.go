package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// TestReference holds REFERENCE.md against the schema's comments, from which it is
// made. `go generate` in this folder rewrites it.
func TestReference(t *testing.T) {
	const path = "REFERENCE.md"
	r := referencePage{comments: schemaComments(t), seen: map[protoreflect.FullName]bool{}}
	got := r.page((&configv1.Config{}).ProtoReflect().Descriptor())
	for _, name := range r.silent {
		t.Errorf("%s has no comment in the schema", name)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not up to date, run go generate (-file +schema):\n%s", path, diff)
	}
}

// schemaComments reads the comment before each message and field, which generated
// code does not hold. It knows the layout that the schema has: one field on a line.
func schemaComments(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../proto/gatehouse/config/v1/*.proto")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding the schema: %v", err)
	}
	comments := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var message string
		var comment []string
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			words := strings.Fields(line)
			switch {
			case strings.HasPrefix(line, "//"):
				comment = append(comment, strings.TrimSpace(strings.TrimPrefix(line, "//")))
				continue
			case len(words) > 1 && words[0] == "message":
				message = words[1]
				comments[message] = strings.Join(comment, " ")
			case strings.Contains(line, " = ") && message != "" && !strings.HasPrefix(line, "option "):
				before, _, _ := strings.Cut(line, " = ")
				names := strings.Fields(before)
				comments[message+"."+names[len(names)-1]] = strings.Join(comment, " ")
			}
			comment = nil
		}
	}
	return comments
}

// referencePage writes the page.
type referencePage struct {
	comments map[string]string
	seen     map[protoreflect.FullName]bool
	silent   []string
	b        strings.Builder
}

const preface = `# Configuration reference

<!-- Made from the comments in proto/gatehouse/config/v1 by go generate; do not edit. -->

The configuration is one YAML file, which ` + "`gatehouse validate FILE`" + ` checks: every mistake at once, each with
its place and a remedy. Field names are exactly those below. Anchors, tags and a second document are refused, and so is ` + "`null`" + `.

**Variables.** Every value may hold ` + "`${NAME}` or `${NAME:-default}`" + `; a variable that is unset or empty, without a
default, is an error. ` + "`\"${NAME[]}\"`" + ` as an item of a list, or in place of one, stands for the variable split at commas;
` + "`\"${NAME[]:-a,b}\"`" + ` has a default. ` + "`$${`" + ` is a literal ` + "`${`" + `. Keys and expressions are not expanded. A list that comes out empty is an error.

**Secrets** are never written in the file: ` + "`{env: NAME}` or `{file: path}`" + `. Paths are relative to the configuration file.

**Switches.** ` + "`enabled` and `disabled`" + ` remove a block before anything else in it is looked at, so that it may refer to
variables that are not set. Booleans that come from a variable may be ` + "`true`, `True`, `1`, `false`, `False` or `0`" + `.

**Expressions** are [CEL](https://cel.dev), typed when the file is loaded and limited in cost; an error counts as not met.
`

func (r *referencePage) page(root protoreflect.MessageDescriptor) string {
	r.b.WriteString(preface)
	names := slices.Sorted(maps.Keys(requestVariables))
	names = append(names, slices.Sorted(maps.Keys(principalVariables))...)
	fmt.Fprintf(&r.b, "`when` reads `%s` and `env.NAME`;\nexpressions of authenticators read `claims` and `env.NAME`. Strings have `split`, `lowerAscii` and the like, sets `sets.contains`,\naddresses `cidr(\"10.0.0.0/8\").containsIP(request.source)`, and `claims.?name.orValue(\"\")` gives a default.\n", strings.Join(names, "`, `"))
	queue := []protoreflect.MessageDescriptor{root}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if r.seen[d.FullName()] {
			continue
		}
		r.seen[d.FullName()] = true
		queue = append(queue, r.message(d)...)
	}
	r.problems()
	return r.b.String()
}

// problems lists what loading finds, by the names that machines read.
func (r *referencePage) problems() {
	r.b.WriteString("\n## Problems\n\nWhat `validate` says, each with file, line, column and a remedy. Warnings do not stop a configuration from loading;" +
		"\n`--strict` makes them fail. `--output json` and `--output sarif` call each rule by its name.\n")
	for _, group := range []struct {
		title   string
		warning bool
	}{{"error", false}, {"warning", true}} {
		fmt.Fprintf(&r.b, "\n| %s | what it means | what to do |\n|---|---|---|\n", group.title)
		for _, rule := range Rules() {
			if rule.Warning == group.warning {
				fmt.Fprintf(&r.b, "| `%s` | %s | %s |\n", rule.Name, rule.Short, rule.Remedy)
			}
		}
	}
}

// message writes one section, and gives the messages that it refers to.
func (r *referencePage) message(d protoreflect.MessageDescriptor) []protoreflect.MessageDescriptor {
	fmt.Fprintf(&r.b, "\n## %s\n\n%s\n", title(d), r.comment(string(d.Name())))
	var nested []protoreflect.MessageDescriptor
	if d.Fields().Len() > 0 {
		r.b.WriteString("\n| field | type | |\n|---|---|---|\n")
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		text := r.comment(string(d.Name()) + "." + string(f.Name()))
		if rule := bound(f); rule != "" {
			text += " " + rule
		}
		fmt.Fprintf(&r.b, "| `%s` | %s | %s |\n", f.Name(), kindOf(f), strings.ReplaceAll(text, "|", `\|`))
		if m := messageOf(f); m != nil {
			nested = append(nested, m)
		}
	}
	return nested
}

func (r *referencePage) comment(name string) string {
	if r.comments[name] == "" {
		r.silent = append(r.silent, name)
	}
	return r.comments[name]
}

func title(d protoreflect.MessageDescriptor) string {
	if d.Name() == "Config" {
		return "The file"
	}
	return string(d.Name())
}

func messageOf(f protoreflect.FieldDescriptor) protoreflect.MessageDescriptor {
	if f.IsMap() {
		f = f.MapValue()
	}
	if m := f.Message(); m != nil && m.FullName() != "google.protobuf.Duration" && m.Name() != "Values" {
		return m
	}
	return nil
}

func kindOf(f protoreflect.FieldDescriptor) string {
	if f.IsMap() {
		return "name: " + kindOf(f.MapValue())
	}
	kind := map[protoreflect.Kind]string{
		protoreflect.StringKind: "text", protoreflect.BoolKind: "boolean", protoreflect.DoubleKind: "number",
		protoreflect.Int32Kind: "integer", protoreflect.Uint32Kind: "integer",
	}[f.Kind()]
	if m := f.Message(); m != nil {
		kind = fmt.Sprintf("[%s](#%s)", m.Name(), strings.ToLower(string(m.Name())))
		switch m.Name() {
		case "Duration":
			kind = "duration"
		case "Values":
			kind = "text or list"
		case "Public":
			kind = "`true` or " + kind
		case "HeaderValue":
			kind = "text or " + kind
		}
	}
	if f.IsList() {
		return "list of " + kind
	}
	return kind
}

// bound says which rule of the schema a comment need not repeat: what must be given.
func bound(f protoreflect.FieldDescriptor) string {
	rules, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
	required := rules.GetRequired() || rules.GetString().GetMinLen() > 0 && !f.HasOptionalKeyword() && f.ContainingOneof() == nil ||
		rules.GetRepeated().GetMinItems() > 0
	if required && rules.GetIgnore() == validate.Ignore_IGNORE_UNSPECIFIED {
		return "Required."
	}
	return ""
}
