package extauthz

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// An evaluation is one question of an application (Authorization API 1.0, "Access
// Evaluation Request").
type evaluation struct {
	subjectType, subjectID string
	properties             map[string]any // of the subject
	action                 string
	target, hostname       string
	context                map[string]any
}

// An evaluated is the answer to one question.
type evaluated struct {
	Decision bool           `json:"decision"`
	Context  map[string]any `json:"context,omitempty"`
}

// answer gives the answer to a request: an [evaluated], or where the request may have
// several questions and does, one for each. An error is a request that cannot be
// understood as a whole.
func (s *Snapshot) answer(request map[string]any, several bool) (any, error) {
	if several {
		questions, err := evaluationsOf(request)
		if err != nil {
			return nil, err
		}
		if len(questions) > 0 {
			all, err := s.evaluateAll(request, questions)
			return map[string]any{"evaluations": all}, err
		}
	}
	return s.evaluate(request, nil)
}

func evaluationsOf(request map[string]any) ([]any, error) {
	questions, ok := request["evaluations"].([]any)
	switch {
	case request["evaluations"] == nil:
		return nil, nil
	case !ok:
		return nil, errors.New("evaluations is not a list")
	case len(questions) > maxEvaluations:
		return nil, fmt.Errorf("more than %d evaluations", maxEvaluations)
	}
	return questions, nil
}

// evaluateAll answers the questions in order, up to the one that settles it where the
// request says so. One bad question does not spoil the others.
func (s *Snapshot) evaluateAll(request map[string]any, questions []any) ([]*evaluated, error) {
	stop, err := semanticOf(request)
	for _, name := range []string{"subject", "action", "resource", "context"} {
		_, wrong := objectOf(request, name)
		err = cmp.Or(err, wrong)
	}
	if err != nil {
		return nil, err
	}
	var all []*evaluated
	for _, question := range questions {
		answer, err := (*evaluated)(nil), errors.New("the evaluation is not an object")
		if o, ok := question.(map[string]any); ok {
			answer, err = s.evaluate(o, request)
		}
		if err != nil {
			answer = &evaluated{Context: map[string]any{"error": map[string]any{"status": http.StatusBadRequest, "message": err.Error()}}}
		}
		all = append(all, answer)
		if stop(answer.Decision) {
			break
		}
	}
	return all, nil
}

// semanticOf tells which decision is the last that a request wants to know.
func semanticOf(request map[string]any) (stop func(allowed bool) bool, err error) {
	options, err := objectOf(request, "options")
	if err != nil {
		return nil, err
	}
	switch options["evaluations_semantic"] {
	case nil, "execute_all":
		return func(bool) bool { return false }, nil
	case "deny_on_first_deny":
		return func(allowed bool) bool { return !allowed }, nil
	case "permit_on_first_permit":
		return func(allowed bool) bool { return allowed }, nil
	}
	return nil, errors.New("evaluations_semantic is unknown: use execute_all, deny_on_first_deny or permit_on_first_permit")
}

// evaluate answers one question, which takes what it leaves out from defaults. An error
// is a question that cannot be understood.
func (s *Snapshot) evaluate(o, defaults map[string]any) (*evaluated, error) {
	e, err := readEvaluation(o, defaults)
	if err != nil {
		return nil, err
	}
	who, err := s.subject(e)
	if err != nil {
		return nil, err
	}
	host, target := e.hostname, e.target
	if u, ok := splitURL(target); ok {
		host, target = u.host, u.target
	}
	r, reason, ok := policy.ParseRequest(e.action, host, target, s.config.Paths)
	if !ok {
		return said(verdict(reason)), nil
	}
	for _, name := range slices.Sorted(maps.Keys(e.context)) {
		value, ok := e.context[name].(string)
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
		Context:  map[string]any{"outcome": d.Outcome.String(), "reason": d.Reason.String()},
	}
	if d.Route != nil {
		e.Context["route"] = d.Route.Name
	}
	return e
}

