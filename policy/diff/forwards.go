package diff

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// forwards looks for who passes on both sides, where the upstream gets something else.
func (c *comparison) forwards(r *policy.Request, old, new policy.Match) (*Change, bool) {
	if old.Route == nil || new.Route == nil || old.Route.Forbid || new.Route.Forbid {
		return nil, false
	}
	pairs := c.pairings(r, old, new)
	change := &Change{Direction: Forwards, Request: *r, Old: verdict(old, -1), New: verdict(new, -1)}
	if isPublic(old) && isPublic(new) {
		if change.Forwarded = different(pairs, c.old.Anonymous, c.new.Anonymous); len(change.Forwarded) > 0 {
			return change, false
		}
	}
	s := newSpace(&c.old, &c.new, r, old, new, pairs)
	undecided := false
	was, is := s.view(&c.old, old), s.view(&c.new, new)
	passages := is.passages()
	for _, p := range was.passages() {
		for _, q := range passages {
			if !p.identified && !q.identified {
				continue // as for nobody
			}
			differs := s.differ(was, is, pairs, p.identified, q.identified)
			if differs.isNever() {
				continue
			}
			caller := func(side *Side, identified bool, w *witness) *policy.Principal {
				if !identified {
					return side.Anonymous
				}
				as, _ := w.on(side, r)
				return as
			}
			list := func(w *witness) []Forwarding {
				return different(pairs, caller(&c.old, p.identified, w), caller(&c.new, q.identified, w))
			}
			found, gaveUp := s.solve(and(p.formula, q.formula, differs, was.exists(is)), &c.new, func(w *witness) bool {
				return c.passes(&c.old, r, old, w) && c.passes(&c.new, r, new, w) && len(list(w)) > 0
			})
			undecided = undecided || gaveUp
			if found == nil {
				continue
			}
			change.Principal, change.Assumed, change.Selected = found.principal, found.assumed, found.selected
			if change.Forwarded = list(found); len(change.Forwarded) == 0 {
				change.Forwarded = granted(pairs) // if an expression holds
			}
			if p.requirement >= 0 {
				change.Old = verdict(old, p.requirement)
			}
			if q.requirement >= 0 {
				change.New = verdict(new, q.requirement)
			}
			return change, false
		}
	}
	return nil, undecided
}

// different lists what the two sides give for a principal as each of them has it, where it
// is not the same.
func different(pairs []pairing, was, is *policy.Principal) []Forwarding {
	var list []Forwarding
	for i := range pairs {
		p := &pairs[i]
		if p.old.of(was) != p.new.of(is) {
			same := p.old.isSame(&p.new)
			list = append(list, Forwarding{p.name, p.old.description(was, same), p.new.description(is, same)})
		}
	}
	return list
}

// granted lists what an expression of a grant can make another.
func granted(pairs []pairing) []Forwarding {
	var list []Forwarding
	for i := range pairs {
		if p := &pairs[i]; slices.ContainsFunc(append(slices.Clone(p.old.refers), p.new.refers...), isGranted) {
			list = append(list, Forwarding{p.name, p.old.text, p.new.text + ", with other grants"})
		}
	}
	return list
}

func isGranted(reference string) bool {
	return reference == "roles" || reference == "scopes" || strings.HasPrefix(reference, "attributes")
}

// differ is that the upstream gets something else of a principal.
func (s *space) differ(was, is viewer, pairs []pairing, identifiedBefore, identifiedAfter bool) formula {
	any := formula{op: oneOf}
	for i := range pairs {
		before, after := pairs[i].old, pairs[i].new
		if !identifiedBefore {
			before = bound{text: before.of(s.old.Anonymous)}
		}
		if !identifiedAfter {
			after = bound{text: after.of(s.new.Anonymous)}
		}
		any.parts = append(any.parts, s.boundDiffers(was, is, before, after))
	}
	return any
}

// boundDiffers is that two values of a principal are not the same.
func (s *space) boundDiffers(was, is viewer, before, after bound) formula {
	constant := len(before.refers) == 0 && len(after.refers) == 0
	if constant && before.text != after.text {
		return always
	}
	if constant {
		return never
	}
	same := before.isSame(&after)
	if !same && (before.value != nil && before.value.Identity || after.value != nil && after.value.Identity) {
		return always // nothing else looks like an identity token
	}
	evaluated := s.told(was, is, before, after)
	if !same {
		return evaluated
	}
	any := formula{op: oneOf}
	for _, reference := range before.refers {
		any.parts = append(any.parts, s.referenceDiffers(was, is, reference))
	}
	if any.isNever() || len(before.refers) == 1 || before.value.Identity {
		return any
	}
	return and(any, evaluated) // one that is absent makes the whole value absent
}

