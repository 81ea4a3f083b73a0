package authn

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func TestSemantics16KeyClaim(t *testing.T) {
	keys, err := NewAPIKey(Stamp{Authenticator: "keys", Realm: "keys"}, []Key{{ID: "k-valid", Secret: NewSecret("valid")}}, storeFunc(func(key string) (*policy.Principal, policy.Reason, error) {
		if key == "down" {
			return nil, policy.ReasonNone, errors.New("connection refused")
		}
		return nil, policy.ReasonKeyUnknown, nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	mapping := &Mapping{Stamp: Stamp{Authenticator: "corp", Realm: "corp"}, Subject: &Field{Claim: "email", Required: true}}
	build := func(fallBack bool) *KeyClaim {
		k, err := NewKeyClaim(KeyClaimOptions{Claim: "apikey", Keys: keys, FallBack: fallBack, JWT: JWTOptions{
			Issuer: "https://corp", AnyAudience: true, SharedSecret: NewSecret(testSecret), Map: mapping.Principal, CacheKeys: testCacheKeys,
		}})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	falls, refuses := build(true), build(false)
	for _, tt := range []struct {
		name    string
		claims  []any
		falls   string // the subject or the reason
		refuses string
	}{
		{"an email", []any{"email", "e@x"}, "e@x", "e@x"},
		{"a good key and an email", []any{"apikey", "valid", "email", "e@x"}, "k-valid", "k-valid"},
		{"a good key alone", []any{"apikey", "valid"}, "k-valid", "k-valid"},
		{"a bad key and an email", []any{"apikey", "bogus", "email", "e@x"}, "e@x", "api_key_unknown"},
		{"a bad key alone", []any{"apikey", "bogus"}, "claim_missing", "api_key_unknown"},
		{"neither", nil, "claim_missing", "claim_missing"},
		{"an empty key", []any{"apikey", "", "email", "e@x"}, "e@x", "e@x"},
		{"a key that is a number", []any{"apikey", 7, "email", "e@x"}, "e@x", "e@x"},
		{"a key that is a list", []any{"apikey", []string{"valid"}, "email", "e@x"}, "e@x", "e@x"},
		{"a store that is down", []any{"apikey", "down", "email", "e@x"}, "store_unavailable", "store_unavailable"},
		{"an email that is no text", []any{"email", 7}, "claim_type", "claim_type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := sign(t, "https://corp", "s", tt.claims...)
			for _, by := range []struct {
				k    *KeyClaim
				want string
			}{{falls, tt.falls}, {refuses, tt.refuses}} {
				for range 2 { // the second time from the cache
					in := &Input{Value: token, Scheme: "Bearer", Request: request(), Now: testNow}
					got := by.k.Authenticate(t.Context(), in)
					result := got.Reason.String()
					if got.Identity != nil {
						result = got.Identity.Principal.Subject
						if e := got.Identity.Principal.Expires; !e.Equal(testNow.Add(time.Hour)) {
							t.Errorf("the principal expires at %v, which is not when the token does", e)
						}
					}
					if result != by.want {
						t.Errorf("Authenticate = %s (%v), want %s", result, got.Detail, by.want)
					}
					if in.Value != token || in.Scheme != "Bearer" {
						t.Error("the input was changed")
					}
				}
			}
		})
	}
	// What tests of a configuration say of claims is what a token with them comes to.
	for claims, want := range map[*Claims]string{
		{"email": "e@x"}:                    "e@x",
		{"apikey": "valid", "email": "e@x"}: "k-valid",
		{"apikey": "valid"}:                 "k-valid",
		{"apikey": "bogus", "email": "e@x"}: "e@x",
		{"apikey": "bogus"}:                 "claim_missing",
		{"apikey": 7}:                       "claim_missing",
		{"apikey": "down", "email": "e@x"}:  "store_unavailable",
	} {
		got := falls.Identify(*claims)
		result := got.Reason.String()
		if got.Identity != nil {
			result = got.Identity.Principal.Subject
		}
		if result != want {
			t.Errorf("Identify(%v) = %s (%v), want %s", *claims, result, got.Detail, want)
		}
	}
	t.Run("in a set", func(t *testing.T) {
		s := testSet(t, Options{},
			Entry{Name: "corp", Kind: KindJWT, Authenticator: falls, Places: []Place{bearer}},
			Entry{Name: "console", Kind: KindJWT, Authenticator: testJWT(t, "console", "https://console"), Places: []Place{bearer}},
		)
		for range 2 {
			if got := who(t, s, nil, request("authorization", "Bearer "+sign(t, "https://corp", "s", "apikey", "valid"))); got != "k-valid" {
				t.Errorf("a token with a key: %s", got)
			}
			if got := who(t, s, nil, request("authorization", "Bearer "+sign(t, "https://console", "c"))); got != "c" {
				t.Errorf("a token of the other issuer: %s", got)
			}
		}
	})
	t.Run("an exchanged token whose key is withdrawn falls back at once", func(t *testing.T) {
		good := true
		store, err := NewAPIKey(Stamp{Authenticator: "keys", Realm: "keys"}, nil, storeFunc(func(string) (*policy.Principal, policy.Reason, error) {
			if good {
				return &policy.Principal{Subject: "stored"}, policy.ReasonNone, nil
			}
			return nil, policy.ReasonTokenRevoked, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		k, err := NewKeyClaim(KeyClaimOptions{Claim: "apikey", Keys: store, FallBack: true, JWT: JWTOptions{
			Issuer: "https://corp", AnyAudience: true, SharedSecret: NewSecret(testSecret), Map: mapping.Principal,
		}})
		if err != nil {
			t.Fatal(err)
		}
		p, err := newProvider(quick)
		if err != nil {
			t.Fatal(err)
		}
		x := exchanger{provider: p, verifier: k, stamp: Stamp{Authenticator: "cli", Realm: "cli"}}
		token := sign(t, "https://corp", "s", "apikey", "stored", "email", "e@x")
		in := &Input{Value: token, Request: request(), Now: testNow}
		verified := k.Authenticate(t.Context(), in).Identity
		key := testCacheKeys.Key("cli:secret")
		p.good.Put(key, x.identity(verified, bearerPrefix+token), testNow.Add(time.Minute), testNow)
		for _, want := range []string{"stored", "e@x"} {
			if got, ok := x.remembered(t.Context(), key, in); !ok || got.Identity.Principal.Subject != want || got.Identity.Principal.Authenticator != "cli" {
				t.Errorf("remembered = %+v, %v, want %s", got.Identity, ok, want)
			}
			good = false
		}
	})
	t.Run("where nobody may be asked, a key of the store is an outage", func(t *testing.T) {
		token := sign(t, "https://corp", "s", "apikey", "bogus", "email", "e@x")
		if got := falls.Authenticate(t.Context(), &Input{Value: token, Request: request(), Now: testNow, Local: true}); got.Identity != nil || got.Reason != policy.ReasonStoreUnavailable {
			t.Errorf("Authenticate = %v, %v", got.Identity, got.Reason)
		}
	})
	t.Run("a hit allocates nothing", func(t *testing.T) {
		in := &Input{Value: sign(t, "https://corp", "s", "apikey", "valid"), Request: request(), Now: testNow}
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { falls.Authenticate(ctx, in) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
