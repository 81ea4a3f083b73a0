package diff

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestCompareEqualsBruteForce holds Compare against asking both tables about every request
// of every principal in a small world, on thousands of generated pairs: each region that
// flips is reported in its direction, no other one is, and every witness is real.
func TestCompareEqualsBruteForce(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		checks, seed := "40", "2" // the same in every run: new pairs are for acceptance
		if os.Getenv("ACCEPTANCE") != "" {
			checks, seed = "3000", "0"
		}
		if err := errors.Join(flag.Set("rapid.checks", checks), flag.Set("rapid.seed", seed)); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = flag.Set("rapid.checks", f.DefValue), flag.Set("rapid.seed", "0") }()
	}
	seen := map[Direction]int{}
	if err := flag.Set("rapid.shrinktime", "0s"); err != nil { // a smaller seed is no simpler
		t.Fatal(err)
	}
	for _, seed := range foundSeeds {
		compareWithBruteForce(t, seed, seen)
	}
	rapid.Check(t, func(t *rapid.T) {
		compareWithBruteForce(t, rapid.Uint64().Draw(t, "seed"), seen)
	})
	for _, d := range []Direction{Widens, Narrows, Forwards, Answers} {
		if seen[d] < 10 {
			t.Errorf("%d of the generated pairs %s, which prove little", seen[d], d)
		}
	}
}

// foundSeeds are of pairs on which Compare and brute force have once differed.
var foundSeeds = []uint64{0x69, 0x3b, 0xbe}

// failer is what a test and a check of rapid have in common.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func compareWithBruteForce(t failer, seed uint64, seen map[Direction]int) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(seed, 0))}
	old := g.side()
	new := g.edit(old)
	if g.IntN(4) == 0 {
		new = g.side()
	}
	want, whole := bruteForce(old, new, g.Rand)
	got := map[string]bool{}
	for _, change := range Compare(old, new) {
		if change.Direction == Undecided {
			t.Fatalf("undecided: %s", changeText(&change))
		}
		confirm(t, old, new, &change)
		m, n := old.match(&change.Request), new.match(&change.Request)
		got[regionText(m, n)+" "+change.Direction.String()] = true
		seen[change.Direction]++
	}
	for key := range want {
		if !got[key] {
			t.Fatalf("not found: %s\nold %s\nnew %s", key, sideText(old), sideText(new))
		}
	}
	for key := range got {
		if !want[key] && whole { // each witness has been confirmed anyway
			t.Fatalf("found, but not by brute force: %s\nold %s\nnew %s", key, sideText(old), sideText(new))
		}
	}
}

// confirm asks both tables about a witness.
func confirm(t failer, old, new Side, c *Change) {
	t.Helper()
	if c.Principal != nil && c.Direction != Narrows && !isMade(&new, c.Principal) || c.Principal != nil && c.Direction == Narrows && !isMade(&old, c.Principal) {
		t.Fatalf("witness %s: no authenticator makes it\nold %s\nnew %s", changeText(c), sideText(old), sideText(new))
	}
	m, n := old.match(&c.Request), new.match(&c.Request)
	who := &person{}
	if c.Principal != nil {
		who = newPerson(believe(c.Principal, c), c.Selected, old, new)
	}
	before, after := who.passes(0, m, &c.Request), who.passes(1, n, &c.Request)
	want := map[Direction][2]bool{Widens: {false, true}, Narrows: {true, false}, Forwards: {true, true}, Answers: {false, false}}[c.Direction]
	if before != want[0] || after != want[1] || before != c.Old.Allowed || after != c.New.Allowed {
		t.Fatalf("witness %s: old %t, new %t\nold %s\nnew %s", changeText(c), before, after, sideText(old), sideText(new))
	}
	if c.Direction == Forwards && (len(c.Forwarded) == 0 || who.seen(&old, 0, m, &c.Request) == who.seen(&new, 1, n, &c.Request)) {
		t.Fatalf("witness %s: %+v is not forwarded differently\nold %s\nnew %s", changeText(c), c.Forwarded, sideText(old), sideText(new))
	}
	if c.Direction == Answers && who.answer(&old, m, &c.Request) == who.answer(&new, n, &c.Request) {
		t.Fatalf("witness %s: the answers are the same\nold %s\nnew %s", changeText(c), sideText(old), sideText(new))
	}
}