// told is that two values of a principal are not the same, once all that they depend on is
// chosen.
func (s *space) told(was, is viewer, before, after bound) formula {
	f := formula{op: told}
	for _, reference := range append(slices.Clone(before.refers), after.refers...) {
		for _, v := range []viewer{was, is} {
			for _, part := range v.decisive(reference) {
				f.on = part.variables(f.on)
			}
		}
	}
	f.tell = func(chosen []int) bool {
		w := s.witness(chosen, s.new)
		of := func(side *Side, b *bound) string {
			as, _ := w.on(side, s.request)
			return b.of(as)
		}
		return of(was.side, &before) != of(is.side, &after)
	}
	return f
}

// decisive are formulas over all that decides what a reference comes to.
func (s viewer) decisive(reference string) []formula {
	var list []formula
	variable := func(k kind) { list = append(list, s.is(k, "")) }
	everything := func(k kind, name string) {
		for i := range s.variables {
			if v := &s.variables[i]; v.kind == k && (name == "" || v.name == name) {
				list = append(list, formula{op: isIn, variable: i})
			}
		}
	}
	variable(byAuthenticator) // it may give what is asked for by itself
	switch attribute, _ := strings.CutPrefix(reference, "attributes."); reference {
	case "authenticator", "realm", "unscoped":
	case "subject":
		variable(bySubject)
	case "issuer":
		variable(byIssuer)
	case "token_id":
		variable(byTokenID)
	case "username", "tenant", "tenants":
		if s.selects() {
			variable(bySelected)
		}
		if reference != "username" {
			variable(byTenant)
			break
		}
		variable(byUsername)
		if s.imitates() {
			variable(byNamed)
		}
	case "roles":
		everything(byRole, "")
		list = append(list, s.grants(func(g *policy.Grant) bool { return len(g.Roles) > 0 }))
	case "scopes":
		everything(byScope, "")
		list = append(list, s.grants(func(g *policy.Grant) bool { return len(g.Scopes) > 0 }))
	default:
		everything(byAttribute, attribute)
		list = append(list, s.grants(func(g *policy.Grant) bool { return len(g.Attributes[attribute].Values) > 0 }))
	}
	return list
}

// referenceDiffers is that one and the same reference comes to something else on the other
// side, because grants, realms or tenants are others.
func (s *space) referenceDiffers(was, is viewer, reference string) formula {
	byAuthenticators := func(differ func(a, b *Authenticator) bool) formula {
		return s.where(byAuthenticator, func(name string) bool {
			a, _ := was.side.authenticator(name)
			b, _ := is.side.authenticator(name)
			return differ(&a, &b)
		})
	}
	switch reference {
	case "authenticator":
		return byAuthenticators(func(a, b *Authenticator) bool { return a.known() != b.known() })
	case "realm":
		return byAuthenticators(func(a, b *Authenticator) bool { return a.Realm != b.Realm })
	case "unscoped":
		return byAuthenticators(func(a, b *Authenticator) bool { return a.Unscoped != b.Unscoped })
	case "tenant", "tenants":
		return s.tenantDiffers(was, is, reference == "tenants")
	case "username":
		return s.usernameDiffers(was, is)
	case "roles":
		return s.listDiffers(was, is, func(g *policy.Grant) []string { return g.Roles }, func(v viewer, name string) (formula, formula) {
			return v.has(variable{kind: byRole, name: name}), v.role(name)
		})
	case "scopes":
		return s.listDiffers(was, is, func(g *policy.Grant) []string { return g.Scopes }, func(v viewer, name string) (formula, formula) {
			return v.has(variable{kind: byScope, name: name}), v.scope(name)
		})
	case "attributes":
		any := formula{op: oneOf}
		for _, name := range s.grantedAttributes() {
			any.parts = append(any.parts, s.referenceDiffers(was, is, "attributes."+name))
		}
		return any
	}
	if attribute, ok := strings.CutPrefix(reference, "attributes."); ok {
		return s.listDiffers(was, is, func(g *policy.Grant) []string { return g.Attributes[attribute].Values }, func(v viewer, value string) (formula, formula) {
			return v.has(variable{kind: byAttribute, name: attribute, text: value}), v.attributeValue(attribute, value)
		})
	}
	return never
}

