package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// walker goes once over the YAML nodes beside the schema, before protoyaml decodes
// them. It reports what protoyaml would let pass (duplicate keys, camelCase, field
// numbers, null, anchors), says everything else in the operator's words, expands
// variables and rewrites the short forms into what the schema says. What is
// reported is taken out of the tree, so that nothing is reported twice.
type walker struct {
	src    *source
	env    func(string) (string, bool)
	errors []Problem

	// disabled are the names of blocks that enabled and disabled removed, by the
	// list that held them, for better answers to those who refer to them.
	disabled map[string]map[string]policy.Position

	// broken are the mappings that lost a part to a report, tainted are those and
	// all that contain them. What is missing from a broken mapping is not reported.
	// Invalid are those that hold a value out of the schema's bounds.
	broken, tainted, invalid map[*yaml.Node]bool
	stack                    []*yaml.Node
}

func newWalker(src *source, env func(string) (string, bool)) *walker {
	return &walker{
		src: src, env: env,
		disabled: map[string]map[string]policy.Position{},
		broken:   map[*yaml.Node]bool{},
		tainted:  map[*yaml.Node]bool{},
		invalid:  map[*yaml.Node]bool{},
	}
}

func (w *walker) at(n *yaml.Node) policy.Position {
	return policy.Position{File: w.src.file, Line: n.Line, Column: n.Column}
}

func (w *walker) errorf(n *yaml.Node, remedy, format string, args ...any) {
	w.report(w.src.problem(ruleSchema, w.at(n), fmt.Sprintf(format, args...), remedy))
}

func (w *walker) report(p Problem) {
	w.errors = append(w.errors, p)
	for i, n := range w.stack {
		w.tainted[n] = true
		if i == len(w.stack)-1 {
			w.broken[n] = true
		}
	}
}

// root walks the whole file.
func (w *walker) root(n *yaml.Node, d protoreflect.MessageDescriptor) bool {
	if n.Kind != yaml.MappingNode {
		w.errorf(n, `begin it with "version: 1"`, "the file is not a mapping of names to values")
		return false
	}
	if first := n.Content; len(first) == 0 || first[0].Value != "version" {
		at := n
		if len(first) > 0 {
			at = first[0]
		}
		w.errorf(at, `begin the file with "version: 1"`, `"version" is not the first key of the file`)
		w.broken[n] = true
	}
	return w.message("the file", n, d)
}

// message walks a mapping whose keys are the fields of d; subject names it in
// sentences. It is false if the node cannot be decoded at all.
func (w *walker) message(subject string, n *yaml.Node, d protoreflect.MessageDescriptor) bool {
	if n.Kind != yaml.MappingNode {
		w.errorf(n, "write its fields, one \"name: value\" on each line", "%s must be a mapping of fields, got %s", subject, describeNode(n))
		return false
	}
	w.stack = append(w.stack, n)
	defer func() { w.stack = w.stack[:len(w.stack)-1] }()

	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	kinds := map[protoreflect.FullName]string{}
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !w.key(key, seen) {
			continue
		}
		field := d.Fields().ByName(protoreflect.Name(key.Value))
		if field == nil {
			w.errorf(key, meantField(key.Value, d), "unknown field %s", quote(key.Value))
			continue
		}
		if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
			if other := kinds[oneof.FullName()]; other != "" {
				w.errorf(key, "keep one of the two", "field %s is already given as %s", quote(key.Value), quote(other))
				continue
			}
			kinds[oneof.FullName()] = key.Value
		}
		if w.field(n, key, value, field) {
			kept = append(kept, key, value)
		}
	}
	n.Content = kept
	return true
}

// key checks the key of a mapping; false if the pair is to be dropped.
func (w *walker) key(key *yaml.Node, seen map[string]*yaml.Node) bool {
	switch {
	case key.Kind == yaml.AliasNode || key.Anchor != "":
		w.errorf(key, "write the name out", "YAML anchors and aliases are not supported")
		return false
	case key.Kind != yaml.ScalarNode:
		w.errorf(key, "write a name", "a key is %s", describeNode(key))
		return false
	case key.Tag == "!!merge":
		w.errorf(key, "write the fields out", "YAML merge keys are not supported")
		return false
	case key.Style&yaml.TaggedStyle != 0:
		w.errorf(key, "remove the tag", "YAML tags are not supported")
		return false
	case key.Value == "" || key.Tag == "!!null":
		w.errorf(key, "give it a name", "a key is empty")
		return false
	}
	if first := seen[key.Value]; first != nil {
		w.errorf(key, "keep one of the two", "field %s is given twice (first in line %d)", quote(key.Value), first.Line)
		return false
	}
	seen[key.Value] = key
	return true
}

