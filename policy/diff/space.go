package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A variable is one thing about a principal that a condition asks for: which one of its
// values it has. The first value is the least that a principal can have.
type variable struct {
	kind   kind
	name   string   // of a role, scope or attribute; the source of an expression
	text   string   // of an attribute: the value that it has or not; of an expression: who evaluates it
	values []string // of kinds with a value; of the others "" and "yes"
}

type kind uint8

const (
	byAuthenticator kind = iota
	bySubject
	byUsername
	byTenant
	byIssuer
	byTokenID
	bySelected // the tenant that the caller asks to act for
	byNamed    // the user that the caller asks to act as
	byRole
	byScope
	byAttribute
	byExpression
)

// other stands for a value that no condition names.
const other = "\x00"

// inGrant is what tells an expression of a grant, which sees no request, from the same one
// of a route.
const inGrant = "grant"

// A space is what the conditions of two routes, and of all grants, ask about, of one
// request.
type space struct {
	variables []variable
	index     map[string]int
	mentioned map[kind][]string // values that conditions name
	asked     map[kind]bool     // by some condition, or for what is forwarded
	granted   map[grantKey]formula
	old, new  *Side
	request   *policy.Request
}

// A grantKey is a grant as one side evaluates its conditions.
type grantKey struct {
	side  *Side
	grant *policy.Grant
}

// newSpace collects what the requirements mention, and what is forwarded, so that the
// values of a variable are known before conditions on it are made.
func newSpace(old, new *Side, request *policy.Request, was, is policy.Match, forwarded []pairing) *space {
	s := &space{
		index: map[string]int{}, mentioned: map[kind][]string{}, asked: map[kind]bool{}, granted: map[grantKey]formula{},
		old: old, new: new, request: request,
	}
	for _, m := range []policy.Match{was, is} {
		if m.Route == nil {
			continue
		}
		for i := range m.Route.Allow {
			s.mentionAll(&m.Route.Allow[i], request, m)
		}
	}
	for _, side := range []*Side{old, new} {
		for _, g := range side.Grants.List() {
			for i := range g.When {
				s.mentionAll(&g.When[i], &policy.Request{}, policy.Match{})
			}
		}
	}
	if old.common() != new.common() { // what is made of one and the same tenant may be forwarded
		s.asked[byTenant], s.asked[byUsername] = true, true
	}
	crossed := len(forwarded) > 0 && !sameNames(old.consults(was.Route), new.consults(is.Route))
	for i := range forwarded {
		s.mentionForwarded(&forwarded[i], crossed)
	}
	s.mentionMakers()
	s.add(variable{kind: byAuthenticator, values: s.authenticators()})
	s.add(variable{kind: bySubject, values: s.texts(bySubject, "someone")})
	usernames, tenants := s.texts(byUsername, "somebody"), s.tenants()
	for _, side := range []*Side{s.old, s.new} {
		if t := side.Tenancy; t != nil && t.Wildcard != "" && !slices.Contains(usernames, t.Wildcard) {
			usernames = append(usernames, t.Wildcard)
		}
	}
	s.add(variable{kind: byUsername, values: usernames})
	s.add(variable{kind: byTenant, values: tenants})
	s.add(variable{kind: byIssuer, values: s.texts(byIssuer, "issuer")})
	s.add(variable{kind: byTokenID, values: s.texts(byTokenID, "token")})
	s.add(variable{kind: bySelected, values: append(tenants[:len(tenants):len(tenants)], twoLines)})
	s.add(variable{kind: byNamed, values: append(usernames[:len(usernames):len(usernames)], twoLines)})
	return s
}

// twoLines is a selection that could be two header lines.
const twoLines = "one,two"

