package diff

import (
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A viewer makes formulas of the conditions of one side. With base it sees principals as
// authenticators make them, as grants do; without, as routes see them: with what grants
// add, and as whom they select to be.
type viewer struct {
	*space
	side    *Side
	base    bool
	request *policy.Request
	match   policy.Match
}

// selects tells whether callers may act for another tenant, and imitates whether they may
// act as another user. Connections without HTTP have no headers to say so.
func (s viewer) selects() bool  { return !s.base && s.side.Select && !s.request.TCP }
func (s viewer) imitates() bool { return !s.base && s.side.Impersonate && !s.request.TCP }

// requirement is q as a formula. It agrees with how policy evaluates it.
func (s viewer) requirement(q *policy.Requirement) formula {
	all := formula{op: allOf}
	add := func(f formula) { all.parts = append(all.parts, f) }
	asked := q.Authenticated != nil
	if q.Authenticators != nil {
		asked = true
		add(s.where(byAuthenticator, func(v string) bool {
			a, ok := s.side.authenticator(v)
			return ok && slices.Contains(q.Authenticators.Values, a.known())
		}))
	}
	if q.Realms != nil {
		asked = true
		add(s.where(byAuthenticator, func(v string) bool {
			a, ok := s.side.authenticator(v)
			return ok && slices.Contains(q.Realms.Values, a.Realm)
		}))
	}
	if q.Subjects != nil {
		asked = true
		values := evaluated(q.Subjects, s.request, s.match)
		add(s.where(bySubject, func(v string) bool { return slices.Contains(values, v) }))
	}
	if q.Usernames != nil {
		asked = true
		values := evaluated(q.Usernames, s.request, s.match)
		add(s.username(func(v string) bool { return slices.Contains(values, v) }))
	}
	if q.Tenant != nil {
		asked = true
		values := evaluated(q.Tenant, s.request, s.match)
		add(s.tenant(func(p *policy.Principal) bool {
			return !s.side.isWildcard(p.Tenant) && slices.Contains(values, p.Tenant)
		}))
	}
	if q.ReadableTenant != nil {
		asked = true
		values := evaluated(q.ReadableTenant, s.request, s.match)
		add(s.tenant(func(p *policy.Principal) bool {
			return slices.ContainsFunc(values, func(want string) bool { return s.side.reads(p, want) })
		}))
	}
	if q.Owner != nil {
		asked = true
		values, whole := evaluate(q.Owner.Values, s.request, s.match)
		owns := s.username(func(v string) bool {
			return !whole || slices.ContainsFunc(values, func(owner string) bool { return owner == v && !s.side.isWildcard(owner) })
		})
		if len(q.Owner.Values) > 0 {
			owns = or(owns, s.ownsAll())
		}
		add(owns)
	}
	asked = s.sets(q, add) || asked
	for i := range q.Attributes {
		asked = true
		add(s.attributeMatch(&q.Attributes[i]))
	}
	if q.When != nil {
		asked = true
		if q.When.Condition == nil {
			return never
		}
		v := variable{kind: byExpression, name: q.When.Condition.String()}
		if s.base {
			v.text = inGrant
		}
		add(s.has(v))
	}
	if !asked {
		return never
	}
	return all
}

// tenant is that the tenant of the principal, or the one that it selects, holds.
func (s viewer) tenant(holds func(*policy.Principal) bool) formula {
	own := s.where(byTenant, func(v string) bool { return holds(s.resolve(v)) })
	if !s.selects() {
		return own
	}
	selected := s.where(bySelected, func(v string) bool {
		return v != "" && holds(&policy.Principal{Tenant: v, Tenants: s.side.Tenancy.Readable(v)})
	})
	return or(and(s.is(bySelected, ""), own), selected)
}

// username is that the name of the principal, or the one that it gives itself, holds.
func (s viewer) username(holds func(string) bool) formula {
	f := s.where(byUsername, holds)
	if s.selects() { // selecting a tenant clears the name
		if holds("") {
			f = or(s.is(bySelected, "").not(), f)
		} else {
			f = and(s.is(bySelected, ""), f)
		}
	}
	if s.imitates() {
		f = or(and(s.is(byNamed, ""), f), s.where(byNamed, func(v string) bool { return v != "" && holds(v) }))
	}
	return f
}

// ownsAll is that the wildcard is the name of the principal, and counts: beside the wildcard
// as a tenant, or as the name that it gives itself.
func (s viewer) ownsAll() formula {
	f := and(s.where(byUsername, s.side.isWildcard), s.where(byTenant, s.side.isWildcard))
	if s.selects() {
		f = and(s.is(bySelected, ""), f)
	}
	if s.imitates() {
		f = or(and(s.is(byNamed, ""), f), s.where(byNamed, s.side.isWildcard))
	}
	return f
}

// selectable is that the side lets the principal act as whom it selects.
func (s viewer) selectable() formula {
	all := formula{op: allOf}
	if s.selects() {
		any := or(s.is(bySelected, ""))
		for _, selected := range s.variables[s.add(variable{kind: bySelected})].values {
			if selected == "" {
				continue
			}
			any.parts = append(any.parts, and(s.is(bySelected, selected), s.where(byTenant, func(v string) bool {
				_, _, ok := s.side.Tenancy.Select(s.resolve(v), policy.Selection{Tenant: selected})
				return ok
			})))
		}
		all.parts = append(all.parts, any)
	}
	if s.imitates() {
		all.parts = append(all.parts, or(s.is(byNamed, ""), and(s.where(byNamed, isSelection), s.where(byAuthenticator, func(v string) bool {
			a, ok := s.side.authenticator(v)
			return ok && a.Impersonate
		}))))
	}
	return all
}

// repeated is that what the side takes for a selection could be two header lines.
func (s viewer) repeated() formula {
	any := formula{op: oneOf}
	if s.selects() {
		any.parts = append(any.parts, s.where(bySelected, isSelection).not())
	}
	if s.imitates() {
		any.parts = append(any.parts, s.where(byNamed, isSelection).not())
	}
	return any
}

// isSelection tells whether a text can be one selection.
func isSelection(text string) bool {
	var none *policy.Tenancy
	_, reason, _ := none.Select(&policy.Principal{}, policy.Selection{Username: text})
	return reason != policy.ReasonSelectionRepeated
}

// resolve is a caller of a tenant.
func (s viewer) resolve(tenant string) *policy.Principal {
	return s.side.Tenancy.Resolve(policy.Principal{Tenant: tenant}, s.side.isWildcard(tenant))
}

// grants is that a grant of the side that adds something holds.
func (s viewer) grants(adds func(*policy.Grant) bool) formula {
	any := formula{op: oneOf}
	if s.base {
		return any
	}
	for _, g := range s.side.Grants.List() {
		if !adds(g) {
			continue
		}
		key := grantKey{s.side, g}
		f, known := s.granted[key]
		if !known {
			f = formula{op: oneOf}
			as := viewer{space: s.space, side: s.side, base: true, request: &policy.Request{}}
			for i := range g.When {
				f.parts = append(f.parts, as.requirement(&g.When[i]))
			}
			s.granted[key] = f
		}
		any.parts = append(any.parts, f)
	}
	return any
}

func (s viewer) role(name string) formula {
	return or(s.has(variable{kind: byRole, name: name}), s.grants(func(g *policy.Grant) bool { return slices.Contains(g.Roles, name) }))
}

func (s viewer) scope(name string) formula {
	return or(s.has(variable{kind: byScope, name: name}), s.grants(func(g *policy.Grant) bool { return slices.Contains(g.Scopes, name) }))
}

func (s viewer) attributeValue(name, value string) formula {
	return or(s.has(variable{kind: byAttribute, name: name, text: value}), s.grants(func(g *policy.Grant) bool {
		return slices.Contains(g.Attributes[name].Values, value)
	}))
}

// attributePresent is that the attribute has a value at all. Those that conditions name
// are variables by now.
func (s viewer) attributePresent(name string) formula {
	any := s.grants(func(g *policy.Grant) bool { return len(g.Attributes[name].Values) > 0 })
	for i := range s.variables {
		if v := &s.variables[i]; v.kind == byAttribute && v.name == name {
			any.parts = append(any.parts, formula{op: isIn, variable: i, in: []bool{false, true}})
		}
	}
	return any
}

// list is a condition on several names; one that is empty is met by nobody.
func list(names []string, op op, of func(string) formula) formula {
	f := formula{op: op}
	for _, name := range names {
		if name == "" {
			f.parts = append(f.parts, never)
		} else {
			f.parts = append(f.parts, of(name))
		}
	}
	if len(names) == 0 {
		return never
	}
	return f
}

// sets adds the conditions on roles and scopes.
func (s viewer) sets(q *policy.Requirement, add func(formula)) (asked bool) {
	if r := q.Roles; r != nil {
		asked = true
		if r.Any == nil && r.All == nil && r.None == nil {
			add(never)
		}
		if r.Any != nil {
			add(list(r.Any, oneOf, s.role))
		}
		if r.All != nil {
			add(list(r.All, allOf, s.role))
		}
		if r.None != nil {
			if len(r.None) == 0 {
				add(never)
			} else {
				add(list(r.None, oneOf, s.role).not())
			}
		}
	}
	if c := q.Scopes; c != nil {
		asked = true
		if c.Any == nil && c.All == nil || c.None != nil {
			add(never)
		}
		unscoped := s.where(byAuthenticator, func(v string) bool {
			a, ok := s.side.authenticator(v)
			return ok && a.Unscoped
		})
		for _, part := range []struct {
			names []string
			op    op
		}{{c.Any, oneOf}, {c.All, allOf}} {
			switch {
			case part.names == nil:
			case len(part.names) == 0:
				add(never)
			default:
				add(or(list(part.names, part.op, s.scope), unscoped))
			}
		}
	}
	return asked
}

// attributeMatch is a condition on one attribute. One that is absent meets nothing.
func (s viewer) attributeMatch(a *policy.AttributeMatch) formula {
	if !a.Present && a.Any == nil && a.All == nil && a.None == nil {
		return never
	}
	all := and(s.attributePresent(a.Name))
	of := func(templates []policy.Template, op op) (f formula, whole bool) {
		values, whole := evaluate(templates, s.request, s.match)
		f.op = op
		for _, v := range values {
			f.parts = append(f.parts, s.attributeValue(a.Name, v))
		}
		return f, whole && len(templates) > 0
	}
	if a.Any != nil {
		f, _ := of(a.Any, oneOf)
		all.parts = append(all.parts, f)
	}
	if a.All != nil {
		f, whole := of(a.All, allOf)
		if !whole {
			return never
		}
		all.parts = append(all.parts, f)
	}
	if a.None != nil {
		f, whole := of(a.None, oneOf)
		if !whole {
			return never
		}
		all.parts = append(all.parts, f.not())
	}
	return all
}
