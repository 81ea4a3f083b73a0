package policy

import (
	"slices"
	"strings"
)

// A matcher finds the pattern that wins. It is a [forest] laid flat: nodes and edges are
// numbers in a few arrays, which hold no pointer but that to each array. So a hundred
// thousand routes are next to nothing to the garbage collector, and a route takes a third
// of what it takes in the forest. The zero matcher has no patterns.
type matcher struct {
	exact    map[string]flatHost
	wildcard map[string]flatHost // by what follows `*.`
	any      flatHost

	nodes []flatNode // the first stands for none
	edges []flatEdge // the literal children of a node are neighbours
	slots []int32    // hash tables of the nodes with many children: numbers in edges, from 1; 0 if free
	text  string     // all literals
}

// A flatHost holds the roots of one host by method.
type flatHost struct {
	methods []flatMethod // in order of appearance; few
	any     int32        // 0 if every pattern names a method
}

type flatMethod struct {
	method string
	root   int32
}

// A flatNode stands for a path prefix, as a [node] does.
type flatNode struct {
	edge, edges  int32 // the first of the literal children, and how many there are
	slot         int32 // where their hash table begins, if there are more than maxEdges
	wild         int32 // 0 if none
	exact, multi int32 // numbers of patterns, from 1; 0 if none
}

// A flatEdge leads to a child by its literal, which is text[at:at+size].
type flatEdge struct {
	at, size uint32
	to       int32
}

// maxEdges is where hashing begins to be faster than comparing one after the other.
const maxEdges = 6

// newMatcher lays f flat.
func newMatcher(f *forest) matcher {
	m := matcher{nodes: make([]flatNode, 1, f.arena.count+1)}
	var text strings.Builder
	hosts := func(trees map[string]*hostTree) map[string]flatHost {
		if len(trees) == 0 {
			return nil
		}
		flat := make(map[string]flatHost, len(trees))
		for host, h := range trees {
			flat[host] = m.addHost(h, &text)
		}
		return flat
	}
	m.exact, m.wildcard = hosts(f.exact), hosts(f.wildcard)
	if f.any != nil {
		m.any = m.addHost(f.any, &text)
	}
	// Without the room that they were given to grow.
	m.edges, m.slots, m.text = slices.Clone(m.edges), slices.Clone(m.slots), strings.Clone(text.String())
	return m
}

func (m *matcher) addHost(h *hostTree, text *strings.Builder) flatHost {
	flat := flatHost{methods: make([]flatMethod, len(h.methods)), any: m.add(h.any, text)}
	for i, t := range h.methods {
		flat.methods[i] = flatMethod{t.method, m.add(t.root, text)}
	}
	return flat
}

// add lays n and what is below it flat, and gives its number; 0 for nil.
func (m *matcher) add(n *node, text *strings.Builder) int32 {
	if n == nil {
		return 0
	}
	id := int32(len(m.nodes))
	first, count := int32(len(m.edges)), int32(n.countEdges())
	flat := flatNode{edge: first, edges: count, slot: int32(len(m.slots)), exact: n.exact, multi: n.multi}
	m.nodes = append(m.nodes, flat)
	m.edges = append(m.edges, make([]flatEdge, count)...)
	if count > maxEdges {
		m.slots = append(m.slots, make([]int32, slotsFor(count))...)
	}
	next := first
	n.edges(func(literal string, to *node) bool {
		m.edges[next] = flatEdge{at: uint32(text.Len()), size: uint32(len(literal))}
		text.WriteString(literal)
		if count > maxEdges {
			m.occupy(&flat, literal, next)
		}
		child := m.add(to, text)
		m.edges[next].to = child
		next++
		return true
	})
	wild := m.add(n.wild, text)
	m.nodes[id].wild = wild
	return id
}

// slotsFor is the size of the hash table for a number of edges: a power of two, at most
// half full.
func slotsFor(edges int32) int32 {
	size := int32(2)
	for size < 2*edges {
		size *= 2
	}
	return size
}