// believe makes the expressions of a witness come true.
func believe(p *policy.Principal, c *Change) *policy.Principal {
	if p == nil {
		return nil
	}
	for _, a := range c.Assumed {
		if a.Holds {
			as := *p
			as.Issuer = a.Source
			p = &as
		}
	}
	return p
}

// issued is an expression that asks for what no condition asks for.
type issued string

func (e issued) Holds(_ *policy.Request, p *policy.Principal) policy.Truth {
	if p != nil && p.Issuer == string(e) {
		return policy.True
	}
	return policy.False
}
func (e issued) String() string { return string(e) }

func regionText(old, new policy.Match) string {
	text := func(m policy.Match) string {
		switch {
		case m.Route == nil:
			return "none"
		case m.Pattern == nil:
			return m.Route.Name
		}
		return m.Route.Name + " " + m.Pattern.String()
	}
	return text(old) + " -> " + text(new)
}

func changeText(c *Change) string {
	return fmt.Sprintf("%v %s %s%s %v %+v %+v %v", c.Direction, c.Request.Method, c.Request.Host, c.Request.Path, c.Request.Context, c.Principal, c.Selected, c.Assumed)
}

func sideText(s Side) string {
	var b strings.Builder
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "\n  %s %v public=%t forbid=%t accept=%v", r.Name, r.Patterns, r.Public, r.Forbid, r.Accept)
		for i := range r.Allow {
			fmt.Fprintf(&b, "\n    %s", describe(&r.Allow[i]))
		}
	}
	for _, row := range s.TCP.Rows() {
		for i := range row.Route.Allow {
			fmt.Fprintf(&b, "\n  tcp %s", describe(&row.Route.Allow[i]))
		}
	}
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "\n  %s gets %s, answers %s", r.Name, s.Forwarded(r)["x-who"].Text, s.Refused(r, false))
	}
	return fmt.Sprintf("%s\n  tenancy %+v select %t impersonate %t\n  %s\n  %+v", b.String(), s.Tenancy, s.Select, s.Impersonate, s.whoIs(), s.Authenticators)
}

// maxPeople are asked of a world.
const maxPeople = 600

// bruteForce lists what flips in a world that has every text that a generator uses, and
// one more of each kind.
//
// A world that is too large is asked in part, which whole tells.
func bruteForce(old, new Side, random *rand.Rand) (names map[string]bool, whole bool) {
	flips := map[string][Answers + 1]bool{}
	people := world(old, new)
	if whole = len(people) <= maxPeople; !whole {
		random.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
		people = people[:maxPeople]
	}
	asked := map[string]bool{}
	for _, r := range append(requests(), policy.Request{TCP: true}, policy.Request{TCP: true, Context: []policy.Pair{{Name: "owner", Value: "a"}}}, policy.Request{TCP: true, Context: []policy.Pair{{Name: "owner", Value: "x"}}}) {
		m, n := old.match(&r), new.match(&r)
		if m.Route == nil && n.Route == nil {
			continue
		}
		key := regionText(m, n)
		owner, _ := r.ContextValue("owner")
		if all := key + r.Path + " " + owner; asked[all] {
			continue // conditions see neither method nor host
		} else {
			asked[all] = true
		}
		found := flips[key]
		ask := func(who *person) {
			before, after := who.passes(0, m, &r), who.passes(1, n, &r)
			switch {
			case !before && after:
				found[Widens] = found[Widens] || who.p == nil || who.made[1]
			case before && !after:
				found[Narrows] = found[Narrows] || who.p == nil || who.made[0]
			case who.p != nil && !who.made[1]:
			case before && !found[Forwards]:
				found[Forwards] = who.seen(&old, 0, m, &r) != who.seen(&new, 1, n, &r)
			case !before && !found[Answers] && (who.p == nil || who.ok[0] && who.ok[1]):
				found[Answers] = who.answer(&old, m, &r) != who.answer(&new, n, &r)
			}
		}
		ask(&person{})
		for i := range people {
			ask(&people[i])
		}
		flips[key] = found
	}
	names = map[string]bool{}
	for key, found := range flips {
		for d, is := range found {
			if is {
				names[key+" "+Direction(d).String()] = true
			}
		}
	}
	return names, whole
}

