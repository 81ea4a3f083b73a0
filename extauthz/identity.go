package extauthz

import (
	"math/rand/v2"
	"sync"
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
	self      any // for [authn.Identity.Derived]
	kind      *kind
	principal *policy.Principal

	// upstreams are those that hold for further requests; of several that fit none or
	// any may be there.
	upstreams [maxUpstreams]atomic.Pointer[upstream]
}

// maxUpstreams is how many ways to go on are kept of one identity. Nearly all
// configurations have one profile, some have two or three.
const maxUpstreams = 4

// A kind is what many identities have in common that one snapshot derived.
type kind struct {
	owner    *Snapshot
	metadata string // about the principal but for its subject, as entries of a Struct
}

// kinds gives equal kinds of one snapshot as one: people differ in their subjects, while
// few tenants and lists of roles occur.
type kinds struct {
	mu sync.Mutex
	m  map[string]*kind // by metadata
}

// maxKinds bounds how many are known to be equal to others; those of more than
// maxKindBytes are not shared.
const (
	maxKinds     = 4096
	maxKindBytes = 1024
)

func (k *kinds) of(owner *Snapshot, metadata []byte) *kind {
	if len(metadata) > maxKindBytes {
		return &kind{owner, string(metadata)}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if known := k.m[string(metadata)]; known != nil {
		return known
	}
	if k.m == nil || len(k.m) >= maxKinds {
		k.m = make(map[string]*kind) // which identities still have stay theirs
	}
	made := &kind{owner, string(metadata)}
	k.m[made.metadata] = made
	return made
}

// derive gives what s makes of id.
func (s *Snapshot) derive(id *authn.Identity) *derived {
	kept := id.Derived.Load()
	if kept != nil {
		if d, ok := (*kept).(*derived); ok && d.kind.owner == s {
			return d
		}
	}
	d := s.derivePrincipal(s.complete(id.Principal))
	d.self = d
	id.Derived.Store(&d.self)
	return d
}

// complete gives the principal with its readable tenants and what grants add.
// It is p itself where that changes nothing, as with most principals of a configuration
// without nested tenants: of a hundred thousand, a second copy each is 25 MB.
func (s *Snapshot) complete(p *policy.Principal) *policy.Principal {
	return s.config.Grants.Apply(s.config.Tenancy.Resolved(p, p.Wildcard))
}

func (s *Snapshot) derivePrincipal(p *policy.Principal) *derived {
	var few [512]byte
	return &derived{kind: s.kinds.of(s, appendKindMetadata(few[:0], p)), principal: p}
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
		d.place(now).Store(u)
	}
	return u
}

// place is where another upstream goes: where there is none or one that is over, else
// anywhere.
func (d *derived) place(now time.Time) *atomic.Pointer[upstream] {
	for i := range d.upstreams {
		if u := d.upstreams[i].Load(); u == nil || u.binding.over(now) {
			return &d.upstreams[i]
		}
	}
	return &d.upstreams[rand.IntN(maxUpstreams)]
}
