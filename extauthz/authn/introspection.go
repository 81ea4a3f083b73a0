package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// IntrospectionOptions say whom an [Introspection] asks and what it makes of the answer.
type IntrospectionOptions struct {
	URL          string
	ClientID     string
	ClientSecret Secret

	CacheFor  time.Duration // of an active answer, never past its exp; 0: not kept
	Audiences []string      // of which aud must hold one; empty: not checked
	Mapping   *Mapping
	Remote    RemoteOptions
}

// Introspection verifies opaque tokens of others by asking their authorization server
// (RFC 7662).
type Introspection struct {
	*provider
	options IntrospectionOptions
}

// NewIntrospection checks options.
func NewIntrospection(options IntrospectionOptions) (*Introspection, error) {
	if _, err := parseRemoteURL(options.URL); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if options.ClientID == "" || options.ClientSecret.Empty() {
		return nil, errors.New("client_id and client_secret are needed")
	}
	if options.Mapping == nil {
		return nil, errors.New("a mapping is needed")
	}
	r, err := newProvider(options.Remote)
	if err != nil {
		return nil, err
	}
	return &Introspection{provider: r, options: options}, nil
}

// Authenticate implements [Authenticator].
//
// The answer is kept for at most CacheFor and never past its exp. A token that is not
// active is [policy.ReasonTokenInactive]; a server that is slow, down or not JSON is
// [policy.ReasonProviderUnavailable], never kept.
func (i *Introspection) Authenticate(ctx context.Context, in *Input) Result {
	key := in.cacheKey(i.provider.options.CacheKeys, in.Value)
	if result, ok := i.known(key, in.Now); ok {
		return result
	}
	if in.Local {
		return Refuse(policy.ReasonProviderUnavailable, errLocal)
	}
	token, now := in.Value, in.Now
	return i.ask(ctx, key, now, func(ctx context.Context) verdict {
		claims, v := introspect(ctx, i.provider, i.options.URL, i.options.ClientID, i.options.ClientSecret, token, "access_token", now)
		if claims == nil {
			return v
		}
		return i.identify(claims, now)
	})
}

var errLocal = errors.New("nothing is known of it, and nobody may be asked here")

// introspect asks about token (RFC 7662 §2.1). Claims come with an active answer that
// holds at now; otherwise the verdict says why there are none.
func introspect(ctx context.Context, r *provider, address, id string, secret Secret, token, hint string, now time.Time) (Claims, verdict) {
	request, err := form(ctx, address, id, secret, "token", token, "token_type_hint", hint)
	if err != nil {
		return nil, unavailable(fmt.Errorf("introspecting: %w", err))
	}
	answer, err := r.do(request)
	if err != nil {
		return nil, unavailable(fmt.Errorf("introspecting: %w", err))
	}
	if answer.status != http.StatusOK {
		// 401 is about us, not about the token (RFC 7662 §2.3).
		return nil, unavailable(fmt.Errorf("introspecting: status %d", answer.status))
	}
	document, err := DecodeObject(answer.body)
	if err != nil {
		return nil, unavailable(fmt.Errorf("introspecting: %w", err))
	}
	active, ok := document["active"].(bool)
	switch {
	case !ok:
		return nil, unavailable(errors.New("introspecting: the answer does not say whether the token is active"))
	case !active:
		return nil, refused(policy.ReasonTokenInactive, nil)
	}
	claims := Claims(document)
	reason, err := holds(claims, now)
	if err != nil {
		return nil, refused(reason, err)
	}
	return claims, verdict{}
}

// holds checks the times of an active answer. Servers differ in whether they look.
func holds(claims Claims, now time.Time) (policy.Reason, error) {
	expires, hasExpires, err := claims.date("exp")
	if err != nil {
		return policy.ReasonClaimType, err
	}
	notBefore, hasNotBefore, err := claims.date("nbf")
	if err != nil {
		return policy.ReasonClaimType, err
	}
	switch {
	case hasExpires && !now.Before(expires):
		return policy.ReasonExpired, errors.New("the answer is active and past its exp")
	case hasNotBefore && now.Before(notBefore):
		return policy.ReasonNotYetValid, errors.New("the answer is active and before its nbf")
	}
	return policy.ReasonNone, nil
}

// Identify gives what comes of claims as if the server had answered with them. It is for
// tests of a configuration.
func (i *Introspection) Identify(claims Claims) Result {
	return i.identify(claims, time.Time{}).Result
}

func (i *Introspection) identify(claims Claims, now time.Time) verdict {
	if len(i.options.Audiences) > 0 {
		audiences, err := claims.audiences()
		if err != nil {
			return refused(policy.ReasonClaimType, err)
		}
		if !intersect(audiences, i.options.Audiences) {
			return refused(policy.ReasonAudienceMismatch, errors.New("the token is for another audience"))
		}
	}
	principal, reason, err := i.options.Mapping.Principal(claims)
	if err != nil {
		return refused(reason, err)
	}
	if err := named(principal); err != nil {
		return refused(policy.ReasonClaimMissing, err)
	}
	principal.Issuer, _ = claims["iss"].(string)
	principal.TokenID, _ = claims["jti"].(string)
	principal.Expires, _, _ = claims.date("exp")
	return kept(&Identity{Principal: principal}, now, i.options.CacheFor)
}

// kept is a good verdict that is remembered for at most cacheFor and never past the
// principal's expiry.
func kept(identity *Identity, now time.Time, cacheFor time.Duration) verdict {
	until := now.Add(cacheFor)
	if expires := identity.Principal.Expires; !expires.IsZero() && expires.Before(until) {
		until = expires
	}
	return verdict{Result: Result{Identity: identity}, until: until}
}

// named makes the username the subject where nothing else is. Somebody without either
// is nobody.
func named(p *policy.Principal) error {
	if p.Subject == "" {
		p.Subject = p.Username
	}
	if p.Subject == "" {
		return errors.New("the answer names neither a subject nor a username")
	}
	return nil
}

func intersect(a, b []string) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}
