package config

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// unexpanded are the sources of expressions. A value of the environment must never
// become part of a program: expressions read `env.NAME`.
var unexpanded = map[protoreflect.FullName]bool{
	"gatehouse.config.v1.Require.expression": true,
	"gatehouse.config.v1.Mapping.expression": true,
	"gatehouse.config.v1.Requirement.when":   true,
}

// scalar expands one value and checks its type.
func (w *walker) scalar(name string, n *yaml.Node, f protoreflect.FieldDescriptor) bool {
	if n.Kind != yaml.ScalarNode {
		w.errorf(n, "write "+wanted(f), "field %s must be %s, got %s", quote(name), wanted(f), describeNode(n))
		return false
	}
	if unexpanded[f.FullName()] {
		if strings.Contains(n.Value, "${") {
			w.errorf(n, "list the variable in expression_env and write env.NAME", "variables are not expanded in expressions")
			return false
		}
		n.Tag = ""
		return true
	}
	text, expanded, bad := expand(n.Value, w.env)
	if bad != nil {
		w.expansion(n, bad)
		return false
	}
	if expanded && !printable(text) {
		w.errorf(n, "check the variable", "field %s holds a control character or invalid UTF-8 after expansion", quote(name))
		return false
	}
	if expanded {
		n.Value = text
	}
	return w.typed(name, n, f, expanded)
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })
}

// typed checks that a value is of the field's type, and prepares the node so that
// protoyaml takes it as it is.
func (w *walker) typed(name string, n *yaml.Node, f protoreflect.FieldDescriptor, expanded bool) bool {
	ok, remedy := true, "write "+wanted(f)
	quoted := !expanded && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch f.Kind() {
	case protoreflect.StringKind:
	case protoreflect.BoolKind:
		var is bool
		if is, ok = boolean(n.Value, expanded || n.Tag == "!!bool"); ok {
			n.Value = strconv.FormatBool(is)
		}
	case protoreflect.Int32Kind, protoreflect.Uint32Kind:
		ok = !quoted && integer(n.Value, f.Kind())
	case protoreflect.DoubleKind:
		number, err := strconv.ParseFloat(n.Value, 64)
		ok = !quoted && err == nil && !math.IsNaN(number) && !math.IsInf(number, 0) && !strings.ContainsAny(n.Value, "xXpP_")
	default:
		ok = false
	}
	if !ok {
		if quoted {
			remedy += ", without quotes"
		}
		w.errorf(n, remedy, "field %s must be %s, got %s", quote(name), wanted(f), quote(n.Value))
		return false
	}
	n.Tag = ""
	return true
}

func (w *walker) duration(name string, n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		w.errorf(n, "write it as 30s or 1h30m", "field %s must be a duration, got %s", quote(name), describeNode(n))
		return false
	}
	text, _, bad := expand(n.Value, w.env)
	if bad != nil {
		w.expansion(n, bad)
		return false
	}
	if _, err := time.ParseDuration(text); err != nil || text == "" {
		w.errorf(n, "write it with a unit, as 30s or 1h30m", "field %s must be a duration, got %s", quote(name), quote(text))
		return false
	}
	n.Value, n.Tag = text, ""
	return true
}

// expansion reports a variable, with the caret at it where the text is on one line.
func (w *walker) expansion(n *yaml.Node, bad *expansionError) {
	p := w.src.problem(ruleSchema, w.at(n), bad.message, bad.remedy)
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		p.At.Column += 1 + utf8.RuneCountInString(n.Value[:bad.offset])
	default:
		p.At.Column += utf8.RuneCountInString(n.Value[:bad.offset])
	}
	w.report(p)
}

// boolean reads true and false as YAML writes them, and as 1 and 0 where the value
// came from a variable.
func boolean(text string, unquoted bool) (is, ok bool) {
	if !unquoted {
		return false, false
	}
	switch text {
	case "true", "True", "TRUE", "1":
		return true, true
	case "false", "False", "FALSE", "0":
		return false, true
	}
	return false, false
}

func integer(text string, kind protoreflect.Kind) bool {
	if strings.HasPrefix(text, "+") {
		return false
	}
	var err error
	if kind == protoreflect.Uint32Kind {
		_, err = strconv.ParseUint(text, 10, 32)
	} else {
		_, err = strconv.ParseInt(text, 10, 32)
	}
	leadingZero := len(text) > 1 && text[0] == '0'
	return err == nil && !leadingZero
}

func wanted(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.Int32Kind:
		return "a whole number"
	case protoreflect.Uint32Kind:
		return "a whole number from 0"
	case protoreflect.DoubleKind:
		return "a number"
	}
	return "a text"
}
