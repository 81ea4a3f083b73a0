package policy

import (
	"slices"
	"strings"
)

// Tenancy says how tenants nest. A nil *Tenancy is a configuration without a tenancy
// block: tenants are names, and none is readable from another.
type Tenancy struct {
	Separator string // between the parts of a nested tenant; "": tenants do not nest
	Default   string // readable by everyone; "": none
	Wildcard  string // stands for every tenant; "": none
}

// Resolve completes a principal that an authenticator has mapped: its readable
// tenants, and what the wildcard as a tenant means. trusted says that a wildcard
// counts: the principal is written in the configuration, or its authenticator has
// `wildcard: true`. Otherwise a wildcard is no tenant.
func (t *Tenancy) Resolve(p Principal, trusted bool) *Principal {
	t.resolve(&p, trusted)
	return &p
}

// Resolved is [Tenancy.Resolve], and p itself where that changes nothing.
func (t *Tenancy) Resolved(p *Principal, trusted bool) *Principal {
	r := *p
	t.resolve(&r, trusted)
	if r.Tenant == p.Tenant && r.Wildcard == p.Wildcard && r.WildcardOwner == p.WildcardOwner && slices.Equal(r.Tenants, p.Tenants) {
		return p
	}
	changed := r
	return &changed
}

func (t *Tenancy) resolve(p *Principal, trusted bool) {
	p.Wildcard, p.WildcardOwner = false, false
	if t != nil && t.Wildcard != "" {
		p.WildcardOwner = trusted && p.Username == t.Wildcard
		if p.Tenant == t.Wildcard {
			p.Tenant = ""
			if trusted {
				p.Wildcard, p.Tenant = true, t.Default
			}
		}
	}
	p.Tenants = nil
	p.Tenants = t.readable(p)
}

// Readable lists what a caller of tenant may read: the default first, then from its
// outermost ancestor to itself. No tenant reads nothing.
func (t *Tenancy) Readable(tenant string) []string {
	if tenant == "" {
		return nil
	}
	if t == nil {
		return []string{tenant}
	}
	var list []string
	if t.Default != "" && t.Default != tenant {
		list = append(list, t.Default)
	}
	if t.Separator != "" && t.wellFormed(tenant) {
		for i := 0; ; {
			next := strings.Index(tenant[i:], t.Separator)
			if next < 0 {
				break
			}
			if ancestor := tenant[:i+next]; ancestor != t.Default {
				list = append(list, ancestor)
			}
			i += next + len(t.Separator)
		}
	}
	return append(list, tenant)
}

func (t *Tenancy) readable(p *Principal) []string {
	switch {
	case p.Wildcard:
		return []string{t.wildcard()}
	case p.Tenants != nil:
		return p.Tenants
	}
	return t.Readable(p.Tenant)
}

func (t *Tenancy) wildcard() string {
	if t == nil || t.Wildcard == "" {
		return "*"
	}
	return t.Wildcard
}

// reads reports whether tenant is in what p may read. It allocates nothing, and
// agrees with Readable.
func (t *Tenancy) reads(p *Principal, tenant string) bool {
	switch {
	case tenant == "" || t.isWildcard(tenant):
		return false
	case p.Wildcard && t != nil:
		return true
	case p.Tenant == "":
		return false
	case tenant == p.Tenant:
		return true
	case t == nil:
		return false
	case tenant == t.Default:
		return true
	}
	rest, ok := strings.CutPrefix(p.Tenant, tenant)
	return ok && t.Separator != "" && strings.HasPrefix(rest, t.Separator) && t.wellFormed(p.Tenant) && t.wellFormed(tenant)
}

// isWildcard reports whether tenant is the wildcard, which as a value never holds.
func (t *Tenancy) isWildcard(tenant string) bool {
	return t != nil && t.Wildcard != "" && tenant == t.Wildcard
}

// wellFormed reports whether each part of a nested tenant is a name.
func (t *Tenancy) wellFormed(tenant string) bool {
	for {
		name, rest, more := tenant, "", false
		if t.Separator != "" {
			name, rest, more = strings.Cut(tenant, t.Separator)
		}
		if name == "" || t.isWildcard(name) {
			return false
		}
		if !more {
			return true
		}
		tenant = rest
	}
}

// A Selection is what the headers of tenancy ask for. An empty value asks for nothing.
type Selection struct {
	Tenant      string // select_header
	Username    string // username_header
	Impersonate bool   // the authenticator of the principal may name a user
}

// Select gives the principal that p acts as. If it may not, ok is false and the reason
// is [ReasonTenantNotSelectable] (unauthenticated), or [ReasonSelectionRepeated]
// (malformed) for values that could be two header lines in one.
//
// A caller may act for a tenant that it can read, a wildcard caller for any. That
// clears its username and leaves it with what that tenant reads. Without a principal
// nothing is selected.
func (t *Tenancy) Select(p *Principal, want Selection) (selected *Principal, reason Reason, ok bool) {
	switch {
	case p == nil || want.Tenant == "" && want.Username == "":
		return p, ReasonNone, true
	case !isSelection(want.Tenant) || !isSelection(want.Username):
		return nil, ReasonSelectionRepeated, false
	case t == nil, want.Username != "" && !want.Impersonate:
		return nil, ReasonTenantNotSelectable, false
	}
	as := *p
	if want.Tenant != "" {
		if !t.wellFormed(want.Tenant) || !t.reads(p, want.Tenant) {
			return nil, ReasonTenantNotSelectable, false
		}
		as.Tenant, as.Username = want.Tenant, ""
		as.Wildcard, as.WildcardOwner = false, false
		as.Tenants = t.Readable(want.Tenant)
	}
	if want.Username != "" {
		as.Username = want.Username
		as.WildcardOwner = t.isWildcard(want.Username)
	}
	return &as, ReasonNone, true
}

// isSelection refuses what two header lines look like when Envoy has joined them, and
// what header parsers trim differently.
func isSelection(value string) bool {
	for i := 0; i < len(value); i++ {
		if c := value[i]; c == ',' || c < ' ' || c == 0x7f {
			return false
		}
	}
	return value == strings.TrimSpace(value)
}
