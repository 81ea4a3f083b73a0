package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// readFile reads the configuration file whole, up to its size limit.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("the file is over %d MiB", maxFileBytes>>20)
	}
	return data, nil
}

// document is the decoded file: what the schema can say is right about it.
type document struct {
	config *configv1.Config
	*Document
}

// parse reads the text of the file into its schema. Problems are in no order.
func parse(file string, data []byte, env func(string) (string, bool)) (*document, []Problem) {
	cfg := &configv1.Config{}
	d := Decode(file, data, env, cfg)
	if d.walker == nil || d.unusable {
		return nil, d.report.Errors
	}
	return &document{config: cfg, Document: d}, d.report.Errors
}

// decoder is called by protoyaml before it decodes a message. At the first, which
// is the whole file, it walks the tree; of all it notes the place.
type decoder struct {
	walker   *walker
	pos      *positions
	root     *yaml.Node
	unusable bool
}

// Unmarshal implements [protoyaml.CustomUnmarshaler]; it leaves the decoding to protoyaml.
func (d *decoder) Unmarshal(n *yaml.Node, m proto.Message) (handled bool, err error) {
	if d.root == nil {
		d.root = n
		d.unusable = !d.walker.root(n, m.ProtoReflect().Descriptor())
	}
	if n.Kind == yaml.MappingNode {
		d.pos.nodes[m] = n
	}
	return d.unusable, nil
}

var (
	syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	decodeError = regexp.MustCompile(`^:(\d+):(\d+) (.*)`)
)

// syntax is the problem of a text that is not YAML. The parser tells a line at most.
func (s *source) syntax(err error) Problem {
	if err == nil {
		err = errors.New("the file holds no configuration")
	}
	at := policy.Position{File: s.file, Line: 1, Column: 1}
	text := err.Error()
	match := syntaxError.FindStringSubmatch(text)
	if match != nil {
		text = text[len(match[0]):]
		if line, err := strconv.Atoi(match[1]); err == nil {
			at.Line = max(1, min(line, len(s.offsets)))
		}
	}
	remedy := "check indentation, quotes and brackets here and in the line before"
	line := s.line(at.Line)
	if indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]; strings.Contains(indent, "\t") {
		at.Column = strings.IndexByte(line, '\t') + 1
		text, remedy = "the line is indented with a tab", "indent with spaces"
	}
	return s.problem(ruleYAML, at, "not YAML: "+text, remedy)
}

// undecoded are the problems that protoyaml found in what the walk let pass.
func (s *source) undecoded(err error) []Problem {
	if err == nil {
		return nil
	}
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	var problems []Problem
	for _, err := range all {
		at, message := policy.Position{File: s.file, Line: 1, Column: 1}, err.Error()
		if match := decodeError.FindStringSubmatch(message); match != nil {
			at.Line, _ = strconv.Atoi(match[1])
			at.Column, _ = strconv.Atoi(match[2])
			message = match[3]
		}
		problems = append(problems, s.problem(ruleSchema, at, message, ""))
	}
	return problems
}
