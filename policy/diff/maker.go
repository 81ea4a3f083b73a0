package diff

import (
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// An Authenticator is who can vouch for a principal.
type Authenticator struct {
	Name, Realm string
	As          string // the name that conditions know; "": Name
	Unscoped    bool   // its principals meet every scopes requirement
	Impersonate bool   // its principals may name a user

	// Wildcard: a tenant that is the wildcard counts as such. What a [Maker] writes out
	// always does.
	Wildcard bool

	// Makes are the kinds of principals that it makes; nil: any.
	Makes []Maker
}

// A Maker is one kind of principals that an authenticator makes: those of one key, say, or
// those of all tokens. Its zero value makes principals without anything.
type Maker struct {
	Subject, Username, Tenant Text
	Issuer, TokenID           Text
	Roles, Scopes             List
	Attributes                map[string]List // the others are never there, unless AnyAttribute
	AnyAttribute              bool
}

// A Text says what one text of a principal can be.
type Text struct {
	Any      bool     // whatever comes
	Values   []string // else one of these; none: it is absent
	Optional bool     // or it is absent
}

// A List says what a list of a principal can hold.
type List struct {
	Any     bool     // whatever comes
	Of      []string // else some of these
	All     []string // and each of these
	Default []string // or exactly these, where nothing else is left
}

// made is that an authenticator of the side makes such a principal. Only variables that
// there are already are restricted.
func (s viewer) made() formula {
	any := formula{op: oneOf}
	for i := range s.side.Authenticators {
		a := &s.side.Authenticators[i]
		one := and(s.is(byAuthenticator, a.Name))
		if a.Makes != nil {
			makers := formula{op: oneOf}
			for j := range a.Makes {
				makers.parts = append(makers.parts, s.maker(a, &a.Makes[j]))
			}
			one.parts = append(one.parts, makers)
		}
		any.parts = append(any.parts, one)
	}
	return any
}

// exists is that some authenticator makes such a principal: one of the other side or, if that
// has none of its name, one of this.
func (s viewer) exists(other viewer) formula {
	gone := s.where(byAuthenticator, func(name string) bool {
		_, known := other.side.authenticator(name)
		return !known
	})
	return or(other.made(), and(gone, s.made()))
}

func (s viewer) maker(a *Authenticator, m *Maker) formula {
	all := formula{op: allOf}
	for _, f := range []struct {
		kind kind
		text *Text
	}{{bySubject, &m.Subject}, {byUsername, &m.Username}, {byTenant, &m.Tenant}, {byIssuer, &m.Issuer}, {byTokenID, &m.TokenID}} {
		if s.asked[f.kind] {
			all.parts = append(all.parts, s.where(f.kind, func(v string) bool { return f.text.allows(v, s.side, a, f.kind) }))
		}
	}
	all.parts = append(all.parts, s.list(byRole, "", &m.Roles), s.list(byScope, "", &m.Scopes))
	var names []string
	for i := range s.variables {
		if v := &s.variables[i]; v.kind == byAttribute && !slices.Contains(names, v.name) {
			names = append(names, v.name)
			list, known := m.Attributes[v.name]
			if !known {
				list = List{Any: m.AnyAttribute}
			}
			all.parts = append(all.parts, s.list(byAttribute, v.name, &list))
		}
	}
	return all
}

// allows tells whether the text can be v; "": absent. An untrusted wildcard is no tenant.
func (t *Text) allows(v string, side *Side, a *Authenticator, k kind) bool {
	switch {
	case v == "":
		return t.Optional || !t.Any && len(t.Values) == 0
	case slices.Contains(t.Values, v):
		return true
	}
	return t.Any && (k != byTenant || a.Wildcard || !side.isWildcard(v))
}

// list is that the variables of a kind, those of one attribute, are what a list can hold.
func (s *space) list(k kind, name string, l *List) formula {
	if l.Any && len(l.All) == 0 {
		return always // what no condition names is always there to be had
	}
	one := func(i int, there bool) formula { return formula{op: isIn, variable: i, in: []bool{!there, there}} }
	some, exactly := formula{op: allOf}, formula{op: allOf}
	of, hasOf := formula{op: oneOf}, false
	unnamedOf, unnamedAll, unnamedDefault := s.unnamed(k, name, l.Of), s.unnamed(k, name, l.All), s.unnamed(k, name, l.Default)
	for i := range s.variables {
		v := &s.variables[i]
		value := v.name
		if k == byAttribute {
			value = v.text
		}
		if v.kind != k || k == byAttribute && v.name != name {
			continue
		}
		isOther := k == byAttribute && value == other
		switch {
		case isOther && unnamedAll, slices.Contains(l.All, value) && !isOther:
			some.parts = append(some.parts, one(i, true))
		case isOther && (unnamedOf || l.Any), l.Any, slices.Contains(l.Of, value):
			of.parts, hasOf = append(of.parts, one(i, true)), true
		default:
			some.parts = append(some.parts, one(i, false))
		}
		exactly.parts = append(exactly.parts, one(i, isOther && unnamedDefault || !isOther && slices.Contains(l.Default, value)))
	}
	if len(l.Default) == 0 {
		return some
	}
	if hasOf && !(unnamedOf && k != byAttribute) && len(l.All) == 0 {
		some.parts = append(some.parts, of)
	}
	return or(some, exactly)
}

// unnamed tells whether a list has a value that no condition names.
func (s *space) unnamed(k kind, name string, values []string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		v := variable{kind: k, name: value}
		if k == byAttribute {
			v.name, v.text = name, value
		}
		return !slices.ContainsFunc(s.variables, func(have variable) bool { return have.kind == v.kind && have.name == v.name && have.text == v.text })
	})
}

