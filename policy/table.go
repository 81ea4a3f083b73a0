package policy

import (
	"cmp"
	"slices"
)

// A Table is the set of routes that a configuration has. It is immutable and safe for
// concurrent use. A nil *Table has no routes.
type Table struct {
	entries  []entry
	patterns []tablePattern // number id is at id-1
	enforced matcher
	shadows  matcher // the patterns of shadow routes: what the table would have besides
	names    map[string]*entry
	tenancy  *Tenancy
}

// An entry is a route with what is made of it once.
type entry struct {
	route   *Route
	clauses []clause
	table   *Table
}

type tablePattern struct {
	*Pattern
	entry *entry
}

// isPublic: exactly one of the three ways, and it is public.
func (e *entry) isPublic() bool {
	return e.route.Public && !e.route.Forbid && len(e.clauses) == 0
}

// A Match is the route that covers a request, or none. The zero Match is none.
type Match struct {
	Route   *Route   // nil: no route covers the request
	Pattern *Pattern // of Route, that matched; nil if the route has none
	Reason  Reason   // why there is no route

	entry *entry
}

func (m *Match) tenancy() *Tenancy {
	if m.entry == nil {
		return nil
	}
	return m.entry.table.tenancy
}

// Param is the decoded text of the wildcard called name of the pattern that matched
// r: `{name...}` without the slashes around it. It allocates only to decode an escape.
func (m *Match) Param(r *Request, name string) (string, bool) {
	if m.Pattern == nil {
		return "", false
	}
	v, ok := m.Pattern.param(r.Path, name)
	return unescape(v), ok
}

// NewTable makes a table of routes, which it keeps and which must not change any more.
// tenancy is nil without a tenancy block. The problems are all that is wrong, in the
// order of the file; unless they are all warnings, there is no table.
func NewTable(routes []*Route, tenancy *Tenancy) (*Table, []Problem) {
	count, requirements := 0, 0
	for _, r := range routes {
		count += len(r.Patterns)
		requirements += len(r.Allow)
	}
	t := &Table{
		entries:  make([]entry, len(routes)),
		patterns: make([]tablePattern, 0, count),
		names:    make(map[string]*entry, len(routes)),
		tenancy:  tenancy,
	}
	b := builder{table: t}
	clauses := make([]clause, 0, requirements)
	for i, r := range routes {
		e := &t.entries[i]
		first := len(clauses)
		for j := range r.Allow {
			clauses = append(clauses, b.compile(&r.Allow[j]))
		}
		*e = entry{route: r, table: t, clauses: clauses[first:len(clauses):len(clauses)]}
		b.checkRoute(e)
		b.addName(e)
		b.addPatterns(e)
	}
	b.layFlat()
	b.checkConflicts()
	b.checkShadowed()
	b.checkOpens()
	sortProblems(b.problems)
	if slices.ContainsFunc(b.problems, func(p Problem) bool { return !p.Warning }) {
		return nil, b.problems
	}
	return t, b.problems
}

// Match finds the route that covers r: of the narrowest host that has one, the most
// specific. If the request's context names a route, it is that one, provided that it
// covers r too. Nothing covers a Check without an HTTP part, and shadow routes are not
// there. Match allocates nothing.
func (t *Table) Match(r *Request) Match {
	switch {
	case t == nil:
		return Match{Reason: ReasonNoRoute}
	case r.TCP:
		return Match{Reason: ReasonNotHTTP}
	}
	if name, ok := r.ContextValue(RouteName); ok {
		return t.matchNamed(name, r)
	}
	return t.result(t.enforced.match(r.Method, r.Host, r.Path))
}

// MatchShadow finds the shadow route that would cover r if it were enforced: what it
// would say is to be reported, and nothing else.
func (t *Table) MatchShadow(r *Request) (Match, bool) {
	if t == nil || r.TCP || t.shadows.isEmpty() {
		return Match{}, false
	}
	if name, ok := r.ContextValue(RouteName); ok {
		e := t.names[name]
		if e == nil || !e.route.Shadow {
			return Match{}, false
		}
		m := e.matchItself(r)
		return m, m.Route != nil
	}
	shadow := t.result(t.shadows.match(r.Method, r.Host, r.Path))
	if shadow.Route == nil {
		return Match{}, false
	}
	winner := t.Match(r)
	if winner.Route != nil && winner.Pattern.compare(shadow.Pattern) == narrower {
		return Match{}, false
	}
	return shadow, true
}

