package diff

import (
	"github.com/gatehouse-authz/gatehouse/policy"
)

// refusals are the reasons that [Side.Refused] is asked about.
var refusals = []policy.Reason{
	policy.ReasonRouteForbids, policy.ReasonRequirement, policy.ReasonNoCredential,
	policy.ReasonTenantNotSelectable, policy.ReasonSelectionRepeated,
}

// A refusal is one way to be refused.
type refusal struct {
	formula formula
	why     policy.Reason
}

// refusals are the ways to be refused as somebody. What nobody is told comes first.
func (s viewer) refusals() []refusal {
	switch {
	case s.match.Route == nil:
		return []refusal{{always, policy.ReasonNoRoute}}
	case s.match.Route.Forbid:
		return []refusal{{always, policy.ReasonRouteForbids}}
	}
	selectable, repeated := s.selectable(), s.repeated()
	list := []refusal{
		{and(s.consulted(), repeated), policy.ReasonSelectionRepeated},
		{and(s.consulted(), selectable.not(), repeated.not()), policy.ReasonTenantNotSelectable},
	}
	if isPublic(s.match) {
		return list
	}
	return append(list,
		refusal{s.consulted().not(), policy.ReasonNoCredential},
		refusal{and(s.consulted(), selectable, s.passes().not()), policy.ReasonRequirement})
}

// toNobody is why nobody is refused.
func toNobody(m policy.Match) policy.Reason {
	switch {
	case m.Route == nil:
		return policy.ReasonNoRoute
	case m.Route.Forbid:
		return policy.ReasonRouteForbids
	}
	return policy.ReasonNoCredential
}

// answers looks for who is refused on both sides, in another way.
func (c *comparison) answers(r *policy.Request, old, new policy.Match) (*Change, bool) {
	if c.old.Refused == nil || c.new.Refused == nil || r.TCP {
		return nil, false
	}
	change := func(p *witness, before, after string) *Change {
		change := &Change{Direction: Answers, Request: *r, Old: verdict(old, -1), New: verdict(new, -1)}
		if p != nil {
			change.Principal, change.Assumed, change.Selected = p.principal, p.assumed, p.selected
		}
		change.Old.Allowed, change.New.Allowed = false, false
		change.Old.Answer, change.New.Answer = before, after
		return change
	}
	if !isPublic(old) && !isPublic(new) {
		if before, after := c.old.Refused(old.Route, toNobody(old)), c.new.Refused(new.Route, toNobody(new)); before != after {
			return change(nil, before, after), false
		}
	}
	s := newSpace(&c.old, &c.new, r, old, new, nil)
	was, is := s.view(&c.old, old), s.view(&c.new, new)
	undecided := false
	afterwards := is.refusals()
	for _, one := range was.refusals() {
		for _, other := range afterwards {
			before, after := c.old.Refused(old.Route, one.why), c.new.Refused(new.Route, other.why)
			if before == after || one.formula.isNever() || other.formula.isNever() {
				continue
			}
			found, gaveUp := s.solve(and(one.formula, other.formula, was.exists(is)), &c.new, func(w *witness) bool {
				return !c.passes(&c.old, r, old, w) && !c.passes(&c.new, r, new, w)
			})
			if found != nil {
				return change(found, before, after), false
			}
			undecided = undecided || gaveUp
		}
	}
	return nil, undecided
}