// occupy puts an edge into the hash table of n.
func (m *matcher) occupy(n *flatNode, literal string, edge int32) {
	mask := slotsFor(n.edges) - 1
	for i := int32(hash(literal)) & mask; ; i = (i + 1) & mask {
		if slot := &m.slots[n.slot+i]; *slot == 0 {
			*slot = edge + 1
			return
		}
	}
}

// hash spreads literals over hash tables. Nobody but the operator chooses what is in one.
func hash(s string) uint32 {
	const prime = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
	h := uint64(len(s))
	for len(s) >= 8 {
		h = (h ^ word(s)) * prime
		h ^= h >> 32
		s = s[8:]
	}
	var rest uint64
	for i := 0; i < len(s); i++ {
		rest = rest<<8 | uint64(s[i])
	}
	h = (h ^ rest) * prime
	return uint32(h >> 32)
}

// word is the first eight bytes of s.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func (m *matcher) isEmpty() bool { return len(m.nodes) <= 1 }

// hasHost reports whether a pattern names host, with or without a wildcard.
func (m *matcher) hasHost(host string) bool {
	_, exact := m.exact[host]
	_, wild := m.wildcard[host]
	return exact || wild
}

// match is the number of the most specific pattern that matches, or 0. It allocates
// nothing.
func (m *matcher) match(method, host, path string) int32 {
	if path == "" || path[0] != '/' {
		return 0
	}
	if path == "/" {
		path = ""
	}
	if len(m.exact) > 0 {
		if h, ok := m.exact[host]; ok {
			if id := m.matchHost(&h, method, path); id != 0 {
				return id
			}
		}
	}
	if len(m.wildcard) > 0 && host != "" && host[0] != '[' {
		for suffix := host; ; { // from the longest
			i := strings.IndexByte(suffix, '.')
			if i < 0 {
				break
			}
			suffix = suffix[i+1:]
			if h, ok := m.wildcard[suffix]; ok {
				if id := m.matchHost(&h, method, path); id != 0 {
					return id
				}
			}
		}
	}
	return m.matchHost(&m.any, method, path)
}

// matchHost asks the trees from the narrowest method to the widest: of the patterns that
// match, the most specific one has the narrowest method of all.
func (m *matcher) matchHost(h *flatHost, method, path string) int32 {
	if id := m.matchMethod(h, method, path); id != 0 {
		return id
	}
	if method == "HEAD" {
		if id := m.matchMethod(h, "GET", path); id != 0 {
			return id
		}
	}
	if h.any != 0 {
		return m.matchPath(h.any, path)
	}
	return 0
}

func (m *matcher) matchMethod(h *flatHost, method, path string) int32 {
	for i := range h.methods {
		if h.methods[i].method == method {
			return m.matchPath(h.methods[i].root, path)
		}
	}
	return 0
}

// matchPath walks the literal child before the wildcard, and both before the subtree.
// The first pattern that is met is not wider than any other that matches: where two
// differ first, it has the literal.
func (m *matcher) matchPath(at int32, path string) int32 {
	n := &m.nodes[at]
	if path == "" {
		if n.exact != 0 {
			return n.exact
		}
		return n.multi
	}
	text, rest := nextSegment(path)
	if n.edges > 0 {
		if child := m.literal(n, text); child != 0 {
			if id := m.matchPath(child, rest); id != 0 {
				return id
			}
		}
	}
	if n.wild != 0 {
		if id := m.matchPath(n.wild, rest); id != 0 {
			return id
		}
	}
	return n.multi
}

// literal is the child of n by the literal text, or 0.
func (m *matcher) literal(n *flatNode, text string) int32 {
	if n.edges <= maxEdges {
		edges := m.edges[n.edge : n.edge+n.edges]
		for i := range edges {
			if m.is(&edges[i], text) {
				return edges[i].to
			}
		}
		return 0
	}
	mask := slotsFor(n.edges) - 1
	for i := int32(hash(text)) & mask; ; i = (i + 1) & mask {
		slot := m.slots[n.slot+i]
		if slot == 0 {
			return 0
		}
		if e := &m.edges[slot-1]; m.is(e, text) {
			return e.to
		}
	}
}

func (m *matcher) is(e *flatEdge, text string) bool {
	return int(e.size) == len(text) && m.text[e.at:e.at+e.size] == text
}