func readEvaluation(o, defaults map[string]any) (*evaluation, error) {
	subject, noSubject := entityOf(o, defaults, "subject", "type", "id")
	action, noAction := entityOf(o, defaults, "action", "name")
	resource, noResource := entityOf(o, defaults, "resource", "type", "id")
	context, noContext := objectOf(o, "context")
	if context == nil {
		context, _ = objectOf(defaults, "context")
	}
	properties, noProperties := objectOf(subject, "properties")
	_, noParameters := objectOf(action, "properties")
	place, noPlace := objectOf(resource, "properties")
	hostname, noHostname := textOf(place, "hostname")
	if err := cmp.Or(noSubject, noAction, noResource, noContext, noProperties, noParameters, noPlace, noHostname); err != nil {
		return nil, err
	}
	return &evaluation{
		subjectType: subject["type"].(string), subjectID: subject["id"].(string), properties: properties,
		action: action["name"].(string), target: targetOf(resource["type"].(string), resource["id"].(string)), hostname: hostname, context: context,
	}, nil
}

// targetOf is the path or URL that a resource stands for: its id, or for one that is
// neither, such as the record 7 of an application, the path of its type and its id.
func targetOf(kind, id string) string {
	if _, isURL := splitURL(id); isURL || strings.HasPrefix(id, "/") {
		return id
	}
	return "/" + url.PathEscape(kind) + "/" + url.PathEscape(id)
}

// entityOf gives an entity of a question: its own or, without one, that of the defaults.
// A text that it needs and lacks is taken over from there as well; nothing else of the
// two is mixed. In what it gives, all that it needs are texts.
func entityOf(o, defaults map[string]any, name string, needs ...string) (map[string]any, error) {
	own, err := objectOf(o, name)
	if err != nil {
		return nil, err
	}
	fallback, err := objectOf(defaults, name)
	if err != nil {
		return nil, err
	}
	if own == nil {
		own = fallback
	}
	entity := make(map[string]any, len(own)+len(needs))
	maps.Copy(entity, own)
	for _, need := range needs {
		if entity[need] == nil {
			entity[need] = fallback[need]
		}
		if text, ok := entity[need].(string); !ok || text == "" {
			return nil, fmt.Errorf("an evaluation needs subject (type, id), action (name) and resource (type, id); %s has no text %s", name, need)
		}
	}
	return entity, nil
}

// objectOf is a member of o, nil if it is missing or null.
func objectOf(o map[string]any, name string) (map[string]any, error) {
	object, ok := o[name].(map[string]any)
	if !ok && o[name] != nil {
		return nil, fmt.Errorf("%s is not an object", name)
	}
	return object, nil
}

func textOf(o map[string]any, name string) (string, error) {
	text, ok := o[name].(string)
	if !ok && o[name] != nil {
		return "", fmt.Errorf("%s is not a text", name)
	}
	return text, nil
}

func textsOf(o map[string]any, name string) ([]string, error) {
	list, ok := o[name].([]any)
	if !ok && o[name] != nil {
		return nil, fmt.Errorf("%s is not a list of texts", name)
	}
	var texts []string
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%s is not a list of texts", name)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// subject makes the principal that the question is about.
func (s *Snapshot) subject(e *evaluation) (*policy.Principal, error) {
	name, noName := textOf(e.properties, "authenticator")
	issuer, noIssuer := textOf(e.properties, "issuer")
	username, noUsername := textOf(e.properties, "username")
	tenant, noTenant := textOf(e.properties, "tenant")
	roles, noRoles := textsOf(e.properties, "roles")
	scopes, noScopes := textsOf(e.properties, "scopes")
	attributes, noAttributes := objectOf(e.properties, "attributes")
	if err := cmp.Or(noName, noIssuer, noUsername, noTenant, noRoles, noScopes, noAttributes); err != nil {
		return nil, err
	}
	name = cmp.Or(name, e.subjectType)
	if s.config.Set == nil || s.config.Set.Entry(name) == nil {
		return nil, errors.New("the subject's type, or its property authenticator, must name an authenticator of the configuration")
	}
	p := &policy.Principal{
		Authenticator: name, Realm: s.config.Set.Entry(name).Realm,
		Subject: e.subjectID, Username: username, Issuer: issuer, Tenant: tenant, Roles: roles, Scopes: scopes,
	}
	for key, value := range attributes {
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
		case json.Number: // as it is written, like a claim
			a.Values = append(a.Values, v.String())
		case bool:
			a.Values = append(a.Values, strconv.FormatBool(v))
		default:
			return a, false
		}
	}
	return a, true
}
