package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A decision is what a replay needs of a record, by the names of gatehouse.decision.v1;
// every other name of it is there so that those of later versions are noticed. It is read
// by encoding/json, which is several times as fast as protojson.
type decision struct {
	ID      string `json:"id"`
	Request struct {
		Method          string            `json:"method"`
		Scheme          string            `json:"scheme"`
		Host            string            `json:"host"`
		Path            string            `json:"path"`
		Source          string            `json:"source"`
		SourcePrincipal string            `json:"source_principal"`
		Context         map[string]string `json:"context"`
		TCP             bool              `json:"tcp"`
	} `json:"request"`
	Route          string  `json:"route"`
	Outcome        string  `json:"outcome"`
	Reason         string  `json:"reason"`
	Principal      *caller `json:"principal"`
	Pseudonymous   bool    `json:"pseudonymous"`
	PseudonymKeyID string  `json:"pseudonym_key_id"`

	Time          ignored `json:"time"`
	Latency       ignored `json:"latency"`
	Snapshot      ignored `json:"snapshot"`
	Door          ignored `json:"door"`
	Pattern       ignored `json:"pattern"`
	Position      ignored `json:"position"`
	Status        ignored `json:"status"`
	Unmet         ignored `json:"unmet"`
	Authenticator ignored `json:"authenticator"`
	Detail        ignored `json:"detail"`
	Shadow        ignored `json:"shadow"`
}

// ignored is a member that counts for nothing.
type ignored struct{}

// UnmarshalJSON implements [json.Unmarshaler].
func (ignored) UnmarshalJSON([]byte) error { return nil }

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
	keyID  string            // names key
	names  map[string]string // names that count before a route is known, by their pseudonym
	blind  map[*policy.Route]bool
}

func newJudge(loaded *config.Loaded) *judge {
	j := &judge{loaded: loaded, names: map[string]string{}, blind: map[*policy.Route]bool{}}
	for i := range loaded.Gate.Routes {
		r := loaded.Gate.Routes[i].Policy
		if slices.ContainsFunc(r.Allow, func(q policy.Requirement) bool { return readsUnrecorded(q.When, false) }) {
			j.blind[r] = true
		}
	}
	if l := loaded.DecisionLog; l != nil && l.PseudonymKey.Reveal() != "" {
		j.key = []byte(l.PseudonymKey.Reveal())
		j.keyID = record.KeyID(j.key)
		var names []string
		for _, g := range loaded.Config.GetGrants() {
			when := g.GetWhen()
			names = append(names, when.GetSubject(), when.GetUsername(), when.GetOwner())
			names = append(append(names, when.GetSubjects()...), when.GetUsernames()...)
		}
		if t := loaded.Gate.Tenancy; t != nil {
			names = append(names, t.Wildcard)
		}
		for _, name := range names {
			if name != "" {
				j.names[record.Pseudonym(j.key, name)] = name
			}
		}
	}
	return j
}

// readsUnrecorded tells whether an expression reads what no record holds or, hidden, what
// is a pseudonym in some.
func readsUnrecorded(e *policy.Expression, hidden bool) bool {
	if e == nil || e.Condition == nil {
		return false
	}
	parts := []string{"request.headers", "request.query"}
	if hidden {
		parts = []string{"principal.subject", "principal.username", "request.source"}
	}
	source := e.Condition.String()
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(source, part) })
}

// read reads a line. What is wrong with it is noted, and then there is no decision.
func read(text []byte, at Place, cut bool, t *tally) *decision {
	var d decision
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&d)
	if err == nil && isKnown(&d) {
		return &d
	}
	var loose struct {
		Outcome *string         `json:"outcome"`
		Request json.RawMessage `json:"request"`
	}
	syntax := json.Unmarshal(text, &loose)
	switch {
	case !bytes.HasPrefix(bytes.TrimLeft(text, " \t"), []byte("{")):
		t.note(NoRecord, at, "")
	case syntax != nil && !json.Valid(text) && cut:
		t.note(Cut, at, "")
	case syntax != nil && !json.Valid(text):
		t.note(Broken, at, syntax.Error())
	case loose.Outcome == nil || *loose.Outcome == "" || loose.Request == nil:
		t.note(NoRecord, at, "")
	case err != nil:
		t.note(Foreign, at, strings.TrimPrefix(err.Error(), "json: "))
	default:
		t.note(Foreign, at, fmt.Sprintf("outcome %q with reason %q", d.Outcome, d.Reason))
	}
	return nil
}

// isKnown tells whether a record says what this version says.
func isKnown(d *decision) bool {
	reason, known := policy.ParseReason(d.Reason)
	return known && (reason.Outcome().String() == d.Outcome || d.Outcome == policy.Forbidden.String())
}

