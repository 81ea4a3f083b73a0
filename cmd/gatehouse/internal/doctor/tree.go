package doctor

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBytes is the largest file that is read: the dump of a large mesh is some 50 MiB.
const maxBytes = 256 << 20

// A node is a value in the file and the way to it. The zero node is an absent value.
type node struct {
	value *yaml.Node
	path  string // "listeners[front].filter_chains[0]…"
}

// parse reads JSON or YAML: the first is a subset of the second.
func parse(text []byte) (node, error) {
	if len(text) > maxBytes {
		return node{}, fmt.Errorf("the file has more than %d MiB", maxBytes>>20)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return node{}, err
	}
	if len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return node{}, errors.New("this is not an Envoy configuration: give a bootstrap file, the answer of /config_dump, or a listener as JSON")
	}
	if alias := aliased(&root); alias != nil {
		return node{}, fmt.Errorf("line %d: aliases are not followed; write the value out", alias.Line)
	}
	return node{value: root.Content[0]}, nil
}

func (n node) present() bool { return n.value != nil }

// field gives a member of a message, under its protobuf name or its JSON name.
func (n node) field(name string) node {
	if n.value == nil || n.value.Kind != yaml.MappingNode {
		return node{}
	}
	for i := 0; i+1 < len(n.value.Content); i += 2 {
		if key := n.value.Content[i].Value; key == name || key == jsonName(name) {
			path := name
			if n.path != "" {
				path = n.path + "." + name
			}
			return node{n.value.Content[i+1], path}
		}
	}
	return node{}
}

// at follows fields.
func (n node) at(names ...string) node {
	for _, name := range names {
		n = n.field(name)
	}
	return n
}

// items gives the elements of a list. Those with a name are called by it.
func (n node) items() []node {
	if n.value == nil || n.value.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]node, len(n.value.Content))
	for i, v := range n.value.Content {
		item := node{value: v}
		label := item.field("name").text()
		if label == "" {
			label = fmt.Sprint(i)
		}
		item.path = fmt.Sprintf("%s[%s]", n.path, label)
		items[i] = item
	}
	return items
}

// members gives the values of a map, by key.
func (n node) members(yield func(key string, value node) bool) {
	if n.value == nil || n.value.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.value.Content); i += 2 {
		key := n.value.Content[i].Value
		if !yield(key, node{n.value.Content[i+1], fmt.Sprintf("%s[%s]", n.path, key)}) {
			return
		}
	}
}

// text is a scalar's, or "".
func (n node) text() string {
	if n.value == nil || n.value.Kind != yaml.ScalarNode {
		return ""
	}
	return n.value.Value
}

func (n node) isTrue() bool { return n.text() == "true" }

// isType says whether a message with an @type is of the type, whatever its version.
func (n node) isType(name string) bool {
	return strings.HasSuffix(n.field("@type").text(), "."+name)
}

// isField says whether n is the value of a field of that name.
func (n node) isField(name string) bool {
	return n.path == name || strings.HasSuffix(n.path, "."+name)
}

// walk visits n and everything below it, until visit returns false for a branch.
func (n node) walk(visit func(node) bool) {
	if n.value == nil || !visit(n) {
		return
	}
	for _, item := range n.items() {
		item.walk(visit)
	}
	if n.value.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.value.Content); i += 2 {
			n.field(n.value.Content[i].Value).walk(visit)
		}
	}
}

// aliased finds an alias. They are refused: a few lines of them can stand for more nodes
// than there is memory, or for themselves.
func aliased(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n
	}
	for _, c := range n.Content {
		if found := aliased(c); found != nil {
			return found
		}
	}
	return nil
}

// jsonName is a protobuf name in lower camel case.
func jsonName(name string) string {
	var b strings.Builder
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_':
			upper = true
		case upper && 'a' <= c && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			upper = false
		default:
			b.WriteByte(c)
			upper = false
		}
	}
	return b.String()
}