// grantedAttributes are those that a grant of a side sets.
func (s *space) grantedAttributes() []string {
	names := map[string]bool{}
	for _, side := range []*Side{s.old, s.new} {
		for _, g := range side.Grants.List() {
			for name := range g.Attributes {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func xor(f, g formula) formula { return or(and(f, g.not()), and(g, f.not())) }

// listDiffers is that grants add something else to a list, or in another order. of gives
// that a value is in the list before grants, and that it is after them.
func (s *space) listDiffers(was, is viewer, added func(*policy.Grant) []string, of func(viewer, string) (formula, formula)) formula {
	any := formula{op: oneOf}
	var values []string
	grants := func(side *Side, value string) string {
		var texts []string
		for _, g := range side.Grants.List() {
			if list := added(g); slices.Contains(list, value) || value == "" && len(list) > 0 {
				texts = append(texts, grantText(g))
			}
		}
		return strings.Join(texts, "\n")
	}
	if grants(was.side, "") == grants(is.side, "") && was.side.conditions() == is.side.conditions() {
		return never
	}
	for _, side := range []*Side{was.side, is.side} {
		for _, g := range side.Grants.List() {
			for _, value := range added(g) {
				if !slices.Contains(values, value) {
					values = append(values, value)
				}
			}
		}
	}
	for i, value := range values {
		own, before := of(was, value)
		_, after := of(is, value)
		any.parts = append(any.parts, xor(before, after))
		for _, other := range values[:i] {
			otherOwn, otherBefore := of(was, other)
			_, otherAfter := of(is, other)
			any.parts = append(any.parts, and(own.not(), otherOwn.not(), before, after, otherBefore, otherAfter,
				xor(was.isFirst(value, other, added), is.isFirst(value, other, added))))
		}
	}
	return any
}

// isFirst is that grants add one value before another.
func (s viewer) isFirst(value, other string, added func(*policy.Grant) []string) formula {
	any := formula{op: oneOf}
	var earlier []formula // that grants hold that have added the other by then
	for _, g := range s.side.Grants.List() {
		list := added(g)
		i, j := slices.Index(list, value), slices.Index(list, other)
		holds := s.grants(func(one *policy.Grant) bool { return one == g })
		if i >= 0 && (j < 0 || i < j) {
			any.parts = append(any.parts, and(holds, or(earlier...).not()))
		}
		if j >= 0 {
			earlier = append(earlier[:len(earlier):len(earlier)], holds)
		}
	}
	return any
}

// tenantDiffers is that the tenant is another, or what it reads.
func (s *space) tenantDiffers(was, is viewer, readable bool) formula {
	any := formula{op: oneOf}
	for _, selected := range s.variables[s.add(variable{kind: bySelected})].values {
		any.parts = append(any.parts, and(s.is(bySelected, selected), s.where(byTenant, func(v string) bool {
			a, b := was.acting(v, selected), is.acting(v, selected)
			return a.Tenant != b.Tenant && !readable || readable && !slices.Equal(a.Tenants, b.Tenants)
		})))
	}
	return any
}

// acting is who a caller of a tenant is that selects one.
func (s viewer) acting(tenant, selected string) *policy.Principal {
	if selected == "" || !s.selects() {
		return s.resolve(tenant)
	}
	return &policy.Principal{Tenant: selected, Tenants: s.side.Tenancy.Readable(selected)}
}

// usernameDiffers is that the name is another.
func (s *space) usernameDiffers(was, is viewer) formula {
	any := formula{op: oneOf}
	if was.selects() == is.selects() && was.imitates() == is.imitates() {
		return any
	}
	for _, name := range s.variables[s.add(variable{kind: byNamed})].values {
		for _, selects := range []bool{false, true} {
			chosen := s.is(bySelected, "")
			if selects {
				chosen = chosen.not()
			}
			any.parts = append(any.parts, and(s.is(byNamed, name), chosen, s.where(byUsername, func(v string) bool {
				return was.actingName(v, name, selects) != is.actingName(v, name, selects)
			})))
		}
	}
	return any
}

// actingName is the name of a caller that may give itself another one.
func (s viewer) actingName(own, named string, selects bool) string {
	switch {
	case named != "" && s.imitates():
		return named
	case selects && s.selects():
		return ""
	}
	return own
}
