package diff

import (
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// maxSteps bounds the search between two requirements. Formulas of people are decided
	// within a few dozen steps; one that is made to be hard is given up as [Undecided].
	maxSteps = 200_000
	// maxTries bounds how many principals are shown to expressions before one is reported
	// for which they are assumed to say what is needed.
	maxTries = 200
)

// view is how a side sees principals of the request that m covers.
func (s *space) view(side *Side, m policy.Match) viewer {
	return viewer{space: s, side: side, request: s.request, match: m}
}

// find looks for a principal, or nobody, for whom the region changes in the direction.
func (c *comparison) find(d Direction, r *policy.Request, old, new policy.Match) (found *Change, undecided bool) {
	switch d {
	case Widens, Narrows:
		return c.between(d, r, old, new)
	case Forwards:
		return c.forwards(r, old, new)
	case Answers:
		return c.answers(r, old, new)
	}
	return nil, false
}

// between looks for who passes on one side and not on the other: one requirement of the
// former holds and the latter refuses.
func (c *comparison) between(d Direction, r *policy.Request, old, new policy.Match) (*Change, bool) {
	from, to, refusing, passing := &c.old, &c.new, old, new
	if d == Narrows {
		from, to, refusing, passing = to, from, passing, refusing
	}
	if passing.Route == nil || passing.Route.Forbid || isPublic(refusing) {
		return nil, false
	}
	result := func(p *policy.Principal, requirement int) *Change {
		change := &Change{Direction: d, Request: *r, Principal: p, Old: verdict(old, -1), New: verdict(new, -1)}
		if d == Narrows {
			change.Old = verdict(old, requirement)
		} else {
			change.New = verdict(new, requirement)
		}
		return change
	}
	if isPublic(passing) {
		return result(nil, -1), false
	}
	s := newSpace(&c.old, &c.new, r, old, new)
	refused := s.view(from, refusing).passes().not()
	ways := s.view(to, passing).ways()
	made := s.view(to, passing).made()
	undecided := false
	var likely *Change
	for i := range ways {
		found, gaveUp := s.solve(and(made, ways[i], refused), to, func(w *witness) bool {
			return c.passes(&c.old, r, old, w) == (d == Narrows) && c.passes(&c.new, r, new, w) == (d == Widens)
		})
		if found != nil {
			change := result(found.principal, i)
			change.Selected, change.Assumed = found.selected, found.assumed
			if len(found.assumed) == 0 {
				return change, false
			}
			if likely == nil {
				likely = change
			}
		}
		undecided = undecided || gaveUp
	}
	return likely, likely == nil && undecided
}

// passes asks a side about a witness.
func (c *comparison) passes(side *Side, r *policy.Request, m policy.Match, w *witness) bool {
	if m.Route == nil {
		return false
	}
	p := side.On(w.principal)
	if !slices.Contains(side.consults(m.Route), w.principal.Authenticator) {
		return isPublic(m)
	}
	ok := true
	if !r.TCP {
		p, ok = side.As(p, w.selected)
	}
	return ok && m.Decide(p, r).Outcome == policy.Allowed
}

func isPublic(m policy.Match) bool { return m.Route != nil && m.Route.Public && !m.Route.Forbid }

// ways are the formulas of which each lets a principal pass a route with requirements.
func (s viewer) ways() []formula {
	if isPublic(s.match) {
		return []formula{always}
	}
	var list []formula
	selectable := s.selectable()
	for i := range s.match.Route.Allow {
		list = append(list, and(s.consulted(), s.requirement(&s.match.Route.Allow[i]), selectable))
	}
	return list
}

// passes is that a principal passes.
func (s viewer) passes() formula {
	if s.match.Route == nil || s.match.Route.Forbid {
		return never
	}
	return or(s.ways()...)
}

// consulted is that the route looks at the authenticator of the principal.
func (s viewer) consulted() formula {
	if s.match.Route == nil {
		return never
	}
	names := s.side.consults(s.match.Route)
	return s.where(byAuthenticator, func(v string) bool { return slices.Contains(names, v) })
}

// A solver looks for values of variables for which a formula holds.
type solver struct {
	variables []variable
	chosen    []int // by variable: a value, or -1 while nothing is chosen
	steps     int
	accept    func(chosen []int) bool
}

// A witness is a principal for which a formula holds.
type witness struct {
	principal *policy.Principal
	selected  policy.Selection
	assumed   []Assumption // what expressions have to say besides
}

// solve gives the first principal, the least ones first, for which f holds, as one side
// has it. Where expressions have a say, they are asked: confirmed tells whether a
// witness is one indeed. If none is, the first one counts, with what it assumes. gaveUp
// says that there may be some, and that looking for them takes too long.
func (s *space) solve(f formula, side *Side, confirmed func(*witness) bool) (found *witness, gaveUp bool) {
	v := &solver{variables: s.variables, chosen: make([]int, len(s.variables))}
	for i := range v.chosen {
		v.chosen[i] = -1
	}
	tries := 0
	v.accept = func(chosen []int) bool {
		w := s.witness(chosen, side)
		if len(w.assumed) == 0 {
			found = w
			return true
		}
		if confirmed(w) {
			w.assumed = nil
			found = w
			return true
		}
		if found == nil {
			found = w
		}
		tries++
		return tries >= maxTries
	}
	v.search(&f)
	return found, found == nil && v.steps > maxSteps
}

// search tries values until one is accepted.
func (v *solver) search(f *formula) bool {
	if v.steps++; v.steps > maxSteps {
		return false
	}
	holds, open := v.eval(f)
	if open < 0 {
		return holds && v.accept(v.chosen)
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

// witness is the least principal with the chosen values, as one side has it.
func (s *space) witness(chosen []int, side *Side) *witness {
	p := policy.Principal{}
	w := &witness{}
	for i := range s.variables {
		v, at := &s.variables[i], chosen[i]
		if v.kind == byExpression {
			if at >= 0 {
				w.assumed = append(w.assumed, Assumption{v.name, at == 1})
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
		case bySelected:
			w.selected.Tenant = v.values[at]
		case byNamed:
			w.selected.Username = v.values[at]
		case byRole:
			p.Roles = append(p.Roles, v.name)
		case byScope:
			p.Scopes = append(p.Scopes, v.name)
		case byAttribute:
			if p.Attributes == nil {
				p.Attributes = map[string]policy.Attribute{}
			}
			a := p.Attributes[v.name]
			a.Values = append(a.Values, s.text(v))
			a.List = len(a.Values) > 1
			p.Attributes[v.name] = a
		}
	}
	s.fit(&p, side)
	w.principal = side.complete(p)
	return w
}

// text is the value of an attribute that a variable stands for. What no condition names is
// one that an authenticator gives, if there is such a one.
func (s *space) text(v *variable) string {
	if v.text != other {
		return v.text
	}
	for _, side := range []*Side{s.new, s.old} {
		for i := range side.Authenticators {
			for j := range side.Authenticators[i].Makes {
				l := side.Authenticators[i].Makes[j].Attributes[v.name]
				for _, value := range append(slices.Clone(l.All), l.Of...) {
					if !s.names(v.name, value) {
						return value
					}
				}
			}
		}
	}
	text := "other"
	for s.names(v.name, text) {
		text += "x"
	}
	return text
}
