package compare

import (
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy/diff"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// makers are the kinds of principals that an authenticator makes; nil: any.
func makers(c *configv1.Config, a *configv1.Authenticator) []diff.Maker {
	switch kind := a.GetKind().(type) {
	case *configv1.Authenticator_ApiKey:
		if kind.ApiKey.GetStore() {
			return nil
		}
		list := []diff.Maker{}
		for _, key := range kind.ApiKey.GetKeys() {
			m := plain(key.GetPrincipal(), diff.Text{Values: []string{key.GetId()}}, diff.Text{})
			m.TokenID = diff.Text{Values: []string{key.GetId()}}
			list = append(list, m)
		}
		return list
	case *configv1.Authenticator_Basic:
		list := []diff.Maker{}
		for _, user := range kind.Basic.GetUsers() {
			name := diff.Text{Values: []string{user.GetUsername()}}
			m := plain(user.GetPrincipal(), name, name)
			m.Roles.Any = m.Roles.Any || c.GetStore() != nil // the directory may give any
			list = append(list, m)
		}
		return list
	case *configv1.Authenticator_Mtls:
		list := []diff.Maker{}
		for _, p := range kind.Mtls.GetPrincipals() {
			list = append(list, plain(p.GetPrincipal(), diff.Text{Any: true}, diff.Text{}))
		}
		return list
	case *configv1.Authenticator_Peer:
		m := plain(kind.Peer.GetPrincipal(), diff.Text{Any: true}, diff.Text{})
		m.Issuer, m.TokenID = anything, anything
		return []diff.Maker{m}
	case *configv1.Authenticator_Jwt:
		return token(c, kind.Jwt.GetPrincipal(), issuer(kind.Jwt))
	case *configv1.Authenticator_Introspection:
		return token(c, kind.Introspection.GetPrincipal(), anything)
	case *configv1.Authenticator_Lookup:
		return []diff.Maker{mapped(c, kind.Lookup.GetPrincipal())}
	}
	verifier := a.GetClientCredentials().GetVerifyWith() + a.GetRefreshToken().GetVerifyWith()
	for _, other := range c.GetAuthenticators() {
		if other.GetName() == verifier && other.GetJwt() != nil && other.GetJwt().GetApiKeyClaim() == nil {
			return token(c, other.GetJwt().GetPrincipal(), issuer(other.GetJwt()))
		}
	}
	return nil // our own tokens have whatever their owners had
}

// anything is a text that is absent, or is whatever comes.
var anything = diff.Text{Any: true, Optional: true}

// issuer is what tokens of an authenticator have as their issuer.
func issuer(j *configv1.Jwt) diff.Text {
	switch {
	case j.GetAnyIssuer():
		return anything
	case j.GetIssuer() != "":
		return diff.Text{Values: []string{j.GetIssuer()}}
	}
	return diff.Text{Any: true}
}

// token are principals made of the claims of tokens.
func token(c *configv1.Config, p *configv1.PrincipalMapping, issuer diff.Text) []diff.Maker {
	m := mapped(c, p)
	m.Issuer, m.TokenID = issuer, anything
	return []diff.Maker{m}
}

// plain is a principal that is written out; parts that hold references can be anything.
func plain(p *configv1.PlainPrincipal, subject, username diff.Text) diff.Maker {
	text := func(v string, otherwise diff.Text) diff.Text {
		switch {
		case v == "":
			return otherwise
		case strings.Contains(v, "{"):
			return diff.Text{Any: true}
		}
		return diff.Text{Values: []string{v}}
	}
	list := func(values []string) diff.List {
		for _, v := range values {
			if strings.Contains(v, "{") {
				return diff.List{Any: true}
			}
		}
		return diff.List{All: values}
	}
	m := diff.Maker{
		Subject: text(p.GetSubject(), subject), Username: text(p.GetUsername(), username), Tenant: text(p.GetTenant(), diff.Text{}),
		Roles: list(p.GetRoles()), Scopes: list(p.GetScopes()),
	}
	for name, values := range p.GetAttributes() {
		if m.Attributes == nil {
			m.Attributes = map[string]diff.List{}
		}
		m.Attributes[name] = list(values.GetValues())
	}
	return m
}

// mapped are principals made of claims.
func mapped(c *configv1.Config, p *configv1.PrincipalMapping) diff.Maker {
	subject := p.GetSubject()
	if subject == nil {
		subject = &configv1.Mapping{Claim: "sub"}
	}
	m := diff.Maker{
		Subject:  mappedText(subject, subject.Required == nil || subject.GetRequired()),
		Username: mappedText(p.GetUsername(), p.GetUsername().GetRequired()), Tenant: mappedText(p.GetTenant(), p.GetTenant().GetRequired()),
		Roles: mappedList(p.GetRoles()), Scopes: mappedList(p.GetScopes()),
		Attributes: map[string]diff.List{},
	}
	if c.GetStore() != nil {
		m.Roles = diff.List{Any: true} // the directory may give any
	}
	for name, mapping := range p.GetAttributes() {
		m.Attributes[name] = mappedList(mapping)
	}
	return m
}

func mappedText(m *configv1.Mapping, required bool) diff.Text {
	if m == nil {
		return diff.Text{}
	}
	t := diff.Text{Optional: !required && len(m.GetDefault()) == 0 && m.GetValue() == ""}
	switch {
	case m.GetValue() != "":
		t.Values = []string{m.GetValue()}
	case len(m.GetMap()) > 0 && m.GetUnmapped() != "keep":
		for _, r := range m.GetMap() {
			t.Values = append(t.Values, r.GetTo())
		}
	default:
		t.Any = true
	}
	if len(m.GetDefault()) > 0 {
		t.Values = append(t.Values, m.GetDefault()[0])
	}
	return t
}

func mappedList(m *configv1.Mapping) diff.List {
	switch {
	case m == nil:
		return diff.List{}
	case m.GetValue() != "":
		return diff.List{All: []string{m.GetValue()}}
	case len(m.GetMap()) > 0 && m.GetUnmapped() != "keep":
		l := diff.List{Default: m.GetDefault()}
		for _, r := range m.GetMap() {
			l.Of = append(l.Of, r.GetTo())
		}
		return l
	}
	return diff.List{Any: true, Default: m.GetDefault()}
}
