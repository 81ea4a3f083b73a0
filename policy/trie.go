package policy

// A forest holds patterns by host while a table is made: it finds conflicts, and a
// [matcher] is made of it.
type forest struct {
	exact    map[string]*hostTree
	wildcard map[string]*hostTree // by what follows `*.`
	any      *hostTree
	arena    arena
}

// A hostTree holds the patterns of one host by method.
type hostTree struct {
	methods []methodTree // in order of appearance; few
	any     *node        // nil if every pattern names a method
}

type methodTree struct {
	method string
	root   *node
}

// A node stands for a path prefix. Children are literal segments or a wildcard.
type node struct {
	few   []edge           // literal children, up to maxEdges
	many  map[string]*node // all literal children, once there are more
	wild  *node
	exact int32 // number of the pattern that ends here, from 1; 0 if none
	multi int32 // number of the pattern whose subtree begins here; 0 if none

	// What the patterns through this node have at which depth, for the search for
	// conflicts; see depthBit. The edge… sets are those of the literal children.
	wilds, multis         uint64
	edgeWilds, edgeMultis uint64
}

type edge struct {
	text string
	to   *node
}

// An arena allocates nodes many at a time: a large table is one of few objects to the
// garbage collector.
type arena struct {
	free  []node
	count int // of nodes given out
}

const arenaNodes = 256

func (a *arena) new() *node {
	if len(a.free) == 0 {
		a.free = make([]node, arenaNodes)
	}
	n := &a.free[0]
	a.free = a.free[1:]
	a.count++
	return n
}

func (n *node) literal(text string) *node {
	if n.many != nil {
		return n.many[text]
	}
	for i := range n.few {
		if n.few[i].text == text {
			return n.few[i].to
		}
	}
	return nil
}

// edges calls visit for each literal child until it returns false.
func (n *node) edges(visit func(text string, to *node) bool) {
	for _, e := range n.few {
		if !visit(e.text, e.to) {
			return
		}
	}
	for text, to := range n.many {
		if !visit(text, to) {
			return
		}
	}
}

func (n *node) countEdges() int { return max(len(n.few), len(n.many)) }

func (n *node) addLiteral(text string, child *node) {
	if n.many == nil && len(n.few) < maxEdges {
		n.few = append(n.few, edge{text, child})
		return
	}
	if n.many == nil {
		n.many = make(map[string]*node, 2*maxEdges)
		for _, e := range n.few {
			n.many[e.text] = e.to
		}
		n.few = nil
	}
	n.many[text] = child
}

// tree finds the tree of a pattern's host and method; with grow it is made.
func (f *forest) tree(p *Pattern, grow bool) *node {
	h := f.host(p, grow)
	if h == nil {
		return nil
	}
	return h.tree(p.method, f, grow)
}

func (f *forest) host(p *Pattern, grow bool) *hostTree {
	place := &f.exact
	switch {
	case p.host == "":
		if f.any == nil && grow {
			f.any = &hostTree{}
		}
		return f.any
	case p.wildHost:
		place = &f.wildcard
	}
	h := (*place)[p.host]
	if h == nil && grow {
		if *place == nil {
			*place = make(map[string]*hostTree)
		}
		h = &hostTree{}
		(*place)[p.host] = h
	}
	return h
}

func (h *hostTree) tree(method string, f *forest, grow bool) *node {
	if method == "" {
		if h.any == nil && grow {
			h.any = f.arena.new()
		}
		return h.any
	}
	for i := range h.methods {
		if h.methods[i].method == method {
			return h.methods[i].root
		}
	}
	if !grow {
		return nil
	}
	root := f.arena.new()
	h.methods = append(h.methods, methodTree{method, root})
	return root
}

// insert puts p under number id. If an equal pattern is there already it stays, and
// its number is returned; else 0.
func (f *forest) insert(p *Pattern, id int32) int32 {
	n := f.tree(p, true)
	var wilds, multis uint64
	for i, s := range p.segments {
		if s.wild {
			wilds |= depthBit(i)
		}
	}
	if p.subtree {
		multis = depthBit(len(p.segments))
	}
	for _, s := range p.segments {
		n.wilds |= wilds
		n.multis |= multis
		if s.wild {
			if n.wild == nil {
				n.wild = f.arena.new()
			}
			n = n.wild
			continue
		}
		n.edgeWilds |= wilds
		n.edgeMultis |= multis
		child := n.literal(s.text)
		if child == nil {
			child = f.arena.new()
			n.addLiteral(s.text, child)
		}
		n = child
	}
	n.wilds |= wilds
	n.multis |= multis
	end := &n.exact
	if p.subtree {
		end = &n.multi
	}
	if *end == 0 {
		*end = id
		return 0
	}
	return *end
}

// find is the number of a pattern that is equal to p, or 0.
func (f *forest) find(p *Pattern) int32 {
	n := f.tree(p, false)
	for _, s := range p.segments {
		if n == nil {
			return 0
		}
		if s.wild {
			n = n.wild
		} else {
			n = n.literal(s.text)
		}
	}
	switch {
	case n == nil:
		return 0
	case p.subtree:
		return n.multi
	}
	return n.exact
}
