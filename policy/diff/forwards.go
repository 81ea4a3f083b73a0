package diff

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A passage is one way to pass a route: as somebody, or as nobody on a public one.
type passage struct {
	formula     formula
	identified  bool
	requirement int // that holds; -1: none is asked
}

// passages are the ways to pass a route that lets somebody pass.
func (s viewer) passages() []passage {
	if isPublic(s.match) {
		return []passage{{s.consulted().not(), false, -1}, {and(s.consulted(), s.selectable()), true, -1}}
	}
	var list []passage
	for i, f := range s.ways() {
		list = append(list, passage{f, true, i})
	}
	return list
}

// forwards looks for who passes on both sides, where the upstream gets something else.
func (c *comparison) forwards(r *policy.Request, old, new policy.Match) (*Change, bool) {
	if old.Route == nil || new.Route == nil || old.Route.Forbid || new.Route.Forbid || c.old.Forwarded == nil || c.new.Forwarded == nil || r.TCP {
		return nil, false
	}
	before, after := c.old.Forwarded(old.Route), c.new.Forwarded(new.Route)
	change := &Change{Direction: Forwards, Request: *r, Old: verdict(old, -1), New: verdict(new, -1)}
	if isPublic(old) && isPublic(new) {
		nobody := func(v Value) string { return v.forNobody(r, new) }
		if change.Forwarded = different(before, after, nobody, nobody); len(change.Forwarded) > 0 {
			return change, false
		}
	}
	s := newSpace(&c.old, &c.new, r, old, new)
	undecided := false
	was, is := s.view(&c.old, old), s.view(&c.new, new)
	passages := is.passages()
	for _, p := range was.passages() {
		for _, q := range passages {
			if !p.identified && !q.identified {
				continue
			}
			goal := and(p.formula, q.formula, s.differently(was, is, before, after, p.identified, q.identified), is.made())
			found, gaveUp := s.solve(goal, &c.new, func(w *witness) bool {
				return c.passes(&c.old, r, old, w) && c.passes(&c.new, r, new, w)
			})
			undecided = undecided || gaveUp
			if found == nil {
				continue
			}
			change.Principal, change.Assumed, change.Selected = found.principal, found.assumed, found.selected
			change.Forwarded = different(before, after,
				func(v Value) string { return c.seen(&c.old, v, r, old, found, p.identified) },
				func(v Value) string { return c.seen(&c.new, v, r, new, found, q.identified) })
			if len(change.Forwarded) == 0 {
				continue // an expression's
			}
			if p.requirement >= 0 {
				change.Old = verdict(old, p.requirement)
			}
			if q.requirement >= 0 {
				change.New = verdict(new, q.requirement)
			}
			return change, false
		}
	}
	return nil, undecided
}

// isPersonal tells whether a value is about the caller.
func (v *Value) isPersonal() bool {
	return v.Identity || v.Template != nil && v.Template.Uses(policy.RefPrincipal)
}

// forNobody is what the upstream gets where nobody is identified.
func (v Value) forNobody(_ *policy.Request, _ policy.Match) string {
	if v.isPersonal() {
		return ""
	}
	return v.Text
}

// seen is what the upstream gets of a witness: the value's text, and with it what comes of
// it.
func (c *comparison) seen(side *Side, v Value, r *policy.Request, m policy.Match, w *witness, identified bool) string {
	if !identified || !v.isPersonal() {
		return v.forNobody(r, m)
	}
	p, ok := side.As(side.On(w.principal), w.selected)
	if !ok || v.Template == nil {
		if v.Identity && c.identity {
			return v.Text + " of " + summary(p)
		}
		return v.Text
	}
	if value, there := v.Template.Eval(r, m, p); there && c.identity {
		return v.Text + " = " + strconv.Quote(value)
	}
	return v.Text
}

// summary is what of a principal grants and tenancy make.
func summary(p *policy.Principal) string {
	parts := append(append(slices.Clone(p.Roles), p.Scopes...), p.Tenants...)
	return p.Realm + " " + strings.Join(parts, " ")
}