// A person is who makes requests, and as whom; nobody without p.
type person struct {
	p        *policy.Principal
	selected policy.Selection

	plain    [2]*policy.Principal // as whom the sides know it
	as       [2]*policy.Principal // as whom they take it
	ok, made [2]bool              // whether they let it be that, and have somebody who vouches
}

func (who *person) passes(side int, m policy.Match, r *policy.Request) bool {
	switch {
	case m.Route == nil:
		return false
	case !consulted(m, who.p):
		return m.Decide(nil, r).Outcome == policy.Allowed
	case r.TCP: // there are no headers to select by
		return m.Decide(who.plain[side], r).Outcome == policy.Allowed
	case !who.ok[side]:
		return isPublic(m)
	}
	return m.Decide(who.as[side], r).Outcome == policy.Allowed
}

// consulted tells whether a route looks at a principal.
func consulted(m policy.Match, p *policy.Principal) bool {
	return p != nil && m.Route != nil && !m.Route.Forbid && (m.Route.Accept == nil || slices.Contains(m.Route.Accept, p.Authenticator))
}

func newPerson(p *policy.Principal, selected policy.Selection, sides ...Side) *person {
	who := &person{p: p, selected: selected}
	for i := range sides {
		who.plain[i] = sides[i].On(p)
		who.as[i], who.ok[i] = sides[i].As(who.plain[i], selected)
		who.made[i] = isMade(&sides[i], p)
	}
	return who
}

// seen is what the upstream gets: the text of the header, and what is made of it.
func (who *person) seen(s *Side, side int, m policy.Match, r *policy.Request) [2]string {
	if r.TCP {
		return [2]string{}
	}
	v := s.Forwarded(m.Route)["x-who"]
	switch {
	case !v.Template.Uses(policy.RefPrincipal):
		return [2]string{v.Text}
	case !consulted(m, who.p) || !who.ok[side]:
		return [2]string{}
	}
	value, _ := v.Template.Eval(r, m, who.as[side])
	return [2]string{v.Text, value}
}

func (who *person) answer(s *Side, m policy.Match, r *policy.Request) string {
	if r.TCP {
		return ""
	}
	return s.Refused(m.Route, m.Route != nil && !m.Route.Forbid && !consulted(m, who.p))
}

// isMade tells whether an authenticator of the side makes a principal.
func isMade(s *Side, p *policy.Principal) bool {
	a, known := s.authenticator(p.Authenticator)
	if !known {
		return false
	}
	tenant := p.Tenant
	if p.Wildcard {
		tenant = "*"
	}
	text := func(t *Text, v string) bool {
		if v == "" {
			return t.Optional || !t.Any && len(t.Values) == 0
		}
		if slices.Contains(t.Values, v) {
			return true
		}
		return t.Any && (v != "*" || a.Wildcard || s.Tenancy == nil)
	}
	list := func(l *List, have []string) bool {
		if len(have) > 0 && slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(l.Default))) {
			return true
		}
		for _, v := range l.All {
			if !slices.Contains(have, v) {
				return false
			}
		}
		for _, v := range have {
			if !l.Any && !slices.Contains(l.Of, v) && !slices.Contains(l.All, v) {
				return false
			}
		}
		return len(have) > 0 || len(l.Default) == 0
	}
	return a.Makes == nil || slices.ContainsFunc(a.Makes, func(m Maker) bool {
		team := m.Attributes["team"]
		return text(&m.Subject, p.Subject) && text(&m.Username, p.Username) && text(&m.Tenant, tenant) &&
			list(&m.Roles, p.Roles) && list(&m.Scopes, p.Scopes) && list(&team, p.Attributes["team"].Values)
	})
}

