package config

import (
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// positions tells where a message of the decoded configuration, or a part of one,
// is written.
type positions struct {
	file  string
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
