package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// exchangeSkew is how long before its expiry an access token is exchanged anew, so
	// that the upstream does not see it expire; for short-lived ones half of their life.
	exchangeSkew = 30 * time.Second

	// exchangedFor bounds how long an exchange counts: a credential that was revoked at
	// its provider is noticed after at most this long.
	exchangedFor = 5 * time.Minute
)

const bearerPrefix = "Bearer "

// A Verifier is where exchanged access tokens are verified.
type Verifier struct {
	Issuer *JWT          // of the tokens, which is asked
	Whole  Authenticator // that Issuer is a part of, such as a [KeyClaim]; nil: Issuer itself
}

func (v Verifier) authenticator() Authenticator {
	if v.Whole != nil {
		return v.Whole
	}
	return v.Issuer
}

// An exchanger turns credentials into access tokens, which are verified like any other.
type exchanger struct {
	*provider
	endpoints *endpoints
	verifier  Authenticator
	stamp     Stamp
}

// remembered gives the identity of an exchange that still holds. Its access token is
// looked at again, which is cheap: its key may have been withdrawn since, or it may
// stand for somebody else now.
func (x *exchanger) remembered(ctx context.Context, key CacheKey, in *Input) (Result, bool) {
	result, ok := x.known(key, in.Now)
	if !ok || result.Identity == nil {
		return result, ok
	}
	again := *in
	again.Value = strings.TrimPrefix(result.Identity.Upstream(), bearerPrefix)
	verified := x.verifier.Authenticate(ctx, &again)
	switch {
	case verified.Identity == nil:
		x.good.Delete(key)
		return Result{}, false
	case verified.Identity != result.Identity.exchanged.verified:
		return Result{Identity: x.identity(verified.Identity, result.Identity.Upstream())}, true
	}
	return result, true
}

// identity is that of a verified access token, as this authenticator's.
func (x *exchanger) identity(verified *Identity, upstream string) *Identity {
	return &Identity{Principal: x.stamp.over(verified.Principal), Issued: verified.Issued, exchanged: &exchanged{upstream, verified}}
}

// An exchangeInput is the input of an exchange, and when it began by our clock.
type exchangeInput struct {
	Input
	begun time.Time
}

// now is in.Now, moved on by what the exchange has taken so far: the token that it gets
// is younger than the request.
func (in *exchangeInput) now() time.Time { return in.Now.Add(time.Since(in.begun)) }

// obtain sends a token request and verifies what comes back. The error codes in blame
// refuse the credential.
func (x *exchanger) obtain(ctx context.Context, request *http.Request, in exchangeInput, blame ...string) verdict {
	got, err := x.endpoints.exchange(request, in.Now, blame)
	switch {
	case errors.Is(err, errRefused):
		return refused(policy.ReasonExchangeRefused, err)
	case err != nil:
		return unavailable(err)
	}
	token := in.Input
	token.Value, token.Local, token.Now = got.token, false, in.now()
	verified := x.verifier.Authenticate(ctx, &token)
	if verified.Identity == nil {
		if verified.Detail != nil {
			verified.Detail = fmt.Errorf("verifying the exchanged token: %w", verified.Detail)
		}
		return verdict{Result: verified}
	}
	expires := verified.Identity.Principal.Expires
	if expires.IsZero() || !got.expires.IsZero() && got.expires.Before(expires) {
		expires = got.expires
	}
	until := in.Now.Add(exchangedFor)
	if !expires.IsZero() {
		lifetime := expires.Sub(in.Now)
		if last := expires.Add(-min(exchangeSkew, lifetime/2)); last.Before(until) {
			until = last
		}
	}
	return verdict{Result: Result{Identity: x.identity(verified.Identity, bearerPrefix+got.token)}, until: until}
}
