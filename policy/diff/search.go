package diff

import (
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxSteps bounds the search between two requirements. Formulas of people are decided
// within a few dozen steps; one that is made to be hard is given up as [Undecided].
const maxSteps = 200_000

// find looks for a principal, or nobody, for whom the region changes in the direction.
func (c *comparison) find(d Direction, r *policy.Request, old, new policy.Match) (found *Change, undecided bool) {
	switch d {
	case Widens:
		return c.between(d, r, old, new, &c.old, &c.new, false)
	case Narrows:
		return c.between(d, r, old, new, &c.new, &c.old, true)
	}
	return c.forwards(r, old, new)
}

// between looks for who passes on the side to and not on the side from: one requirement
// of the former holds and the latter refuses.
func (c *comparison) between(d Direction, r *policy.Request, old, new policy.Match, from, to *Side, swapped bool) (*Change, bool) {
	refusing, passing := old, new
	if swapped {
		refusing, passing = new, old
	}
	if passing.Route == nil || passing.Route.Forbid || isPublic(refusing) {
		return nil, false
	}
	result := func(p *policy.Principal, assumed []Assumption, requirement int) *Change {
		change := &Change{Direction: d, Request: *r, Principal: p, Assumed: assumed, Old: verdict(old, -1), New: verdict(new, -1)}
		if swapped {
			change.Old = verdict(old, requirement)
		} else {
			change.New = verdict(new, requirement)
		}
		return change
	}
	if isPublic(passing) {
		return result(nil, nil, -1), false
	}
	s := newSpace(&c.old, &c.new, r, old, new)
	refused := s.route(from, r, refusing).not()
	undecided := false
	for i := range passing.Route.Allow {
		goal := formula{op: allOf, parts: []formula{s.consulted(to, passing.Route), s.requirement(to, &passing.Route.Allow[i], r, passing), refused}}
		found, gaveUp := s.solve(goal)
		if found != nil {
			p, assumed := s.principal(found, to)
			return result(p, assumed, i), false
		}
		undecided = undecided || gaveUp
	}
	return nil, undecided
}

// forwards looks for who passes on both sides, where the upstream gets something else.
func (c *comparison) forwards(r *policy.Request, old, new policy.Match) (*Change, bool) {
	if old.Route == nil || new.Route == nil || old.Route.Forbid || new.Route.Forbid {
		return nil, false
	}
	different := c.forwarded(old.Route, new.Route)
	if len(different) == 0 {
		return nil, false
	}
	change := &Change{Direction: Forwards, Request: *r, Forwarded: different, Old: verdict(old, -1), New: verdict(new, -1)}
	if isPublic(old) && isPublic(new) {
		return change, false
	}
	s := newSpace(&c.old, &c.new, r, old, new)
	undecided := false
	for i, before := range s.ways(&c.old, r, old) {
		for j, after := range s.ways(&c.new, r, new) {
			found, gaveUp := s.solve(formula{op: allOf, parts: []formula{before, after}})
			if found == nil {
				undecided = undecided || gaveUp
				continue
			}
			change.Principal, change.Assumed = s.principal(found, &c.new)
			if !isPublic(old) {
				change.Old = verdict(old, i)
			}
			if !isPublic(new) {
				change.New = verdict(new, j)
			}
			return change, false
		}
	}
	return nil, undecided
}

func isPublic(m policy.Match) bool { return m.Route != nil && m.Route.Public && !m.Route.Forbid }

// ways are the formulas of which each lets a principal pass.
func (s *space) ways(side *Side, r *policy.Request, m policy.Match) []formula {
	if isPublic(m) {
		return []formula{always}
	}
	var list []formula
	for i := range m.Route.Allow {
		list = append(list, formula{op: allOf, parts: []formula{s.consulted(side, m.Route), s.requirement(side, &m.Route.Allow[i], r, m)}})
	}
	return list
}

// route is that a principal passes.
func (s *space) route(side *Side, r *policy.Request, m policy.Match) formula {
	if m.Route == nil || m.Route.Forbid {
		return never
	}
	return formula{op: oneOf, parts: s.ways(side, r, m)}
}

// consulted is that the route looks at the authenticator of the principal.
func (s *space) consulted(side *Side, r *policy.Route) formula {
	return s.where(byAuthenticator, func(v string) bool {
		_, known := side.authenticator(v)
		return known && (r.Accept == nil || slices.Contains(r.Accept, v))
	})
}

// A solver looks for values of variables for which a formula holds.
type solver struct {
	variables []variable
	chosen    []int // by variable: a value, or -1 while nothing is chosen
	steps     int
}

// solve gives the first values, the least ones first, for which f holds. gaveUp says that
// there may be some, and that looking for them takes too long.
func (s *space) solve(f formula) (chosen []int, gaveUp bool) {
	v := &solver{variables: s.variables, chosen: make([]int, len(s.variables))}
	for i := range v.chosen {
		v.chosen[i] = -1
	}
	if v.search(&f) {
		return v.chosen, false
	}
	return nil, v.steps > maxSteps
}

func (v *solver) search(f *formula) bool {
	if v.steps++; v.steps > maxSteps {
		return false
	}
	holds, open := v.eval(f)
	if open < 0 {
		return holds
	}
	for i := range v.variables[open].values {
		v.chosen[open] = i
		if v.search(f) {
			return true
		}
	}
	v.chosen[open] = -1
	return false
}

// eval evaluates f as far as values are chosen. If that does not decide it, open is a
// variable that matters; else it is negative.
func (v *solver) eval(f *formula) (holds bool, open int) {
	if f.op == isIn {
		if chosen := v.chosen[f.variable]; chosen >= 0 {
			return f.in[chosen], -1
		}
		if !slices.Contains(f.in, true) {
			return false, -1
		}
		return false, f.variable
	}
	stop := f.op == oneOf // the value of a part that decides
	open = -1
	for i := range f.parts {
		part, undecided := v.eval(&f.parts[i])
		switch {
		case undecided >= 0 && open < 0:
			open = undecided
		case undecided < 0 && part == stop:
			return stop, -1
		}
	}
	return !stop, open
}

// principal is the least one with the chosen values, as one side has it.
func (s *space) principal(chosen []int, side *Side) (*policy.Principal, []Assumption) {
	p := policy.Principal{}
	var assumed []Assumption
	for i := range s.variables {
		v, at := &s.variables[i], chosen[i]
		if v.kind == byExpression {
			if at >= 0 {
				assumed = append(assumed, Assumption{v.name, at == 1})
			}
			continue
		}
		if at < 0 {
			at = 0
		}
		if len(v.values) == 0 || v.values[at] == "" {
			continue
		}
		switch v.kind {
		case byAuthenticator:
			p.Authenticator = v.values[at]
		case bySubject:
			p.Subject = v.values[at]
		case byUsername:
			p.Username = v.values[at]
		case byTenant:
			p.Tenant = v.values[at]
		case byRole:
			p.Roles = append(p.Roles, v.name)
		case byScope:
			p.Scopes = append(p.Scopes, v.name)
		case byAttribute:
			if p.Attributes == nil {
				p.Attributes = map[string]policy.Attribute{}
			}
			a := p.Attributes[v.name]
			text := v.text
			if text == other {
				text = "other"
				for s.names(v.name, text) {
					text += "x"
				}
			}
			a.Values = append(a.Values, text)
			a.List = len(a.Values) > 1
			p.Attributes[v.name] = a
		}
	}
	return side.complete(p), assumed
}

// names tells whether a condition names the value of an attribute.
func (s *space) names(attribute, value string) bool {
	return slices.ContainsFunc(s.variables, func(v variable) bool {
		return v.kind == byAttribute && v.name == attribute && v.text == value
	})
}

// complete is p as the side's authenticator makes it.
func (s *Side) complete(p policy.Principal) *policy.Principal {
	if a, ok := s.authenticator(p.Authenticator); ok {
		p.Realm, p.Unscoped = a.Realm, a.Unscoped
	}
	return s.Tenancy.Resolve(p, true)
}

// On gives the principal of a change as another side has it: its realm, and what it reads.
func (s *Side) On(p *policy.Principal) *policy.Principal {
	if p == nil {
		return nil
	}
	as := *p
	if as.Wildcard && s.Tenancy != nil {
		as.Tenant = s.Tenancy.Wildcard
	}
	return s.complete(as)
}
