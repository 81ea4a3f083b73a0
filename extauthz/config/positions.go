package config

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// positions tells where a message of the decoded configuration, or a part of one,
// is written.
type positions struct {
	file  string
	src   *source
	nodes map[proto.Message]*yaml.Node
}

func (p *positions) node(n *yaml.Node) policy.Position {
	if n == nil {
		return policy.Position{File: p.file, Line: 1, Column: 1}
	}
	return policy.Position{File: p.file, Line: n.Line, Column: n.Column}
}

// of is where m begins.
func (p *positions) of(m proto.Message) policy.Position { return p.node(p.nodes[m]) }

// field is where the value of a field of m is written; where m begins if it is not.
func (p *positions) field(m proto.Message, name string) policy.Position {
	n := p.nodes[m]
	if n == nil {
		return p.of(m)
	}
	if value := lookup(n, name); value != nil {
		return p.node(value)
	}
	return p.node(n)
}

// item is where an item of a list, or the value of a map's key, is written: a key
// of type int or string.
func (p *positions) item(m proto.Message, name string, key any) policy.Position {
	if value := p.itemNode(m, name, key); value != nil {
		return p.node(value)
	}
	return p.field(m, name)
}

func (p *positions) itemNode(m proto.Message, name string, key any) *yaml.Node {
	n := p.nodes[m]
	if n == nil {
		return nil
	}
	value := lookup(n, name)
	if value == nil {
		return nil
	}
	switch key := key.(type) {
	case int:
		if value.Kind == yaml.SequenceNode && key < len(value.Content) {
			return value.Content[key]
		}
	case string:
		return lookup(value, key)
	}
	return nil
}

// mapKey is where a key of a map is written.
func (p *positions) mapKey(m proto.Message, name, key string) policy.Position {
	if n := p.nodes[m]; n != nil {
		if value := lookup(n, name); value != nil {
			for i := 0; i+1 < len(value.Content); i += 2 {
				if value.Content[i].Value == key {
					return p.node(value.Content[i])
				}
			}
		}
	}
	return p.field(m, name)
}

// inside is the place of a byte of a scalar's text: exact where the text stands in
// the file as it is, on one line or in a literal block; else where the scalar begins.
func (p *positions) inside(n *yaml.Node, offset int) policy.Position {
	start := p.node(n)
	if n == nil || n.Kind != yaml.ScalarNode || offset < 0 || offset > len(n.Value) {
		return start
	}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return p.insideBlock(n, offset)
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		start.Column++
	}
	if after, ok := cutColumns(p.src.line(start.Line), start.Column-1); !ok || !strings.HasPrefix(after, n.Value[:offset]) {
		return p.node(n)
	}
	start.Column += utf8.RuneCountInString(n.Value[:offset])
	return start
}

// insideBlock finds the line of a block scalar that an offset is in, and the offset
// in that line. Lines of a folded block that were joined count as one.
func (p *positions) insideBlock(n *yaml.Node, offset int) policy.Position {
	before := n.Value[:offset]
	line := n.Line + 1 + strings.Count(before, "\n")
	inLine := before[strings.LastIndexByte(before, '\n')+1:]
	text := p.src.line(line)
	indent := len(text) - len(strings.TrimLeft(text, " "))
	if !strings.HasPrefix(text[indent:], inLine) {
		return p.node(n)
	}
	return policy.Position{File: p.file, Line: line, Column: indent + utf8.RuneCountInString(inLine) + 1}
}

// cutColumns drops the first characters of a line.
func cutColumns(line string, columns int) (rest string, ok bool) {
	for range columns {
		_, size := utf8.DecodeRuneInString(line)
		if size == 0 {
			return "", false
		}
		line = line[size:]
	}
	return line, true
}

// fieldNode is the node of a field's value; nil if it is not written.
func (p *positions) fieldNode(m proto.Message, name string) *yaml.Node {
	if n := p.nodes[m]; n != nil {
		return lookup(n, name)
	}
	return nil
}