func requests() []policy.Request {
	paths := []string{"/"}
	for _, a := range []string{"a", "b", "x", "_", "a:b"} {
		paths = append(paths, "/"+a)
		for _, b := range []string{"a", "b", "x", "y", "_", "a:b"} {
			paths = append(paths, "/"+a+"/"+b, "/"+a+"/"+b+"/x")
		}
	}
	var list []policy.Request
	for _, method := range []string{"GET", "HEAD", "POST", "PUT"} {
		for _, host := range []string{"localhost", "a.example", "x.example"} {
			for _, path := range paths {
				for _, owner := range []string{"", "a", "x"} {
					for _, name := range []string{"", "r0", "r1", "r2", "r3"} {
						r := policy.Request{Method: method, Host: host, Path: path, Scheme: "https"}
						if name != "" {
							r.Context = append(r.Context, policy.Pair{Name: policy.RouteName, Value: name})
						}
						if owner != "" {
							r.Context = append(r.Context, policy.Pair{Name: "owner", Value: owner})
						}
						list = append(list, r)
					}
				}
			}
		}
	}
	return list
}

// world has every principal that differs in what the conditions of two sides ask about,
// and in what its authenticators give it besides.
func world(sides ...Side) []person {
	list := []policy.Principal{{Authenticator: "people"}, {Authenticator: "machines"}}
	var requirements []*policy.Requirement
	restricted, headers := false, ""
	for _, s := range sides {
		for _, a := range s.Authenticators {
			restricted = restricted || a.Makes != nil
		}
		for _, r := range s.Routes {
			headers += s.Forwarded(r)["x-who"].Text
			for i := range r.Allow {
				requirements = append(requirements, &r.Allow[i])
			}
		}
		for _, row := range s.TCP.Rows() {
			for i := range row.Route.Allow {
				requirements = append(requirements, &row.Route.Allow[i])
			}
		}
		for _, g := range s.Grants.List() {
			headers += "{roles}"
			for i := range g.When {
				requirements = append(requirements, &g.When[i])
			}
		}
	}
	uses := func(asks func(*policy.Requirement) bool) bool {
		return slices.ContainsFunc(requirements, asks)
	}
	vary := func(used bool, changes ...func(*policy.Principal)) {
		if !used && !restricted {
			return
		}
		if !used {
			changes = changes[:1] // it is only there because somebody has to have one
		}
		for _, p := range list {
			for _, change := range changes {
				as := p
				change(&as)
				list = append(list, as)
			}
		}
	}
	texts := func(set func(*policy.Principal, string), texts ...string) (changes []func(*policy.Principal)) {
		for _, text := range texts {
			changes = append(changes, func(p *policy.Principal) { set(p, text) })
		}
		return changes
	}
	vary(uses(func(q *policy.Requirement) bool { return q.Subjects != nil }), texts(func(p *policy.Principal, v string) { p.Subject = v }, "a", "b", "x", "y")...)
	usernames := uses(func(q *policy.Requirement) bool { return q.Owner != nil })
	vary(usernames, texts(func(p *policy.Principal, v string) { p.Username = v }, "a", "x", "*")...)
	tenants := uses(func(q *policy.Requirement) bool { return q.Tenant != nil || q.ReadableTenant != nil }) || strings.Contains(headers, "{tenant") && sides[0].whoIs() != sides[1].whoIs() || sides[0].Select != sides[1].Select
	vary(tenants, texts(func(p *policy.Principal, v string) { p.Tenant = v }, "a", "a:b", "a:x", "a:b:x", "b", "b:x", "x", "x:z", "y", "z", "_", "*")...)
	vary(uses(func(q *policy.Requirement) bool { return q.Roles != nil }) || strings.Contains(headers, "{roles}"),
		func(p *policy.Principal) { p.Roles = []string{"r"} }, func(p *policy.Principal) { p.Roles = []string{"s"} }, func(p *policy.Principal) { p.Roles = []string{"r", "s"} },
		func(p *policy.Principal) { p.Roles = []string{"q"} })
	vary(uses(func(q *policy.Requirement) bool { return q.Scopes != nil }), func(p *policy.Principal) { p.Scopes = []string{"read"} })
	vary(uses(func(q *policy.Requirement) bool { return len(q.Attributes) > 0 }), texts(func(p *policy.Principal, v string) {
		p.Attributes = map[string]policy.Attribute{"team": {Values: []string{v}}}
	}, "a", "z")...)
	list = slices.DeleteFunc(list, func(p policy.Principal) bool {
		return !slices.ContainsFunc(sides, func(s Side) bool { return isMade(&s, s.complete(p)) })
	})
	if uses(func(q *policy.Requirement) bool { return q.When != nil }) {
		for _, p := range list {
			p.Issuer = "mfa"
			list = append(list, p)
		}
	}
	selections := []policy.Selection{{}}
	if (tenants || usernames) && (sides[0].Select || sides[1].Select) {
		for _, v := range []string{"a", "a:b", "a:b:x", "b", "x", "_", "y"} {
			selections = append(selections, policy.Selection{Tenant: v})
		}
	}
	if usernames && (sides[0].Impersonate || sides[1].Impersonate) {
		for _, s := range selections {
			for _, v := range []string{"a", "x", "*"} {
				selections = append(selections, policy.Selection{Tenant: s.Tenant, Username: v})
			}
		}
	}
	var people []person
	for i := range list {
		p := sides[0].complete(list[i])
		for _, s := range selections {
			people = append(people, *newPerson(p, s, sides...))
		}
	}
	return people
}

