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

	// Refused is how a refusal looks to the client, in any form that two sides can
	// compare: unauthenticated or forbidden; the route is nil where none covers the
	// request. nil: all look the same.
	Refused func(r *policy.Route, unauthenticated bool) string

	who   string            // see common
	texts map[string]string // see authenticatorText
}

// A Value is one thing that the upstream gets.
type Value struct {
	Text     string           // in a form that differs where it does
	Template *policy.Template // that it is the value of; nil: the text says it all
	Identity bool             // it tells about the caller in other ways, and is there only with one
}

// match finds what decides a request.
func (s *Side) match(r *policy.Request) policy.Match {
	if !r.TCP {
		return s.Table.Match(r)
	}
	for _, row := range s.TCP.Rows() {
		named := policy.Request{Context: []policy.Pair{{Name: policy.RouteName, Value: row.Route.Name}}}
		return s.TCP.Match(&named)
	}
	return policy.Match{Reason: policy.ReasonNotHTTP}
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

// complete is p as the side's authenticator makes it.
func (s *Side) complete(p policy.Principal) *policy.Principal {
	if a, ok := s.authenticator(p.Authenticator); ok {
		p.Realm, p.Unscoped = a.Realm, a.Unscoped
	}
	return s.Tenancy.Resolve(p, true)
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
	completed := s.complete(as)
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