// fit completes a principal whose decisive parts are chosen with what the authenticator
// gives it besides.
func (s *space) fit(p *policy.Principal, side *Side) {
	a, ok := side.authenticator(p.Authenticator)
	if !ok {
		return
	}
	for i := range a.Makes {
		if m := &a.Makes[i]; s.fits(p, side, &a, m) {
			m.complete(p, s)
			return
		}
	}
}

// fits tells whether a maker makes a principal that has what was chosen.
func (s *space) fits(p *policy.Principal, side *Side, a *Authenticator, m *Maker) bool {
	for _, f := range []struct {
		kind  kind
		text  *Text
		value string
	}{{bySubject, &m.Subject, p.Subject}, {byUsername, &m.Username, p.Username}, {byTenant, &m.Tenant, p.Tenant}, {byIssuer, &m.Issuer, p.Issuer}, {byTokenID, &m.TokenID, p.TokenID}} {
		if s.asked[f.kind] && !f.text.allows(f.value, side, a, f.kind) {
			return false
		}
	}
	chosen := make([]int, len(s.variables))
	for i := range s.variables {
		v := &s.variables[i]
		var have bool
		switch v.kind {
		case byRole:
			have = slices.Contains(p.Roles, v.name)
		case byScope:
			have = slices.Contains(p.Scopes, v.name)
		case byAttribute:
			have = slices.Contains(p.Attributes[v.name].Values, s.text(v))
		default:
			chosen[i] = -1
			continue
		}
		if have {
			chosen[i] = 1
		}
	}
	f := viewer{space: s, side: side}.maker(a, m)
	for i, part := range f.parts { // the texts have been looked at
		if part.op == isIn && s.variables[part.variable].kind <= byNamed {
			f.parts[i] = always
		}
	}
	holds, open := (&solver{variables: s.variables, chosen: chosen}).eval(&f)
	return open < 0 && holds
}

// complete adds what a principal of m has and no condition asks for.
func (m *Maker) complete(p *policy.Principal, s *space) {
	for _, f := range []struct {
		kind  kind
		text  *Text
		value *string
	}{{bySubject, &m.Subject, &p.Subject}, {byUsername, &m.Username, &p.Username}, {byTenant, &m.Tenant, &p.Tenant}, {byIssuer, &m.Issuer, &p.Issuer}, {byTokenID, &m.TokenID, &p.TokenID}} {
		switch {
		case *f.value != "" || s.asked[f.kind] || f.text.Optional:
		case len(f.text.Values) > 0:
			*f.value = f.text.Values[0]
		case f.text.Any:
			*f.value = "someone"
		}
	}
	add := func(have []string, k kind, name string, l *List) []string {
		for _, value := range l.All {
			if !slices.Contains(have, value) {
				have = append(have, value)
			}
		}
		if len(have) > 0 || len(l.Default) == 0 {
			return have
		}
		if l.Any && !s.unnamed(k, name, l.Default) {
			return []string{unlike("other", l.Default)} // so that there is something left
		}
		if !s.unnamed(k, name, l.Default) && slices.ContainsFunc(l.Of, func(value string) bool { return s.unnamed(k, name, []string{value}) }) {
			i := slices.IndexFunc(l.Of, func(value string) bool { return s.unnamed(k, name, []string{value}) })
			return []string{l.Of[i]} // all of the default are named, and were not chosen
		}
		return slices.Clone(l.Default)
	}
	p.Roles, p.Scopes = add(p.Roles, byRole, "", &m.Roles), add(p.Scopes, byScope, "", &m.Scopes)
	for name, l := range m.Attributes {
		values := add(p.Attributes[name].Values, byAttribute, name, &l)
		if len(values) == 0 {
			continue
		}
		if p.Attributes == nil {
			p.Attributes = map[string]policy.Attribute{}
		}
		p.Attributes[name] = policy.Attribute{Values: values, List: p.Attributes[name].List || len(values) > 1}
	}
}