// A generator makes policies of few texts, so that conditions meet.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

var generatedPatterns = []string{
	"/", "/{$}", "GET /", "/a", "/a/", "GET /a/", "POST /a/{x}", "/{t}", "/{t}/", "GET /{t}/b", "/{t}/{u}", "/a/{u}", "/b/{rest...}",
	"a.example/", "GET a.example/a/", "*.example/{t}/", "HEAD /a/b", "PUT /{t}/a/",
}

// side makes a policy that loads.
func (g *generator) side() Side {
	for {
		var routes []*policy.Route
		used := map[string]bool{}
		for i := range 1 + g.IntN(4) {
			r := &policy.Route{Name: fmt.Sprint("r", i), Index: i}
			for range 1 + g.IntN(2) {
				text := pick(g, generatedPatterns...)
				if used[text] {
					continue
				}
				used[text] = true
				patterns, _ := policy.ParsePattern(text)
				r.Patterns = append(r.Patterns, patterns...)
			}
			g.way(r)
			routes = append(routes, r)
		}
		w := &around{headers: map[string]string{}, answers: map[string]string{}, authenticators: []Authenticator{
			{Name: "people", Realm: "hall"}, {Name: "machines", Realm: "shed", Unscoped: true, Impersonate: true, Wildcard: true},
		}}
		if g.IntN(2) == 0 {
			w.tenancy = &policy.Tenancy{Separator: ":", Default: "_", Wildcard: "*"}
			w.selects, w.impersonates = g.IntN(3) == 0, g.IntN(3) == 0
		}
		if g.IntN(3) == 0 {
			g.grants(w)
		}
		if g.IntN(3) == 0 {
			g.makers(w)
		}
		if g.IntN(3) == 0 {
			g.tcp(w)
		}
		for _, r := range routes {
			w.headers[r.Name], w.answers[r.Name] = pick(g, headers...), "403"
		}
		if s, ok := load(routes, w); ok {
			return s
		}
	}
}

// around is what a policy has besides routes.
type around struct {
	tenancy               *policy.Tenancy
	selects, impersonates bool
	grants                []policy.Grant
	authenticators        []Authenticator
	tcp                   *policy.Route
	headers, answers      map[string]string // by route
}