// mentionAll notes what a requirement compares with.
func (s *space) mentionAll(q *policy.Requirement, r *policy.Request, m policy.Match) {
	for _, c := range []struct {
		kind      kind
		templates *policy.Templates
	}{{bySubject, q.Subjects}, {byUsername, q.Usernames}, {byUsername, q.Owner}, {byTenant, q.Tenant}, {byTenant, q.ReadableTenant}} {
		if c.templates != nil {
			s.asked[c.kind] = true
			s.mention(c.kind, evaluated(c.templates, r, m))
		}
	}
	for i := range q.Attributes {
		a := &q.Attributes[i]
		s.attribute(a.Name, other)
		for _, list := range [][]policy.Template{a.Any, a.All, a.None} {
			values, _ := evaluate(list, r, m)
			for _, v := range values {
				s.attribute(a.Name, v)
			}
		}
	}
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// mentionForwarded notes what tells apart two values that the sides make of a principal in
// different ways; crossed is that to one of them it may be nobody.
func (s *space) mentionForwarded(p *pairing, crossed bool) {
	if !crossed && p.old.isSame(&p.new) && (len(p.old.refers) < 2 || p.old.value.Identity) {
		return
	}
	constants := append(p.old.constants(&p.new), p.new.constants(&p.old)...)
	if crossed {
		for _, text := range []string{p.old.of(s.old.Anonymous), p.new.of(s.new.Anonymous)} {
			nobody := bound{text: text}
			constants = append(constants, append(nobody.constants(&p.old), nobody.constants(&p.new)...)...)
		}
	}
	for _, reference := range append(slices.Clone(p.old.refers), p.new.refers...) {
		switch attribute, isAttribute := strings.CutPrefix(reference, "attributes."); {
		case reference == "roles":
			s.listed(byRole, "", constants, func(m *Maker) List { return m.Roles })
		case reference == "scopes":
			s.listed(byScope, "", constants, func(m *Maker) List { return m.Scopes })
		case isAttribute:
			s.listed(byAttribute, attribute, constants, func(m *Maker) List {
				l, known := m.Attributes[attribute]
				l.Any = l.Any || !known && m.AnyAttribute
				return l
			})
		default:
			k, ok := map[string]kind{"tenant": byTenant, "tenants": byTenant, "username": byUsername, "subject": bySubject, "issuer": byIssuer, "token_id": byTokenID}[reference]
			if ok {
				s.asked[k] = true
				s.mention(k, constants)
			}
		}
	}
}

// constants are texts of principals for which a template comes to the constant b, whole or
// item by item.
func (b *bound) constants(template *bound) []string {
	if len(b.refers) > 0 || b.text == "" || len(template.refers) == 0 || template.value.Identity {
		return nil
	}
	text := template.template.String()
	before, after := text[:strings.IndexByte(text, '{')], text[strings.LastIndexByte(text, '}')+1:]
	middle := strings.TrimSuffix(strings.TrimPrefix(b.text, before), after)
	return append(strings.Split(middle, ","), middle)
}

// listed makes variables of all that a list can hold, and of one value more where it can
// hold any.
func (s *space) listed(k kind, name string, constants []string, of func(*Maker) List) {
	have := func(value string) {
		switch {
		case value == "":
		case k == byAttribute:
			s.attribute(name, value)
		default:
			s.add(variable{kind: k, name: value})
		}
	}
	open := false
	for _, side := range []*Side{s.old, s.new} {
		for i := range side.Authenticators {
			a := &side.Authenticators[i]
			open = open || a.Makes == nil
			for j := range a.Makes {
				l := of(&a.Makes[j])
				open = open || l.Any
				for _, value := range slices.Concat(l.All, l.Of, l.Default) {
					have(value)
				}
			}
		}
	}
	if !open {
		return
	}
	for _, value := range constants {
		have(value)
	}
	if k == byAttribute {
		have(other)
		return
	}
	var names []string
	for i := range s.variables {
		if s.variables[i].kind == k {
			names = append(names, s.variables[i].name)
		}
	}
	have(unlike("other", names))
}

// mentionMakers notes the names and tenants of principals that are written out, where
// some condition asks for such.
func (s *space) mentionMakers() {
	for _, side := range []*Side{s.old, s.new} {
		for i := range side.Authenticators {
			for j := range side.Authenticators[i].Makes {
				m := &side.Authenticators[i].Makes[j]
				for _, f := range []struct {
					kind kind
					text *Text
				}{{bySubject, &m.Subject}, {byUsername, &m.Username}, {byTenant, &m.Tenant}, {byIssuer, &m.Issuer}, {byTokenID, &m.TokenID}} {
					if s.asked[f.kind] {
						s.mention(f.kind, f.text.Values)
					}
				}
			}
		}
	}
}

func (s *space) mention(k kind, values []string) {
	for _, v := range values {
		if v != "" && !slices.Contains(s.mentioned[k], v) {
			s.mentioned[k] = append(s.mentioned[k], v)
		}
	}
}

// unlike is a text beginning with base that is not in list.
func unlike(base string, list []string) string {
	for slices.Contains(list, base) {
		base += "x"
	}
	return base
}

func (s *space) authenticators() []string {
	var names []string
	for _, side := range []*Side{s.new, s.old} {
		for _, a := range side.Authenticators {
			if !slices.Contains(names, a.Name) {
				names = append(names, a.Name)
			}
		}
	}
	return names
}

// texts are the values of a text: none, one that nobody mentions, and what is mentioned.
func (s *space) texts(k kind, base string) []string {
	return append([]string{"", unlike(base, s.mentioned[k])}, s.mentioned[k]...)
}

// tenants are enough to have every combination of being one of those that are mentioned
// and reading them, and of being selected: each of them and of its ancestors, one below
// each, another one, and who reads all.
func (s *space) tenants() []string {
	values := s.texts(byTenant, "other")
	add := func(v string) {
		if v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	named := values[1:]
	for _, side := range []*Side{s.old, s.new} {
		t := side.Tenancy
		if t == nil {
			continue
		}
		add(t.Default)
		if t.Separator != "" {
			for _, m := range named {
				if m == t.Wildcard {
					continue
				}
				for i := range m {
					if strings.HasPrefix(m[i:], t.Separator) {
						add(m[:i])
					}
				}
				add(m + t.Separator + unlike("x", s.mentioned[byTenant]))
				for _, other := range []*Side{s.old, s.new} { // is a part of a name to one side only
					if o := other.Tenancy; o != nil && o.Wildcard != "" && o.Wildcard != t.Wildcard {
						add(m + t.Separator + o.Wildcard)
					}
				}
			}
		}
		add(t.Wildcard)
	}
	return values
}

func (s *space) add(v variable) int {
	key := fmt.Sprintf("%d %q %q", v.kind, v.name, v.text)
	if i, known := s.index[key]; known {
		return i
	}
	if v.values == nil {
		v.values = []string{"", "yes"}
	}
	s.index[key] = len(s.variables)
	s.variables = append(s.variables, v)
	return len(s.variables) - 1
}

func (s *space) attribute(name, value string) int {
	return s.add(variable{kind: byAttribute, name: name, text: value})
}

// where is that a variable with values has one that holds.
func (s *space) where(k kind, holds func(string) bool) formula {
	i := s.add(variable{kind: k})
	in := make([]bool, len(s.variables[i].values))
	for j, v := range s.variables[i].values {
		in[j] = holds(v)
	}
	return formula{op: isIn, variable: i, in: in}
}

// is is that a variable with values has this one.
func (s *space) is(k kind, value string) formula {
	return s.where(k, func(v string) bool { return v == value })
}

// has is that a variable without values is there.
func (s *space) has(v variable) formula {
	return formula{op: isIn, variable: s.add(v), in: []bool{false, true}}
}

// names tells whether a condition names the value of an attribute.
func (s *space) names(attribute, value string) bool {
	return slices.ContainsFunc(s.variables, func(v variable) bool {
		return v.kind == byAttribute && v.name == attribute && v.text == value
	})
}

// evaluated are the values of a condition for a request; what has none is left out.
func evaluated(t *policy.Templates, r *policy.Request, m policy.Match) []string {
	if t == nil {
		return nil
	}
	values, _ := evaluate(t.Values, r, m)
	return values
}

// evaluate gives the values that there are, and whether there is one of each template.
func evaluate(list []policy.Template, r *policy.Request, m policy.Match) (values []string, whole bool) {
	whole = true
	for i := range list {
		v, ok := list[i].Eval(r, m, nil)
		if ok {
			values = append(values, v)
		}
		whole = whole && ok
	}
	return values, whole
}
