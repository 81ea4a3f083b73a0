package policy

// A Route is one entry of the table: which requests it covers, and who may make
// them. Exactly one of Public, Forbid and Allow is set; a Route with none of them
// forbids.
type Route struct {
	Name     string // unique; used in logs, metrics, tests and context_extensions
	At       Position
	Index    int       // place in the file, and in whatever runs parallel to the table
	Patterns []Pattern // empty: reachable by name only

	Public bool
	Forbid bool
	Allow  []Requirement // any one suffices

	UsesPath  bool     // {path.…} stands elsewhere than in Allow, in what is forwarded say
	Accept    []string // authenticators consulted; nil: all
	Opens     []string // names of narrower routes that this one knowingly opens by method or host
	Shadow    bool     // decided by the table without it; what it would say is only reported
	Preflight bool     // CORS preflights for it pass without credentials
}

// A Requirement holds when each of its conditions holds. The zero Requirement has
// none and does not hold.
type Requirement struct {
	At Position

	Authenticated  *Flag            // any verified caller
	Authenticators *Names           // one of these verified the caller
	Realms         *Names           // the caller's realm is one of these
	Subjects       *Templates       // the caller's subject is one of these
	Usernames      *Templates       // the caller's username is one of these
	Tenant         *Templates       // the effective tenant equals one of these; a wildcard value never holds
	ReadableTenant *Templates       // one of these is readable; a wildcard value never holds
	Owner          *Templates       // a resource's owner: empty, the username, or the username is the wildcard
	Roles          *Sets            // any, all, none
	Scopes         *Sets            // any, all
	Attributes     []AttributeMatch // in name order
	When           *Expression
}

// A Flag is a condition without a value.
type Flag struct{ At Position }

// Names is a condition on one name out of several.
type Names struct {
	At     Position
	Values []string
}

// Templates is a condition on one value out of several, each of which may refer to
// the request.
type Templates struct {
	At     Position
	Values []Template
}

// Sets is a condition on a list: at least one of Any, every one of All, none of None.
// A part that is nil asks nothing, one that is empty is never met. Scopes have no None.
type Sets struct {
	At             Position
	Any, All, None []string
}

// AttributeMatch is a condition on one attribute. An attribute that the principal
// lacks meets nothing, None included.
type AttributeMatch struct {
	At             Position
	Name           string
	Present        bool
	Any, All, None []Template
}

// Expression is a condition in the expression language.
type Expression struct {
	At        Position
	Condition Condition
}
