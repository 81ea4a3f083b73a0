package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// RefreshTokenOptions are the settings of a [RefreshToken].
type RefreshTokenOptions struct {
	Stamp            Stamp
	VerifyWith       Verifier // of what comes back
	ClientID         string
	ClientSecret     Secret
	RequiredScope    string // that introspection must show; "": none
	TokenURL         string // "": as discovered
	IntrospectionURL string // "": as discovered
	Remote           RemoteOptions
}

// RefreshToken takes offline tokens: refresh tokens (RFC 6749 §6) that clients present
// as if they were access tokens. One is introspected, exchanged for an access token,
// and that is verified like any other and is what the upstream gets.
type RefreshToken struct {
	exchanger
	options RefreshTokenOptions
}

// NewRefreshToken checks options.
func NewRefreshToken(options RefreshTokenOptions) (*RefreshToken, error) {
	if options.VerifyWith.Issuer == nil {
		return nil, errors.New("a verifier is needed")
	}
	if options.ClientID == "" || options.ClientSecret.Empty() {
		return nil, errors.New("client_id and client_secret are needed")
	}
	p, err := newProvider(options.Remote)
	if err != nil {
		return nil, err
	}
	e, err := newEndpoints(options.TokenURL, options.IntrospectionURL, true, options.VerifyWith.Issuer, p)
	if err != nil {
		return nil, err
	}
	return &RefreshToken{
		exchanger: exchanger{provider: p, endpoints: e, verifier: options.VerifyWith.authenticator(), stamp: options.Stamp},
		options:   options,
	}, nil
}

// Takes tells whether a JWT that says p of itself is a refresh token of the issuer.
func (r *RefreshToken) Takes(p Peek) bool {
	if p.PayloadType != "Offline" && p.PayloadType != "Refresh" {
		return false
	}
	return r.options.VerifyWith.Issuer.options.AnyIssuer || p.HasIssuer && r.options.VerifyWith.Issuer.takesIssuer(p.Issuer)
}

// Authenticate implements [Authenticator].
func (r *RefreshToken) Authenticate(ctx context.Context, in *Input) Result {
	key := in.cacheKey(r.provider.options.CacheKeys, in.Value)
	if result, ok := r.remembered(ctx, key, in); ok {
		return result
	}
	if in.Local {
		return Refuse(policy.ReasonProviderUnavailable, errLocal)
	}
	own := exchangeInput{*in, time.Now()}
	return r.ask(ctx, key, in.Now, func(ctx context.Context) verdict { return r.question(ctx, own) })
}

func (r *RefreshToken) question(ctx context.Context, in exchangeInput) verdict {
	address, err := r.endpoints.introspectionURL(ctx)
	if err != nil {
		return unavailable(err)
	}
	id, secret := r.options.ClientID, r.options.ClientSecret
	claims, v := introspect(ctx, r.provider, address, id, secret, in.Value, "refresh_token", in.now())
	if claims == nil {
		return v
	}
	if want := r.options.RequiredScope; want != "" {
		scope, _ := claims["scope"].(string)
		if !slices.Contains(strings.Split(scope, " "), want) {
			return refused(policy.ReasonClaimMissing, fmt.Errorf("introspecting: the token does not have the scope %q", want))
		}
	}
	if address, err = r.endpoints.tokenURL(ctx); err != nil {
		return unavailable(err)
	}
	request, err := form(ctx, address, id, secret, "grant_type", "refresh_token", "refresh_token", in.Value)
	if err != nil {
		return unavailable(fmt.Errorf("exchanging: %w", err))
	}
	return r.obtain(ctx, request, in, "invalid_grant")
}
