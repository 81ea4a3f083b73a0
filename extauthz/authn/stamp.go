package authn

import "github.com/gatehouse-authz/gatehouse/policy"

// A Stamp is what all principals of one authenticator have in common.
type Stamp struct {
	Authenticator string // its name
	Realm         string
	Unscoped      bool // its principals meet every scopes requirement

	// Wildcard is the tenant that stands for all of them (tenancy only; "": no tenancy,
	// and every tenant is a name like any other).
	Wildcard string

	// WildcardClaims lets claims say the wildcard. Otherwise a claim that says it is
	// refused: it would be a name that nobody can have.
	WildcardClaims bool
}

// Principal completes p: its authenticator, its realm, and what its tenant may read
// as far as that needs no tenancy. Whoever knows the tenancy fills in the rest.
func (s *Stamp) Principal(p policy.Principal) *policy.Principal {
	s.complete(&p)
	return &p
}

func (s *Stamp) complete(p *policy.Principal) {
	p.Authenticator, p.Realm, p.Unscoped = s.Authenticator, s.Realm, s.Unscoped
	p.Wildcard = s.Wildcard != "" && p.Tenant == s.Wildcard
	p.Tenants = nil
	if p.Tenant != "" && !p.Wildcard {
		p.Tenants = []string{p.Tenant}
	}
}

// over puts the stamp on a principal that another authenticator verified: its name,
// its realm. What its tenant may be was decided there.
func (s *Stamp) over(p *policy.Principal) *policy.Principal {
	own := *p
	own.Authenticator, own.Realm = s.Authenticator, s.Realm
	own.Unscoped = own.Unscoped || s.Unscoped
	return &own
}