// line decides one line of a log again and counts what came of it. cut says that the log
// ends in it.
func (j *judge) line(text []byte, at Place, cut bool, t *tally) {
	d := read(text, at, cut, t)
	if d == nil {
		return
	}
	t.records++
	request, cause := j.request(d)
	if cause != "" {
		t.note(Open, at, cause)
		return
	}
	match := j.match(&request)
	who := j.principal(d, at, t)
	if d.Pseudonymous && who != nil && j.knows(d) {
		j.reveal(who, match, &request)
	}
	consulted := who
	if who != nil && !j.consults(match.Route, who.Authenticator) {
		consulted = nil
	}
	now := match.Decide(consulted, &request)
	if cause := j.doubt(d, match, &request, consulted); cause != "" {
		t.note(Open, at, cause)
		return
	}
	if request.TCP && now.Outcome != policy.Allowed {
		now.Outcome, now.Reason = policy.Forbidden, policy.ReasonNotHTTP // as the gate has it
	}
	if now.Outcome.String() == d.Outcome {
		return
	}
	if isOpen(d, &now) {
		t.note(Open, at, "no credential was looked at then")
		return
	}
	flip := Flip{Before: d.Outcome, After: now.Outcome.String(), OldRoute: d.Route, At: now.At, Reason: now.Reason.String()}
	if now.Route != nil {
		flip.NewRoute = now.Route.Name
	}
	asked := request.Method + " " + request.Host + request.Path
	if request.TCP {
		asked = "a connection"
	}
	t.add(flip, Example{At: at, ID: d.ID, Request: asked, Caller: who})
}

// request is the recorded request in the reading of the new configuration. What is not
// recorded cannot be decided again, and then there is a cause.
func (j *judge) request(d *decision) (r policy.Request, cause string) {
	q := &d.Request
	switch d.Reason {
	case policy.ReasonPreflight.String():
		return r, "the method that a preflight asked for is not recorded"
	case policy.ReasonShadowed.String():
		return r, "--shadow-all let it pass"
	case policy.ReasonProxyUntrusted.String():
		return r, "the proxy that asked was not trusted, whatever the table says"
	}
	if d.Outcome == policy.Malformed.String() {
		return r, "the request was malformed, and is not recorded as it came"
	}
	if !q.TCP {
		parsed, reason, ok := policy.ParseRequest(q.Method, q.Host, q.Path, j.loaded.Gate.Paths)
		if !ok {
			return r, reason.String() + " in the new configuration"
		}
		r = parsed
	}
	r.TCP, r.Scheme, r.SourcePrincipal = q.TCP, q.Scheme, q.SourcePrincipal
	if addr, err := netip.ParseAddr(q.Source); err == nil { // a pseudonym is none
		r.Source = addr
	}
	for name, value := range q.Context {
		r.Context = append(r.Context, policy.Pair{Name: name, Value: value})
	}
	return r, ""
}

// match finds what decides a request: a route, or tcp.
func (j *judge) match(r *policy.Request) policy.Match {
	if !r.TCP {
		return j.loaded.Gate.Table.Match(r)
	}
	named := policy.Request{Context: []policy.Pair{{Name: policy.RouteName, Value: extauthz.TCPRoute}}}
	return j.loaded.Gate.TCP.Match(&named)
}

// knows tells whether the pseudonyms of a record can be compared.
func (j *judge) knows(d *decision) bool {
	return j.key != nil && (d.PseudonymKeyID == "" || d.PseudonymKeyID == j.keyID)
}

// principal is the recorded principal with what the new configuration's grants add.
func (j *judge) principal(d *decision, at Place, t *tally) *policy.Principal {
	c := d.Principal
	if c == nil {
		return nil
	}
	p := policy.Principal{
		Authenticator: c.Authenticator, Realm: c.Realm, Issuer: c.Issuer, Subject: c.Subject, Username: c.Username, TokenID: c.TokenID,
		Tenant: c.Tenant, Roles: c.Roles, Scopes: c.Scopes, Unscoped: c.Unscoped,
	}
	switch {
	case !d.Pseudonymous:
	case j.key == nil:
		t.note(Hidden, at, "")
	case !j.knows(d):
		t.note(OtherKey, at, fmt.Sprintf("key %s, and that of the configuration is %s", d.PseudonymKeyID, j.keyID))
	default:
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

// doubt says why expressions of the route could make another decision of what is not
// recorded; "" if they could not.
func (j *judge) doubt(d *decision, m policy.Match, r *policy.Request, p *policy.Principal) string {
	if p == nil || m.Route == nil {
		return ""
	}
	hidden := d.Pseudonymous && slices.ContainsFunc(m.Route.Allow, func(q policy.Requirement) bool { return readsUnrecorded(q.When, true) })
	if !hidden && !j.blind[m.Route] {
		return ""
	}
	doubtful := false
	for _, q := range m.Requirements(r, p) {
		when := m.Route.Allow[q.Index].When
		blind := readsUnrecorded(when, false) || d.Pseudonymous && readsUnrecorded(when, true)
		switch {
		case q.Holds && !blind:
			return "" // it passes whatever the others say
		case blind && !slices.ContainsFunc(q.Conditions, func(c policy.ConditionStory) bool { return c.Condition != "when" && c.Truth != policy.True }):
			doubtful = true
		}
	}
	if !doubtful {
		return ""
	}
	return "an expression of its route reads what is not recorded"
}

// isOpen tells whether a record does not hold what the new decision depends on. A credential
// that was refused, or could not be checked, would be again. Where no credential was
// looked at, because no route covered the request or it forbids, it may be a good one.
func isOpen(d *decision, now *policy.Decision) bool {
	if d.Principal != nil || now.Reason != policy.ReasonNoCredential && now.Reason != policy.ReasonNotHTTP {
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