// field walks one value; false if the pair is to be dropped.
func (w *walker) field(parent, key, value *yaml.Node, f protoreflect.FieldDescriptor) bool {
	if !w.plain(value) {
		return false
	}
	if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
		remedy := "give a value or remove the line"
		if f.Message() != nil && !f.IsMap() && !f.IsList() && f.Message().Fields().Len() < 3 {
			remedy = fmt.Sprintf("write %q or remove the line", key.Value+": {}")
		}
		at := value
		if value.Value == "" { // nothing there to point at
			at = key
		}
		w.errorf(at, remedy, "field %s is empty", quote(key.Value))
		return false
	}
	switch {
	case f.IsMap():
		return w.mapping(key, value, f.MapValue())
	case f.IsList():
		return w.list(parent, key, value, f)
	case f.Message() != nil:
		return w.nested(parent, key, value, f)
	}
	return w.scalar(key.Value, value, f)
}

// plain refuses what YAML can do beyond values.
func (w *walker) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.errorf(n, "write the value out in each place", "YAML anchors and aliases are not supported")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		w.errorf(n, "remove the tag", "YAML tags are not supported")
		return false
	}
	return true
}

// mapping walks a map from free names to values.
func (w *walker) mapping(key, n *yaml.Node, value protoreflect.FieldDescriptor) bool {
	if n.Kind != yaml.MappingNode {
		w.errorf(n, "write one \"name: value\" on each line", "field %s must be a mapping of names to values, got %s", quote(key.Value), describeNode(n))
		return false
	}
	if len(n.Content) == 0 {
		w.errorf(n, "give it an entry or remove the line", "field %s is empty", quote(key.Value))
		return false
	}
	w.stack = append(w.stack, n)
	defer func() { w.stack = w.stack[:len(w.stack)-1] }()

	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], n.Content[i+1]; w.key(k, seen) && w.field(n, k, v, value) {
			kept = append(kept, k, v)
		}
	}
	n.Content = kept
	return true
}

// list walks a repeated field. `"${NAME[]}"` stands for items, or for the whole list.
func (w *walker) list(parent, key, n *yaml.Node, f protoreflect.FieldDescriptor) bool {
	if n.Kind == yaml.ScalarNode && f.Message() == nil && strings.HasPrefix(n.Value, "${") {
		item := *n
		*n = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: n.Line, Column: n.Column, Content: []*yaml.Node{&item}}
	}
	if n.Kind != yaml.SequenceNode {
		w.errorf(n, "write it as [a, b], or one \"- item\" on each line", "field %s must be a list, got %s", quote(key.Value), describeNode(n))
		return false
	}
	written := len(n.Content)
	if f.Message() != nil {
		w.messages(key, n, f)
	} else if !w.scalars(key, n, f) {
		return false
	}
	if len(n.Content) > 0 {
		return true
	}
	if w.mayBeEmpty(parent, f) {
		return true
	}
	if written == 0 || f.Message() == nil {
		w.errorf(n, emptyListRemedy(written, f), "list %s is empty%s", quote(key.Value), after(written))
	}
	return false
}

func after(written int) string {
	if written > 0 {
		return " after expansion"
	}
	return ""
}

func emptyListRemedy(written int, f protoreflect.FieldDescriptor) string {
	switch {
	case f.FullName() == peersField:
		return `give it an item, or say "allow_empty: true" if nobody shall be admitted`
	case written > 0:
		return "set the variable to a list with an item"
	}
	return "give it an item or remove the line"
}

const (
	identifyField protoreflect.FullName = "gatehouse.config.v1.Public.identify"
	peersField    protoreflect.FullName = "gatehouse.config.v1.Peer.peers"
	adminField    protoreflect.FullName = "gatehouse.config.v1.Listen.admin"
)

// mayBeEmpty says for which lists an empty one means something: nobody is
// identified, no peer is admitted.
func (w *walker) mayBeEmpty(parent *yaml.Node, f protoreflect.FieldDescriptor) bool {
	switch f.FullName() {
	case identifyField:
		return true
	case peersField:
		allow := lookup(parent, "allow_empty")
		if allow == nil || allow.Kind != yaml.ScalarNode {
			return false
		}
		text, expanded, bad := expand(allow.Value, w.env)
		is, ok := boolean(text, expanded || allow.Tag == "!!bool")
		return bad == nil && ok && is
	}
	return false
}

