package config

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// producible warns of values that a requirement asks for and nobody who gets there can
// have, where that is known: every authenticator that is consulted has them in the file,
// and none is switched off that may have others.
func (b *builder) producible(m *configv1.Requirement, r *policy.Requirement, in setting) {
	consulted := b.consulted(m, in)
	if !b.facts.complete || len(consulted) == 0 || len(b.walker.disabled["authenticators"])+len(b.walker.disabled["grants"]) > 0 {
		return
	}
	for _, set := range []struct {
		what    fact
		message proto.Message
		parts   [2][]string
	}{
		{factRole, m.GetRoles(), [2][]string{m.GetRoles().GetAny(), m.GetRoles().GetAll()}},
		{factScope, m.GetScopes(), [2][]string{m.GetScopes().GetAny(), m.GetScopes().GetAll()}},
	} {
		if len(set.parts[0])+len(set.parts[1]) == 0 {
			continue
		}
		for part, field := range [...]string{"any", "all"} {
			for i, value := range set.parts[part] {
				b.askFor(set.what, value, b.possible(set.what, consulted, in), func() policy.Position { return b.pos.item(set.message, field, i) }, in)
			}
		}
	}
	for _, condition := range []struct {
		what   fact
		values *policy.Templates
	}{{factSubject, r.Subjects}, {factUsername, r.Usernames}, {factTenant, r.Tenant}, {factReadable, r.ReadableTenant}} {
		if condition.values != nil {
			b.askForAny(condition.what, condition.values, b.possible(condition.what, consulted, in), in)
		}
	}
}

// possible are the values that a field of those who are consulted can have.
type possible struct {
	any   bool // there is no knowing
	set   map[string]bool
	names []string // of set, in order
}

// possible finds the values once for each set of authenticators: some know thousands of
// users, and there are routes by the thousand.
func (b *builder) possible(what fact, consulted []string, in setting) *possible {
	key := fmt.Sprintf("%s %t %q", what, in.noRequest, consulted)
	if b.facts.possible[key] == nil {
		found := &possible{}
		if found.set = b.values(what, consulted, in); found.set == nil {
			found.any = true
		}
		found.names = slices.Sorted(maps.Keys(found.set))
		b.facts.possible[key] = found
	}
	return b.facts.possible[key]
}

// values are those of a field; nil: any.
func (b *builder) values(what fact, consulted []string, in setting) map[string]bool {
	if what == factReadable {
		_, readable := b.reach(b.mapped(factTenant, consulted))
		return readable
	}
	values := b.mapped(what, consulted)
	switch {
	case values == nil:
	case what == factTenant:
		values, _ = b.reach(values)
	case !in.noRequest: // a grant sees what was mapped, not what others add
		maps.Copy(values, b.facts.granted[what])
	}
	return values
}

// mapped are the values that authenticators give; nil: any.
func (b *builder) mapped(what fact, consulted []string) map[string]bool {
	all := map[string]bool{}
	for _, name := range consulted {
		values := b.facts.fields[name][what]
		if values == nil {
			return nil
		}
		maps.Copy(all, values)
	}
	return all
}

// reach are the tenants that callers with one of these can act for, and those that they
// can read. nil: any.
func (b *builder) reach(tenants map[string]bool) (exact, readable map[string]bool) {
	if tenants == nil {
		return nil, nil
	}
	exact, readable = map[string]bool{}, map[string]bool{}
	for tenant := range tenants {
		if t := b.tenancy; t != nil && t.Wildcard != "" && tenant == t.Wildcard {
			if b.gate.SelectHeader != "" {
				return nil, nil
			}
			readable = nil
			tenant = t.Default
		}
		for _, one := range b.tenancy.Readable(tenant) {
			if readable != nil {
				readable[one] = true
			}
			if one == tenant || b.gate.SelectHeader != "" {
				exact[one] = true
			}
		}
	}
	return exact, readable
}

func (b *builder) askForAny(what fact, values *policy.Templates, possible *possible, in setting) {
	for i := range values.Values {
		t := &values.Values[i]
		at := func() policy.Position { return t.At }
		switch value, literal := t.Literal(); {
		case b.isWildcard(value):
		case literal:
			b.askFor(what, value, possible, at, in)
		case len(possible.set) == 0: // so that what the request says is of no matter
			b.askFor(what, t.String(), possible, at, in)
		}
	}
}

// isWildcard: that a wildcard as a value never holds is told elsewhere.
func (b *builder) isWildcard(value string) bool {
	return b.tenancy != nil && b.tenancy.Wildcard != "" && value == b.tenancy.Wildcard
}

const (
	maxNamed     = 10  // how many values a remedy names
	maxSuggested = 100 // how many warnings look for what was meant, which takes time
)

func (b *builder) askFor(what fact, value string, possible *possible, at func() policy.Position, in setting) {
	if possible.any || possible.set[value] {
		return
	}
	near, names := "", possible.names
	if b.facts.unreachable++; b.facts.unreachable <= maxSuggested {
		near = closest(value, names)
	}
	noun := what.noun()
	remedy := fmt.Sprintf("the %ss here are %s", noun, list(names[:min(len(names), maxNamed)]))
	switch {
	case near != "":
		remedy = "did you mean " + quote(near) + "?"
	case len(names) == 0:
		remedy = fmt.Sprintf("map %ss under principal of an authenticator", noun)
		if what == factRole || what == factScope {
			remedy += ", or add a grant"
		}
	case len(names) > maxNamed:
		remedy = fmt.Sprintf("the %ss here are %s and %d more", noun, list(names[:maxNamed]), len(names)-maxNamed)
	}
	giver := "no mapping or key can give"
	if what == factRole || what == factScope {
		giver = "no mapping or grant can give"
	}
	b.warnf(ruleUnreachable, at(), remedy, "%s asks for %s %s, which %s", in.what, noun, quote(value), giver)
}
