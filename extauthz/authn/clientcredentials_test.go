package authn

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func TestClientCredentials(t *testing.T) {
	p := startProvider(t)
	verifier := p.verifier(t)
	fresh := func(t *testing.T) *ClientCredentials {
		t.Helper()
		c, err := NewClientCredentials(ClientCredentialsOptions{
			Stamp: Stamp{Authenticator: "cli", Realm: "cli"}, VerifyWith: Verifier{Issuer: verifier}, TokenURL: p.Server.URL + "/token",
			Remote: RemoteOptions{Timeout: 300 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	input := func(value string, at time.Duration) *Input {
		r := request()
		r.Source = netip.MustParseAddr("10.0.0.1")
		return &Input{Value: value, Request: r, Now: time.Now().Add(at)}
	}
	// The client of the provider has a colon in its id, which Basic cannot carry: there is
	// another one here.
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id == "cli" && secret == "s%3Acret" {
			r.SetBasicAuth("api%3A1%2F%C3%BC", "s%25cret%2B%3A")
		}
		p.token(w, r)
	})
	right := userPass("cli:s:cret")

	t.Run("a good client, exchanged once", func(t *testing.T) {
		c := fresh(t)
		before := p.calls.Load()
		for range 3 {
			got := c.Authenticate(t.Context(), input(right, 0))
			if got.Identity == nil {
				t.Fatalf("Authenticate = %v (%v)", got.Reason, got.Detail)
			}
			if q := got.Identity.Principal; q.Subject != "alice" || q.Authenticator != "cli" || q.Realm != "cli" || q.Issuer != p.issuer.URL() {
				t.Errorf("the principal is %+v", q)
			}
			if !strings.HasPrefix(got.Identity.Upstream(), "Bearer ey") {
				t.Errorf("the upstream gets %q", got.Identity.Upstream())
			}
		}
		if n := p.calls.Load() - before; n != 1 {
			t.Errorf("%d calls", n)
		}
		before = p.calls.Load()
		if got := c.Authenticate(t.Context(), input(right, 271*time.Second)); got.Identity == nil || p.calls.Load() != before+1 {
			t.Errorf("before the token expires: %v after %d calls", got.Reason, p.calls.Load()-before)
		}
	})
	for _, tt := range []struct {
		name, credential string
		reason           policy.Reason
		access, answer   map[string]any
	}{
		{"a wrong secret", userPass("cli:wrong"), policy.ReasonExchangeRefused, nil, nil},
		{"an unknown client", userPass("nobody:s:cret"), policy.ReasonExchangeRefused, nil, nil},
		{"an empty secret", userPass("cli:"), policy.ReasonCredentialMalformed, nil, nil},
		{"an empty client", userPass(":x"), policy.ReasonCredentialMalformed, nil, nil},
		{"no base64", "%%%", policy.ReasonCredentialMalformed, nil, nil},
		{"a token for others", right, policy.ReasonAudienceMismatch, map[string]any{"aud": "others"}, nil},
		{"a token that is none", right, policy.ReasonTokenMalformed, nil, map[string]any{"access_token": "opaque"}},
		{"a token of another type", right, policy.ReasonProviderUnavailable, nil, map[string]any{"token_type": "mac"}},
		{"no token", right, policy.ReasonProviderUnavailable, nil, map[string]any{"access_token": nil}},
		{"a lifetime that is none", right, policy.ReasonProviderUnavailable, nil, map[string]any{"expires_in": "soon"}},
		{"a negative lifetime", right, policy.ReasonProviderUnavailable, nil, map[string]any{"expires_in": -1}},
		{"a lifetime beyond all clocks", right, 0, nil, map[string]any{"expires_in": 1 << 40}},
		{"a lifetime as a text", right, 0, nil, map[string]any{"expires_in": "300"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.mu.Lock()
			p.access, p.answer = tt.access, tt.answer
			p.mu.Unlock()
			got := fresh(t).Authenticate(t.Context(), input(tt.credential, 0))
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
				t.Errorf("Authenticate = %v, %v (%v), want %v", got.Identity, got.Reason, got.Detail, tt.reason)
			}
		})
	}
	p.access, p.answer = nil, nil

	t.Run("our own mistakes are outages", func(t *testing.T) {
		token := p.broken.Load()
		defer p.breaks(*token)
		for _, code := range []string{"invalid_scope", "unsupported_grant_type", "invalid_request", ""} {
			p.breaks(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"error": %q}`, code)
			})
			if got := fresh(t).Authenticate(t.Context(), input(right, 0)); got.Reason != policy.ReasonProviderUnavailable {
				t.Errorf("%q: %v", code, got.Reason)
			}
		}
	})
	t.Run("a gateway is no password oracle", func(t *testing.T) {
		c := fresh(t)
		for n := range freeFailures {
			got := c.Authenticate(t.Context(), input(userPass(fmt.Sprint("cli:guess-", n)), 0))
			if got.Reason != policy.ReasonExchangeRefused {
				t.Fatalf("guess %d: %v", n, got.Reason)
			}
			got.guess.count(time.Now())
		}
		before := p.calls.Load()
		if got := c.Authenticate(t.Context(), input(userPass("cli:guess-more"), 0)); got.Reason != policy.ReasonTooManyFailures || p.calls.Load() != before {
			t.Errorf("after %d guesses: %v", freeFailures, got.Reason)
		}
		elsewhere := input(right, 0)
		elsewhere.Request.Source = netip.MustParseAddr("10.0.0.2")
		if got := c.Authenticate(t.Context(), elsewhere); got.Identity == nil {
			t.Errorf("the client from elsewhere: %v", got.Reason)
		}
	})
	t.Run("a key that was withdrawn takes the exchange with it", func(t *testing.T) {
		c := fresh(t)
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil {
			t.Fatalf("Authenticate = %v (%v)", got.Reason, got.Detail)
		}
		old := p.issuer.Current()
		if _, err := p.issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		p.issuer.Withdraw(old.ID)
		if err := verifier.Keys().Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := p.calls.Load()
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil || p.calls.Load() != before+1 {
			t.Errorf("Authenticate = %v (%v) after %d calls", got.Reason, got.Detail, p.calls.Load()-before)
		}
	})
	t.Run("outages", func(t *testing.T) {
		repaired := p.broken.Load()
		c := fresh(t)
		for name, h := range outages {
			p.breaks(h)
			for range 2 {
				if got := c.Authenticate(t.Context(), input(right, 0)); got.Reason != policy.ReasonProviderUnavailable {
					t.Errorf("%s: %v (%v)", name, got.Reason, got.Detail)
				}
			}
		}
		p.breaks(*repaired)
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil {
			t.Errorf("afterwards: %v (%v)", got.Reason, got.Detail)
		}
	})
}

// TestExchangedTokenIsYoungerThanTheRequest proves that a token which is issued while
// the exchange goes on is not one from the future.
func TestExchangedTokenIsYoungerThanTheRequest(t *testing.T) {
	p := startProvider(t)
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		// iat is after the request by any clock, and by more than a busy machine took from
		// the making of the request to the exchange.
		next := time.Now().Truncate(time.Second).Add(time.Second)
		<-time.After(time.Until(next) + 100*time.Millisecond)
		r.SetBasicAuth("api%3A1%2F%C3%BC", "s%25cret%2B%3A")
		p.token(w, r)
	})
	c, err := NewClientCredentials(ClientCredentialsOptions{Stamp: testStamp, VerifyWith: Verifier{Issuer: p.verifier(t)}, TokenURL: p.Server.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Authenticate(t.Context(), &Input{Value: userPass("cli:secret"), Request: request(), Now: time.Now()}); got.Identity == nil {
		t.Errorf("Authenticate = %v (%v)", got.Reason, got.Detail)
	}
}
