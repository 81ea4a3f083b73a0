package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// TokenOptions are the settings of a [Token].
type TokenOptions struct {
	Stamp Stamp
	View  *tokens.View // of the store that has the tokens

	// Directory gives tokens the roles and attributes that their owner was last seen
	// with, and the roles granted to the owner; false: what the owner had when the
	// token was made.
	Directory bool
}

// Token verifies the opaque tokens that gatehouse gives out. Unknown, revoked,
// expired and mistyped ones are refused with a reason each; so is every token of an
// owner who is disabled.
type Token struct {
	options    TokenOptions
	identities *otter.Cache[string, *tokenIdentity]
}

// tokenIdentity is what was made of a record, for as long as it is the record.
type tokenIdentity struct {
	token    *tokens.Token
	owner    *tokens.Person
	identity *Identity
}

// tokenIdentities is how many are kept: as many as a [tokens.View] keeps records.
const tokenIdentities = 100_000

// NewToken makes a Token.
func NewToken(options TokenOptions) (*Token, error) {
	if options.View == nil {
		return nil, errors.New("a store is needed")
	}
	return &Token{
		options:    options,
		identities: otter.Must(&otter.Options[string, *tokenIdentity]{MaximumSize: tokenIdentities}),
	}, nil
}

// Authenticate implements [Authenticator].
func (t *Token) Authenticate(ctx context.Context, in *Input) Result {
	record, owner, reason, err := findToken(ctx, t.options.View, in.Value, tokens.APIToken, in.Now, in.Local)
	if record == nil {
		return Refuse(reason, err)
	}
	kept, ok := t.identities.GetIfPresent(record.ID)
	if !ok || kept.token != record || kept.owner != owner {
		p := principalOf(record)
		if t.options.Directory {
			p.Roles, p.Attributes = rolesOf(owner)
		}
		kept = &tokenIdentity{token: record, owner: owner, identity: &Identity{Principal: t.options.Stamp.Principal(p), Issued: record.CreatedAt}}
		t.identities.Set(record.ID, kept)
	}
	return Result{Identity: kept.identity}
}

// rolesOf is what an owner whom the directory may not know has by now.
func rolesOf(owner *tokens.Person) ([]string, map[string]policy.Attribute) {
	if owner == nil {
		return nil, nil
	}
	return union(owner.Roles, owner.Granted), owner.Attributes
}

// findToken finds a record that may be used, and its owner, who is nil if the
// directory does not know them. Without a record there is a reason.
func findToken(ctx context.Context, view *tokens.View, text string, kind tokens.Kind, now time.Time, local bool) (*tokens.Token, *tokens.Person, policy.Reason, error) {
	record, reason := view.Token(ctx, text, kind, now, local)
	if record == nil {
		err := view.Ready(now)
		if credential, ok := tokens.ParseCredential(text); ok && err == nil {
			err = fmt.Errorf("%s %s", kind, credential.ID())
		}
		return nil, nil, reason, err
	}
	owner, known := view.Person(ctx, record.Owner, now, local)
	switch {
	case !known:
		return nil, nil, policy.ReasonStoreUnavailable, fmt.Errorf("%s %s: looking up its owner", kind, record.ID)
	case owner != nil && owner.Disabled():
		return nil, nil, policy.ReasonPrincipalDisabled, fmt.Errorf("%s %s: its owner is disabled", kind, record.ID)
	}
	return record, owner, policy.ReasonNone, nil
}

// principalOf is whom a record stands for.
func principalOf(t *tokens.Token) policy.Principal {
	return policy.Principal{
		Issuer: t.Owner.Issuer, Subject: t.Owner.Subject, Username: t.Username, TokenID: t.ID, Tenant: t.Tenant,
		Roles: t.Roles, Scopes: t.Scopes, Attributes: t.Attributes, Expires: t.ExpiresAt,
	}
}

// StoredKeys are the API keys of a store. It is a [KeyStore].
type StoredKeys struct{ View *tokens.View }

// LookupKey implements [KeyStore].
func (s StoredKeys) LookupKey(ctx context.Context, key string, now time.Time) (*policy.Principal, policy.Reason, error) {
	record, _, reason, err := findToken(ctx, s.View, key, tokens.APIKey, now, false)
	switch {
	case reason == policy.ReasonTokenMalformed || reason == policy.ReasonTokenUnknown:
		return nil, policy.ReasonKeyUnknown, nil
	case reason.Outcome() == policy.Unavailable:
		return nil, reason, errors.Join(errStore, err)
	case record == nil:
		return nil, reason, nil
	}
	p := principalOf(record)
	return &p, policy.ReasonNone, nil
}

var errStore = errors.New("the store cannot be asked")
