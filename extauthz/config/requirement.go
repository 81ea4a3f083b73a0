package config

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// setting is where a requirement stands: what its texts may refer to.
type setting struct {
	what     string      // "route \"x\"", "a grant", for sentences
	refs     policy.Refs // that texts may hold
	patterns []policy.Pattern
	accept   []string // authenticators consulted; nil: all

	noRequest bool // there is no request: grants
}

// requirement translates one requirement. What it reports, it leaves out.
func (b *builder) requirement(m *configv1.Requirement, in setting) policy.Requirement {
	r := policy.Requirement{At: b.pos.of(m)}
	before, conditions := len(b.errors), 0
	if m.Authenticated != nil {
		conditions++
		r.Authenticated = &policy.Flag{At: b.pos.field(m, "authenticated")}
	}
	if names := m.GetAuthenticators(); len(names) > 0 {
		conditions++
		for i, name := range names {
			b.knownAuthenticator(b.pos.item(m, "authenticators", i), name)
			if in.accept != nil && !slices.Contains(in.accept, name) && b.authenticator(name) != nil {
				b.errorf(b.pos.item(m, "authenticators", i), "add it to accept, or remove it here", "%s does not consult authenticator %s", in.what, quote(name))
			}
		}
		r.Authenticators = &policy.Names{At: b.pos.field(m, "authenticators"), Values: names}
	}
	if realms := m.GetRealms(); len(realms) > 0 {
		conditions++
		for i, realm := range realms {
			b.knownRealm(b.pos.item(m, "realms", i), realm)
		}
		r.Realms = &policy.Names{At: b.pos.field(m, "realms"), Values: realms}
	}
	r.Subjects = b.names(m, "subject", m.Subject, "subjects", m.GetSubjects(), in, &conditions)
	r.Usernames = b.names(m, "username", m.Username, "usernames", m.GetUsernames(), in, &conditions)
	r.Tenant = b.single(m, "tenant", m.Tenant, in, &conditions)
	r.ReadableTenant = b.single(m, "readable_tenant", m.ReadableTenant, in, &conditions)
	r.Owner = b.single(m, "owner", m.Owner, in, &conditions)
	if set := m.GetRoles(); set != nil {
		conditions++
		r.Roles = b.sets(set, set.GetAny(), set.GetAll(), set.GetNone())
	}
	if set := m.GetScopes(); set != nil {
		conditions++
		r.Scopes = b.sets(set, set.GetAny(), set.GetAll(), nil)
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetAttributes())) {
		conditions++
		r.Attributes = append(r.Attributes, b.attribute(m, name, m.GetAttributes()[name], in))
	}
	if m.When != nil {
		conditions++
		r.When = b.when(m, in)
	}
	if conditions == 0 && !b.isTainted(m) {
		b.errorf(b.pos.of(m), `give a condition, or "authenticated: true" for any verified caller`, "a requirement of %s has no condition", in.what)
	}
	b.producible(m, &r, in)
	if len(b.consulted(m, in)) == 0 && len(b.errors) == before && b.facts.complete && !b.isTainted(m) {
		b.failf(ruleNeverHolds, r.At, "name authenticators and realms that go together", "this requirement of %s can never hold: no authenticator that is consulted can meet it", in.what)
	}
	return r
}

// names translates a condition on subjects or usernames. They belong to an issuer:
// two issuers may both know an alice.
func (b *builder) names(m *configv1.Requirement, one string, value *string, many string, values []string, in setting, conditions *int) *policy.Templates {
	if value != nil && len(values) > 0 {
		b.errorf(b.pos.field(m, many), "keep one of the two", "fields %s and %s are both given", quote(one), quote(many))
		return nil
	}
	if value == nil && len(values) == 0 {
		return nil
	}
	*conditions++
	t := &policy.Templates{}
	if value != nil {
		t.At = b.pos.field(m, one)
		t.Values = append(t.Values, b.template(m, one, nil, *value, in))
	} else {
		t.At = b.pos.field(m, many)
		for i, value := range values {
			t.Values = append(t.Values, b.template(m, many, i, value, in))
		}
	}
	if len(m.GetAuthenticators())+len(m.GetRealms()) == 0 && !b.isTainted(m) {
		b.failf(ruleUnqualified, t.At, "add authenticators: [...] or realms: [...]", "%s does not say whose names it means, and another issuer may know the same name", in.what)
	}
	return t
}

