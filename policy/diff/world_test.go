package diff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A world is what is asked of two sides: every text that a generator uses, and one more of
// each kind.
type world struct{ sides [2]*Side }

func newWorld(old, new Side) *world { return &world{[2]*Side{&old, &new}} }

// A person is who makes requests, and as whom; nobody without an authenticator.
type person struct {
	bare     policy.Principal
	selected policy.Selection
	known    [2]*policy.Principal // as the sides have it
	has      [2]bool              // the sides have its authenticator

	impersonates [2]bool
	made         [2]bool // and that makes such a principal
}

// person is who bare is on both sides.
func (w *world) person(bare policy.Principal, selected policy.Selection) *person {
	who := &person{bare: bare, selected: selected}
	for i, s := range w.sides {
		p := bare
		a, known := s.authenticator(p.Authenticator)
		if known {
			p.Realm, p.Unscoped = a.Realm, a.Unscoped
		}
		who.has[i], who.impersonates[i] = known, a.Impersonate
		who.made[i] = known && isMade(s, &a, &p)
		trusted := s.Tenancy != nil && s.Tenancy.Wildcard != "" && p.Tenant == s.Tenancy.Wildcard
		who.known[i] = s.Grants.Apply(s.Tenancy.Resolve(p, trusted))
	}
	return who
}

// exists tells whether somebody vouches for the person: on the old side if it is asked first,
// or on the new one, or on the other where that does not know the authenticator.
func (who *person) exists(oldFirst bool) bool {
	first, second := 1, 0
	if oldFirst {
		first, second = 0, 1
	}
	return who.bare.Authenticator == "" || who.made[first] || !who.has[first] && who.made[second]
}

// A sight is what comes of a request: whether it passes, as whom, and otherwise why not.
type sight struct {
	passes     bool
	identified bool
	as         *policy.Principal
	why        policy.Reason
}

// covers finds what decides a request; asked is that it passes as a preflight.
func (w *world) covers(side int, r *policy.Request) (m policy.Match, asked bool) {
	s := w.sides[side]
	if m, ok := s.preflight(r); ok {
		return m, true
	}
	return s.match(r), false
}

// observe asks a side in the order in which the gate does.
func (w *world) observe(side int, r *policy.Request, m policy.Match, asked bool, who *person) sight {
	s := w.sides[side]
	switch {
	case asked:
		return sight{passes: true}
	case m.Route == nil:
		return sight{why: policy.ReasonNoRoute}
	case m.Route.Forbid:
		return sight{why: policy.ReasonRouteForbids}
	}
	var p *policy.Principal
	if who.has[side] && (m.Route.Accept == nil || slices.Contains(m.Route.Accept, who.bare.Authenticator)) {
		var want policy.Selection
		if s.Select && !r.TCP {
			want.Tenant = who.selected.Tenant
		}
		if s.Impersonate && !r.TCP {
			want.Username = who.selected.Username
		}
		want.Impersonate = who.impersonates[side]
		as, reason, ok := s.Tenancy.Select(who.known[side], want)
		if !ok {
			return sight{why: reason}
		}
		p = as
	}
	switch d := m.Decide(p, r); {
	case d.Outcome == policy.Unauthenticated:
		return sight{why: policy.ReasonNoCredential}
	case d.Outcome != policy.Allowed:
		return sight{why: policy.ReasonRequirement}
	}
	return sight{passes: true, identified: p != nil, as: p}
}

// sees is what the upstream sees of a request that passes, and the client of another.
func (w *world) sees(side int, r *policy.Request, m policy.Match, asked bool, seen sight) string {
	s := w.sides[side]
	switch {
	case r.TCP || asked || s.Forwarded == nil:
		return ""
	case !seen.passes:
		return s.Refused(m.Route, seen.why)
	}
	p := seen.as
	if p == nil {
		p = s.Anonymous
	}
	text := ""
	values := s.Forwarded(m.Route)
	for _, name := range []string{"authorization", "x-what", "x-who"} {
		v, there := values[name]
		switch {
		case !there:
		case v.Identity && p != nil && p.Authenticator != "":
			text += fmt.Sprintf(" %s: %s of %q %q %q %q %q %q %q %t %v", name, v.Text, p.Authenticator, p.Realm, p.Subject, p.Username, p.Tenant, p.Roles, p.Scopes, p.Unscoped, p.Attributes)
		case v.Identity:
		default:
			parts, ok := v.Template.Expand(r, m, p)
			if !ok {
				break
			}
			text += " " + name + ": "
			for _, part := range parts {
				switch {
				case v.JSON && (part.List || len(parts) == 1 && !part.Literal):
					text += fmt.Sprintf("%q", append(part.Items, part.Text))
				default:
					text += strings.Join(part.Items, ",") + part.Text
				}
			}
		}
	}
	return text
}

