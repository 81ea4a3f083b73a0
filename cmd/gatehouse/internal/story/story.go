package story

import (
	"fmt"
	"net/http"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Story is one decision and why. Its JSON is for other programs.
type Story struct {
	Request  Request `json:"request"`
	Outcome  string  `json:"outcome"`
	Reason   string  `json:"reason"`
	Status   int     `json:"status"` // what the client gets; 200 where the request goes on
	Route    string  `json:"route,omitempty"`
	Position string  `json:"position,omitempty"` // where the verdict is written
	Detail   string  `json:"detail,omitempty"`   // the cause, as in the log

	Recorded *Recorded `json:"recorded,omitempty"` // what was decided when the request was recorded

	Authenticators []Seen        `json:"authenticators,omitempty"`
	Principal      *Principal    `json:"principal,omitempty"`
	Candidates     []Candidate   `json:"candidates,omitempty"`
	Requirements   []Requirement `json:"requirements,omitempty"`
	Shadow         *Shadow       `json:"shadow,omitempty"`
	Flip           []Change      `json:"flip,omitempty"` // all of it is needed to turn the verdict around

	Set      []Header `json:"set,omitempty"`      // request headers that the upstream gets from us
	Removed  []string `json:"removed,omitempty"`  // request headers that do not reach it
	Response []Header `json:"response,omitempty"` // headers of a refusal
}

// Recorded is the decision of a record.
type Recorded struct {
	ID       string `json:"id"`
	Time     string `json:"time"`
	Hash     string `json:"snapshot"` // of the configuration that decided
	Outcome  string `json:"outcome"`
	Reason   string `json:"reason"`
	Route    string `json:"route,omitempty"`
	Position string `json:"position,omitempty"`
}

// Request is the request as it is read.
type Request struct {
	Method string `json:"method,omitempty"`
	Host   string `json:"host,omitempty"`
	Path   string `json:"path,omitempty"` // canonical; as received where it has no canonical form
}

// Header is a header field.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Seen is what one authenticator saw of the request.
type Seen struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	Consulted bool   `json:"consulted"` // the route accepts it
	Decided   bool   `json:"decided"`   // its credential decided
	Place     string `json:"place,omitempty"`
	Saw       string `json:"saw"` // a reason's name, "verified", or "not asked"
}

// Principal is who makes the request.
type Principal struct {
	Authenticator string              `json:"authenticator"`
	Realm         string              `json:"realm,omitempty"`
	Issuer        string              `json:"issuer,omitempty"`
	Subject       string              `json:"subject,omitempty"`
	Username      string              `json:"username,omitempty"`
	Tenant        string              `json:"tenant,omitempty"`
	Tenants       []string            `json:"tenants,omitempty"`
	Roles         []string            `json:"roles,omitempty"`
	Scopes        []string            `json:"scopes,omitempty"`
	Unscoped      bool                `json:"unscoped,omitempty"`
	Attributes    map[string][]string `json:"attributes,omitempty"`
}

// Candidate is a pattern that covers the path.
type Candidate struct {
	Route    string `json:"route"`
	Pattern  string `json:"pattern,omitempty"`
	Position string `json:"position"`
	Fate     string `json:"fate"`
	Why      string `json:"why"`
}

// Requirement is one requirement of the route.
type Requirement struct {
	Position   string      `json:"position"`
	Holds      bool        `json:"holds"`
	Conditions []Condition `json:"conditions"`
}

// Condition is one condition of a requirement.
type Condition struct {
	Position  string `json:"position"`
	Condition string `json:"condition"`
	Want      string `json:"want"`
	Got       string `json:"got,omitempty"`
	Truth     string `json:"truth"` // true, false, or error
}

// Shadow is what a route in shadow mode would have said.
type Shadow struct {
	Route   string `json:"route,omitempty"`
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
}

// Change is something that would have to be otherwise.
type Change struct {
	Position string `json:"position,omitempty"`
	Text     string `json:"text"`
}

// Allowed tells whether the request would go on.
func (s *Story) Allowed() bool { return s.Outcome == policy.Allowed.String() }

// StatusText is the answer that a client gets, in words.
func (s *Story) StatusText() string { return fmt.Sprintf("%d %s", s.Status, http.StatusText(s.Status)) }

func newPrincipal(p *policy.Principal) *Principal {
	out := &Principal{
		Authenticator: p.Authenticator, Realm: p.Realm, Issuer: p.Issuer, Subject: p.Subject, Username: p.Username,
		Tenant: p.Tenant, Tenants: p.Tenants, Roles: p.Roles, Scopes: p.Scopes, Unscoped: p.Unscoped,
	}
	if p.Wildcard {
		out.Tenants = []string{"*"}
	}
	for name, a := range p.Attributes {
		if out.Attributes == nil {
			out.Attributes = map[string][]string{}
		}
		out.Attributes[name] = a.Values
	}
	return out
}