// leftOut says whether the address of the admin listener is a variable that comes out
// empty: whoever does not set it wants none. Without the listener nothing is opened; one
// that is written out empty is a mistake.
func (w *walker) leftOut(listener *yaml.Node) bool {
	address := lookup(listener, "address")
	if address == nil || address.Kind != yaml.ScalarNode {
		return false
	}
	text, expanded, bad := expand(address.Value, w.env)
	return bad == nil && expanded && text == ""
}

// messages walks the blocks of a list. Those that are switched off are taken out
// before anything else in them is looked at: they may refer to variables and
// secrets that are not there.
func (w *walker) messages(key, n *yaml.Node, f protoreflect.FieldDescriptor) {
	kept := n.Content[:0]
	for _, item := range n.Content {
		switch {
		case !w.plain(item):
			continue
		case item.Kind == yaml.ScalarNode && item.Tag == "!!null":
			w.errorf(item, "write it out or remove the line", "an item of %s is empty", quote(key.Value))
			continue
		case item.Kind == yaml.MappingNode && f.Message().Fields().ByName("disabled") != nil && w.switchedOff(key.Value, item):
			continue
		}
		if w.message("an item of "+quote(key.Value), item, f.Message()) {
			kept = append(kept, item)
		}
	}
	n.Content = kept
}

// switchedOff says whether `enabled` or `disabled` removes a block.
func (w *walker) switchedOff(listName string, item *yaml.Node) bool {
	off := false
	for _, name := range []string{"enabled", "disabled"} {
		value := lookup(item, name)
		if value == nil || occurrences(item, name) > 1 || value.Kind != yaml.ScalarNode || value.Tag == "!!null" || !w.plain(value) {
			continue // the walk of the block says what is wrong with it
		}
		text, expanded, bad := expand(value.Value, w.env)
		is, ok := boolean(text, expanded || value.Tag == "!!bool")
		if bad != nil || !ok {
			continue
		}
		if is == (name == "disabled") {
			off = true
		}
	}
	off = off || w.withoutSecret(item)
	if name := lookup(item, "name"); off && name != nil && name.Kind == yaml.ScalarNode {
		if w.disabled[listName] == nil {
			w.disabled[listName] = map[string]policy.Position{}
		}
		w.disabled[listName][name.Value] = w.at(item)
	}
	return off
}

// withoutSecret says whether an authenticator lacks a client secret that is optional: it
// could ask nobody.
func (w *walker) withoutSecret(item *yaml.Node) bool {
	for i := 1; i < len(item.Content); i += 2 {
		secret := lookup(item.Content[i], "client_secret")
		if secret == nil {
			continue
		}
		optional, env := lookup(secret, "optional"), lookup(secret, "env")
		if optional == nil || env == nil || optional.Kind != yaml.ScalarNode || env.Kind != yaml.ScalarNode {
			return false
		}
		is, ok := boolean(optional.Value, optional.Tag == "!!bool")
		value, _ := w.env(env.Value)
		return ok && is && value == ""
	}
	return false
}

// scalars walks the items of a list of texts or numbers.
func (w *walker) scalars(key, n *yaml.Node, f protoreflect.FieldDescriptor) bool {
	before := len(w.errors)
	kept := make([]*yaml.Node, 0, len(n.Content))
	for _, item := range n.Content {
		if !w.plain(item) {
			continue
		}
		if item.Kind == yaml.ScalarNode && item.Tag == "!!null" {
			w.errorf(item, "give it a value or remove it", "an item of %s is empty", quote(key.Value))
			continue
		}
		if item.Kind == yaml.ScalarNode && strings.Contains(item.Value, "${") {
			values, isList, bad := expandList(item.Value, w.env)
			if bad != nil {
				w.expansion(item, bad)
				continue
			}
			if isList {
				for _, value := range values {
					expanded := &yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: item.Line, Column: item.Column}
					if w.typed(key.Value, expanded, f, true) {
						kept = append(kept, expanded)
					}
				}
				continue
			}
		}
		if w.scalar(key.Value, item, f) {
			kept = append(kept, item)
		}
	}
	n.Content = kept
	return len(kept) > 0 || len(w.errors) == before // an item that was reported is not an empty list as well
}

