package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// ClientCredentialsOptions are the settings of a [ClientCredentials].
type ClientCredentialsOptions struct {
	Stamp      Stamp
	VerifyWith Verifier // of what comes back
	TokenURL   string   // "": as discovered
	Scope      string   // asked for; "": none
	Remote     RemoteOptions
}

// ClientCredentials exchanges a client's id and secret for an access token (RFC 6749
// §4.4), which the upstream gets instead.
type ClientCredentials struct {
	exchanger
	scope    string
	failures *failures
}

// NewClientCredentials checks options.
func NewClientCredentials(options ClientCredentialsOptions) (*ClientCredentials, error) {
	if options.VerifyWith.Issuer == nil {
		return nil, errors.New("a verifier is needed")
	}
	p, err := newProvider(options.Remote)
	if err != nil {
		return nil, err
	}
	e, err := newEndpoints(options.TokenURL, "", false, options.VerifyWith.Issuer, p)
	if err != nil {
		return nil, err
	}
	return &ClientCredentials{
		exchanger: exchanger{provider: p, endpoints: e, verifier: options.VerifyWith.authenticator(), stamp: options.Stamp},
		scope:     options.Scope,
		failures:  newFailures(p.options.CacheKeys),
	}, nil
}

// Authenticate implements [Authenticator]. The credential is that of Basic. Equal ones
// that come at the same time are exchanged once; after some refusals a client that
// comes from where they came from is refused unheard for a while.
func (c *ClientCredentials) Authenticate(ctx context.Context, in *Input) Result {
	key := c.provider.options.CacheKeys.Key(in.Value)
	if result, ok := c.remembered(ctx, key, in); ok {
		return result
	}
	id, secret, err := parseUserPass(in.Value)
	switch {
	case err != nil:
		return Refuse(policy.ReasonCredentialMalformed, err)
	case id == "" || secret == "":
		return Refuse(policy.ReasonCredentialMalformed, errors.New("the client id or its secret is empty"))
	case in.Local:
		return Refuse(policy.ReasonProviderUnavailable, errLocal)
	}
	guesses := c.failures.key(id, in.Request.Source)
	if c.failures.closed(guesses, in.Now) {
		return Refuse(policy.ReasonTooManyFailures, nil)
	}
	own := exchangeInput{*in, time.Now()}
	result := c.ask(ctx, key, in.Now, func(ctx context.Context) verdict {
		return c.question(ctx, id, NewSecret(secret), own)
	})
	switch {
	case result.Reason == policy.ReasonExchangeRefused:
		result.guess = guess{c.failures, guesses}
	case result.Identity != nil:
		c.failures.succeeded(guesses)
	}
	return result
}

func (c *ClientCredentials) question(ctx context.Context, id string, secret Secret, in exchangeInput) verdict {
	address, err := c.endpoints.tokenURL(ctx)
	if err != nil {
		return unavailable(err)
	}
	fields := []string{"grant_type", "client_credentials"}
	if c.scope != "" {
		fields = append(fields, "scope", c.scope)
	}
	request, err := form(ctx, address, id, secret, fields...)
	if err != nil {
		return unavailable(fmt.Errorf("exchanging: %w", err))
	}
	return c.obtain(ctx, request, in, "invalid_client", "unauthorized_client")
}