// region is what decides a request on both sides.
func (w *world) region(r *policy.Request) string {
	var texts [2]string
	for i := range w.sides {
		m, asked := w.covers(i, r)
		switch {
		case m.Route == nil:
			texts[i] = "none"
		case m.Pattern == nil:
			texts[i] = m.Route.Name
		default:
			texts[i] = m.Route.Name + " " + m.Pattern.String()
		}
		if asked {
			texts[i] += " lets a preflight pass"
		}
	}
	return texts[0] + " -> " + texts[1]
}

// maxPeople are asked of a world.
const maxPeople = 150

// bruteForce lists what flips. A world that is too large is asked in part.
func (w *world) bruteForce(random *rand.Rand) map[string]bool {
	people := w.people(random)
	names := map[string]bool{}
	asked := map[string]bool{}
	_, texts := w.asks()
	paths := strings.Contains(texts, "{path.")
	for _, r := range w.requests() {
		key := w.region(&r)
		owner, _ := r.ContextValue("owner")
		once := key + "?" + r.Query + " " + owner // neither conditions nor headers see more
		if paths {
			once += r.Path
		}
		if key == "none -> none" || asked[once] {
			continue
		}
		asked[once] = true
		var found [Answers + 1]bool
		m, mAsked := w.covers(0, &r)
		n, nAsked := w.covers(1, &r)
		for _, who := range people {
			before, after := w.observe(0, &r, m, mAsked, who), w.observe(1, &r, n, nAsked, who)
			differs := func() bool {
				return who.exists(false) && w.sees(0, &r, m, mAsked, before) != w.sees(1, &r, n, nAsked, after)
			}
			switch {
			case !before.passes && after.passes:
				found[Widens] = found[Widens] || who.exists(false) && (!after.identified || who.made[1])
			case before.passes && !after.passes:
				found[Narrows] = found[Narrows] || who.exists(true) && (!before.identified || who.made[0])
			case before.passes:
				found[Forwards] = found[Forwards] || differs()
			default:
				found[Answers] = found[Answers] || differs()
			}
		}
		for d, is := range found {
			if is {
				names[key+" "+Direction(d).String()] = true
			}
		}
	}
	return names
}

// isMade tells whether an authenticator of the side makes a principal.
func isMade(s *Side, a *Authenticator, p *policy.Principal) bool {
	text := func(t *Text, v string) bool {
		switch {
		case v == "":
			return t.Optional || !t.Any && len(t.Values) == 0
		case slices.Contains(t.Values, v):
			return true
		}
		return t.Any
	}
	tenant := func(t *Text, v string) bool {
		untrusted := s.Tenancy != nil && v != "" && v == s.Tenancy.Wildcard && !a.Wildcard && !slices.Contains(t.Values, v)
		return text(t, v) && !untrusted
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
		return text(&m.Subject, p.Subject) && text(&m.Username, p.Username) && tenant(&m.Tenant, p.Tenant) && text(&m.TokenID, p.TokenID) &&
			list(&m.Roles, p.Roles) && list(&m.Scopes, p.Scopes) && list(&team, p.Attributes["team"].Values)
	})
}

// asks gathers what is asked of requests and people.
func (w *world) asks() (requirements []*policy.Requirement, texts string) {
	for _, s := range w.sides {
		for _, r := range s.Routes {
			for i := range r.Allow {
				requirements = append(requirements, &r.Allow[i])
			}
			for _, v := range s.Forwarded(r) {
				texts += v.Text
				if v.Identity {
					texts += "{roles}{scopes}{tenant}{username}{subject}{attributes.team}"
				}
			}
		}
		for _, row := range s.TCP.Rows() {
			for i := range row.Route.Allow {
				requirements = append(requirements, &row.Route.Allow[i])
			}
		}
		for _, g := range s.Grants.List() {
			for i := range g.When {
				requirements = append(requirements, &g.When[i])
			}
		}
	}
	for _, q := range requirements {
		texts += describe(q)
	}
	return requirements, texts
}

