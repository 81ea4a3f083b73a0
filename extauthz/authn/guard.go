package authn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Guard has a say about everybody whom an [Entry] verified: what others issued may
// have been revoked here, and people may be disabled or unknown in the directory. It
// does no I/O about those it met before.
type Guard struct {
	View        *tokens.View
	Revocations bool              // what was issued by others may have been revoked
	Directory   *tokens.Directory // people are looked up; nil: they are not
}

var (
	errRevoked  = errors.New("a revocation covers it")
	errUntold   = errors.New("the store has not been heard of, so it may be revoked")
	errDisabled = errors.New("disabled in the directory")
	errUnknown  = errors.New("not in the directory, and provisioning is off")
)

// admit gives the identity that goes on, with the roles of the directory, or refuses.
func (g *Guard) admit(ctx context.Context, id *Identity, now time.Time, local bool) Result {
	p := id.Principal
	if g.Revocations {
		owner := tokens.OwnerOf(p)
		switch g.View.Standing(owner.Issuer, owner.Subject, p.Tenant, p.TokenID, id.Issued, now) {
		case tokens.Good:
		case tokens.Revoked:
			return Refuse(policy.ReasonTokenRevoked, errRevoked)
		default:
			return Refuse(policy.ReasonStoreUnavailable, errUntold)
		}
	}
	if g.Directory == nil {
		return Result{Identity: id}
	}
	granted, reason, ok := g.Directory.Admit(ctx, p, now, local)
	switch {
	case !ok && reason == policy.ReasonPrincipalDisabled:
		return Refuse(reason, errDisabled)
	case !ok && reason == policy.ReasonPrincipalUnknown:
		return Refuse(reason, errUnknown)
	case !ok:
		return Refuse(reason, g.View.Ready(now))
	case len(granted) == 0:
		return Result{Identity: id}
	}
	return Result{Identity: id.widened(granted)}
}

// A widening is an identity with more roles, kept for as long as they are the same.
type widening struct {
	granted  []string
	identity *Identity
}

// widened is id with the granted roles. The list is the directory's: equal lists are
// one, until the directory changes.
func (id *Identity) widened(granted []string) *Identity {
	if kept := id.more.Load(); kept != nil && len(kept.granted) == len(granted) && &kept.granted[0] == &granted[0] {
		return kept.identity
	}
	p := *id.Principal
	p.Roles = union(p.Roles, granted)
	wider := &Identity{Principal: &p, exchanged: id.exchanged, Issued: id.Issued}
	id.more.Store(&widening{granted: granted, identity: wider})
	return wider
}

// union is a and what b has more.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, one := range b {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}
