package diff

import (
	"flag"
	"fmt"
	"math/rand/v2"
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
		if err := flag.Set("rapid.checks", "60"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = flag.Set("rapid.checks", f.DefValue) }()
	}
	widened, narrowed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := &generator{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
		old := g.side()
		new := g.edit(old)
		if g.IntN(4) == 0 {
			new = g.side()
		}
		want := bruteForce(old, new)
		got := map[string]bool{}
		for _, change := range Compare(old, new) {
			if change.Direction == Undecided {
				t.Fatalf("undecided: %s", changeText(&change))
			}
			confirm(t, old, new, &change)
			m, n := old.Table.Match(&change.Request), new.Table.Match(&change.Request)
			got[regionText(m, n)+" "+change.Direction.String()] = true
			if change.Direction == Widens {
				widened++
			} else {
				narrowed++
			}
		}
		for key := range want {
			if !got[key] {
				t.Fatalf("not found: %s\nold %s\nnew %s", key, sideText(old), sideText(new))
			}
		}
		for key := range got {
			if !want[key] {
				t.Fatalf("found, but not by brute force: %s\nold %s\nnew %s", key, sideText(old), sideText(new))
			}
		}
	})
	if widened < 20 || narrowed < 20 {
		t.Errorf("the generated pairs widened %d and narrowed %d times, which proves little", widened, narrowed)
	}
}

// confirm asks both tables about a witness.
func confirm(t interface {
	Helper()
	Fatalf(string, ...any)
}, old, new Side, c *Change) {
	t.Helper()
	before := old.Table.Match(&c.Request).Decide(believe(old.On(c.Principal), c), &c.Request)
	after := new.Table.Match(&c.Request).Decide(believe(new.On(c.Principal), c), &c.Request)
	for _, d := range []*policy.Decision{&before, &after} {
		if d.Route != nil && d.Principal != nil && d.Route.Accept != nil && !slices.Contains(d.Route.Accept, d.Principal.Authenticator) {
			d.Outcome = policy.Unauthenticated
		}
	}
	if b, a := before.Outcome == policy.Allowed, after.Outcome == policy.Allowed; b != c.Old.Allowed || a != c.New.Allowed || b != (c.Direction == Narrows) || a != (c.Direction == Widens) {
		t.Fatalf("witness %s: old %v (%v), new %v (%v)\nold %s\nnew %s", changeText(c), before.Outcome, before.Reason, after.Outcome, after.Reason, sideText(old), sideText(new))
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
	return fmt.Sprintf("%v %s %s%s %v %+v %v", c.Direction, c.Request.Method, c.Request.Host, c.Request.Path, c.Request.Context, c.Principal, c.Assumed)
}

func sideText(s Side) string {
	var b strings.Builder
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "\n  %s %v public=%t forbid=%t accept=%v", r.Name, r.Patterns, r.Public, r.Forbid, r.Accept)
		for i := range r.Allow {
			fmt.Fprintf(&b, "\n    %s", describe(&r.Allow[i]))
		}
	}
	return fmt.Sprintf("%s\n  tenancy %+v", b.String(), s.Tenancy)
}

// bruteForce lists what flips in a world that has every text that a generator uses, and
// one more of each kind.
func bruteForce(old, new Side) map[string]bool {
	flips := map[string]bool{}
	principals := world(old, new)
	type known struct{ p, q *policy.Principal }
	var resolved []known
	for i := range principals {
		resolved = append(resolved, known{old.complete(principals[i]), new.complete(principals[i])})
	}
	asked := map[string]bool{}
	for _, r := range requests() {
		m, n := old.Table.Match(&r), new.Table.Match(&r)
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
		note := func(before, after bool) {
			switch {
			case !before && after:
				flips[key+" widens"] = true
			case before && !after:
				flips[key+" narrows"] = true
			}
		}
		note(passes(m, nil, &r), passes(n, nil, &r))
		for _, k := range resolved {
			if flips[key+" widens"] && flips[key+" narrows"] {
				break
			}
			note(passes(m, k.p, &r), passes(n, k.q, &r))
		}
	}
	return flips
}