// different lists what both sides give, where it is not the same.
func different(before, after map[string]Value, was, is func(Value) string) []Forwarding {
	var list []Forwarding
	for name, v := range before {
		now := ""
		if w, there := after[name]; there {
			now = is(w)
		}
		if then := was(v); then != now {
			list = append(list, Forwarding{name, then, now})
		}
	}
	for name, v := range after {
		if _, known := before[name]; !known {
			if now := is(v); now != "" {
				list = append(list, Forwarding{name, "", now})
			}
		}
	}
	slices.SortFunc(list, func(a, b Forwarding) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// differently is that the upstream gets something else of a principal.
func (s *space) differently(was, is viewer, before, after map[string]Value, identifiedBefore, identifiedAfter bool) formula {
	any := formula{op: oneOf}
	shown := func(list map[string]Value, name string, identified bool) (Value, bool) {
		v, there := list[name]
		return v, there && (identified || !v.isPersonal())
	}
	var names []string
	for name := range before {
		names = append(names, name)
	}
	for name := range after {
		if _, known := before[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		v, then := shown(before, name, identifiedBefore)
		w, now := shown(after, name, identifiedAfter)
		switch {
		case then != now:
			return always
		case !then:
		case v.Text != w.Text:
			return always
		case v.isPersonal():
			any.parts = append(any.parts, s.valueDiffers(was, is, &v)...)
		}
	}
	return any
}

// valueDiffers is that one and the same reference comes to something else on the other
// side, because grants, realms or tenants are others.
func (s *space) valueDiffers(was, is viewer, v *Value) []formula {
	refers := func(reference string) bool {
		return v.Identity || strings.Contains(v.Text, "{"+reference+"}")
	}
	xor := func(f, g formula) formula { return or(and(f, g.not()), and(g, f.not())) }
	var list []formula
	grants := append(slices.Clone(was.side.Grants.List()), is.side.Grants.List()...)
	for _, g := range grants {
		for _, role := range g.Roles {
			if refers("roles") {
				list = append(list, xor(was.role(role), is.role(role)))
			}
		}
		for _, scope := range g.Scopes {
			if refers("scopes") {
				list = append(list, xor(was.scope(scope), is.scope(scope)))
			}
		}
		for name, a := range g.Attributes {
			for _, value := range a.Values {
				if refers("attributes." + name) {
					list = append(list, xor(was.attributeValue(name, value), is.attributeValue(name, value)))
				}
			}
		}
	}
	if refers("realm") {
		list = append(list, s.where(byAuthenticator, func(name string) bool {
			a, _ := was.side.authenticator(name)
			b, _ := is.side.authenticator(name)
			return a.Realm != b.Realm
		}))
	}
	if refers("tenant") || refers("tenants") {
		for _, selected := range s.variables[s.add(variable{kind: bySelected})].values {
			list = append(list, and(s.is(bySelected, selected), s.where(byTenant, func(v string) bool {
				a, b := was.acting(v, selected), is.acting(v, selected)
				return a.Tenant != b.Tenant && refers("tenant") || !slices.Equal(tenants(a), tenants(b)) && refers("tenants")
			})))
		}
	}
	if refers("username") && (was.selects() != is.selects() || was.imitates() != is.imitates()) {
		for _, name := range s.variables[s.add(variable{kind: byNamed})].values {
			for _, selects := range []bool{false, true} {
				chosen := s.is(bySelected, "")
				if selects {
					chosen = chosen.not()
				}
				list = append(list, and(s.is(byNamed, name), chosen, s.where(byUsername, func(v string) bool {
					return was.actingName(v, name, selects) != is.actingName(v, name, selects)
				})))
			}
		}
	}
	return list
}

// acting is who a caller of a tenant is that selects one.
func (s viewer) acting(tenant, selected string) *policy.Principal {
	p := s.side.Tenancy.Resolve(policy.Principal{Tenant: tenant}, true)
	if selected == "" || !s.selects() {
		return p
	}
	return &policy.Principal{Tenant: selected, Tenants: s.side.Tenancy.Readable(selected)}
}

// actingName is the name of a caller that may give itself another one.
func (s viewer) actingName(own, named string, selects bool) string {
	switch {
	case named != "" && s.imitates():
		return named
	case selects && s.selects():
		return ""
	}
	return own
}

// tenants are those that the upstream is told of.
func tenants(p *policy.Principal) []string {
	if p.Wildcard {
		return []string{"*"}
	}
	return p.Tenants
}

// answers looks for who is refused on both sides, in another way.
func (c *comparison) answers(r *policy.Request, old, new policy.Match) (*Change, bool) {
	if c.old.Refused == nil || c.new.Refused == nil || isPublic(old) || isPublic(new) || r.TCP {
		return nil, false
	}
	change := func(p *witness, before, after string) *Change {
		change := &Change{Direction: Answers, Request: *r, Old: verdict(old, -1), New: verdict(new, -1)}
		if p != nil {
			change.Principal, change.Assumed, change.Selected = p.principal, p.assumed, p.selected
		}
		change.Old.Answer, change.New.Answer = before, after
		return change
	}
	refusal := func(side *Side, m policy.Match, consulted bool) string {
		return side.Refused(m.Route, m.Route != nil && !m.Route.Forbid && !consulted)
	}
	if before, after := refusal(&c.old, old, false), refusal(&c.new, new, false); before != after {
		return change(nil, before, after), false
	}
	s := newSpace(&c.old, &c.new, r, old, new)
	was, is := s.view(&c.old, old), s.view(&c.new, new)
	undecided := false
	for _, consulted := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		before, after := refusal(&c.old, old, consulted[0]), refusal(&c.new, new, consulted[1])
		if before == after {
			continue
		}
		goal := and(was.consultedIs(consulted[0]), is.consultedIs(consulted[1]), was.selectable(), is.selectable(), was.passes().not(), is.passes().not(), is.made())
		found, gaveUp := s.solve(goal, &c.new, func(w *witness) bool {
			return !c.passes(&c.old, r, old, w) && !c.passes(&c.new, r, new, w)
		})
		if found != nil {
			return change(found, before, after), false
		}
		undecided = undecided || gaveUp
	}
	return nil, undecided
}

// consultedIs is that the principal is looked at, or not. Where no route covers the
// request nobody is, and it makes no difference.
func (s viewer) consultedIs(is bool) formula {
	switch {
	case s.match.Route == nil || s.match.Route.Forbid:
		return always
	case is:
		return s.consulted()
	}
	return s.consulted().not()
}
