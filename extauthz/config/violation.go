package config

import (
	"fmt"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// violation says in the operator's words, and at the place in the file, which rule
// of the schema does not hold. ok is false where it is only the echo of something
// that the walk reported.
func (w *walker) violation(root *yaml.Node, d protoreflect.MessageDescriptor, v *protovalidate.Violation) (p Problem, ok bool) {
	place := w.locate(root, d, v.Proto.GetField())
	if w.broken[place.node] || !place.present && w.broken[place.parent] {
		return Problem{}, false
	}
	for _, n := range place.chain {
		w.invalid[n] = true
	}
	message, remedy := describe(v, place)
	return w.src.problem(ruleSchema, w.at(place.node), message, remedy), true
}

// place is where a field path leads in the file.
type place struct {
	node, parent *yaml.Node   // the value, or the closest mapping around it
	name, list   string       // of the field or key, and of the list that an item is in
	chain        []*yaml.Node // from the root to the node
	present      bool
	item         bool // of a list or map
	text         string
	oneof        protoreflect.OneofDescriptor // the path leads to a choice that was not made
}

func (w *walker) locate(root *yaml.Node, d protoreflect.MessageDescriptor, path *validate.FieldPath) place {
	at := place{node: root, parent: root, present: true, chain: []*yaml.Node{root}}
	for _, element := range path.GetElements() {
		at.item = false
		value := lookup(at.node, element.GetFieldName())
		at.name, at.list = element.GetFieldName(), element.GetFieldName()
		field := d.Fields().ByName(protoreflect.Name(at.name))
		if field == nil {
			at.present, at.oneof = false, d.Oneofs().ByName(protoreflect.Name(at.name))
			return at
		}
		switch {
		case field.IsMap():
			d = field.MapValue().Message()
		default:
			d = field.Message()
		}
		if value == nil {
			if at.name == "values" { // of Values, whose short form is the list itself
				continue
			}
			at.present = false
			return at
		}
		at.parent, at.node = at.node, value
		at.chain = append(at.chain, value)
		switch subscript := element.GetSubscript().(type) {
		case *validate.FieldPathElement_Index:
			if int(subscript.Index) < len(value.Content) {
				at.node, at.item = value.Content[subscript.Index], true
				at.chain = append(at.chain, at.node)
			}
		case *validate.FieldPathElement_StringKey:
			if entry := lookup(value, subscript.StringKey); entry != nil {
				at.node, at.item, at.name = entry, true, subscript.StringKey
				at.chain = append(at.chain, at.node)
			}
		}
	}
	if at.node.Kind == yaml.ScalarNode {
		at.text = at.node.Value
	}
	return at
}

// describe gives sentence and remedy for a rule.
func describe(v *protovalidate.Violation, at place) (message, remedy string) {
	subject := "field " + quote(at.name)
	if at.item {
		subject = "item " + quote(at.text) + " of " + quote(at.name)
		if at.text == "" {
			subject = "an item of " + quote(at.name)
		}
	}
	if at.oneof != nil {
		names := make([]string, at.oneof.Fields().Len())
		for i := range names {
			names[i] = string(at.oneof.Fields().Get(i).Name())
		}
		return "one of " + list(names) + " is missing", "give exactly one"
	}
	if !at.present {
		return subject + " is missing", "give it a value"
	}
	switch id := v.Proto.GetRuleId(); id {
	case "int32.const":
		return fmt.Sprintf("%s %s is not known to this release", at.name, at.text), "write 1"
	case "string.const", "bool.const":
		return fmt.Sprintf("%s can only be %v", subject, v.RuleValue.Interface()), "write that or remove the line"
	case "string.in":
		name := at.name
		if at.item {
			name = at.list
		}
		return fmt.Sprintf("%s is not a value of field %s", quote(at.text), quote(name)), nearAndKnown(at.text, v.RuleValue)
	case "string.min_len", "string.min_bytes":
		return subject + " is empty", "give it a value"
	case "repeated.min_items":
		return "list " + quote(at.name) + " is empty", "give it an item"
	case "string.pattern":
		return fmt.Sprintf("%s is %s, which is not of its form", subject, quote(at.text)), patternRemedy(v.RuleValue.String())
	case "from.one", "from.scheme":
		return v.Proto.GetMessage(), "write {header: authorization, scheme: Bearer}, {cookie: NAME} or {query: NAME}"
	case "mapping.one":
		return v.Proto.GetMessage(), "for example {claim: NAME}"
	}
	return fmt.Sprintf("%s is %s: %s", subject, quote(at.text), bounds(v)), "choose a value within the bounds"
}

// nearAndKnown is the remedy for a value out of a closed list.
func nearAndKnown(text string, known protoreflect.Value) string {
	var names []string
	if known.IsValid() {
		for i := range known.List().Len() {
			names = append(names, known.List().Get(i).String())
		}
	}
	if near := closest(text, names); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	return "write one of " + list(names)
}

// patternRemedy explains the regular expressions of the schema.
func patternRemedy(pattern string) string {
	switch {
	case strings.Contains(pattern, "KiB"):
		return "write a size as 16KiB or 1MiB"
	case strings.Contains(pattern, "{64}"):
		return "write the 64 hexadecimal digits of a SHA-256"
	case strings.Contains(pattern, "0-7"):
		return "write three octal digits, as 0600"
	case strings.Contains(pattern, "{0,63}"):
		return "use letters, digits, dots, dashes and underscores, at most 64, beginning with a letter or digit"
	}
	return "use letters, digits and underscores, not beginning with a digit"
}

// bounds reads protovalidate's sentence about a number or duration.
func bounds(v *protovalidate.Violation) string {
	text := v.Proto.GetMessage()
	if text == "" {
		text = "it must be within bounds (" + v.Proto.GetRuleId() + ")"
	}
	return strings.NewReplacer("must be", "it must be", "value it must be", "it must be", "seconds:", "", "nanos:", "").Replace(text)
}