func passes(m policy.Match, p *policy.Principal, r *policy.Request) bool {
	if m.Route == nil {
		return false
	}
	if p != nil && m.Route.Accept != nil && !slices.Contains(m.Route.Accept, p.Authenticator) {
		p = nil
	}
	d := m.Decide(p, r)
	return d.Outcome == policy.Allowed
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

// world has every principal that differs in what the conditions of two sides ask about.
func world(sides ...Side) []policy.Principal {
	list := []policy.Principal{{Authenticator: "people"}, {Authenticator: "machines"}}
	uses := func(asks func(*policy.Requirement) bool) bool {
		return slices.ContainsFunc(sides, func(s Side) bool {
			return slices.ContainsFunc(s.Routes, func(r *policy.Route) bool {
				return slices.ContainsFunc(r.Allow, func(q policy.Requirement) bool { return asks(&q) })
			})
		})
	}
	vary := func(asks func(*policy.Requirement) bool, changes ...func(*policy.Principal)) {
		if !uses(asks) {
			return
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
	vary(func(q *policy.Requirement) bool { return q.Subjects != nil }, texts(func(p *policy.Principal, v string) { p.Subject = v }, "a", "b", "x", "y")...)
	vary(func(q *policy.Requirement) bool { return q.Owner != nil }, texts(func(p *policy.Principal, v string) { p.Username = v }, "a", "x", "*")...)
	vary(func(q *policy.Requirement) bool { return q.Tenant != nil || q.ReadableTenant != nil },
		texts(func(p *policy.Principal, v string) { p.Tenant = v }, "a", "a:b", "a:x", "a:b:x", "b", "b:x", "x", "x:z", "y", "z", "_", "*")...)
	vary(func(q *policy.Requirement) bool { return q.Roles != nil },
		func(p *policy.Principal) { p.Roles = []string{"r"} }, func(p *policy.Principal) { p.Roles = []string{"s"} }, func(p *policy.Principal) { p.Roles = []string{"r", "s"} })
	vary(func(q *policy.Requirement) bool { return q.Scopes != nil }, func(p *policy.Principal) { p.Scopes = []string{"read"} })
	vary(func(q *policy.Requirement) bool { return q.When != nil }, func(p *policy.Principal) { p.Issuer = "mfa" })
	vary(func(q *policy.Requirement) bool { return len(q.Attributes) > 0 }, texts(func(p *policy.Principal, v string) {
		p.Attributes = map[string]policy.Attribute{"team": {Values: []string{v}}}
	}, "a", "z")...)
	return list
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
		var tenancy *policy.Tenancy
		if g.IntN(2) == 0 {
			tenancy = &policy.Tenancy{Separator: ":", Default: "_", Wildcard: "*"}
		}
		if s, ok := load(routes, tenancy); ok {
			return s
		}
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
		r := routes[g.IntN(len(routes))]
		switch g.IntN(4) {
		case 0:
			g.way(r)
		case 1:
			if len(r.Allow) > 0 {
				r.Allow[g.IntN(len(r.Allow))] = g.requirement(r)
			}
		case 2:
			r.Patterns, _ = policy.ParsePattern(pick(g, generatedPatterns...))
		default:
			if len(r.Allow) > 0 {
				r.Allow = append(r.Allow, g.requirement(r))
			}
		}
		if s, ok := load(routes, s.Tenancy); ok {
			return s
		}
	}
}

func load(routes []*policy.Route, tenancy *policy.Tenancy) (Side, bool) {
	for _, r := range routes {
		if len(r.Patterns) == 0 {
			return Side{}, false
		}
		for _, other := range routes {
			r.Opens = append(r.Opens, other.Name)
		}
	}
	table, _ := policy.NewTable(routes, tenancy)
	return Side{
		Table: table, Routes: routes, Tenancy: tenancy,
		Authenticators: []Authenticator{{Name: "people", Realm: "hall"}, {Name: "machines", Realm: "shed", Unscoped: true}},
	}, table != nil
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
