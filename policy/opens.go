package policy

import (
	"fmt"
	"slices"
	"strings"
)

// openness is how little a route asks for.
type openness uint8

const (
	guarded   openness = iota // something of the caller, or that there be none
	anyCaller                 // authenticated: true
	everybody                 // public
)

func (o openness) String() string {
	switch o {
	case everybody:
		return "public"
	case anyCaller:
		return "authenticated"
	}
	return "guarded"
}

func (e *entry) openness() openness {
	if e.isPublic() {
		return everybody
	}
	for i := range e.clauses {
		if c := e.clauses[i].conditions; !e.route.Forbid && len(c) == 1 && c[0].kind == condAuthenticated {
			return anyCaller
		}
	}
	return guarded
}

// maxOpens is how many openings are told, as of conflicts.
const maxOpens = 1000

// checkOpens finds requests that an open route decides although, with host and method
// left aside, a narrower path is guarded: `POST /admin/x` under a public `/` beside a
// guarded `GET /admin/`. Hosts that have no name in common are separate sites and do
// not guard each other.
func (b *builder) checkOpens() {
	b.checkOpensNames()
	var open pathForest
	for i := range b.table.patterns {
		p := &b.table.patterns[i]
		if !p.entry.route.Shadow && p.entry.openness() > guarded {
			open.insert(p.Pattern, int32(i+1))
		}
	}
	if open.root == nil {
		return
	}
	type pair struct {
		open, guard *entry
		path        string
	}
	told := make(map[pair]bool)
	deepest := 0
	for i := range b.table.patterns {
		deepest = max(deepest, len(b.table.patterns[i].segments))
	}
	unnamed := b.freshMethod()
	for i := range b.table.patterns {
		guard := b.table.patterns[i]
		if guard.entry.route.Shadow || guard.entry.openness() == everybody {
			continue
		}
		open.wider(guard.Pattern, func(id int32) {
			p := b.table.patterns[id-1]
			if p.entry == guard.entry || p.entry.openness() <= guard.entry.openness() || guards(guard.Pattern, p.Pattern) ||
				slices.Contains(p.entry.route.Opens, guard.entry.route.Name) {
				return
			}
			key := pair{p.entry, guard.entry, guard.print("")}
			if told[key] || len(told) >= maxOpens {
				return
			}
			if r, ok := b.fallsThrough(p, guard, id, unnamed, deepest+1); ok {
				told[key] = true
				b.addOpens(p, guard, r)
			}
		})
	}
}

// guards reports whether q matches whatever p matches on q's path, or nothing of it.
func guards(q, p *Pattern) bool {
	hosts := compareHosts(q, p)
	methods := compareMethods(q.method, p.method)
	return hosts == disjoint || (hosts == equal || hosts == wider && p.host == "") && (methods == equal || methods == wider)
}

// fallsThrough looks for a request on the guard's path that the open pattern p, with
// number id, decides. It is enough to ask for segments, hosts and methods that no
// pattern names: a pattern that takes these from p takes all others too.
func (b *builder) fallsThrough(p, guard tablePattern, id int32, unnamed string, longest int) (Request, bool) {
	r := Request{Method: p.method, Host: b.hostOf(p.Pattern)}
	if p.method == "" {
		r.Method = unnamed
	}
	for _, length := range pathLengths(guard.Pattern, longest) {
		r.Path = b.pathOf(guard.Pattern, length)
		if b.table.enforced.match(r.Method, r.Host, r.Path) != id {
			continue
		}
		if p.method == "" {
			for _, usual := range usualMethods {
				if b.table.enforced.match(usual, r.Host, r.Path) == id {
					r.Method = usual
					break
				}
			}
		}
		return r, true
	}
	return Request{}, false
}

// pathLengths are the numbers of segments that a path of p can have, up to longest;
// first one that shows that p is a subtree.
func pathLengths(p *Pattern, longest int) []int {
	n := len(p.segments)
	if !p.subtree {
		return []int{n}
	}
	lengths := []int{n + 1, n}
	for n += 2; n <= longest; n++ {
		lengths = append(lengths, n)
	}
	return lengths
}

