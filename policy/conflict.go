package policy

import (
	"fmt"
	"math"
	"slices"
)

// maxConflicts is how many conflicts are told: an operator fixes the first ones and
// loads again, and a table of 100,000 routes can have billions.
const maxConflicts = 1000

// walkBudget is how many nodes the search for conflicts of one pattern visits before
// it counts whether going through candidates would be shorter.
const walkBudget = 64

// conflictSearch finds the pairs of patterns of which neither is narrower, by walking
// each pattern through the trees of its host. In an ordinary table that takes time in
// proportion to its size: a subtree in which no pair can become a conflict any more is
// not entered.
type conflictSearch struct {
	*builder
	forest     *forest
	members    []int32                  // numbers of the patterns in forest
	across     bool                     // only between shadow routes and others, as warnings
	walkBudget int                      // nodes; see the constant
	literals   map[literalPlace][]int32 // by tree, depth and text, made when it is needed
	vague      map[depthPlace][]int32   // patterns that at this depth have no literal
	told       map[[2]int32]bool
	reported   map[conflictPair]bool
	count      int // of conflicts told
	steps      int // of all patterns

	// Of the pattern that is walked.
	pattern  *Pattern
	id       int32
	visits   int
	budget   int
	lastWild int // depth of the last wildcard; -1 if none
}

type depthPlace struct {
	tree  *node
	depth int
}

type literalPlace struct {
	depthPlace
	text string
}

// A conflictPair is what an operator sees as one conflict: `GET,HEAD /a` is one line.
type conflictPair struct {
	a, b         *entry
	aText, bText string // HEAD as GET
}

func withoutHEAD(method string) string {
	if method == "HEAD" {
		return "GET"
	}
	return method
}

func (b *builder) checkConflicts() {
	var enforced, shadow []int32
	for i := range b.table.patterns {
		id := int32(i + 1)
		if b.table.patterns[i].entry.route.Shadow {
			shadow = append(shadow, id)
		} else {
			enforced = append(enforced, id)
		}
	}
	b.searchConflicts(&b.enforced, enforced, false, walkBudget)
	if len(shadow) == 0 {
		return
	}
	b.searchConflicts(&b.shadows, shadow, false, walkBudget)
	// A shadow pattern that equals an enforced one is its successor and takes no place.
	all := slices.Concat(enforced, shadow)
	var both forest
	for _, id := range all {
		both.insert(b.table.patterns[id-1].Pattern, id)
	}
	b.searchConflicts(&both, all, true, walkBudget)
}

// searchConflicts gives the steps that it took: nodes visited and patterns compared.
func (b *builder) searchConflicts(f *forest, members []int32, across bool, budget int) (steps int) {
	s := conflictSearch{
		builder: b, forest: f, members: members, across: across, walkBudget: budget,
		told: make(map[[2]int32]bool), reported: make(map[conflictPair]bool),
	}
	for _, id := range members {
		if s.count >= maxConflicts {
			break
		}
		s.search(id)
	}
	return s.steps
}

// search looks for the conflicts of one pattern: with patterns of its own method (each
// pair comes up twice), and of wider methods, where it is the narrower one already.
func (s *conflictSearch) search(id int32) {
	s.id, s.pattern = id, s.table.patterns[id-1].Pattern
	s.lastWild = -1
	for i, seg := range s.pattern.segments {
		if seg.wild {
			s.lastWild = i
		}
	}
	host := s.forest.host(s.pattern, false)
	s.searchTree(host.tree(s.pattern.method, s.forest, false), false)
	if s.pattern.method != "" {
		s.searchTree(host.any, true)
	}
	if s.pattern.method == "HEAD" {
		s.searchTree(host.tree("GET", s.forest, false), true)
	}
}

func (s *conflictSearch) searchTree(root *node, narrowerMethod bool) {
	if root == nil {
		return
	}
	s.visits, s.budget = 0, s.walkBudget
	s.walk(root, 0, narrowerMethod, false)
	s.steps += s.visits
	if s.visits <= s.budget {
		return
	}
	candidates, ok := s.candidates(root)
	if !ok {
		s.visits, s.budget = 0, math.MaxInt
		s.walk(root, 0, narrowerMethod, false)
		s.steps += s.visits
		return
	}
	s.steps += len(candidates)
	for _, other := range candidates {
		rel := comparePaths(s.pattern, s.table.patterns[other-1].Pattern)
		if narrowerMethod {
			rel = rel.and(narrower)
		}
		if rel == overlapping {
			s.conflict(s.id, other)
		}
	}
}

