package replay

import (
	"encoding/json"
	"slices"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A decision is what a replay needs of a record, by the names of gatehouse.decision.v1.
// It is read by encoding/json, which is several times as fast as protojson.
type decision struct {
	ID      string `json:"id"`
	Request struct {
		Method  string            `json:"method"`
		Scheme  string            `json:"scheme"`
		Host    string            `json:"host"`
		Path    string            `json:"path"`
		Context map[string]string `json:"context"`
		TCP     bool              `json:"tcp"`
	} `json:"request"`
	Route        string  `json:"route"`
	Outcome      string  `json:"outcome"`
	Reason       string  `json:"reason"`
	Principal    *caller `json:"principal"`
	Pseudonymous bool    `json:"pseudonymous"`
}

type caller struct {
	Authenticator string   `json:"authenticator"`
	Realm         string   `json:"realm"`
	Issuer        string   `json:"issuer"`
	Subject       string   `json:"subject"`
	Username      string   `json:"username"`
	TokenID       string   `json:"token_id"`
	Tenant        string   `json:"tenant"`
	Wildcard      bool     `json:"wildcard"`
	Roles         []string `json:"roles"`
	Scopes        []string `json:"scopes"`
	Unscoped      bool     `json:"unscoped"`
	Attributes    map[string]struct {
		Values []string `json:"values"`
		List   bool     `json:"list"`
	} `json:"attributes"`
}

// A judge decides records by one configuration. It is safe for concurrent use.
type judge struct {
	loaded *config.Loaded
	key    []byte            // of pseudonyms; nil: none is known
	names  map[string]string // names that grants ask for, by their pseudonym
}

func newJudge(loaded *config.Loaded) *judge {
	j := &judge{loaded: loaded, names: map[string]string{}}
	if l := loaded.DecisionLog; l != nil && l.PseudonymKey.Reveal() != "" {
		j.key = []byte(l.PseudonymKey.Reveal())
		for _, g := range loaded.Config.GetGrants() {
			for _, name := range append(slices.Clone(g.GetWhen().GetSubjects()), g.GetWhen().GetUsernames()...) {
				j.names[record.Pseudonym(j.key, name)] = name
			}
		}
	}
	return j
}

// line decides one line of a log again and counts what came of it.
func (j *judge) line(text []byte, number int, t *tally) {
	var d decision
	if err := json.Unmarshal(text, &d); err != nil || d.Outcome == "" {
		t.skipped++
		return
	}
	t.records++
	request, readable := j.request(&d)
	if !readable {
		t.open++
		return
	}
	match := j.loaded.Gate.Table.Match(&request)
	who := j.principal(&d, t)
	if d.Pseudonymous && who != nil && j.key != nil {
		j.reveal(who, match, &request)
	}
	consulted := who
	if who != nil && !j.consults(match.Route, who.Authenticator) {
		consulted = nil
	}
	now := match.Decide(consulted, &request)
	if now.Outcome.String() == d.Outcome {
		return
	}
	if isOpen(&d, &now) {
		t.open++
		return
	}
	flip := Flip{Before: d.Outcome, After: now.Outcome.String(), OldRoute: d.Route, At: now.At, Reason: now.Reason.String()}
	if now.Route != nil {
		flip.NewRoute = now.Route.Name
	}
	t.add(flip, Example{Line: number, ID: d.ID, Request: request.Method + " " + request.Host + request.Path, Caller: who})
}

// request is the recorded request in the reading of the new configuration. What is not
// recorded (of malformed requests, preflights, connections) cannot be decided again.
func (j *judge) request(d *decision) (policy.Request, bool) {
	q := &d.Request
	if q.TCP || d.Outcome == policy.Malformed.String() || d.Reason == policy.ReasonPreflight.String() || d.Reason == policy.ReasonShadowed.String() {
		return policy.Request{}, false
	}
	r, _, ok := policy.ParseRequest(q.Method, q.Host, q.Path, j.loaded.Gate.Paths)
	r.Scheme = q.Scheme
	for name, value := range q.Context {
		r.Context = append(r.Context, policy.Pair{Name: name, Value: value})
	}
	return r, ok
}

// principal is the recorded principal with what the new configuration's grants add.
func (j *judge) principal(d *decision, t *tally) *policy.Principal {
	c := d.Principal
	if c == nil {
		return nil
	}
	p := policy.Principal{
		Authenticator: c.Authenticator, Realm: c.Realm, Issuer: c.Issuer, Subject: c.Subject, Username: c.Username, TokenID: c.TokenID,
		Tenant: c.Tenant, Roles: c.Roles, Scopes: c.Scopes, Unscoped: c.Unscoped,
	}
	if d.Pseudonymous {
		if j.key == nil {
			t.hidden++
		}
		for _, name := range []*string{&p.Subject, &p.Username} {
			if known := j.names[*name]; known != "" {
				*name = known
			}
		}
	}
	for name, a := range c.Attributes {
		if p.Attributes == nil {
			p.Attributes = map[string]policy.Attribute{}
		}
		p.Attributes[name] = policy.Attribute{Values: a.Values, List: a.List}
	}
	tenancy := j.loaded.Gate.Tenancy
	if c.Wildcard && tenancy != nil {
		p.Tenant = tenancy.Wildcard
	}
	return j.loaded.Gate.Grants.Apply(tenancy.Resolve(p, true))
}

// reveal gives a principal back the names that the route compares it with, if their
// pseudonyms are its own.
func (j *judge) reveal(p *policy.Principal, m policy.Match, r *policy.Request) {
	if m.Route == nil {
		return
	}
	try := func(templates *policy.Templates, name *string) {
		if templates == nil {
			return
		}
		for i := range templates.Values {
			if v, ok := templates.Values[i].Eval(r, m, nil); ok && record.Pseudonym(j.key, v) == *name {
				*name = v
				return
			}
		}
	}
	for i := range m.Route.Allow {
		q := &m.Route.Allow[i]
		try(q.Subjects, &p.Subject)
		try(q.Usernames, &p.Username)
		try(q.Owner, &p.Username)
	}
}

// consults tells whether a route looks at credentials of an authenticator.
func (j *judge) consults(r *policy.Route, authenticator string) bool {
	return r != nil && j.loaded.Gate.Set != nil && j.loaded.Gate.Set.Entry(authenticator) != nil &&
		(r.Accept == nil || slices.Contains(r.Accept, authenticator))
}

// isOpen tells whether a record does not hold what the new decision depends on. A credential
// that was refused, or could not be checked, would be again. Where no credential was
// looked at, because no route covered the request or it forbids, it may be a good one.
func isOpen(d *decision, now *policy.Decision) bool {
	if d.Principal != nil || now.Reason != policy.ReasonNoCredential {
		return false
	}
	switch before, _ := policy.ParseReason(d.Reason); before {
	case policy.ReasonNoCredential, policy.ReasonPublic:
		return false
	default:
		return before.Outcome() == policy.Unavailable || before.Outcome() == policy.Forbidden ||
			before.Outcome() == policy.Unauthenticated
	}
}
