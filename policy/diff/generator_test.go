package diff

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A generator makes policies of few texts, so that conditions meet.
type generator struct{ *rand.Rand }

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

var generatedPatterns = []string{
	"/", "/{$}", "GET /", "/a", "/a/", "GET /a/", "POST /a/{x}", "/{t}", "/{t}/", "GET /{t}/b", "/{t}/{u}", "/{u}/{t}", "/a/{u}", "/a/{t}", "/b/{rest...}",
	"a.example/", "GET a.example/a/", "*.example/{t}/", "HEAD /a/b", "PUT /{t}/a/", "GET,POST /b/{u}", "OPTIONS /a/", "OPTIONS /",
}

// generatedHeaders are what headers of a policy hold.
var generatedHeaders = []string{
	"{roles}", "{scopes}", "{tenant}", "{tenants}", "{username}", "{subject}", "{realm}", "{authenticator}", "{attributes.team}", "{token_id}", "fixed", "a",
	"{path.t}", "{path.u}", "{context.owner}", "{query.q}", "u-{username}", "u-{path.u}", "{tenant}/{username}", "{path.t}/{username}", "{tenant} {roles}",
}

// A draft is a policy before it is loaded.
type draft struct {
	routes                []*policy.Route
	tenancy               *policy.Tenancy
	selects, impersonates bool
	grants                []policy.Grant
	authenticators        []Authenticator
	tcp                   *policy.Route
	anonymous             *policy.Principal
	headers               map[string]map[string]Value // by route and name
	answers               map[string]answer           // by route
}

// An answer is how refusals of a route look.
type answer struct{ unauthenticated, forbidden, more string }

// draft makes a policy.
func (g *generator) draft() *draft {
	d := &draft{headers: map[string]map[string]Value{}, answers: map[string]answer{}, authenticators: []Authenticator{
		{Name: "people", Realm: "hall"}, {Name: "machines", Realm: "shed", Unscoped: true, Impersonate: true, Wildcard: true},
	}}
	used := map[string]bool{}
	for i := range 1 + g.IntN(4) {
		r := &policy.Route{Name: fmt.Sprint("r", i)}
		for range g.IntN(3) {
			text := pick(g, generatedPatterns...)
			if used[text] {
				continue
			}
			used[text] = true
			patterns, _ := policy.ParsePattern(text)
			r.Patterns = append(r.Patterns, patterns...)
		}
		g.way(r)
		r.Shadow, r.Preflight = g.oneIn(12), g.oneIn(6)
		d.routes = append(d.routes, r)
		g.header(d, r)
		d.answers[r.Name] = answer{"401", "403", pick(g, "", "", " or to sign in")}
	}
	if g.oneIn(2) {
		g.tenancy(d)
	}
	if g.oneIn(3) {
		g.grants(d)
	}
	if g.oneIn(3) {
		g.makers(d)
	}
	if g.oneIn(3) {
		g.tcp(d)
	}
	if g.oneIn(5) {
		g.anonymous(d)
	}
	return d
}

// side makes a policy that loads.
func (g *generator) side() (*draft, Side) {
	for {
		d := g.draft()
		if s, ok := d.load(); ok {
			return d, s
		}
	}
}

func (g *generator) tenancy(d *draft) {
	d.tenancy = &policy.Tenancy{Separator: pick(g, ":", ":", ":", ""), Default: pick(g, "_", "_", "a", ""), Wildcard: pick(g, "*", "*", "all", "")}
	d.selects, d.impersonates = g.oneIn(3), g.oneIn(3)
}

func (g *generator) anonymous(d *draft) {
	tenant := pick(g, "_", "a", "guests")
	d.anonymous = &policy.Principal{Tenant: tenant, Tenants: d.tenancy.Readable(tenant)}
}

func (g *generator) header(d *draft, r *policy.Route) {
	values := map[string]Value{}
	for _, name := range []string{"x-who", "x-what"} {
		if name == "x-what" && !g.oneIn(4) {
			continue
		}
		text := pick(g, generatedHeaders...)
		template, err := policy.ParseTemplate(text, policy.RefsInForward)
		if err != nil {
			panic(err)
		}
		values[name] = Value{Text: text, Template: &template, JSON: g.oneIn(8)}
	}
	if g.oneIn(8) {
		values["authorization"] = Value{Text: pick(g, "for billing", "for orders"), Identity: true}
	}
	d.headers[r.Name] = values
}