func (t *Table) result(id int32) Match {
	if id == 0 {
		return Match{Reason: ReasonNoRoute}
	}
	p := &t.patterns[id-1]
	return Match{Route: p.entry.route, Pattern: p.Pattern, entry: p.entry}
}

func (t *Table) matchNamed(name string, r *Request) Match {
	e := t.names[name]
	if e == nil || e.route.Shadow {
		return Match{Reason: ReasonRouteUnknown}
	}
	return e.matchItself(r)
}

// matchItself finds the most specific pattern of one route that matches. A route that
// has none covers what names it.
func (e *entry) matchItself(r *Request) Match {
	m := Match{Route: e.route, entry: e}
	if len(e.route.Patterns) == 0 {
		return m
	}
	for i := range e.route.Patterns {
		p := &e.route.Patterns[i]
		if p.Matches(r) && (m.Pattern == nil || p.compare(m.Pattern) == narrower) {
			m.Pattern = p
		}
	}
	if m.Pattern == nil {
		return Match{Reason: ReasonRouteMismatch}
	}
	return m
}

// Route finds a route by its name.
func (t *Table) Route(name string) (*Route, bool) {
	if t == nil || t.names[name] == nil {
		return nil, false
	}
	return t.names[name].route, true
}

// A Row is one pattern of a route, or a route without patterns.
type Row struct {
	Route   *Route
	Pattern *Pattern // nil: the route is reachable by name only
}

// Rows lists the table as the matcher sees it, the most specific first: exact hosts,
// wildcard hosts from the longest, any host; then by path. The first row that covers a
// request decides it (shadow routes aside). What is reachable by name
// only comes last.
func (t *Table) Rows() []Row {
	if t == nil {
		return nil
	}
	rows := make([]Row, 0, len(t.patterns))
	for i := range t.patterns {
		rows = append(rows, Row{t.patterns[i].entry.route, t.patterns[i].Pattern})
	}
	slices.SortStableFunc(rows, func(a, b Row) int { return compareRows(a.Pattern, b.Pattern) })
	for i := range t.entries {
		if r := t.entries[i].route; len(r.Patterns) == 0 {
			rows = append(rows, Row{Route: r})
		}
	}
	return rows
}

// compareRows is a total order in which a narrower pattern comes before a wider one.
func compareRows(p, q *Pattern) int {
	hostClass := func(p *Pattern) int {
		switch {
		case p.HostIsLiteral():
			return 0
		case p.wildHost:
			return 1
		}
		return 2
	}
	return cmp.Or(
		cmp.Compare(hostClass(p), hostClass(q)),
		cmp.Compare(wildLength(q), wildLength(p)),
		cmp.Compare(p.host, q.host),
		compareRowPaths(p, q),
		compareRowMethods(p.method, q.method),
	)
}

func wildLength(p *Pattern) int {
	if p.wildHost {
		return len(p.host)
	}
	return 0
}

// compareRowPaths: at the first difference, the end of the path comes first, then
// literals, then wildcards, then what is open to anything.
func compareRowPaths(p, q *Pattern) int {
	for i := 0; ; i++ {
		a, b := rowClass(p, i), rowClass(q, i)
		if a != b {
			return cmp.Compare(a, b)
		}
		if a == rowEnd || a == rowSubtree {
			return 0
		}
		if a == rowLiteral {
			if c := cmp.Compare(p.segments[i].text, q.segments[i].text); c != 0 {
				return c
			}
		}
	}
}

const (
	rowEnd = iota
	rowLiteral
	rowWild
	rowSubtree
)

func rowClass(p *Pattern, depth int) int {
	switch {
	case depth < len(p.segments) && p.segments[depth].wild:
		return rowWild
	case depth < len(p.segments):
		return rowLiteral
	case p.subtree:
		return rowSubtree
	}
	return rowEnd
}

func compareRowMethods(a, b string) int {
	class := func(m string) int {
		switch m {
		case "":
			return 2
		case "GET": // after HEAD
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(a, b))
}