var headers = []string{"{roles}", "{tenant}", "{tenants}", "{username}", "fixed", "{realm}"}

func (g *generator) grants(w *around) {
	w.grants = nil
	for range 1 + g.IntN(2) {
		q := g.requirement(&policy.Route{})
		if q.Owner != nil || q.When != nil { // there is no request
			q = policy.Requirement{Authenticated: &policy.Flag{}}
		}
		w.grants = append(w.grants, policy.Grant{
			When: []policy.Requirement{q}, Roles: pick(g, []string{"r"}, []string{"s"}, nil), Scopes: pick(g, []string{"read"}, nil),
			Attributes: pick(g, nil, map[string]policy.Attribute{"team": {Values: []string{"a"}}}),
		})
	}
}

func (g *generator) makers(w *around) {
	text := func() Text {
		return pick(g, Text{}, Text{Any: true}, Text{Any: true, Optional: true}, Text{Values: []string{pick(g, "a", "x")}})
	}
	list := func(name string) List {
		return pick(g, List{}, List{Any: true}, List{Of: []string{name}}, List{Of: []string{name}, Default: []string{pick(g, "s", "q")}}, List{All: []string{name}})
	}
	w.authenticators = slices.Clone(w.authenticators)
	a := &w.authenticators[g.IntN(2)]
	a.Makes = nil
	for range 1 + g.IntN(2) {
		m := Maker{Subject: text(), Username: text(), Tenant: text(), Roles: list("r"), Scopes: pick(g, List{}, List{Any: true}, List{All: []string{"read"}})}
		if g.IntN(2) == 0 {
			m.Attributes = map[string]List{"team": pick(g, List{Any: true}, List{Of: []string{"a", "z"}}, List{All: []string{"a"}})}
		}
		a.Makes = append(a.Makes, m)
	}
	a.Wildcard = g.IntN(2) == 0
}

func (g *generator) tcp(w *around) {
	w.tcp = &policy.Route{Name: "tcp"}
	for range 1 + g.IntN(2) {
		w.tcp.Allow = append(w.tcp.Allow, g.requirement(&policy.Route{}))
	}
}

// edit changes one thing of a policy.
func (g *generator) edit(s Side) Side {
	for {
		var routes []*policy.Route
		for _, r := range s.Routes {
			copied := *r
			copied.Allow = slices.Clone(r.Allow)
			copied.Opens = nil
			routes = append(routes, &copied)
		}
		w := aroundOf(s)
		r := routes[g.IntN(len(routes))]
		switch g.IntN(9) {
		case 0:
			g.way(r)
		case 1:
			if len(r.Allow) > 0 {
				r.Allow[g.IntN(len(r.Allow))] = g.requirement(r)
			}
		case 2:
			r.Patterns, _ = policy.ParsePattern(pick(g, generatedPatterns...))
		case 3:
			g.grants(w)
		case 4:
			g.tcp(w)
		case 5:
			w.headers[r.Name] = pick(g, headers...)
		case 6:
			w.answers[r.Name] = "404"
		case 7:
			if w.tenancy != nil {
				w.selects = !w.selects
			}
		default:
			if len(r.Allow) > 0 {
				r.Allow = append(r.Allow, g.requirement(r))
			}
		}
		if s, ok := load(routes, w); ok {
			return s
		}
	}
}

func aroundOf(s Side) *around {
	w := &around{tenancy: s.Tenancy, selects: s.Select, impersonates: s.Impersonate, authenticators: s.Authenticators, headers: map[string]string{}, answers: map[string]string{}}
	for _, g := range s.Grants.List() {
		w.grants = append(w.grants, *g)
	}
	for _, row := range s.TCP.Rows() {
		copied := *row.Route
		w.tcp = &copied
	}
	for _, r := range s.Routes {
		w.headers[r.Name], w.answers[r.Name] = s.Forwarded(r)["x-who"].Text, s.Refused(r, false)
	}
	return w
}