func (b *builder) single(m *configv1.Requirement, field string, value *string, in setting, conditions *int) *policy.Templates {
	if value == nil {
		return nil
	}
	*conditions++
	return &policy.Templates{At: b.pos.field(m, field), Values: []policy.Template{b.template(m, field, nil, *value, in)}}
}

func (b *builder) sets(m proto.Message, anyOf, all, none []string) *policy.Sets {
	if len(anyOf)+len(all)+len(none) == 0 && !b.isTainted(m) {
		b.errorf(b.pos.of(m), "say any, all or (for roles) none", "the condition asks for nothing")
	}
	return &policy.Sets{At: b.pos.of(m), Any: anyOf, All: all, None: none}
}

func (b *builder) attribute(m *configv1.Requirement, name string, match *configv1.AttributeMatch, in setting) policy.AttributeMatch {
	at := b.pos.mapKey(m, "attributes", name)
	b.settable(at, name)
	if match.Present == nil && len(match.GetAny())+len(match.GetAll())+len(match.GetNone()) == 0 && !b.isTainted(match) {
		b.errorf(at, "say any, all, none or present: true", "the condition on attribute %s asks for nothing", quote(name))
	}
	templates := func(field string, values []string) []policy.Template {
		var list []policy.Template
		for i, value := range values {
			list = append(list, b.template(match, field, i, value, in))
		}
		return list
	}
	return policy.AttributeMatch{
		At: at, Name: name, Present: match.Present != nil,
		Any: templates("any", match.GetAny()), All: templates("all", match.GetAll()), None: templates("none", match.GetNone()),
	}
}

func (b *builder) when(m *configv1.Requirement, in setting) *policy.Expression {
	at := b.pos.field(m, "when")
	compiled := b.exprs.condition(m.GetWhen())
	if compiled.bad != nil {
		b.expression(m, "when", compiled.bad)
		return nil
	}
	node := b.pos.fieldNode(m, "when")
	if in.noRequest && compiled.request >= 0 {
		b.errorf(b.pos.inside(node, compiled.request), "write a condition on the principal", "%s has no request to refer to", in.what)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(compiled.attributes)) {
		b.settable(b.pos.inside(node, compiled.attributes[name]), name)
	}
	switch {
	case !compiled.isConstant:
	case compiled.constant == policy.True:
		b.warnf(ruleConstant, at, "remove it; authenticated: true means any verified caller", "the expression of %s always holds", in.what)
	case compiled.constant == policy.False:
		b.failf(ruleNeverHolds, at, "remove the requirement, or write one that can be true", "this requirement of %s can never hold: its expression is always false", in.what)
	default:
		b.failf(ruleNeverHolds, at, "write one that can be evaluated", "this requirement of %s can never hold: its expression always fails", in.what)
	}
	return &policy.Expression{At: at, Condition: compiled.condition}
}

// template parses a text with references, and checks that the patterns have the
// path parameters that it names.
func (b *builder) template(m proto.Message, field string, key any, text string, in setting) policy.Template {
	t, err := policy.ParseTemplate(text, in.refs)
	if err != nil {
		b.syntax(m, field, key, err)
		return policy.LiteralTemplate(text)
	}
	t.At = b.pos.field(m, field)
	if key != nil {
		t.At = b.pos.item(m, field, key)
	}
	for _, name := range t.Names(policy.RefPath) {
		b.hasParameter(t.At, name, in)
	}
	return t
}

func (b *builder) hasParameter(at policy.Position, name string, in setting) {
	if len(in.patterns) == 0 {
		b.errorf(at, "remove {path."+name+"}, or give the route a match", "%s has no pattern, so there is no {path.%s}", in.what, name)
		return
	}
	for i := range in.patterns {
		if p := &in.patterns[i]; !p.HasParam(name) {
			b.failf(ruleName, at, meant(name, p.Params()), "pattern %s has no {%s}", quote(p.String()), name)
			return
		}
	}
}

// consulted are the authenticators whose principals can meet m.
func (b *builder) consulted(m *configv1.Requirement, in setting) []string {
	var names []string
	for _, p := range b.parts {
		name := p.config.GetName()
		switch {
		case in.accept != nil && !slices.Contains(in.accept, name):
		case len(m.GetAuthenticators()) > 0 && !slices.Contains(m.GetAuthenticators(), name):
		case len(m.GetRealms()) > 0 && !slices.Contains(m.GetRealms(), realmOf(p.config)):
		default:
			names = append(names, name)
		}
	}
	return names
}