// walk follows the pattern p into the tree. mine and theirs say that p, or every
// pattern below n, is narrower somewhere so far: at an end of both, both make a
// conflict. Neither makes an equal pattern, of which the tree holds only one.
func (s *conflictSearch) walk(n *node, depth int, mine, theirs bool) {
	p := s.pattern
	if s.visits++; s.stopped() {
		return
	}
	if mine && !theirs && !p.subtree && s.lastWild < depth || theirs && !mine && !s.narrowsBelow(n.wilds, n.multis, depth) {
		return
	}
	if depth == len(p.segments) {
		s.end(n, mine, theirs)
		return
	}
	if n.multi != 0 && theirs {
		s.conflict(s.id, n.multi)
	}
	if seg := p.segments[depth]; !seg.wild {
		if child := n.literal(seg.text); child != nil {
			s.walk(child, depth+1, mine, theirs)
		}
		if n.wild != nil {
			s.walk(n.wild, depth+1, true, theirs)
		}
		return
	}
	if n.wild != nil {
		s.walk(n.wild, depth+1, mine, theirs)
	}
	if mine || s.narrowsBelow(n.edgeWilds, n.edgeMultis, depth+1) {
		n.edges(func(_ string, child *node) bool {
			s.walk(child, depth+1, mine, true)
			return !s.stopped()
		})
	}
}

func (s *conflictSearch) stopped() bool { return s.visits > s.budget || s.count >= maxConflicts }

// end is walk where the segments of p have ended.
func (s *conflictSearch) end(n *node, mine, theirs bool) {
	switch {
	case !s.pattern.subtree:
		if n.multi != 0 && theirs {
			s.conflict(s.id, n.multi)
		}
		if n.exact != 0 && mine && theirs {
			s.conflict(s.id, n.exact)
		}
	case mine: // all that is below is narrower
		if n.multi != 0 && theirs {
			s.conflict(s.id, n.multi)
		}
		if n.exact != 0 {
			s.conflict(s.id, n.exact)
		}
		s.below(n)
	}
}

// below finds everything under n.
func (s *conflictSearch) below(n *node) {
	visit := func(_ string, child *node) bool {
		s.visits++
		if child.exact != 0 {
			s.conflict(s.id, child.exact)
		}
		if child.multi != 0 {
			s.conflict(s.id, child.multi)
		}
		s.below(child)
		return !s.stopped()
	}
	if n.wild != nil && !visit("", n.wild) {
		return
	}
	n.edges(visit)
}

// narrowsBelow reports whether p can become narrower than some pattern through a node
// at depth: where p has a literal that pattern has a wildcard, or its subtree begins
// before p ends.
func (s *conflictSearch) narrowsBelow(wilds, multis uint64, depth int) bool {
	from := ^uint64(0) << min(depth, 63)
	last := len(s.pattern.segments)
	if s.pattern.subtree {
		last--
	}
	until := ^uint64(0)
	if last < 63 {
		until = depthBit(last+1) - 1
	}
	return s.pattern.literals&wilds&from != 0 || multis&from&until != 0
}

// candidates are, for a pattern with a literal behind a wildcard, those patterns of a
// tree that have this literal there too, or nothing definite. Of several such literals
// the one with the fewest is taken. ok is false if there is no such literal.
func (s *conflictSearch) candidates(root *node) (list []int32, ok bool) {
	s.index()
	wild, best, at := false, 0, depthPlace{}
	var text string
	for depth, seg := range s.pattern.segments {
		if seg.wild {
			wild = true
			continue
		}
		place := depthPlace{root, depth}
		n := len(s.literals[literalPlace{place, seg.text}]) + len(s.vague[place])
		if wild && (!ok || n < best) {
			best, at, text, ok = n, place, seg.text, true
		}
	}
	if !ok {
		return nil, false
	}
	list = append(list, s.literals[literalPlace{at, text}]...)
	return append(list, s.vague[at]...), true
}

