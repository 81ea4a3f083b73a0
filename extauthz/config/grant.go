package config

import (
	"maps"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// buildGrants reads what is added to principals.
func (b *builder) buildGrants() {
	var grants []policy.Grant
	before := len(b.errors)
	for _, m := range b.config.GetGrants() {
		add := m.GetAdd()
		if len(add.GetRoles())+len(add.GetScopes())+len(add.GetAttributes()) == 0 && add != nil && !b.isTainted(m) {
			b.errorf(b.pos.field(m, "add"), "give roles, scopes or attributes", "a grant adds nothing")
		}
		if m.GetWhen() == nil {
			continue // the schema asked for it
		}
		grants = append(grants, policy.Grant{
			At:    b.pos.of(m),
			When:  []policy.Requirement{b.requirement(m.GetWhen(), setting{what: "a grant", noRequest: true})},
			Roles: add.GetRoles(), Scopes: add.GetScopes(), Attributes: attributes(add.GetAttributes()),
		})
		for _, name := range slices.Sorted(maps.Keys(add.GetAttributes())) {
			if len(add.GetAttributes()[name].GetValues()) == 0 && !b.isTainted(m) {
				b.errorf(b.pos.mapKey(add, "attributes", name), "give it a value", "attribute %s is empty", quote(name))
			}
		}
	}
	if len(grants) == 0 || len(b.errors) > before {
		return
	}
	made, problems := policy.NewGrants(grants, b.tenancy)
	b.adopt(problems)
	b.gate.Grants = made
}
