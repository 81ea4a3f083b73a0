package tokens

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// crowd gathers who was seen, so that no request waits for a write.
type crowd struct {
	// last has, by principal as its authenticator's cache holds it, when it was last
	// noted: *policy.Principal to time.Time, no older than a minute or two.
	last  sync.Map
	count atomic.Int64 // of last

	mu      sync.Mutex
	pending map[Owner]sighting
	swept   time.Time
}

// note remembers a sighting, unless there was one of the same principal within the
// last minute.
func (c *crowd) note(owner Owner, p *policy.Principal, now time.Time) {
	last, known := c.last.Load(p)
	if known && now.Sub(last.(time.Time)) < coarse {
		return
	}
	if known || c.count.Load() < maxPending {
		if _, known := c.last.Swap(p, now); !known {
			c.count.Add(1)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = map[Owner]sighting{}
	}
	if len(c.pending) < maxPending {
		c.pending[owner] = sighting{Person: personOf(owner, p), at: now}
	}
}

// sweep lets go of principals that were not noted within the last minute.
func (c *crowd) sweep(now time.Time) {
	c.last.Range(func(p, last any) bool {
		if now.Sub(last.(time.Time)) >= coarse {
			c.last.Delete(p)
			c.count.Add(-1)
		}
		return true
	})
}

// personOf is what the directory keeps of a principal.
func personOf(owner Owner, p *policy.Principal) Person {
	person := Person{
		Owner: owner, Realm: p.Realm, Username: p.Username, Tenant: p.Tenant,
		Roles: p.Roles, Attributes: p.Attributes,
	}
	if email := p.Attributes["email"]; len(email.Values) > 0 {
		person.Email = email.Values[0]
	}
	return person
}

func (c *crowd) take(now time.Time) []sighting {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) >= coarse {
		c.swept = now
		c.sweep(now)
	}
	seen := slices.Collect(maps.Values(c.pending))
	clear(c.pending)
	return seen
}

// putBack returns what could not be written. What came meanwhile is newer.
func (c *crowd) putBack(seen []sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range seen {
		if _, ok := c.pending[one.Owner]; !ok && len(c.pending) < maxPending {
			c.pending[one.Owner] = one
		}
	}
}

// A Directory decides whether those who are verified may go on: it knows who is
// disabled and, without provisioning, who is known at all.
type Directory struct {
	View *View

	// Authenticators are those whose principals are kept. Those of others are looked up
	// all the same, but not recorded, and go on where they are unknown.
	Authenticators map[string]bool
	Provision      bool // unknown people are recorded and go on; else they are refused
}

// Admit looks a verified principal up in the directory, without I/O if it was seen
// before. It returns the roles that the directory adds, or a reason to refuse:
// true means go on.
//
// local asks for no I/O: who is not in memory is then [policy.ReasonStoreUnavailable].
func (d Directory) Admit(ctx context.Context, p *policy.Principal, now time.Time, local bool) (granted []string, reason policy.Reason, ok bool) {
	owner, kept := OwnerOf(p), d.Authenticators[p.Authenticator]
	if owner.IsZero() {
		// Nobody can name such a principal, so nobody can have disabled it.
		return nil, policy.ReasonPrincipalUnknown, d.Provision || !kept
	}
	person, reason := d.View.person(ctx, owner, now, local)
	switch {
	case reason != policy.ReasonNone:
		return nil, reason, false
	case person != nil && person.Disabled():
		return nil, policy.ReasonPrincipalDisabled, false
	case person == nil && kept && !d.Provision:
		return nil, policy.ReasonPrincipalUnknown, false
	}
	if kept && checkOwner(owner) == nil {
		d.View.seen.note(owner, p, now)
	}
	if person == nil {
		return nil, policy.ReasonNone, true
	}
	return person.Granted, policy.ReasonNone, true
}

// person finds somebody, nil if the directory does not know them. A reason other
// than none means that it could not be told.
func (v *View) person(ctx context.Context, owner Owner, now time.Time, local bool) (*Person, policy.Reason) {
	if !v.knows(now) {
		return nil, policy.ReasonStoreUnavailable
	}
	person, ok := v.people.peek(owner)
	if !ok {
		if local || checkOwner(owner) != nil {
			return nil, policy.ReasonStoreUnavailable
		}
		var err error
		if person, err = v.people.get(ctx, owner); err != nil {
			return nil, policy.ReasonStoreUnavailable
		}
	}
	return person, policy.ReasonNone
}

// Person finds an owner as the directory has it, without I/O if it was found before;
// nil if the directory does not know it. False means that it could not be told.
func (v *View) Person(ctx context.Context, owner Owner, now time.Time, local bool) (person *Person, known bool) {
	person, reason := v.person(ctx, owner, now, local)
	return person, reason == policy.ReasonNone
}
