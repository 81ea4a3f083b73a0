package diff

import (
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Side is one of two policies.
type Side struct {
	Table          *policy.Table
	Routes         []*policy.Route
	TCP            *policy.Table // whose only route decides connections without HTTP; nil: they are refused
	Tenancy        *policy.Tenancy
	Grants         *policy.Grants
	Authenticators []Authenticator

	Select      bool // callers may act for a tenant that they read
	Impersonate bool // callers of authenticators that say so may name a user

	// Consults names the authenticators whose credentials a route looks at. nil: those
	// that it accepts, on public routes too.
	Consults func(*policy.Route) []string

	// Forwarded is what the upstream gets of a request that a route lets pass, by name.
	// nil: nothing.
	Forwarded func(*policy.Route) map[string]Value

	// Anonymous is whom the upstream is told of where nobody is identified; nil: of nobody.
	Anonymous *policy.Principal

	// Refused is how a refusal for one of these reasons looks to the client, in any form
	// that two sides can compare: [policy.ReasonNoRoute] (the route is nil),
	// [policy.ReasonRouteForbids], [policy.ReasonRequirement], [policy.ReasonNoCredential],
	// [policy.ReasonTenantNotSelectable], [policy.ReasonSelectionRepeated]. nil: all look the
	// same.
	Refused func(r *policy.Route, why policy.Reason) string

	who   string            // see common
	texts map[string]string // see authenticatorText
}

// consults names the authenticators of the side that a route looks at.
func (s *Side) consults(r *policy.Route) []string {
	if s.Consults != nil {
		return s.Consults(r)
	}
	var names []string
	for _, a := range s.Authenticators {
		if r.Accept == nil || slices.Contains(r.Accept, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}

func (s *Side) authenticator(name string) (Authenticator, bool) {
	for _, a := range s.Authenticators {
		if a.Name == name {
			return a, true
		}
	}
	return Authenticator{}, false
}

// known is the name that conditions know.
func (a *Authenticator) known() string {
	if a.As != "" {
		return a.As
	}
	return a.Name
}

func (s *Side) isWildcard(name string) bool {
	return s.Tenancy != nil && s.Tenancy.Wildcard != "" && name == s.Tenancy.Wildcard
}

// reads tells whether a caller reads a tenant.
func (s *Side) reads(p *policy.Principal, want string) bool {
	if want == "" || s.isWildcard(want) {
		return false
	}
	return p.Wildcard || slices.Contains(s.Tenancy.Readable(p.Tenant), want)
}

// complete is p as the side's authenticator makes it. As a username, the wildcard counts
// beside the wildcard as a tenant only.
func (s *Side) complete(p policy.Principal) *policy.Principal {
	if a, ok := s.authenticator(p.Authenticator); ok {
		p.Realm, p.Unscoped = a.Realm, a.Unscoped
	}
	return s.Tenancy.Resolve(p, s.isWildcard(p.Tenant))
}

// On gives the principal of a change as a side has it: its realm, what it reads, and what
// grants add.
func (s *Side) On(p *policy.Principal) *policy.Principal {
	if p == nil {
		return nil
	}
	as := *p
	if as.Wildcard && s.Tenancy != nil {
		as.Tenant = s.Tenancy.Wildcard
	}
	return s.on(as)
}

// on is a principal of a side before tenancy and grants make something of it.
func (s *Side) on(p policy.Principal) *policy.Principal {
	completed := s.complete(p)
	if a, ok := s.authenticator(p.Authenticator); ok {
		completed.Authenticator = a.known()
	}
	return s.Grants.Apply(completed)
}

// As is a principal of the side as whom it selects to be; false if it may not.
func (s *Side) As(p *policy.Principal, want policy.Selection) (*policy.Principal, bool) {
	if p == nil {
		return nil, true
	}
	if !s.Select {
		want.Tenant = ""
	}
	if !s.Impersonate {
		want.Username = ""
	}
	a, _ := s.authenticator(p.Authenticator)
	want.Impersonate = a.Impersonate
	as, _, ok := s.Tenancy.Select(p, want)
	return as, ok
}