func load(routes []*policy.Route, w *around) (Side, bool) {
	for _, r := range routes {
		if len(r.Patterns) == 0 {
			return Side{}, false
		}
		for _, other := range routes {
			r.Opens = append(r.Opens, other.Name)
		}
	}
	s := Side{Routes: routes, Tenancy: w.tenancy, Authenticators: w.authenticators, Select: w.selects, Impersonate: w.impersonates}
	s.Table, _ = policy.NewTable(routes, w.tenancy)
	if s.Grants, _ = policy.NewGrants(w.grants, w.tenancy); s.Grants == nil {
		return Side{}, false // two conditions cannot hold at once
	}
	if w.tcp != nil {
		s.TCP, _ = policy.NewTable([]*policy.Route{w.tcp}, w.tenancy)
	}
	templates := map[string]policy.Template{}
	for _, text := range headers {
		templates[text], _ = policy.ParseTemplate(text, policy.RefsInForward)
	}
	s.Forwarded = func(r *policy.Route) map[string]Value {
		text := w.headers[r.Name]
		template := templates[text]
		return map[string]Value{"x-who": {Text: text, Template: &template}}
	}
	s.Refused = func(r *policy.Route, unauthenticated bool) string {
		switch {
		case r == nil:
			return "403"
		case unauthenticated:
			return "401"
		}
		return w.answers[r.Name]
	}
	return s, s.Table != nil
}

func (g *generator) way(r *policy.Route) {
	r.Public, r.Forbid, r.Allow, r.Accept = false, false, nil, nil
	switch g.IntN(6) {
	case 0:
		r.Public = true
	case 1:
		r.Forbid = true
	default:
		if g.IntN(4) == 0 {
			r.Accept = []string{pick(g, "people", "machines")}
		}
		for range 1 + g.IntN(3) {
			r.Allow = append(r.Allow, g.requirement(r))
		}
	}
}

func (g *generator) requirement(r *policy.Route) policy.Requirement {
	texts := []string{"a", "a", "b"}
	for i := range r.Patterns {
		for _, name := range r.Patterns[i].Params() {
			texts = append(texts, "{path."+name+"}")
		}
	}
	templates := func(texts ...string) *policy.Templates {
		t := &policy.Templates{}
		for range 1 + g.IntN(2) {
			parsed, err := policy.ParseTemplate(pick(g, texts...), policy.RefsInAllow)
			if err != nil {
				panic(err)
			}
			t.Values = append(t.Values, parsed)
		}
		return t
	}
	var q policy.Requirement
	for range 1 + g.IntN(3) {
		switch g.IntN(11) {
		case 0:
			q.Authenticated = &policy.Flag{}
		case 1:
			q.Authenticators = &policy.Names{Values: []string{pick(g, "people", "machines")}}
		case 2:
			q.Realms = &policy.Names{Values: []string{pick(g, "hall", "shed")}}
		case 3:
			q.Subjects = templates(texts...)
		case 4:
			q.Tenant = templates(append(texts, "a:b", "_")...)
		case 5:
			q.ReadableTenant = templates(append(texts, "a:b", "_")...)
		case 6:
			q.Owner = templates("{context.owner}", "a")
		case 7:
			q.Roles = pick(g, &policy.Sets{Any: []string{"r", "s"}}, &policy.Sets{All: []string{"r", "s"}}, &policy.Sets{None: []string{"s"}}, &policy.Sets{Any: []string{"r"}})
		case 8:
			q.Scopes = &policy.Sets{All: []string{"read"}}
		case 9:
			a, _ := policy.ParseTemplate("a", policy.RefsInAllow)
			q.Attributes = []policy.AttributeMatch{pick(g, policy.AttributeMatch{Name: "team", Present: true}, policy.AttributeMatch{Name: "team", Any: []policy.Template{a}})}
		default:
			q.When = &policy.Expression{Condition: issued("mfa")}
		}
	}
	return q
}