func (b *builder) addOpens(p, guard tablePattern, r Request) {
	others, request := "methods", requestText(r)
	switch methods, hosts := guard.matchesMethod(r.Method), guard.matchesHost(r.Host); {
	case methods: // a guard for any host loses to a route for this one
		others = "hosts"
	case !hosts:
		others = "methods and hosts"
	}
	if r.Host == "" && guard.host != "" {
		request += " on another host"
	}
	where := "its match"
	if guard.At.Line > 0 {
		where = place(guard.At)[len("in "):]
	}
	closing := Pattern{
		host: p.host, wildHost: p.wildHost,
		segments: guard.segments, subtree: guard.subtree, rest: guard.rest,
	}
	method := p.method
	if method == "GET" {
		method = "GET,HEAD"
	}
	b.add(Problem{
		Kind: ProblemOpens, At: p.At, Other: guard.At, Witness: r,
		Message: fmt.Sprintf("%s falls to %q (%s) although %q%s guards the path",
			request, p.text, joinPlace(p.At, p.entry.openness().String()), guard.text, parenthesis(guard.At)),
		Remedy: fmt.Sprintf("add the other %s to %s, or a route {match: [%q], forbid: true}", others, where, closing.print(method)),
	})
}

func joinPlace(at Position, what string) string {
	if at.Line == 0 {
		return what
	}
	return strings.TrimPrefix(place(at), "in ") + ", " + what
}

func parenthesis(at Position) string {
	if at.Line == 0 {
		return ""
	}
	return " (" + strings.TrimPrefix(place(at), "in ") + ")"
}

// checkOpensNames refuses names in `opens` that no route has.
func (b *builder) checkOpensNames() {
	for i := range b.table.entries {
		r := b.table.entries[i].route
		for _, name := range r.Opens {
			if b.table.names[name] != nil {
				continue
			}
			remedy := "name the guarded route, or remove the name"
			if near := b.nearestRoute(name); near != "" {
				remedy = fmt.Sprintf("did you mean %q?", near)
			}
			b.add(Problem{
				Kind: ProblemUnknownName, At: r.At,
				Message: fmt.Sprintf("opens names %q, which is no route", name), Remedy: remedy,
			})
		}
	}
}

func (b *builder) nearestRoute(name string) string {
	best, distance := "", max(2, len(name)/3)+1
	for i := range b.table.entries {
		candidate := b.table.entries[i].route.Name
		if d := editDistance(name, candidate); candidate != "" && d < distance {
			best, distance = candidate, d
		}
	}
	return best
}

// freshMethod is a method that no pattern names.
func (b *builder) freshMethod() string {
	named := make(map[string]bool)
	for i := range b.table.patterns {
		named[b.table.patterns[i].method] = true
	}
	method := "PROPFIND"
	for named[method] {
		method += "X"
	}
	return method
}

// A pathForest holds patterns by path alone.
type pathForest struct {
	arena  arena
	root   *node
	groups [][]int32 // of patterns with equal paths; the trie's numbers are indexes, from 1
}

func (f *pathForest) insert(p *Pattern, id int32) {
	if f.root == nil {
		f.root = f.arena.new()
	}
	n := f.root
	for _, s := range p.segments {
		var child *node
		if s.wild {
			child = n.wild
		} else {
			child = n.literal(s.text)
		}
		if child == nil {
			child = f.arena.new()
			if s.wild {
				n.wild = child
			} else {
				n.addLiteral(s.text, child)
			}
		}
		n = child
	}
	end := &n.exact
	if p.subtree {
		end = &n.multi
	}
	if *end == 0 {
		f.groups = append(f.groups, nil)
		*end = int32(len(f.groups))
	}
	f.groups[*end-1] = append(f.groups[*end-1], id)
}

// wider visits the patterns whose paths are strictly wider than that of q.
func (f *pathForest) wider(q *Pattern, visit func(id int32)) {
	f.walk(f.root, q, 0, false, visit)
}

func (f *pathForest) walk(n *node, q *Pattern, depth int, strict bool, visit func(id int32)) {
	if n == nil {
		return
	}
	group := func(number int32) {
		if number != 0 {
			for _, id := range f.groups[number-1] {
				visit(id)
			}
		}
	}
	if depth == len(q.segments) {
		if strict || !q.subtree {
			group(n.multi)
		}
		if strict && !q.subtree {
			group(n.exact)
		}
		return
	}
	group(n.multi)
	s := q.segments[depth]
	if !s.wild {
		f.walk(n.literal(s.text), q, depth+1, strict, visit)
	}
	f.walk(n.wild, q, depth+1, strict || !s.wild, visit)
}