func (g *generator) grants(d *draft) {
	d.grants = nil
	for range 1 + g.IntN(2) {
		var when []policy.Requirement
		for range 1 + g.IntN(2) {
			q := g.requirement(&policy.Route{})
			if q.Owner != nil || q.When != nil { // there is no request
				q = policy.Requirement{Authenticated: &policy.Flag{}}
			}
			when = append(when, q)
		}
		d.grants = append(d.grants, policy.Grant{
			When: when, Roles: pick(g, []string{"r"}, []string{"s"}, []string{"s", "r"}, nil), Scopes: pick(g, []string{"read"}, []string{"write", "read"}, nil),
			Attributes: pick(g, nil, map[string]policy.Attribute{"team": {Values: []string{"a"}}}, map[string]policy.Attribute{"team": {Values: []string{"x", "a"}, List: true}}),
		})
	}
}

func (g *generator) makers(d *draft) {
	text := func() Text {
		return pick(g, Text{}, Text{Any: true}, Text{Any: true, Optional: true}, Text{Values: []string{pick(g, "a", "x")}})
	}
	list := func(name string) List {
		return pick(g, List{}, List{Any: true}, List{Of: []string{name}}, List{Of: []string{name}, Default: []string{pick(g, "s", "q")}}, List{All: []string{name}})
	}
	d.authenticators = slices.Clone(d.authenticators)
	a := &d.authenticators[g.IntN(len(d.authenticators))]
	a.Makes = nil
	for range 1 + g.IntN(2) {
		m := Maker{Subject: text(), Username: text(), Tenant: text(), Roles: list("r"), Scopes: pick(g, List{}, List{Any: true}, List{All: []string{"read"}})}
		if g.oneIn(2) {
			m.Attributes = map[string]List{"team": pick(g, List{Any: true}, List{Of: []string{"a", "z"}}, List{All: []string{"a"}})}
		}
		if g.oneIn(2) {
			m.TokenID = Text{Any: true, Optional: true}
		}
		a.Makes = append(a.Makes, m)
	}
	a.Wildcard = g.oneIn(2)
}

func (g *generator) tcp(d *draft) {
	d.tcp = &policy.Route{Name: "tcp"}
	for range 1 + g.IntN(2) {
		d.tcp.Allow = append(d.tcp.Allow, g.requirement(&policy.Route{}))
	}
}

// authenticator changes one.
func (g *generator) authenticator(d *draft) {
	d.authenticators = slices.Clone(d.authenticators)
	i := g.IntN(len(d.authenticators))
	switch a := &d.authenticators[i]; g.IntN(6) {
	case 0:
		d.authenticators = slices.Delete(d.authenticators, i, i+1)
		if len(d.authenticators) > 0 {
			break
		}
		fallthrough
	case 1:
		d.authenticators = append(d.authenticators, Authenticator{Name: "guests", Realm: pick(g, "hall", "shed"), Unscoped: g.oneIn(2)})
	case 2:
		a.Realm = pick(g, "hall", "shed", "yard")
	case 3:
		a.Unscoped = !a.Unscoped
	case 4:
		a.Impersonate = !a.Impersonate
	default:
		a.Wildcard = !a.Wildcard
	}
}

// edit changes one thing of a policy.
func (g *generator) edit(from *draft) Side {
	for {
		d := *from
		d.routes = nil
		d.headers, d.answers = map[string]map[string]Value{}, map[string]answer{}
		for _, r := range from.routes {
			copied := *r
			copied.Allow = slices.Clone(r.Allow)
			copied.Opens = nil
			d.routes = append(d.routes, &copied)
			d.headers[r.Name], d.answers[r.Name] = from.headers[r.Name], from.answers[r.Name]
		}
		r := d.routes[g.IntN(len(d.routes))]
		a := d.answers[r.Name]
		switch g.IntN(17) {
		case 0:
			g.way(r)
		case 1:
			if len(r.Allow) > 0 {
				r.Allow[g.IntN(len(r.Allow))] = g.requirement(r)
			}
		case 2:
			r.Patterns, _ = policy.ParsePattern(pick(g, generatedPatterns...))
		case 3:
			g.grants(&d)
		case 4:
			if d.tcp == nil || g.oneIn(2) {
				g.tcp(&d)
			} else {
				d.tcp = nil
			}
		case 5, 6:
			g.header(&d, r)
		case 7:
			a.forbidden = pick(g, "404", "401")
		case 8:
			a.unauthenticated = pick(g, "404", "403")
		case 9:
			a.more = pick(g, "", " or to sign in", " without a body")
		case 10:
			if d.tenancy != nil {
				d.selects = !d.selects
			}
		case 11:
			if d.tenancy != nil {
				d.impersonates = !d.impersonates
			}
		case 12:
			if d.tenancy == nil || g.oneIn(2) {
				selects, impersonates := d.selects, d.impersonates
				if g.tenancy(&d); from.tenancy != nil {
					d.selects, d.impersonates = selects, impersonates
				}
			} else {
				d.tenancy, d.selects, d.impersonates = nil, false, false
			}
		case 13:
			g.anonymous(&d)
		case 14:
			g.authenticator(&d)
		case 15:
			if g.oneIn(2) {
				r.Preflight = !r.Preflight
			} else {
				r.Shadow = !r.Shadow
			}
		default:
			if len(r.Allow) > 0 {
				r.Allow = append(r.Allow, g.requirement(r))
			}
		}
		d.answers[r.Name] = a
		if s, ok := d.load(); ok {
			return s
		}
	}
}

