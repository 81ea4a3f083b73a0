package authn

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func TestRefreshToken(t *testing.T) {
	p := startProvider(t)
	p.active = map[string]string{
		"offline":  `{"active": true, "scope": "openid offline_access"}`,
		"online":   `{"active": true, "scope": "openid"}`,
		"alike":    `{"active": true, "scope": "xoffline_access offline_access2"}`,
		"unscoped": `{"active": true}`,
		"inactive": `{"active": false, "scope": "offline_access"}`,
	}
	verifier := p.verifier(t)
	options := RefreshTokenOptions{
		Stamp: Stamp{Authenticator: "offline", Realm: "oidc"}, VerifyWith: Verifier{Issuer: verifier}, ClientID: testClient, ClientSecret: NewSecret(testPass), RequiredScope: "offline_access",
		TokenURL: p.Server.URL + "/token", IntrospectionURL: p.Server.URL + "/introspect", Remote: quick,
	}
	r, err := NewRefreshToken(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	input := func(token string) *Input { return &Input{Value: token, Request: request(), Now: time.Now()} }
	for _, tt := range []struct {
		name, token string
		reason      policy.Reason
	}{
		{"offline", "offline", 0},
		{"without the scope", "online", policy.ReasonClaimMissing},
		{"with scopes that are alike", "alike", policy.ReasonClaimMissing},
		{"without any scope", "unscoped", policy.ReasonClaimMissing},
		{"inactive", "inactive", policy.ReasonTokenInactive},
		{"unknown", "unknown", policy.ReasonTokenInactive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				got := r.Authenticate(t.Context(), input(tt.token))
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
					t.Fatalf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
				}
				if got.Identity != nil && (got.Identity.Principal.Subject != "alice" || got.Identity.Principal.Realm != "oidc" || strings.Contains(got.Identity.Upstream(), tt.token)) {
					t.Errorf("Authenticate = %+v, %q", got.Identity.Principal, got.Identity.Upstream())
				}
			}
		})
	}
	t.Run("what it takes", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			peek Peek
			want bool
		}{
			{"an offline token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Offline", Algorithm: "HS512"}, true},
			{"a refresh token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Refresh"}, true},
			{"an access token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Bearer"}, false},
			{"an offline token of others", Peek{Issuer: "https://evil", HasIssuer: true, PayloadType: "Offline"}, false},
			{"an offline token of nobody", Peek{PayloadType: "Offline"}, false},
		} {
			if got := r.Takes(tt.peek); got != tt.want {
				t.Errorf("%s: Takes = %v", tt.name, got)
			}
		}
	})
	t.Run("a wrong secret of ours is an outage", func(t *testing.T) {
		o := options
		o.ClientSecret, o.Remote.CacheKeys = NewSecret("wrong"), NewCacheKeys()
		wrong, err := NewRefreshToken(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := wrong.Authenticate(t.Context(), input("offline")); got.Reason != policy.ReasonProviderUnavailable {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	p.active["outage"] = p.active["offline"]
	testOutages(t, p, r, "outage")
}
