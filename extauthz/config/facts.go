package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// facts is what is known about principals before there is any: who can vouch for
// them, and which roles and attributes they can have.
type facts struct {
	names, realms []string
	complete      bool // no authenticator was lost to an error

	attributes    map[string]bool
	anyAttributes bool                       // some come from outside the file
	roles         map[string]map[string]bool // by authenticator; nil: any role
	granted       map[string]bool            // roles that grants add
}

func (b *builder) collectFacts() {
	f := &facts{complete: !b.anyTainted(), attributes: map[string]bool{}, roles: map[string]map[string]bool{}, granted: map[string]bool{}}
	b.facts = f
	for _, a := range b.config.GetAuthenticators() {
		f.names = append(f.names, a.GetName())
		if realm := realmOf(a); !slices.Contains(f.realms, realm) {
			f.realms = append(f.realms, realm)
		}
		f.roles[a.GetName()] = map[string]bool{}
		for _, p := range plainPrincipals(a) {
			f.addPlain(a.GetName(), p)
		}
		if mapping, ok := mappingOf(a); ok {
			f.addMapping(a.GetName(), mapping)
		}
		if a.GetToken() != nil || a.GetApiKey().GetStore() {
			f.roles[a.GetName()], f.anyAttributes = nil, true
		}
		if b.config.GetStore() != nil && isPeople(a) {
			f.roles[a.GetName()] = nil // the directory may give any
		}
	}
	for _, a := range b.config.GetAuthenticators() { // those that hand over to others
		verifier := a.GetClientCredentials().GetVerifyWith() + a.GetRefreshToken().GetVerifyWith() + a.GetJwt().GetApiKeyClaim().GetAuthenticator()
		if verifier == "" || f.roles[a.GetName()] == nil {
			continue
		}
		if other, known := f.roles[verifier]; known && other != nil {
			maps.Copy(f.roles[a.GetName()], other)
		} else {
			f.roles[a.GetName()] = nil
		}
	}
	for _, g := range b.config.GetGrants() {
		for _, role := range g.GetAdd().GetRoles() {
			f.granted[role] = true
		}
		for name := range g.GetAdd().GetAttributes() {
			f.attributes[name] = true
		}
	}
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

func (f *facts) addPlain(name string, p *configv1.PlainPrincipal) {
	for _, role := range p.GetRoles() {
		f.roles[name][role] = true
	}
	for attribute := range p.GetAttributes() {
		f.attributes[attribute] = true
	}
}

func (f *facts) addMapping(name string, m *configv1.PrincipalMapping) {
	for attribute := range m.GetAttributes() {
		f.attributes[attribute] = true
	}
	roles := m.GetRoles()
	switch {
	case roles == nil:
	case roles.GetValue() != "":
		f.roles[name][roles.GetValue()] = true
	case len(roles.GetMap()) > 0 && roles.GetUnmapped() != "keep":
		for _, replacement := range roles.GetMap() {
			f.roles[name][replacement.GetTo()] = true
		}
		for _, role := range roles.GetDefault() {
			f.roles[name][role] = true
		}
	default:
		f.roles[name] = nil
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
		b.errorf(at, "remove the name, or disable this block as well", "authenticator %s is disabled (line %d)", quote(name), where.Line)
	} else if b.facts == nil || b.facts.complete {
		names := make([]string, 0, len(b.config.GetAuthenticators()))
		for _, a := range b.config.GetAuthenticators() {
			names = append(names, a.GetName())
		}
		b.errorf(at, meant(name, names), "unknown authenticator %s", quote(name))
	}
	return false
}

func (b *builder) knownRealm(at policy.Position, realm string) {
	if b.facts.complete && !slices.Contains(b.facts.realms, realm) {
		b.errorf(at, meant(realm, b.facts.realms), "no authenticator has realm %s", quote(realm))
	}
}

// settable reports an attribute that no principal can ever have.
func (b *builder) settable(at policy.Position, name string) {
	if b.isSettable(name) {
		return
	}
	b.errorf(at, b.attributeRemedy(name), "no authenticator or grant can set attribute %s", quote(name))
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

// producible warns of a role that nobody who gets here can have, where that is known.
func (b *builder) producible(m *configv1.Requirement, set *configv1.RoleSets, in setting) {
	if !b.facts.complete {
		return
	}
	possible := maps.Clone(b.facts.granted)
	for _, name := range b.consulted(m, in) {
		roles := b.facts.roles[name]
		if roles == nil {
			return
		}
		maps.Copy(possible, roles)
	}
	for _, part := range []struct {
		field string
		roles []string
	}{{"any", set.GetAny()}, {"all", set.GetAll()}} {
		for i, role := range part.roles {
			if possible[role] {
				continue
			}
			remedy := fmt.Sprintf("the roles here are %s", list(slices.Sorted(maps.Keys(possible))))
			if near := closest(role, slices.Sorted(maps.Keys(possible))); near != "" {
				remedy = "did you mean " + quote(near) + "?"
			} else if len(possible) == 0 {
				remedy = "map roles under principal of an authenticator, or add a grant"
			}
			b.warnf(b.pos.item(set, part.field, i), remedy, "%s asks for role %s, which no mapping or grant can give", in.what, quote(role))
		}
	}
}