func (d *draft) load() (Side, bool) {
	for i, r := range d.routes {
		r.Index, r.Opens = i, nil
		for _, other := range d.routes {
			r.Opens = append(r.Opens, other.Name)
		}
	}
	if d.anonymous != nil {
		d.anonymous = &policy.Principal{Tenant: d.anonymous.Tenant, Tenants: d.tenancy.Readable(d.anonymous.Tenant)}
	}
	s := Side{
		Routes: d.routes, Tenancy: d.tenancy, Authenticators: d.authenticators, Select: d.selects, Impersonate: d.impersonates, Anonymous: d.anonymous,
	}
	s.Table, _ = policy.NewTable(d.routes, d.tenancy)
	if s.Grants, _ = policy.NewGrants(d.grants, d.tenancy); s.Grants == nil {
		return Side{}, false // two conditions cannot hold at once
	}
	if d.tcp != nil {
		s.TCP, _ = policy.NewTable([]*policy.Route{d.tcp}, d.tenancy)
		if s.TCP == nil {
			return Side{}, false
		}
	}
	s.Forwarded = func(r *policy.Route) map[string]Value { return d.headers[r.Name] }
	s.Refused = func(r *policy.Route, why policy.Reason) string {
		a := answer{"401", "403", ""}
		if r != nil {
			a = d.answers[r.Name]
		}
		switch why {
		case policy.ReasonNoCredential:
			return a.unauthenticated + a.more
		case policy.ReasonTenantNotSelectable:
			return a.unauthenticated
		case policy.ReasonSelectionRepeated:
			return "400"
		}
		return a.forbidden
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
		for range 1 + g.IntN(3) {
			r.Allow = append(r.Allow, g.requirement(r))
		}
	}
	if !r.Forbid && g.oneIn(4) {
		r.Accept = []string{pick(g, "people", "machines")}
	}
}

func (g *generator) requirement(r *policy.Route) policy.Requirement {
	texts := []string{"a", "a", "b", "{context.owner}"}
	for i := range r.Patterns {
		for _, name := range r.Patterns[i].Params() {
			texts = append(texts, "{path."+name+"}", "{path."+name+"}", "a:{path."+name+"}")
		}
	}
	templates := func(texts ...string) []policy.Template {
		var list []policy.Template
		for range 1 + g.IntN(2) {
			parsed, err := policy.ParseTemplate(pick(g, texts...), policy.RefsInAllow)
			if err != nil {
				panic(err)
			}
			list = append(list, parsed)
		}
		return list
	}
	values := func(texts ...string) *policy.Templates { return &policy.Templates{Values: templates(texts...)} }
	var q policy.Requirement
	for range 1 + g.IntN(3) {
		switch g.IntN(13) {
		case 0:
			q.Authenticated = &policy.Flag{}
		case 1:
			q.Authenticators = &policy.Names{Values: []string{pick(g, "people", "machines")}}
		case 2:
			q.Realms = &policy.Names{Values: []string{pick(g, "hall", "shed")}}
		case 3:
			q.Subjects = values(texts...)
		case 4:
			q.Usernames = values(append(texts, "*")...)
		case 5:
			q.Tenant = values(append(texts, "a:b", "_")...)
		case 6:
			q.ReadableTenant = values(append(texts, "a:b", "_")...)
		case 7:
			q.Owner = values("{context.owner}", "{context.owner}", "a")
		case 8:
			q.Roles = pick(g, &policy.Sets{Any: []string{"r", "s"}}, &policy.Sets{All: []string{"r", "s"}}, &policy.Sets{None: []string{"s"}}, &policy.Sets{Any: []string{"r"}},
				&policy.Sets{Any: []string{"r"}, None: []string{"s"}}, &policy.Sets{All: []string{"r"}, None: []string{"q"}})
		case 9:
			q.Scopes = pick(g, &policy.Sets{All: []string{"read"}}, &policy.Sets{Any: []string{"read", "write"}}, &policy.Sets{All: []string{"read", "write"}})
		case 10, 11:
			q.Attributes = []policy.AttributeMatch{{Name: "team"}}
			switch a := &q.Attributes[0]; g.IntN(5) {
			case 0:
				a.Present = true
			case 1:
				a.All = templates(texts...)
			case 2:
				a.None = templates(texts...)
			case 3:
				a.Any, a.None = templates(texts...), templates("z")
			default:
				a.Any = templates(texts...)
			}
		default:
			q.When = &policy.Expression{Condition: issued("mfa")}
		}
	}
	return q
}
