package extauthz

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// derived is what a snapshot computes of an identity once, kept in
// [authn.Identity.Derived]: the principal with its tenants and grants, and what the
// answers to its requests are made of. Identities live longer than snapshots, so that
// a snapshot believes only what it derived itself.
type derived struct {
	owner     *Snapshot
	principal *policy.Principal
	metadata  []byte // about the principal, as entries of a Struct

	// upstreams are those that hold for further requests; of several that fit none or
	// any may be there.
	upstreams [maxUpstreams]atomic.Pointer[upstream]
	next      atomic.Uint32
}

// maxUpstreams is how many ways to go on are kept of one identity. Nearly all
// configurations have one profile, some have two or three.
const maxUpstreams = 4

// derive gives what s makes of id.
func (s *Snapshot) derive(id *authn.Identity) *derived {
	kept := id.Derived.Load()
	if kept != nil {
		if d, ok := (*kept).(*derived); ok && d.owner == s {
			return d
		}
	}
	d := s.derivePrincipal(s.complete(id.Principal))
	var box any = d
	id.Derived.Store(&box)
	return d
}

// complete gives the principal with its readable tenants and what grants add.
// It is p itself where that changes nothing, as with most principals of a configuration
// without nested tenants: of a hundred thousand, a second copy each is 25 MB.
func (s *Snapshot) complete(p *policy.Principal) *policy.Principal {
	resolved := s.config.Tenancy.Resolve(*p, p.Wildcard)
	if resolved.Tenant == p.Tenant && resolved.Wildcard == p.Wildcard && resolved.WildcardOwner == p.WildcardOwner && slices.Equal(resolved.Tenants, p.Tenants) {
		resolved = p
	}
	return s.config.Grants.Apply(resolved)
}

func (s *Snapshot) derivePrincipal(p *policy.Principal) *derived {
	return &derived{owner: s, principal: p, metadata: slices.Clone(appendPrincipalMetadata(nil, p))} // without the room to grow
}

// upstream gives what requests of the identity are sent on with.
func (d *derived) upstream(p *profile, kept keptCredential, r *policy.Request, m policy.Match, now time.Time) *upstream {
	for i := range d.upstreams {
		if u := d.upstreams[i].Load(); u != nil && u.fits(p, kept, r.Host, now) {
			return u
		}
	}
	u, reuse := p.upstream(d.principal, kept, r, m, now)
	if reuse {
		d.upstreams[d.next.Add(1)%maxUpstreams].Store(u)
	}
	return u
}
