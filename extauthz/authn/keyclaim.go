package authn

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// KeyClaimOptions are the settings of a [KeyClaim].
type KeyClaimOptions struct {
	JWT      JWTOptions    // Map makes the principal of tokens that carry no key
	Claim    string        // of the key; empty, or of another type than text, it counts as absent
	Keys     Authenticator // that knows the keys
	FallBack bool          // a key that is not good leaves the token's own principal; else it refuses
}

// KeyClaim verifies JWTs that may carry an API key in a claim. With a good key, the
// key is who calls, and the token is only its envelope: what the token lacks for a
// principal of its own does not matter then.
type KeyClaim struct {
	options KeyClaimOptions
	token   *JWT
	carried *Cache[*carriedKey]
}

// carriedKey is what a verified token says.
type carriedKey struct {
	key      Secret // empty: none
	own      Result // of the token without the key
	expires  time.Time
	combined atomic.Pointer[combinedKey]
}

// combinedKey is a key's principal, which does not outlive the token.
type combinedKey struct{ key, identity *Identity }

// NewKeyClaim checks options. The token's keys are the caller's to start;
// [KeyClaim.Token] gives what is to be closed.
func NewKeyClaim(options KeyClaimOptions) (*KeyClaim, error) {
	switch {
	case options.Claim == "":
		return nil, errors.New("the claim has no name")
	case options.Keys == nil:
		return nil, errors.New("an authenticator that knows the keys is needed")
	case options.JWT.Map == nil:
		return nil, errors.New("a mapping is needed")
	}
	own := options.JWT
	own.Map = func(Claims) (*policy.Principal, policy.Reason, error) {
		return &policy.Principal{}, policy.ReasonNone, nil
	}
	token, err := NewJWT(own)
	if err != nil {
		return nil, err
	}
	return &KeyClaim{options: options, token: token, carried: NewCache[*carriedKey](token.options.CacheEntries)}, nil
}

// Token is the verifier of the tokens. The principals that it makes are nobody.
func (k *KeyClaim) Token() *JWT { return k.token }

// Takes is that of the tokens.
func (k *KeyClaim) Takes(p Peek) bool { return k.token.Takes(p) }

func (k *KeyClaim) keysOfCache() *CacheKeys { return k.token.cacheKeys }

// Cached gives what a token that was verified says of itself, and no identity: the
// key is looked at each time.
func (k *KeyClaim) Cached(key CacheKey, now time.Time) (*Identity, Peek, bool) {
	_, peek, ok := k.token.Cached(key, now)
	return nil, peek, ok
}

// Authenticate implements [Authenticator]. An outage of the key store is an outage,
// whatever FallBack says.
func (k *KeyClaim) Authenticate(ctx context.Context, in *Input) Result {
	cacheKey := in.cacheKey(k.token.cacheKeys, in.Value)
	verified, _, ok := k.token.Cached(cacheKey, in.Now)
	if !ok {
		result := k.token.Authenticate(ctx, in)
		if verified = result.Identity; verified == nil {
			return result
		}
	}
	carried, err := k.read(cacheKey, in, verified)
	if err != nil {
		return Refuse(policy.ReasonInternal, err)
	}
	if carried.key.Empty() {
		return carried.own
	}
	return k.choose(ctx, in, carried)
}

// Identify gives what comes of claims as if a token with them had been verified, as
// [JWT.Identify] does: a good key among them is who calls. It is for tests of a
// configuration.
func (k *KeyClaim) Identify(claims Claims) Result {
	verified := k.token.Identify(claims)
	if verified.Identity == nil {
		return verified
	}
	carried := k.carry(claims, verified.Identity)
	if carried.key.Empty() {
		return carried.own
	}
	return k.choose(context.Background(), &Input{Request: &policy.Request{}, Now: time.Now()}, carried)
}

// choose decides between a key and the token that carries it.
func (k *KeyClaim) choose(ctx context.Context, in *Input, carried *carriedKey) Result {
	token, scheme := in.Value, in.Scheme
	in.Value, in.Scheme = carried.key.Reveal(), ""
	result := k.options.Keys.Authenticate(ctx, in)
	in.Value, in.Scheme = token, scheme
	switch {
	case result.Identity != nil:
		return Result{Identity: carried.combine(result.Identity)}
	case result.Reason.Outcome() == policy.Unauthenticated && k.options.FallBack:
		own := carried.own
		if own.Identity != nil {
			own.Detail = fmt.Errorf("the key in claim %q is not good (%v): the token itself counts", k.options.Claim, result.Reason)
		}
		return own
	}
	return result
}

// read gives what a verified token says.
func (k *KeyClaim) read(cacheKey CacheKey, in *Input, verified *Identity) (*carriedKey, error) {
	if carried, ok := k.carried.Get(cacheKey, in.Now); ok {
		return carried, nil
	}
	token, _, err := in.parseJWS(in.Value, k.token.options.MaxTokenBytes)
	if err != nil {
		return nil, fmt.Errorf("reading a verified token: %w", err)
	}
	carried := k.carry(token.claims, verified)
	until := in.Now.Add(noExpiry)
	if !carried.expires.IsZero() {
		until = carried.expires.Add(k.token.options.Leeway)
	}
	k.carried.Put(cacheKey, carried, until, in.Now)
	return carried, nil
}

// carry takes the key and the token's own principal from verified claims.
func (k *KeyClaim) carry(claims Claims, verified *Identity) *carriedKey {
	envelope := verified.Principal
	carried := &carriedKey{expires: envelope.Expires}
	if key, _ := claims[k.options.Claim].(string); key != "" {
		carried.key = NewSecret(key)
	}
	principal, reason, err := k.options.JWT.Map(claims)
	switch {
	case err != nil || principal == nil:
		carried.own = sound(Refuse(reason, err))
	default:
		complete := *principal
		complete.Issuer, complete.TokenID, complete.Expires = envelope.Issuer, envelope.TokenID, envelope.Expires
		carried.own = Result{Identity: &Identity{Principal: &complete, Issued: verified.Issued}}
	}
	return carried
}

// combine gives the identity of a key that came in this token.
func (c *carriedKey) combine(key *Identity) *Identity {
	expires := key.Principal.Expires
	if c.expires.IsZero() || !expires.IsZero() && expires.Before(c.expires) {
		return key
	}
	if last := c.combined.Load(); last != nil && last.key == key {
		return last.identity
	}
	p := *key.Principal
	p.Expires = c.expires
	combined := &combinedKey{key: key, identity: &Identity{Principal: &p, Issued: key.Issued}}
	c.combined.Store(combined)
	return combined.identity
}
