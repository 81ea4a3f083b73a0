package policy

// A Decision is the verdict on one request and its evidence. What explain prints,
// what the decision log holds and what the client is told come from this value.
// The zero Decision forbids.
type Decision struct {
	Outcome   Outcome
	Reason    Reason
	Route     *Route     // nil if none covers the request
	Pattern   *Pattern   // of Route, that matched; nil if selected by name
	Principal *Principal // nil if nobody was authenticated

	// At is where the verdict is written: the requirement that holds, the first
	// unmet condition of the smallest unmet requirement, or the route.
	At Position

	// Requirement is the index in Route.Allow of the requirement that holds, or of
	// the one with the fewest unmet conditions (the first of equals); -1 if none.
	Requirement int

	// Unmet are the conditions of that requirement that do not hold, in the order
	// of the fields of [Requirement]. Empty unless the reason is about requirements.
	Unmet []Unmet
}

// Unmet is one condition that does not hold.
type Unmet struct {
	At        Position
	Condition string // "roles.any", "tenant", "attributes.department.any", "when", …
	Want      string // as a person reads it: `one of "reader", "admin"`
	Got       string // the principal's side: `"user"`, or "nothing"
	Error     bool   // an expression that could not be evaluated
}
