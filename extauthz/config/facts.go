package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// facts is what is known about principals before there is any: who can vouch for
// them, and what they can have.
type facts struct {
	names, realms []string
	complete      bool // no authenticator was lost to an error

	attributes    map[string]bool
	anyAttributes bool // some come from outside the file

	fields  map[string]fields // by authenticator
	granted fields            // what grants add

	possible    map[string]*possible // see builder.possible
	unreachable int                  // warnings of values that nobody can have
}

// fields are the values that principals can have in each field. A field that is nil can
// have any.
type fields map[fact]map[string]bool

// A fact is a field of principals whose values may all be in the file.
type fact string

const (
	factRole     fact = "role"
	factScope    fact = "scope"
	factSubject  fact = "subject"
	factUsername fact = "username"
	factTenant   fact = "tenant"
	factReadable fact = "readable tenant" // what follows from tenants
)

// noun is what sentences call it.
func (f fact) noun() string {
	if f == factReadable {
		return string(factTenant)
	}
	return string(f)
}

func newFields() fields {
	return fields{factRole: {}, factScope: {}, factSubject: {}, factUsername: {}, factTenant: {}}
}

// add adds values to a field, unless it can have any.
func (f fields) add(what fact, values ...string) {
	if f[what] == nil {
		return
	}
	for _, v := range values {
		if v != "" {
			f[what][v] = true
		}
	}
}

// open lets fields have any value.
func (f fields) open(facts ...fact) {
	for _, what := range facts {
		f[what] = nil
	}
}

func (b *builder) collectFacts() {
	f := &facts{complete: !b.anyTainted(), attributes: map[string]bool{}, fields: map[string]fields{}, granted: newFields(), possible: map[string]*possible{}}
	b.facts = f
	for _, a := range b.config.GetAuthenticators() {
		f.names = append(f.names, a.GetName())
		if realm := realmOf(a); !slices.Contains(f.realms, realm) {
			f.realms = append(f.realms, realm)
		}
		f.fields[a.GetName()] = b.fieldsOf(a)
	}
	for _, a := range b.config.GetAuthenticators() { // those that hand over to others
		if verifier := a.GetClientCredentials().GetVerifyWith() + a.GetRefreshToken().GetVerifyWith() + a.GetJwt().GetApiKeyClaim().GetAuthenticator(); verifier != "" {
			f.fields[a.GetName()].merge(f.fields[verifier])
		}
	}
	for _, g := range b.config.GetGrants() {
		f.granted.add(factRole, g.GetAdd().GetRoles()...)
		f.granted.add(factScope, g.GetAdd().GetScopes()...)
		for name := range g.GetAdd().GetAttributes() {
			f.attributes[name] = true
		}
	}
}

// merge adds what other can have; a nil other can have anything.
func (f fields) merge(other fields) {
	for what, values := range f {
		switch {
		case values == nil:
		case other[what] == nil:
			f[what] = nil
		default:
			maps.Copy(values, other[what])
		}
	}
}

// fieldsOf is what the principals of one authenticator can have. It notes their
// attributes as well.
func (b *builder) fieldsOf(a *configv1.Authenticator) fields {
	f := newFields()
	for _, p := range plainPrincipals(a) {
		f.add(factRole, p.GetRoles()...)
		f.add(factScope, p.GetScopes()...)
		f.add(factSubject, p.GetSubject())
		f.add(factUsername, p.GetUsername())
		f.add(factTenant, p.GetTenant())
		for attribute := range p.GetAttributes() {
			b.facts.attributes[attribute] = true
		}
	}
	for _, key := range a.GetApiKey().GetKeys() {
		f.add(factSubject, key.GetId()) // unless it says another
	}
	for _, user := range a.GetBasic().GetUsers() {
		f.add(factSubject, user.GetUsername())
		f.add(factUsername, user.GetUsername())
	}
	if a.GetPeer() != nil || a.GetMtls() != nil {
		f.open(factSubject) // the peer's name, the certificate's
	}
	if a.GetMtls() != nil { // its texts may hold parts of the certificate's name
		for what, values := range f {
			for text := range values {
				if strings.Contains(text, "{") {
					f.open(what)
				}
			}
		}
	}
	if mapping, ok := mappingOf(a); ok {
		b.addMapping(f, mapping)
	}
	if a.GetToken() != nil || a.GetApiKey().GetStore() {
		f.open(factRole, factScope, factSubject, factUsername, factTenant)
		b.facts.anyAttributes = true
	}
	if b.config.GetStore() != nil && isPeople(a) {
		f.open(factRole) // the directory may give any
	}
	if a.GetUnscoped() {
		f.open(factScope)
	}
	if a.GetImpersonate() {
		f.open(factUsername)
	}
	return f
}

