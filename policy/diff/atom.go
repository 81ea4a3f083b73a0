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
	text   string   // of an attribute: the value that it has or not
	values []string // of kinds with a value; of the others "" and "yes"
}

type kind uint8

const (
	byAuthenticator kind = iota
	bySubject
	byUsername
	byTenant
	byRole
	byScope
	byAttribute
	byExpression
)

// A space is what the conditions of two routes ask about, of one request.
type space struct {
	variables []variable
	index     map[string]int
	mentioned map[kind][]string // values that conditions name
	old, new  *Side
}

// A formula is a condition over variables: all of its parts, one of its parts, or that a
// variable has one of some values.
type formula struct {
	op       op
	variable int
	in       []bool // by value
	parts    []formula
}

type op uint8

const (
	isIn op = iota
	allOf
	oneOf
)

var (
	always = formula{op: allOf}
	never  = formula{op: oneOf}
)

// not is the formula that holds where f does not.
func (f formula) not() formula {
	switch f.op {
	case isIn:
		in := make([]bool, len(f.in))
		for i := range in {
			in[i] = !f.in[i]
		}
		return formula{op: isIn, variable: f.variable, in: in}
	case allOf:
		f.op = oneOf
	default:
		f.op = allOf
	}
	parts := make([]formula, len(f.parts))
	for i := range parts {
		parts[i] = f.parts[i].not()
	}
	f.parts = parts
	return f
}

// newSpace collects what the requirements of both routes mention, so that the values of a
// variable are known before conditions on it are made.
func newSpace(old, new *Side, request *policy.Request, matches ...policy.Match) *space {
	s := &space{index: map[string]int{}, mentioned: map[kind][]string{}, old: old, new: new}
	for _, m := range matches {
		if m.Route == nil {
			continue
		}
		for i := range m.Route.Allow {
			q := &m.Route.Allow[i]
			s.mention(bySubject, evaluated(q.Subjects, request, m))
			s.mention(byUsername, evaluated(q.Usernames, request, m))
			s.mention(byUsername, evaluated(q.Owner, request, m))
			s.mention(byTenant, evaluated(q.Tenant, request, m))
			s.mention(byTenant, evaluated(q.ReadableTenant, request, m))
			for j := range q.Attributes {
				a := &q.Attributes[j]
				s.attribute(a.Name, other)
				for _, list := range [][]policy.Template{a.Any, a.All, a.None} {
					values, _ := evaluate(list, request, m)
					for _, v := range values {
						s.attribute(a.Name, v)
					}
				}
			}
		}
	}
	s.add(variable{kind: byAuthenticator, values: s.authenticators()})
	s.add(variable{kind: bySubject, values: append([]string{"", unlike("someone", s.mentioned[bySubject])}, s.mentioned[bySubject]...)})
	s.add(variable{kind: byUsername, values: s.usernames()})
	s.add(variable{kind: byTenant, values: s.tenants()})
	return s
}

// other stands for a value that no condition names.
const other = "\x00"

