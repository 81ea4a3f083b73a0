package extauthz

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Paths of the Authorization API 1.0 (AuthZEN).
const (
	EvaluationPath    = "/access/v1/evaluation"
	EvaluationsPath   = "/access/v1/evaluations"
	AuthZENConfigPath = "/.well-known/authzen-configuration"
)

const (
	// maxEvaluationBytes bounds a question, of which maxEvaluations may be in one.
	maxEvaluationBytes = 1 << 20
	maxEvaluations     = 1000
)

// AuthZEN answers applications that ask the table themselves (Authorization API 1.0):
// may this subject do this to this resource? The subject is not verified: whoever asks
// has done that, and so is asked for a credential himself. A route has to allow him
// to POST to [EvaluationPath], as it would for any upstream; a public one does not.
//
// The action's name is an HTTP method, the resource's id a path or a URL. The subject's
// type, or its property `authenticator`, names an authenticator; `realm` follows from
// it, and username, tenant, roles, scopes, issuer and attributes are further
// properties. Texts in the context are context extensions; `source` there is the
// client's address.
type AuthZEN struct {
	gate *Gate
}

// NewAuthZEN makes the door of gate for applications.
func NewAuthZEN(gate *Gate) *AuthZEN { return &AuthZEN{gate: gate} }

// An evaluation is one question; what it leaves out, the request as a whole says.
type evaluation struct {
	Subject *struct {
		Type       string            `json:"type"`
		ID         string            `json:"id"`
		Properties subjectProperties `json:"properties"`
	} `json:"subject"`
	Action *struct {
		Name string `json:"name"`
	} `json:"action"`
	Resource *struct {
		Type       string `json:"type"`
		ID         string `json:"id"`
		Properties struct {
			Hostname string `json:"hostname"`
		} `json:"properties"`
	} `json:"resource"`
	Context map[string]any `json:"context"`
}

type subjectProperties struct {
	Authenticator string         `json:"authenticator"`
	Issuer        string         `json:"issuer"`
	Username      string         `json:"username"`
	Tenant        string         `json:"tenant"`
	Roles         []string       `json:"roles"`
	Scopes        []string       `json:"scopes"`
	Attributes    map[string]any `json:"attributes"`
}

// evaluationRequest is the body: one question, or several with common parts.
type evaluationRequest struct {
	evaluation
	Evaluations []evaluation `json:"evaluations"`
	Options     struct {
		Semantic string `json:"evaluations_semantic"`
	} `json:"options"`
}

// An evaluated is the answer to one question.
type evaluated struct {
	Decision bool              `json:"decision"`
	Context  map[string]string `json:"context,omitempty"`
}

