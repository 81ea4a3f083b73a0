package config

import (
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"buf.build/go/protoyaml"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Document is a YAML file that was decoded into its schema as strictly as the
// configuration is: unknown, repeated and empty fields are problems, variables are
// expanded, and every problem has its place. Whoever knows more about the file than
// its schema adds problems with [Document.Errorf].
type Document struct {
	report Report
	src    *source
	pos    *positions
	walker *walker

	unusable bool // there is nothing in the file to look at
}

// Decode reads data, the text of the file that is called name in problems, into m. env
// looks up environment variables, as [os.LookupEnv] does. If the [Document.Report]
// has an error, m is incomplete.
func Decode(name string, data []byte, env func(string) (string, bool), m proto.Message) *Document {
	d := &Document{src: newSource(name, data)}
	d.pos = &positions{file: name, src: d.src, nodes: map[proto.Message]*yaml.Node{}}
	d.report.Errors = d.decode(env, m)
	return d
}

// decode gives what is wrong, in no order.
func (d *Document) decode(env func(string) (string, bool), m proto.Message) []Problem {
	if problems := d.src.scan(); len(problems) > 0 {
		return problems
	}
	d.walker = newWalker(d.src, env)
	decoder := &decoder{walker: d.walker, pos: d.pos}
	err := protoyaml.UnmarshalOptions{CustomUnmarshaler: decoder}.Unmarshal(d.src.data, m)
	if decoder.root == nil {
		d.unusable = true
		return []Problem{d.src.syntax(err)}
	}
	problems := append(d.walker.errors, d.src.undecoded(err)...)
	if d.unusable = decoder.unusable; d.unusable {
		return problems
	}
	var invalid *protovalidate.ValidationError
	switch err := checkRules(m); {
	case errors.As(err, &invalid):
		for _, v := range invalid.Violations {
			if p, ok := d.walker.violation(decoder.root, m.ProtoReflect().Descriptor(), v); ok {
				problems = append(problems, p)
			}
		}
	case err != nil:
		problems = append(problems, Problem{At: policy.Position{File: d.src.file}, Message: err.Error()})
	}
	return problems
}

// Report is everything that is wrong with the file, in file order.
func (d *Document) Report() *Report {
	d.report.finish()
	return &d.report
}

// Errorf adds a problem at a place of the file.
func (d *Document) Errorf(at policy.Position, remedy, format string, args ...any) {
	d.report.Errors = append(d.report.Errors, d.src.problem(ruleSetting, at, fmt.Sprintf(format, args...), remedy))
}

// At is where the value of a field of m is written: the field called name, or where m
// begins if it is not given.
func (d *Document) At(m proto.Message, name string) policy.Position { return d.pos.field(m, name) }

// Key is where the key of a map is written that the field called name of m holds.
func (d *Document) Key(m proto.Message, name, key string) policy.Position {
	return d.pos.mapKey(m, name, key)
}

// Item is where an item of the list is written that the field called name of m holds.
func (d *Document) Item(m proto.Message, name string, index int) policy.Position {
	return d.pos.item(m, name, index)
}

// Unknown adds the problem that name, at a place of the file, is not one of known.
func (d *Document) Unknown(at policy.Position, what, name string, known []string) {
	d.Errorf(at, meant(name, known), "unknown %s %s", what, quote(name))
}