func (s *space) mention(k kind, values []string) {
	for _, v := range values {
		if !slices.Contains(s.mentioned[k], v) {
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

func (s *space) usernames() []string {
	values := append([]string{"", unlike("someone", s.mentioned[byUsername])}, s.mentioned[byUsername]...)
	for _, side := range []*Side{s.old, s.new} {
		if t := side.Tenancy; t != nil && t.Wildcard != "" && !slices.Contains(values, t.Wildcard) {
			values = append(values, t.Wildcard)
		}
	}
	return values
}

// tenants are enough to have every combination of being one of those that are mentioned
// and reading them: each of them, one below each, another one, and who reads all.
func (s *space) tenants() []string {
	values := append([]string{"", unlike("other", s.mentioned[byTenant])}, s.mentioned[byTenant]...)
	add := func(v string) {
		if v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	for _, side := range []*Side{s.old, s.new} {
		t := side.Tenancy
		if t == nil {
			continue
		}
		add(t.Default)
		if t.Separator != "" {
			for _, m := range s.mentioned[byTenant] {
				add(m + t.Separator + unlike("x", s.mentioned[byTenant]))
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

// has is that a variable without values is there.
func (s *space) has(v variable) formula {
	return formula{op: isIn, variable: s.add(v), in: []bool{false, true}}
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

// requirement is q on one side, for a request. It agrees with how policy evaluates it.
func (s *space) requirement(side *Side, q *policy.Requirement, r *policy.Request, m policy.Match) formula {
	all := formula{op: allOf}
	and := func(f formula) { all.parts = append(all.parts, f) }
	asked := q.Authenticated != nil
	if q.Authenticators != nil {
		asked = true
		and(s.where(byAuthenticator, func(v string) bool { return slices.Contains(q.Authenticators.Values, v) }))
	}
	if q.Realms != nil {
		asked = true
		and(s.where(byAuthenticator, func(v string) bool {
			a, ok := side.authenticator(v)
			return ok && slices.Contains(q.Realms.Values, a.Realm)
		}))
	}
	for _, named := range []struct {
		kind      kind
		templates *policy.Templates
	}{{bySubject, q.Subjects}, {byUsername, q.Usernames}} {
		if named.templates != nil {
			asked = true
			values := evaluated(named.templates, r, m)
			and(s.where(named.kind, func(v string) bool { return slices.Contains(values, v) }))
		}
	}
	if q.Tenant != nil {
		asked = true
		values := evaluated(q.Tenant, r, m)
		and(s.where(byTenant, func(v string) bool {
			p := side.Tenancy.Resolve(policy.Principal{Tenant: v}, true)
			return !side.isWildcard(p.Tenant) && slices.Contains(values, p.Tenant)
		}))
	}
	if q.ReadableTenant != nil {
		asked = true
		values := evaluated(q.ReadableTenant, r, m)
		and(s.where(byTenant, func(v string) bool {
			return slices.ContainsFunc(values, func(want string) bool { return side.reads(v, want) })
		}))
	}
	if q.Owner != nil {
		asked = true
		values, whole := evaluate(q.Owner.Values, r, m)
		and(s.where(byUsername, func(v string) bool {
			return side.isWildcard(v) && len(q.Owner.Values) > 0 || !whole ||
				slices.ContainsFunc(values, func(owner string) bool { return owner == v && !side.isWildcard(owner) })
		}))
	}
	asked = s.sets(side, q, and) || asked
	for i := range q.Attributes {
		asked = true
		and(s.attributes(&q.Attributes[i], r, m))
	}
	if q.When != nil {
		asked = true
		if q.When.Condition == nil {
			return never
		}
		and(s.has(variable{kind: byExpression, name: q.When.Condition.String()}))
	}
	if !asked {
		return never
	}
	return all
}

// sets adds the conditions on roles and scopes.
func (s *space) sets(side *Side, q *policy.Requirement, and func(formula)) (asked bool) {
	list := func(k kind, names []string, op op) formula {
		f := formula{op: op}
		for _, name := range names {
			if name != "" {
				f.parts = append(f.parts, s.has(variable{kind: k, name: name}))
			} else {
				f.parts = append(f.parts, never)
			}
		}
		if len(names) == 0 {
			return never
		}
		return f
	}
	if r := q.Roles; r != nil {
		asked = true
		if r.Any == nil && r.All == nil && r.None == nil {
			and(never)
		}
		if r.Any != nil {
			and(list(byRole, r.Any, oneOf))
		}
		if r.All != nil {
			and(list(byRole, r.All, allOf))
		}
		if r.None != nil {
			if len(r.None) == 0 {
				and(never)
			} else {
				and(list(byRole, r.None, oneOf).not())
			}
		}
	}
	if c := q.Scopes; c != nil {
		asked = true
		if c.Any == nil && c.All == nil || c.None != nil {
			and(never)
		}
		unscoped := s.where(byAuthenticator, func(v string) bool {
			a, ok := side.authenticator(v)
			return ok && a.Unscoped
		})
		for _, part := range []struct {
			names []string
			op    op
		}{{c.Any, oneOf}, {c.All, allOf}} {
			switch {
			case part.names == nil:
			case len(part.names) == 0:
				and(never)
			default:
				and(formula{op: oneOf, parts: []formula{list(byScope, part.names, part.op), unscoped}})
			}
		}
	}
	return asked
}

// attributes is a condition on one attribute. One that is absent meets nothing.
func (s *space) attributes(a *policy.AttributeMatch, r *policy.Request, m policy.Match) formula {
	present := formula{op: oneOf}
	for i := range s.variables {
		if v := &s.variables[i]; v.kind == byAttribute && v.name == a.Name {
			present.parts = append(present.parts, formula{op: isIn, variable: i, in: []bool{false, true}})
		}
	}
	if !a.Present && a.Any == nil && a.All == nil && a.None == nil {
		return never
	}
	all := formula{op: allOf, parts: []formula{present}}
	list := func(templates []policy.Template, op op) (f formula, whole bool) {
		values, whole := evaluate(templates, r, m)
		f.op = op
		for _, v := range values {
			f.parts = append(f.parts, s.has(variable{kind: byAttribute, name: a.Name, text: v}))
		}
		return f, whole && len(templates) > 0
	}
	if a.Any != nil {
		f, _ := list(a.Any, oneOf)
		all.parts = append(all.parts, f)
	}
	if a.All != nil {
		f, whole := list(a.All, allOf)
		if !whole {
			return never
		}
		all.parts = append(all.parts, f)
	}
	if a.None != nil {
		f, whole := list(a.None, oneOf)
		if !whole {
			return never
		}
		all.parts = append(all.parts, f.not())
	}
	return all
}

func (s *Side) authenticator(name string) (Authenticator, bool) {
	for _, a := range s.Authenticators {
		if a.Name == name {
			return a, true
		}
	}
	return Authenticator{}, false
}

func (s *Side) isWildcard(name string) bool {
	return s.Tenancy != nil && s.Tenancy.Wildcard != "" && name == s.Tenancy.Wildcard
}

// reads tells whether a caller whose tenant is said to be one reads another.
func (s *Side) reads(tenant, want string) bool {
	if want == "" || s.isWildcard(want) {
		return false
	}
	p := s.Tenancy.Resolve(policy.Principal{Tenant: tenant}, true)
	return p.Wildcard || slices.Contains(s.Tenancy.Readable(p.Tenant), want)
}

// describe is a requirement as a text; equal texts ask the same of equal patterns.
func describe(q *policy.Requirement) string {
	var b strings.Builder
	templates := func(name string, list []policy.Template) {
		if list == nil {
			return
		}
		var texts []string
		for i := range list {
			texts = append(texts, list[i].String())
		}
		slices.Sort(texts)
		fmt.Fprintf(&b, "%s%q ", name, slices.Compact(texts))
	}
	names := func(name string, list []string) {
		if list == nil {
			return
		}
		sorted := slices.Clone(list)
		slices.Sort(sorted)
		fmt.Fprintf(&b, "%s%q ", name, slices.Compact(sorted))
	}
	sets := func(name string, s *policy.Sets) {
		if s != nil {
			b.WriteString(name)
			names("any", s.Any)
			names("all", s.All)
			names("none", s.None)
		}
	}
	if q.Authenticated != nil {
		b.WriteString("authenticated ")
	}
	if q.Authenticators != nil {
		names("authenticators", q.Authenticators.Values)
	}
	if q.Realms != nil {
		names("realms", q.Realms.Values)
	}
	for _, t := range []struct {
		name      string
		templates *policy.Templates
	}{{"subjects", q.Subjects}, {"usernames", q.Usernames}, {"tenant", q.Tenant}, {"readable", q.ReadableTenant}, {"owner", q.Owner}} {
		if t.templates != nil {
			templates(t.name, t.templates.Values)
		}
	}
	sets("roles ", q.Roles)
	sets("scopes ", q.Scopes)
	for i := range q.Attributes {
		a := &q.Attributes[i]
		fmt.Fprintf(&b, "attribute %q %t ", a.Name, a.Present)
		templates("any", a.Any)
		templates("all", a.All)
		templates("none", a.None)
	}
	if q.When != nil && q.When.Condition != nil {
		fmt.Fprintf(&b, "when %q", q.When.Condition.String())
	}
	return b.String()
}