// ServeHTTP answers [EvaluationPath] and [EvaluationsPath].
func (z *AuthZEN) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id := r.Header.Get("X-Request-Id"); isVisible(id) && len(id) <= 128 {
		w.Header().Set("X-Request-Id", id)
	}
	answer, snapshot := z.admit(r)
	if snapshot == nil {
		reply(w, answer, plainDialect)
		return
	}
	var request evaluationRequest
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvaluationBytes))
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	if err != nil {
		writeProblem(w, http.StatusBadRequest, "the body is not an evaluation request in JSON")
		return
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if path == EvaluationPath || len(request.Evaluations) == 0 {
		one, err := snapshot.evaluate(&request.evaluation)
		if err != nil {
			writeProblem(w, http.StatusBadRequest, err.Error())
			return
		}
		writeJSON(w, one)
		return
	}
	all, err := snapshot.evaluateAll(&request)
	if err != nil {
		writeProblem(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, map[string]any{"evaluations": all})
}

// admit has the gate decide whether r may ask at all. The snapshot is nil if not.
func (z *AuthZEN) admit(r *http.Request) (*Answer, *Snapshot) {
	x := &exchange{call: Call{
		Door: Evaluations, HTTP: true, Method: r.Method, Host: r.Host, Target: r.RequestURI, Scheme: "http",
		Headers: headersOf(r), Source: peerAddr(r.RemoteAddr), BodyPartial: true,
	}}
	if r.TLS != nil {
		x.call.Scheme = "https"
	}
	x.call.TooLarge = len(x.call.Headers) > maxHeaders
	z.gate.run(r.Context(), x, nil)
	s, d := z.gate.Snapshot(), &x.answer.Decision
	switch {
	case !x.answer.Allowed():
		return &x.answer, nil
	case d.Reason != policy.ReasonMet || d.Principal == nil || s == nil:
		// Public routes let nobody ask about others.
		refusal := &exchange{request: x.request, answer: Answer{ID: x.answer.ID, Decision: verdict(policy.ReasonNoRoute)}}
		z.gate.empty.writeRefusal(refusal, nil)
		return &refusal.answer, nil
	}
	return &x.answer, s
}

// evaluateAll answers the questions in order, up to the one that settles it where the
// request says so.
func (s *Snapshot) evaluateAll(request *evaluationRequest) ([]*evaluated, error) {
	if len(request.Evaluations) > maxEvaluations {
		return nil, fmt.Errorf("more than %d evaluations", maxEvaluations)
	}
	var stop func(bool) bool
	switch request.Options.Semantic {
	case "", "execute_all":
		stop = func(bool) bool { return false }
	case "deny_on_first_deny":
		stop = func(allowed bool) bool { return !allowed }
	case "permit_on_first_permit":
		stop = func(allowed bool) bool { return allowed }
	default:
		return nil, errors.New("evaluations_semantic is unknown: use execute_all, deny_on_first_deny or permit_on_first_permit")
	}
	var all []*evaluated
	for i := range request.Evaluations {
		one := &request.Evaluations[i]
		one.complete(&request.evaluation)
		answer, err := s.evaluate(one)
		if err != nil {
			// One bad question does not spoil the others.
			answer = &evaluated{Context: map[string]string{"error": err.Error()}}
		}
		all = append(all, answer)
		if stop(answer.Decision) {
			break
		}
	}
	return all, nil
}

// complete takes what e leaves out from common.
func (e *evaluation) complete(common *evaluation) {
	if e.Subject == nil {
		e.Subject = common.Subject
	}
	if e.Action == nil {
		e.Action = common.Action
	}
	if e.Resource == nil {
		e.Resource = common.Resource
	}
	if e.Context == nil {
		e.Context = common.Context
	}
}

// evaluate answers one question. An error is a question that cannot be understood.
func (s *Snapshot) evaluate(e *evaluation) (*evaluated, error) {
	if e.Subject == nil || e.Action == nil || e.Resource == nil || e.Subject.ID == "" || e.Action.Name == "" || e.Resource.ID == "" {
		return nil, errors.New("an evaluation needs subject (type, id), action (name) and resource (type, id)")
	}
	who, err := s.subject(e)
	if err != nil {
		return nil, err
	}
	host, target := e.Resource.Properties.Hostname, e.Resource.ID
	if u, ok := splitURL(target); ok {
		host, target = u.host, u.target
	}
	r, reason, ok := policy.ParseRequest(e.Action.Name, host, target, s.config.Paths)
	if !ok {
		return said(verdict(reason)), nil
	}
	for _, name := range slices.Sorted(maps.Keys(e.Context)) {
		value, ok := e.Context[name].(string)
		if !ok {
			continue
		}
		r.Context = append(r.Context, policy.Pair{Name: name, Value: value})
		if name == "source" {
			if addr, err := netip.ParseAddr(value); err == nil {
				r.Source = addr.Unmap().WithZone("")
			}
		}
	}
	m := s.config.Table.Match(&r)
	if m.Route != nil && !m.Route.Public && m.Route.Accept != nil && !slices.Contains(m.Route.Accept, who.Authenticator) {
		return said(refused(m, policy.ReasonNoCredential)), nil // its credential would not be looked at
	}
	return said(m.Decide(who, &r)), nil
}

func said(d policy.Decision) *evaluated {
	e := &evaluated{
		Decision: d.Outcome == policy.Allowed && d.Reason.Outcome() == policy.Allowed,
		Context:  map[string]string{"outcome": d.Outcome.String(), "reason": d.Reason.String()},
	}
	if d.Route != nil {
		e.Context["route"] = d.Route.Name
	}
	return e
}

// subject makes the principal that the question is about.
func (s *Snapshot) subject(e *evaluation) (*policy.Principal, error) {
	properties := &e.Subject.Properties
	name := properties.Authenticator
	if name == "" {
		name = e.Subject.Type
	}
	if s.config.Set == nil || s.config.Set.Entry(name) == nil {
		return nil, errors.New("the subject's type, or its property authenticator, must name an authenticator of the configuration")
	}
	p := &policy.Principal{
		Authenticator: name, Realm: s.config.Set.Entry(name).Realm,
		Subject: e.Subject.ID, Username: properties.Username, Issuer: properties.Issuer,
		Tenant: properties.Tenant, Roles: properties.Roles, Scopes: properties.Scopes,
	}
	for key, value := range properties.Attributes {
		attribute, ok := attributeOf(value)
		if !ok {
			return nil, fmt.Errorf("attribute %q is neither a text, a number, a boolean nor a list of these", key)
		}
		if p.Attributes == nil {
			p.Attributes = make(map[string]policy.Attribute)
		}
		p.Attributes[key] = attribute
	}
	return s.complete(p), nil
}

func attributeOf(value any) (policy.Attribute, bool) {
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	a := policy.Attribute{List: isList}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			a.Values = append(a.Values, v)
		case float64, bool:
			text, err := json.Marshal(v)
			if err != nil {
				return a, false
			}
			a.Values = append(a.Values, string(text))
		default:
			return a, false
		}
	}
	return a, true
}

// serveConfig answers [AuthZENConfigPath].
func (z *AuthZEN) serveConfig(w http.ResponseWriter, r *http.Request) {
	base := baseURL(r)
	writeJSON(w, map[string]string{
		"policy_decision_point":       base,
		"access_evaluation_endpoint":  base + EvaluationPath,
		"access_evaluations_endpoint": base + EvaluationsPath,
	})
}

// baseURL is how the client reached us.
func baseURL(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// writeProblem answers a question that cannot be understood. detail is about the
// question only.
func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", typeProblem)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": statusTitle(status), "status": status, "detail": detail})
}