// nested walks a message in a field, in its short form or its long one.
func (w *walker) nested(parent, key, n *yaml.Node, f protoreflect.FieldDescriptor) bool {
	if f.FullName() == adminField && w.leftOut(n) {
		return false
	}
	switch f.Message().FullName() {
	case "google.protobuf.Duration":
		return w.duration(key.Value, n)
	case "gatehouse.config.v1.Values":
		return w.values(key, n, f.Message())
	case "google.protobuf.Struct":
		return w.free(key, n)
	case "gatehouse.config.v1.Public":
		if n.Kind == yaml.ScalarNode {
			return w.public(key, n)
		}
		if identify := lookup(n, "identify"); identify != nil && identify.Kind == yaml.SequenceNode && len(identify.Content) == 0 {
			n.Content = append(n.Content, scalarAt(n, "identify_nobody", ""), scalarAt(n, "true", "!!bool"))
		}
	case "gatehouse.config.v1.Secret":
		if n.Kind == yaml.ScalarNode {
			p := w.src.problem(ruleSchema, w.at(n), fmt.Sprintf("field %s holds a secret, which is never written in the file", quote(key.Value)),
				"write {env: NAME} or {file: path}")
			p.Source = "" // it may be the secret
			w.report(p)
			return false
		}
	}
	if short := shortForms[f.Message().FullName()]; short != "" && n.Kind == yaml.ScalarNode {
		text := *n
		wrap(n, short, &text)
	}
	return w.message("field "+quote(key.Value), n, f.Message())
}

// shortForms are the messages that may be written as a text: the field that it is.
var shortForms = map[protoreflect.FullName]string{
	"gatehouse.config.v1.HeaderValue": "value",
	"gatehouse.test.v1.Caller":        "as",
	"gatehouse.test.v1.Request":       "request",
	"gatehouse.test.v1.Expectation":   "outcome",
}

// free walks a mapping that means what JSON would: nothing in it is expanded.
func (w *walker) free(key, n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		w.errorf(n, "write one \"name: value\" on each line", "field %s must be a mapping of names to values, got %s", quote(key.Value), describeNode(n))
		return false
	}
	before := len(w.errors)
	w.freeValue(n)
	return len(w.errors) == before
}

func (w *walker) freeValue(n *yaml.Node) {
	if !w.plain(n) {
		return
	}
	seen := map[string]*yaml.Node{}
	for i, item := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			w.key(item, seen)
			continue
		}
		w.freeValue(item)
	}
}

// public reads the short form `public: true`; `public: false` is no public route.
func (w *walker) public(key, n *yaml.Node) bool {
	text, expanded, bad := expand(n.Value, w.env)
	if bad != nil {
		w.expansion(n, bad)
		return false
	}
	is, ok := boolean(text, expanded || n.Tag == "!!bool")
	if !ok {
		w.errorf(n, "write true, or {identify: [...]}", "field %s must be true or fields, got %s", quote(key.Value), quote(text))
		return false
	}
	*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line, Column: n.Column}
	return is
}

// values reads one value or a list of them.
func (w *walker) values(key, n *yaml.Node, d protoreflect.MessageDescriptor) bool {
	field := d.Fields().ByName("values")
	items := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: n.Line, Column: n.Column}
	isList := true
	switch {
	case n.Kind == yaml.SequenceNode:
		items.Content = n.Content
	case n.Kind == yaml.ScalarNode:
		item := *n
		items.Content = []*yaml.Node{&item}
		_, isList, _ = expandList(n.Value, w.env)
	default:
		w.errorf(n, "write sales or [sales, support]", "field %s must be a text or a list of texts, got %s", quote(key.Value), describeNode(n))
		return false
	}
	if !w.list(n, key, items, field) {
		return false
	}
	wrap(n, "values", items)
	if isList {
		n.Content = append(n.Content, scalarAt(n, "list", ""), scalarAt(n, "true", "!!bool"))
	}
	return true
}

// wrap makes n a mapping with one field, which stands where n stands.
func wrap(n *yaml.Node, name string, value *yaml.Node) {
	at := *n
	*n = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: at.Line, Column: at.Column,
		Content: []*yaml.Node{scalarAt(&at, name, ""), value}}
}

func scalarAt(at *yaml.Node, value, tag string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: value, Tag: tag, Line: at.Line, Column: at.Column}
}

// lookup finds a value in a mapping.
func lookup(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name && n.Content[i].Kind == yaml.ScalarNode {
			return n.Content[i+1]
		}
	}
	return nil
}

func occurrences(n *yaml.Node, name string) int {
	count := 0
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			count++
		}
	}
	return count
}

func meantField(name string, d protoreflect.MessageDescriptor) string {
	names := make([]string, 0, d.Fields().Len())
	for i := range d.Fields().Len() {
		names = append(names, string(d.Fields().Get(i).Name()))
	}
	return meant(name, names)
}

func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return "a text"
}
