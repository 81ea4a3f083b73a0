package policy

// A Decision is the verdict on one request and its evidence. What explain prints,
// what the decision log holds and what the client is told come from this value.
// The zero Decision forbids.
type Decision struct {
	Outcome   Outcome
	Reason    Reason
	Route     *Route     // nil if none covers the request
	Pattern   *Pattern   // of Route, that matched; nil if it has none
	Principal *Principal // nil if nobody was authenticated

	// At is where the verdict is written: the requirement that holds, the first
	// unmet condition of the smallest unmet requirement, or the route.
	At Position

	// Requirement is the index in Route.Allow of the requirement that holds, or of
	// the one with the fewest unmet conditions (the first of equals); -1 if none.
	Requirement int

	// What Unmet evaluates again.
	clause  *clause
	request *Request
	tenancy *Tenancy
}

// Unmet is one condition that does not hold.
type Unmet struct {
	At        Position
	Condition string   // "roles.any", "tenant", "attributes.department.any", "when", …
	Want      string   // as a person reads it: `one of "reader", "admin"`
	Got       string   // the principal's side: `"user"`, or "nothing"; "" for expressions
	Missing   []string // the values in Want that the principal lacks or, for …none, must lose
	Error     bool     // an expression that could not be evaluated
}

// Unmet are the conditions that do not hold of the requirement that d is about, in the
// order of the fields of [Requirement]: the smallest thing that is missing. It is
// empty unless the reason is about requirements, and evaluates them again, so that
// a decision which nobody asks costs nothing more.
func (d *Decision) Unmet() []Unmet {
	if d.clause == nil || d.Outcome == Allowed {
		return nil
	}
	s := scope{request: d.request, pattern: d.Pattern, principal: d.Principal, tenancy: d.tenancy}
	var list []Unmet
	for i := range d.clause.conditions {
		k := &d.clause.conditions[i]
		truth := k.holds(&s)
		if truth == True {
			continue
		}
		list = append(list, Unmet{
			At: k.at, Condition: k.name(), Want: k.wanted(&s), Got: k.had(&s),
			Missing: k.missing(&s), Error: truth == Failed,
		})
	}
	return list
}

// Scopes are those that the requirement d is about asks for: all of them or, where it asks
// for none with all, those of which it asks for one.
func (d *Decision) Scopes() []string {
	if d.clause == nil {
		return nil
	}
	var scopes []string
	for i := range d.clause.conditions {
		switch k := &d.clause.conditions[i]; {
		case k.kind == condScopesAll && len(k.names) > 0:
			return k.names
		case k.kind == condScopesAny:
			scopes = k.names
		}
	}
	return scopes
}

// Decide says whether p may make the request that m was found for. A principal is
// needed for anything but a public route: without one (nil) the answer is
// [Unauthenticated], whatever the route asks. It allocates nothing.
func (m Match) Decide(p *Principal, r *Request) Decision {
	d := Decision{
		Route: m.Route, Pattern: m.Pattern, Principal: p, Requirement: -1,
		request: r, tenancy: m.tenancy(),
	}
	if m.Route == nil || m.entry == nil {
		d.Reason = m.Reason
		if d.Reason.Outcome() != Forbidden || d.Reason == ReasonNone {
			d.Reason = ReasonNoRoute
		}
		return d
	}
	d.At = m.Route.At
	switch {
	case m.Route.Forbid:
		d.Reason = ReasonRouteForbids
		return d
	case m.entry.isPublic():
		d.Outcome, d.Reason = Allowed, ReasonPublic
		return d
	case p == nil:
		d.Outcome, d.Reason = Unauthenticated, ReasonNoCredential
		return d
	}
	s := scope{request: r, pattern: m.Pattern, principal: p, tenancy: d.tenancy}
	for i := range m.entry.clauses {
		c := &m.entry.clauses[i]
		if c.holds(&s) {
			d.Outcome, d.Reason = Allowed, ReasonMet
			d.At, d.Requirement, d.clause = c.at, i, c
			return d
		}
	}
	d.refuse(m.entry, &s)
	return d
}

// refuse finds the requirement with the fewest unmet conditions. If expressions could
// not be evaluated, it is looked for among the requirements that have such a one.
func (d *Decision) refuse(e *entry, s *scope) {
	d.Reason = ReasonRequirement
	var least shortfall
	for i := range e.clauses {
		c := &e.clauses[i]
		f := c.shortfall(s)
		switch {
		case d.Requirement < 0, f.failure && !least.failure,
			f.failure == least.failure && f.unmet < least.unmet:
			least = f
			d.Requirement, d.clause = i, c
		}
	}
	switch {
	case d.Requirement < 0:
	case least.failure:
		d.Reason, d.At = ReasonExpressionError, least.failed
	case least.onlyScopes:
		d.Reason, d.At = ReasonInsufficientScope, least.first
	default:
		d.At = least.first
	}
}