// anyTainted says whether an authenticator may be missing or half read.
func (b *builder) anyTainted() bool {
	n := lookup(b.pos.nodes[b.config], "authenticators")
	if n == nil {
		return b.walker.broken[b.pos.nodes[b.config]]
	}
	for _, item := range n.Content {
		if b.walker.tainted[item] {
			return true
		}
	}
	return b.walker.broken[b.pos.nodes[b.config]]
}

func (b *builder) addMapping(f fields, m *configv1.PrincipalMapping) {
	for attribute := range m.GetAttributes() {
		b.facts.attributes[attribute] = true
	}
	if m.GetSubject() == nil {
		f.open(factSubject) // the claim sub
	}
	for what, mapping := range map[fact]*configv1.Mapping{
		factSubject: m.GetSubject(), factUsername: m.GetUsername(), factTenant: m.GetTenant(),
		factRole: m.GetRoles(), factScope: m.GetScopes(),
	} {
		switch {
		case mapping == nil:
		case mapping.GetValue() != "" && len(mapping.GetMap()) == 0 && mapping.GetList() == "":
			f.add(what, mapping.GetValue())
			if what == factScope {
				f.add(what, strings.Fields(mapping.GetValue())...)
			}
		case len(mapping.GetMap()) > 0 && mapping.GetUnmapped() != "keep":
			for _, replacement := range mapping.GetMap() {
				f.add(what, replacement.GetTo())
			}
			f.add(what, mapping.GetDefault()...)
		default:
			f.open(what)
		}
	}
}

// plainPrincipals are the principals that an authenticator's block writes out.
func plainPrincipals(a *configv1.Authenticator) []*configv1.PlainPrincipal {
	var all []*configv1.PlainPrincipal
	for _, key := range a.GetApiKey().GetKeys() {
		all = append(all, key.GetPrincipal())
	}
	for _, user := range a.GetBasic().GetUsers() {
		all = append(all, user.GetPrincipal())
	}
	for _, pattern := range a.GetMtls().GetPrincipals() {
		all = append(all, pattern.GetPrincipal())
	}
	return append(all, a.GetPeer().GetPrincipal())
}

// mappingOf is the mapping of an authenticator whose principals come from claims.
func mappingOf(a *configv1.Authenticator) (*configv1.PrincipalMapping, bool) {
	switch kind := a.GetKind().(type) {
	case *configv1.Authenticator_Jwt:
		return kind.Jwt.GetPrincipal(), true
	case *configv1.Authenticator_Introspection:
		return kind.Introspection.GetPrincipal(), true
	case *configv1.Authenticator_Lookup:
		return kind.Lookup.GetPrincipal(), true
	}
	return nil, false
}

func realmOf(a *configv1.Authenticator) string {
	if a.GetRealm() != "" {
		return a.GetRealm()
	}
	return a.GetName()
}

func (b *builder) authenticator(name string) *configv1.Authenticator {
	for _, a := range b.config.GetAuthenticators() {
		if a.GetName() == name {
			return a
		}
	}
	return nil
}

// knownAuthenticator reports a name that no authenticator has.
func (b *builder) knownAuthenticator(at policy.Position, name string) bool {
	if b.authenticator(name) != nil {
		return true
	}
	if where, off := b.walker.disabled["authenticators"][name]; off {
		b.failf(ruleName, at, "remove the name, or disable this block as well", "authenticator %s is disabled (line %d)", quote(name), where.Line)
	} else if b.facts == nil || b.facts.complete {
		names := make([]string, 0, len(b.config.GetAuthenticators()))
		for _, a := range b.config.GetAuthenticators() {
			names = append(names, a.GetName())
		}
		b.failf(ruleName, at, meant(name, names), "unknown authenticator %s", quote(name))
	}
	return false
}

func (b *builder) knownRealm(at policy.Position, realm string) {
	if b.facts.complete && !slices.Contains(b.facts.realms, realm) {
		b.failf(ruleName, at, meant(realm, b.facts.realms), "no authenticator has realm %s", quote(realm))
	}
}

// settable reports an attribute that no principal can ever have.
func (b *builder) settable(at policy.Position, name string) {
	if b.isSettable(name) {
		return
	}
	b.failf(ruleName, at, b.attributeRemedy(name), "no authenticator or grant can set attribute %s", quote(name))
}

func (b *builder) isSettable(name string) bool {
	return b.facts.attributes[name] || b.facts.anyAttributes || !b.facts.complete
}

func (b *builder) attributeRemedy(name string) string {
	names := slices.Sorted(maps.Keys(b.facts.attributes))
	if near := closest(name, names); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	return "map it under principal.attributes of an authenticator"
}
