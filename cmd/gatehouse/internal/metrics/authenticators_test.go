package metrics

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestAuthenticators reads the metrics of an authenticator whose issuer is up, and of
// one whose issuer is down.
func TestAuthenticators(t *testing.T) {
	issuer, err := authntest.Start(authntest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	entry := func(name, issuerURL string) authn.Entry {
		keys, err := authn.NewKeySet(authn.KeySetOptions{Issuer: issuerURL})
		if err != nil {
			t.Fatal(err)
		}
		j, err := authn.NewJWT(authn.JWTOptions{
			Issuer: issuerURL, Audiences: []string{authntest.Audience}, Keys: keys,
			Map: func(authn.Claims) (*policy.Principal, policy.Reason, error) {
				return &policy.Principal{Authenticator: name, Subject: "u"}, policy.ReasonNone, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(j.Close)
		return authn.Entry{
			Name: name, Realm: name, Kind: authn.KindJWT, Authenticator: j,
			Places: []authn.Place{{Kind: authn.InHeader, Name: "authorization", Scheme: "Bearer"}},
		}
	}
	up, down := entry("up", issuer.URL()), entry("down", "http://127.0.0.1:1")
	set, err := authn.NewSet([]authn.Entry{up, down}, authn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := up.Authenticator.(*authn.JWT).Keys()
	keys.Start()
	if err := keys.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	token := issuer.Token(nil)
	for range 3 {
		in := &authn.Input{Value: token, Request: &policy.Request{}, Now: time.Now()}
		if got := up.Authenticator.Authenticate(t.Context(), in); got.Identity == nil {
			t.Fatalf("a good token is refused: %v %v", got.Reason, got.Detail)
		}
	}
	m := New(Build{})
	m.Authenticators(func() *authn.Set { return set }, func() time.Time { return keys.State().LastSuccess.Add(90 * time.Second) })
	want := `
# HELP gatehouse_keyset_age_seconds Time since the issuer's keys were last fetched; absent until they were.
# TYPE gatehouse_keyset_age_seconds gauge
gatehouse_keyset_age_seconds{authenticator="up"} 90
# HELP gatehouse_keyset_keys Usable keys of the issuer.
# TYPE gatehouse_keyset_keys gauge
gatehouse_keyset_keys{authenticator="down"} 0
gatehouse_keyset_keys{authenticator="up"} 1
# HELP gatehouse_keyset_ready 1 if tokens of the issuer can be verified.
# TYPE gatehouse_keyset_ready gauge
gatehouse_keyset_ready{authenticator="down"} 0
gatehouse_keyset_ready{authenticator="up"} 1
# HELP gatehouse_token_cache_entries Tokens remembered, by what they turned out to be: verified or refused.
# TYPE gatehouse_token_cache_entries gauge
gatehouse_token_cache_entries{authenticator="down",kind="refused"} 0
gatehouse_token_cache_entries{authenticator="down",kind="verified"} 0
gatehouse_token_cache_entries{authenticator="up",kind="refused"} 0
gatehouse_token_cache_entries{authenticator="up",kind="verified"} 1
# HELP gatehouse_token_cache_hits_total Tokens that were verified or refused before.
# TYPE gatehouse_token_cache_hits_total counter
gatehouse_token_cache_hits_total{authenticator="down"} 0
gatehouse_token_cache_hits_total{authenticator="up"} 2
# HELP gatehouse_token_verifications_total Signatures that were checked.
# TYPE gatehouse_token_verifications_total counter
gatehouse_token_verifications_total{authenticator="down"} 0
gatehouse_token_verifications_total{authenticator="up"} 1
`
	if err := testutil.GatherAndCompare(m.Registry, strings.NewReader(want), "gatehouse_keyset_age_seconds", "gatehouse_keyset_keys",
		"gatehouse_keyset_ready", "gatehouse_token_cache_entries", "gatehouse_token_cache_hits_total", "gatehouse_token_verifications_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(m.Registry, "gatehouse_keyset_fetches_total", "gatehouse_keyset_age_seconds"); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
