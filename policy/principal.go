package policy

import "time"

// A Principal is who makes a request: one authenticator vouches for it. It is
// immutable once made, and shared by every request of the same credential.
type Principal struct {
	Authenticator string // name in the configuration; never empty
	Realm         string // the authenticator's realm; never empty

	Issuer   string // of a token; with Subject it names a person everywhere
	Subject  string
	Username string
	TokenID  string // jti, key id or token id: never the secret

	Tenant   string   // effective tenant; an empty one meets nothing
	Tenants  []string // readable tenants, the default first, ascending to Tenant; without tenancy just Tenant
	Wildcard bool     // reads every tenant (tenancy only); Tenant is then the default until one is selected

	// WildcardOwner: the username is the wildcard, and comes from where it counts, so
	// that resources of every owner are visible. See [Tenancy.Resolve].
	WildcardOwner bool

	Unscoped bool // meets every scopes requirement

	Roles  []string
	Scopes []string

	Attributes map[string]Attribute

	Expires time.Time // of the credential; zero: does not expire by itself
}

// An Attribute is one fact about a principal: a string, or a list of strings.
// Numbers and booleans are kept as JSON writes them.
type Attribute struct {
	Values []string
	List   bool // came as a list, and is one in expressions and JSON
}