// index fills literals and vague.
func (s *conflictSearch) index() {
	if s.literals != nil {
		return
	}
	s.literals = make(map[literalPlace][]int32)
	s.vague = make(map[depthPlace][]int32)
	deepest := 0
	for _, id := range s.members {
		deepest = max(deepest, len(s.table.patterns[id-1].segments))
	}
	for _, id := range s.members {
		p := &s.table.patterns[id-1]
		root := s.forest.tree(p.Pattern, false)
		for depth, seg := range p.segments {
			place := depthPlace{root, depth}
			if seg.wild {
				s.vague[place] = append(s.vague[place], id)
			} else {
				key := literalPlace{place, seg.text}
				s.literals[key] = append(s.literals[key], id)
			}
		}
		for depth := len(p.segments); p.subtree && depth < deepest; depth++ {
			place := depthPlace{root, depth}
			s.vague[place] = append(s.vague[place], id)
		}
	}
}

// conflict tells about one pair, unless a third pattern decides what both match.
func (s *conflictSearch) conflict(a, b int32) {
	pair := [2]int32{min(a, b), max(a, b)}
	p, q := s.table.patterns[pair[0]-1], s.table.patterns[pair[1]-1]
	switch {
	case a == b, s.across && p.entry.route.Shadow == q.entry.route.Shadow, p.entry == q.entry && !p.entry.usesPath(), s.told[pair]:
		return
	}
	s.told[pair] = true
	common := meet(p.Pattern, q.Pattern)
	if s.forest.find(&common) != 0 {
		return
	}
	seen := conflictPair{p.entry, q.entry, p.print(withoutHEAD(p.method)), q.print(withoutHEAD(q.method))}
	if s.reported[seen] {
		return
	}
	s.reported[seen] = true
	s.count++
	problem := Problem{
		Kind: ProblemConflict, At: q.At, Other: p.At, Witness: s.witness(&common, len(common.segments)),
		Remedy: conflictRemedy(p.Pattern, q.Pattern, &common),
	}
	request := requestText(problem.Witness)
	switch {
	case p.entry == q.entry:
		problem.Kind = ProblemSelfOverlap
		problem.Message = fmt.Sprintf("%s and %s of one route both match %s, and {path.…}, which the route uses, could be read in two ways",
			describe(q), describe(p), request)
		problem.Remedy = "put them into two routes, or make one pattern narrower"
	case s.across:
		problem.Warning = true
		problem.Message = fmt.Sprintf("once nothing is in shadow, %s and %s both match %s, and neither is narrower", describe(q), describe(p), request)
	default:
		problem.Message = fmt.Sprintf("%s and %s both match %s, and neither is narrower", describe(q), describe(p), request)
	}
	s.add(problem)
}

// requestText is a request as messages write it.
func requestText(r Request) string { return r.Method + " " + r.Host + r.Path }

// conflictRemedy names the pattern that decides what p and q both match. HEAD goes
// with GET where one of the two is for every method.
func conflictRemedy(p, q, common *Pattern) string {
	text := common.text
	if (p.method == "") != (q.method == "") && (common.method == "GET" || common.method == "HEAD") {
		text = common.print("GET,HEAD")
	}
	return fmt.Sprintf("write %q as well, in the route that should win, or make one pattern narrower", text)
}

// checkShadowed finds patterns to which narrower ones leave nothing: `/a/` beside `/a`
// and `/a/{x}/`. Since there are always more segments, hosts and methods than a table
// names, only patterns that go on in wildcards can cover one.
func (b *builder) checkShadowed() {
	for i := range b.table.patterns {
		p := b.table.patterns[i]
		if !p.subtree {
			continue
		}
		n := b.forest(p.entry).tree(p.Pattern, false)
		for _, s := range p.segments {
			if s.wild {
				n = n.wild
			} else {
				n = n.literal(s.text)
			}
		}
		for n != nil && n.exact != 0 {
			if n = n.wild; n != nil && n.multi != 0 {
				other := b.table.patterns[n.multi-1]
				b.add(Problem{
					Kind: ProblemShadowed, At: p.At, Other: other.At,
					Message: fmt.Sprintf("%s can never match: narrower patterns such as %s cover all of it", describe(p), describe(other)),
					Remedy:  "remove it",
				})
				break
			}
		}
	}
}
