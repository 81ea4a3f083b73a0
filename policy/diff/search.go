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
	// maxRefuted bounds how many principals are looked at for whom a formula holds and the
	// tables see no difference, before the search is given up.
	maxRefuted = 5_000
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

// between looks for who passes on one side and not on the other: one way to pass the
// former is open, and none of the latter.
func (c *comparison) between(d Direction, r *policy.Request, old, new policy.Match) (*Change, bool) {
	from, to, refusing, passing := &c.old, &c.new, old, new
	if d == Narrows {
		from, to, refusing, passing = to, from, passing, refusing
	}
	if passing.Route == nil || passing.Route.Forbid {
		return nil, false
	}
	result := func(p *policy.Principal, requirement int) *Change {
		change := &Change{Direction: d, Request: *r, Principal: p, Old: verdict(old, -1), New: verdict(new, -1)}
		if d == Narrows {
			change.Old = verdict(old, requirement)
		} else {
			change.New = verdict(new, requirement)
		}
		if p != nil && isPublic(refusing) { // who selects what it may not is refused even there
			if d == Narrows {
				change.New.Allowed = false
			} else {
				change.Old.Allowed = false
			}
		}
		return change
	}
	if isPublic(passing) && !isPublic(refusing) {
		return result(nil, -1), false
	}
	s := newSpace(&c.old, &c.new, r, old, new, nil)
	refused := s.view(from, refusing).passes().not()
	if refused.isNever() {
		return nil, false
	}
	passages := s.view(to, passing).passages()
	// Who there is comes last: it is about all that the others ask for.
	there := s.view(from, refusing).exists(s.view(to, passing))
	made := s.view(to, passing).made()
	undecided := false
	var likely *Change
	for _, p := range passages {
		who := there
		if p.identified {
			who = made
		}
		found, gaveUp := s.solve(and(who, p.formula, refused), to, func(w *witness) bool {
			return c.passes(&c.old, r, old, w) == (d == Narrows) && c.passes(&c.new, r, new, w) == (d == Widens)
		})
		if found != nil {
			change := result(found.principal, p.requirement)
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
	if !slices.Contains(side.consults(m.Route), w.principal.Authenticator) {
		return isPublic(m)
	}
	p, ok := w.on(side, r)
	return ok && m.Decide(p, r).Outcome == policy.Allowed
}

// on is the principal of a witness as a side has it; false if it selects what it may not.
func (w *witness) on(side *Side, r *policy.Request) (*policy.Principal, bool) {
	p := side.on(w.bare)
	if r.TCP {
		return p, true
	}
	return side.As(p, w.selected)
}

// A passage is one way to pass a route: as somebody, or as nobody on a public one.
type passage struct {
	formula     formula
	identified  bool
	requirement int // that holds; -1: none is asked
}

// passages are the ways to pass a route.
func (s viewer) passages() []passage {
	switch {
	case s.match.Route == nil || s.match.Route.Forbid:
		return nil
	case isPublic(s.match):
		return []passage{{s.consulted().not(), false, -1}, {and(s.consulted(), s.selectable()), true, -1}}
	}
	var list []passage
	selectable := s.selectable()
	for i := range s.match.Route.Allow {
		list = append(list, passage{and(s.consulted(), s.requirement(&s.match.Route.Allow[i]), selectable), true, i})
	}
	return list
}

// passes is that a principal passes.
func (s viewer) passes() formula {
	if isPublic(s.match) {
		return or(s.consulted().not(), s.selectable())
	}
	any := formula{op: oneOf}
	for _, p := range s.passages() {
		any.parts = append(any.parts, p.formula)
	}
	return any
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
	principal *policy.Principal // as one side has it
	bare      policy.Principal  // before tenancy makes something of it
	selected  policy.Selection
	assumed   []Assumption // what expressions have to say besides
}

// solve gives the first principal, the least ones first, for which f holds and confirmed
// too, as one side has it. Where expressions have a say it may be that none is confirmed:
// then the first one counts, with what it assumes. gaveUp says that there may be some, and
// that looking for them takes too long.
func (s *space) solve(f formula, side *Side, confirmed func(*witness) bool) (found *witness, gaveUp bool) {
	v := &solver{variables: s.variables, chosen: make([]int, len(s.variables))}
	for i := range v.chosen {
		v.chosen[i] = -1
	}
	tries, refuted := 0, 0
	v.accept = func(chosen []int) bool {
		w := s.witness(chosen, side)
		switch {
		case confirmed(w):
			w.assumed = nil
			found = w
			return true
		case len(w.assumed) == 0:
			refuted++
			return refuted >= maxRefuted
		case found == nil:
			found = w
		}
		tries++
		return tries >= maxTries
	}
	v.search(&f)
	return found, found == nil && (v.steps > maxSteps || refuted >= maxRefuted)
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
	if f.op == told {
		for _, i := range f.on {
			if v.chosen[i] < 0 {
				return false, i
			}
		}
		return f.tell(v.chosen), -1
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
		case byIssuer:
			p.Issuer = v.values[at]
		case byTokenID:
			p.TokenID = v.values[at]
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
	for _, other := range []*Side{s.new, s.old} {
		if _, known := side.authenticator(p.Authenticator); !known {
			side = other
		}
	}
	s.fit(&p, side)
	w.bare, w.principal = p, side.complete(p)
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
