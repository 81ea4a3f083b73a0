package policy

import (
	"fmt"
	"slices"
)

// checkRoute finds what is wrong with a route by itself: it is not exactly one of
// public, allow and forbid, or one of its requirements can never hold.
func (b *builder) checkRoute(e *entry) {
	r := e.route
	ways := 0
	for _, set := range []bool{r.Public, r.Forbid, len(r.Allow) > 0} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		b.add(Problem{
			Kind: ProblemInvalid, At: r.At,
			Message: fmt.Sprintf("route %q has %d of public, allow and forbid", r.Name, ways),
			Remedy:  "give it exactly one",
		})
	}
	for i := range e.clauses {
		b.checkClause(&e.clauses[i])
	}
}

// checkClause reports the contradictions of a requirement.
func (b *builder) checkClause(c *clause) {
	never := func(at Position, why, remedy string) {
		b.add(Problem{Kind: ProblemNeverHolds, At: at, Other: c.at, Message: "this requirement can never hold: " + why, Remedy: remedy})
	}
	if len(c.conditions) == 0 {
		never(c.at, "it has no condition", "write authenticated: true for any verified caller")
	}
	for i := range c.conditions {
		k := &c.conditions[i]
		switch {
		case k.kind == condNothing && conditionNames[k.kind] == k.name():
			never(k.at, "one of its conditions asks nothing", "say any, all or (for roles) none, or remove the condition")
		case k.kind == condNothing:
			never(k.at, k.name()+" asks nothing", "say present, any, all or none, or remove the condition")
		case k.isEmpty():
			never(k.at, k.name()+" is an empty list", "give a value or remove the line")
		}
	}
	b.checkSets(c, never)
	b.checkTenants(c, never)
}

// isEmpty reports whether a condition on values has none.
func (k *condition) isEmpty() bool {
	switch k.kind {
	case condNothing, condAuthenticated, condAttributePresent, condWhen:
		return false
	}
	return len(k.names) == 0 && len(k.templates) == 0
}

// literals are the values of a condition that do not depend on the request; whole is
// false if there are others.
func (k *condition) literals() (values []string, whole bool) {
	values, whole = slices.Clone(k.names), true
	for i := range k.templates {
		if v, ok := k.templates[i].Literal(); ok {
			values = append(values, v)
		} else {
			whole = false
		}
	}
	return values, whole
}

// noneOf is the counterpart that forbids what a condition asks for.
var noneOf = map[conditionKind]conditionKind{
	condRolesAny: condRolesNone, condRolesAll: condRolesNone,
	condAttributeAny: condAttributeNone, condAttributeAll: condAttributeNone,
}

// checkSets finds values that a requirement asks for and forbids.
func (b *builder) checkSets(c *clause, never func(Position, string, string)) {
	for i := range c.conditions {
		k := &c.conditions[i]
		counterpart, ok := noneOf[k.kind]
		if !ok {
			continue
		}
		for j := range c.conditions {
			other := &c.conditions[j]
			if other.kind != counterpart || other.attribute != k.attribute {
				continue
			}
			banned, _ := other.literals()
			wanted, whole := k.literals()
			possible := slices.DeleteFunc(slices.Clone(wanted), func(v string) bool { return slices.Contains(banned, v) })
			every := k.kind == condRolesAll || k.kind == condAttributeAll
			switch {
			case every && len(possible) < len(wanted):
				i := slices.IndexFunc(wanted, func(v string) bool { return slices.Contains(banned, v) })
				never(k.at, fmt.Sprintf("%s asks for %q, which %s refuses", k.name(), wanted[i], other.name()), "remove it from one of them")
			case !every && whole && len(wanted) > 0 && len(possible) == 0:
				never(k.at, fmt.Sprintf("%s refuses everything that %s asks for", other.name(), k.name()), "remove a value from one of them")
			}
		}
	}
}

// checkTenants finds wildcards as values and, where both are literal, a tenant that
// cannot read what readable_tenant asks for.
func (b *builder) checkTenants(c *clause, never func(Position, string, string)) {
	t := b.table.tenancy
	var exact, readable *condition
	for i := range c.conditions {
		k := &c.conditions[i]
		switch k.kind {
		case condTenant:
			exact = k
		case condReadableTenant:
			readable = k
		default:
			continue
		}
		values, whole := k.literals()
		if i := slices.IndexFunc(values, t.isWildcard); i >= 0 && whole && len(values) == 1 {
			never(k.at, fmt.Sprintf("the wildcard %q as a value of %s meets nobody", values[0], k.name()), "name a tenant, or write authenticated: true")
			return
		}
	}
	if exact == nil || readable == nil {
		return
	}
	have, wholeHave := exact.literals()
	want, wholeWant := readable.literals()
	if !wholeHave || !wholeWant || len(have) == 0 || len(want) == 0 {
		return
	}
	for _, h := range have {
		if t != nil && t.Wildcard != "" && h == t.Default {
			return // also the tenant of callers that read everything
		}
		for _, w := range want {
			if t.reads(&Principal{Tenant: h}, w) {
				return
			}
		}
	}
	never(exact.at, fmt.Sprintf("tenant %s cannot read %s", quoted(have...), quoted(want...)), "remove one of tenant and readable_tenant")
}

// usesPath reports whether the meaning of e depends on which of its patterns matches.
func (e *entry) usesPath() bool {
	if e.route.UsesPath {
		return true
	}
	for i := range e.clauses {
		for j := range e.clauses[i].conditions {
			for _, t := range e.clauses[i].conditions[j].templates {
				if t.Uses(RefPath) {
					return true
				}
			}
		}
	}
	return false
}
