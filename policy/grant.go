package policy

import "slices"

// A Grant adds to the principals that meet one of its requirements. It has no request:
// values that refer to one are absent.
type Grant struct {
	At         Position
	When       []Requirement // any one suffices
	Roles      []string
	Scopes     []string
	Attributes map[string]Attribute
}

// Grants are what a configuration adds to principals. They are immutable and safe for
// concurrent use. A nil *Grants adds nothing.
type Grants struct {
	grants  []compiledGrant
	tenancy *Tenancy
}

type compiledGrant struct {
	*Grant
	clauses []clause
}

// NewGrants makes grants of a list in the order of the file. Problems are as in
// [NewTable]; with any that is no warning there are no grants.
func NewGrants(list []Grant, tenancy *Tenancy) (*Grants, []Problem) {
	g := &Grants{tenancy: tenancy, grants: make([]compiledGrant, len(list))}
	b := builder{table: &Table{tenancy: tenancy}}
	for i := range list {
		c := compiledGrant{Grant: &list[i], clauses: make([]clause, len(list[i].When))}
		for j := range list[i].When {
			c.clauses[j] = b.compile(&list[i].When[j])
			b.checkClause(&c.clauses[j])
		}
		g.grants[i] = c
	}
	sortProblems(b.problems)
	if slices.ContainsFunc(b.problems, func(p Problem) bool { return !p.Warning }) {
		return nil, b.problems
	}
	return g, b.problems
}

// List gives the grants in the order of the file.
func (g *Grants) List() []*Grant {
	if g == nil {
		return nil
	}
	list := make([]*Grant, len(g.grants))
	for i := range g.grants {
		list[i] = g.grants[i].Grant
	}
	return list
}

// Apply gives p with what the grants add, in the order of the file. Every grant looks
// at p as it was mapped, so that none triggers another. p itself is not changed, and
// is returned if nothing is added.
func (g *Grants) Apply(p *Principal) *Principal {
	if g == nil || p == nil {
		return p
	}
	granted := p
	s := scope{request: &Request{}, principal: p, tenancy: g.tenancy}
	for i := range g.grants {
		grant := &g.grants[i]
		if !slices.ContainsFunc(grant.clauses, func(c clause) bool { return c.holds(&s) }) {
			continue
		}
		if granted == p {
			granted = p.clone()
		}
		granted.Roles = union(granted.Roles, grant.Roles)
		granted.Scopes = union(granted.Scopes, grant.Scopes)
		for name, add := range grant.Attributes {
			have := granted.Attributes[name]
			values := union(have.Values, add.Values)
			granted.Attributes[name] = Attribute{Values: values, List: have.List || add.List || len(values) > 1}
		}
	}
	return granted
}

// clone copies p and whatever grants add to.
func (p *Principal) clone() *Principal {
	c := *p
	c.Roles, c.Scopes = slices.Clone(p.Roles), slices.Clone(p.Scopes)
	c.Attributes = make(map[string]Attribute, len(p.Attributes))
	for name, a := range p.Attributes {
		c.Attributes[name] = Attribute{Values: slices.Clone(a.Values), List: a.List}
	}
	return &c
}

func union(have, add []string) []string {
	for _, v := range add {
		if !slices.Contains(have, v) {
			have = append(have, v)
		}
	}
	return have
}