func (w *world) requests() []policy.Request {
	_, texts := w.asks()
	paths := []string{"/"}
	for _, a := range []string{"a", "b", "x", "_", "a:b", "z"} {
		paths = append(paths, "/"+a)
		for _, b := range []string{"a", "b", "x", "y", "_", "a:b", "a:x", "x:y"} {
			paths = append(paths, "/"+a+"/"+b, "/"+a+"/"+b+"/x")
		}
	}
	owners, queries := []string{""}, []string{""}
	if strings.Contains(texts, "{context.owner}") {
		owners = []string{"", "a", "x", "y"}
	}
	if strings.Contains(texts, "{query.q}") {
		queries = []string{"", "q=a", "q=x"}
	}
	names := []string{""}
	preflights := false
	for _, s := range w.sides {
		for _, r := range s.Routes {
			preflights = preflights || r.Preflight
			if !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
	}
	list := []policy.Request{{TCP: true}}
	if len(owners) > 1 {
		list = append(list, policy.Request{TCP: true, Context: []policy.Pair{{Name: "owner", Value: "a"}}}, policy.Request{TCP: true, Context: []policy.Pair{{Name: "owner", Value: "x"}}})
	}
	patterns := ""
	for _, s := range w.sides {
		for _, r := range s.Routes {
			patterns += fmt.Sprint(r.Patterns)
		}
	}
	methods, hosts := []string{"GET", "PUT"}, []string{"localhost"}
	for _, method := range []string{"HEAD", "POST", "OPTIONS"} {
		if strings.Contains(patterns, method) {
			methods = append(methods, method)
		}
	}
	if strings.Contains(patterns, "example") {
		hosts = append(hosts, "a.example", "x.example")
	}
	for _, method := range methods {
		for _, host := range hosts {
			for _, path := range paths {
				for _, owner := range owners {
					for _, query := range queries {
						for _, name := range names {
							r := policy.Request{Method: method, Host: host, Path: path, Query: query, Scheme: "https"}
							if name != "" {
								r.Context = append(r.Context, policy.Pair{Name: policy.RouteName, Value: name})
							}
							if owner != "" {
								r.Context = append(r.Context, policy.Pair{Name: "owner", Value: owner})
							}
							list = append(list, r)
							if preflights {
								list = append(list, asking(r))
							}
						}
					}
				}
			}
		}
	}
	return list
}

// A dimension is one thing in which people differ.
type dimension []func(*policy.Principal, *policy.Selection)

// dimensions are those in which people differ for what is asked about them, and for what
// their authenticators give them besides.
func (w *world) dimensions() []dimension {
	requirements, shown := w.asks()
	restricted := false
	var who dimension
	var names []string
	for _, s := range w.sides {
		for _, a := range s.Authenticators {
			restricted = restricted || a.Makes != nil
			if !slices.Contains(names, a.Name) {
				names = append(names, a.Name)
				who = append(who, func(p *policy.Principal, _ *policy.Selection) { p.Authenticator = a.Name })
			}
		}
	}
	uses := func(reference string, asks func(*policy.Requirement) bool) bool {
		return strings.Contains(shown, "{"+reference+"}") || slices.ContainsFunc(requirements, asks)
	}
	list := []dimension{who}
	nothing := func(*policy.Principal, *policy.Selection) {}
	vary := func(used bool, changes dimension) {
		if !used && !restricted {
			return
		}
		if !used {
			changes = changes[:1] // it is only there because somebody has to have one
		}
		list = append(list, append(dimension{nothing}, changes...))
	}
	texts := func(set func(*policy.Principal, string), texts ...string) (changes dimension) {
		for _, text := range texts {
			changes = append(changes, func(p *policy.Principal, _ *policy.Selection) { set(p, text) })
		}
		return changes
	}
	lists := func(set func(*policy.Principal, []string), lists ...[]string) (changes dimension) {
		for _, one := range lists {
			changes = append(changes, func(p *policy.Principal, _ *policy.Selection) { set(p, one) })
		}
		return changes
	}
	selects := w.sides[0].Select || w.sides[1].Select
	imitates := w.sides[0].Impersonate || w.sides[1].Impersonate
	vary(uses("subject", func(q *policy.Requirement) bool { return q.Subjects != nil }),
		texts(func(p *policy.Principal, v string) { p.Subject = v }, "a", "b", "x", "y"))
	vary(uses("username", func(q *policy.Requirement) bool { return q.Owner != nil || q.Usernames != nil }),
		texts(func(p *policy.Principal, v string) { p.Username = v }, "a", "x", "*", "b", "y"))
	vary(uses("tenant", func(q *policy.Requirement) bool { return q.Tenant != nil || q.ReadableTenant != nil || q.Owner != nil }) || strings.Contains(shown, "{tenants}") || selects,
		texts(func(p *policy.Principal, v string) { p.Tenant = v }, "a", "x", "a:b", "a:x", "a:b:x", "b", "b:x", "x:z", "x:y", "y", "z", "_", "*", "all", "z.x"))
	vary(uses("roles", func(q *policy.Requirement) bool { return q.Roles != nil }),
		lists(func(p *policy.Principal, v []string) { p.Roles = v }, []string{"r"}, []string{"s"}, []string{"r", "s"}, []string{"q"}))
	vary(uses("scopes", func(q *policy.Requirement) bool { return q.Scopes != nil }),
		lists(func(p *policy.Principal, v []string) { p.Scopes = v }, []string{"read"}, []string{"write"}, []string{"read", "write"}))
	vary(uses("attributes.team", func(q *policy.Requirement) bool { return len(q.Attributes) > 0 }),
		lists(func(p *policy.Principal, v []string) {
			p.Attributes = map[string]policy.Attribute{"team": {Values: v, List: len(v) > 1}}
		}, []string{"a"}, []string{"z"}, []string{"x"}, []string{"b"}, []string{"a", "x"}, []string{"a", "b"}))
	vary(strings.Contains(shown, "{token_id}"), texts(func(p *policy.Principal, v string) { p.TokenID = v }, "t"))
	if uses("issuer", func(q *policy.Requirement) bool { return q.When != nil }) {
		list = append(list, dimension{nothing, func(p *policy.Principal, _ *policy.Selection) { p.Issuer = "mfa" }})
	}
	choose := func(set func(*policy.Selection, string), texts ...string) {
		d := dimension{nothing}
		for _, text := range texts {
			d = append(d, func(_ *policy.Principal, s *policy.Selection) { set(s, text) })
		}
		list = append(list, d)
	}
	if selects {
		choose(func(s *policy.Selection, v string) { s.Tenant = v }, "a", "a:b", "a:b:x", "b", "x", "_", "y", "*", "one,two")
	}
	if imitates {
		choose(func(s *policy.Selection, v string) { s.Username = v }, "a", "x", "*", "one,two")
	}
	return list
}

// people are everybody, if they are few, and else some.
func (w *world) people(random *rand.Rand) []*person {
	dimensions := w.dimensions()
	const enough = 20 * maxPeople // of which some are made by no authenticator
	number := 1
	for _, d := range dimensions {
		number = min(number*len(d), enough)
	}
	people := []*person{{}}
	chosen := make([]int, len(dimensions))
	for range number {
		var p policy.Principal
		var s policy.Selection
		for i, d := range dimensions {
			if number == enough {
				chosen[i] = random.IntN(len(d))
			}
			d[chosen[i]](&p, &s)
		}
		for i := range dimensions {
			if chosen[i]++; chosen[i] < len(dimensions[i]) {
				break
			}
			chosen[i] = 0
		}
		if who := w.person(p, s); who.made[0] || who.made[1] {
			people = append(people, who)
		}
	}
	if len(people) > maxPeople {
		random.Shuffle(len(people)-1, func(i, j int) { people[i+1], people[j+1] = people[j+1], people[i+1] })
		people = people[:maxPeople]
	}
	return people
}
