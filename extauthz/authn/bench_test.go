package authn

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// BenchmarkJWT/cached is the price of a token that was verified before; the others are
// that of a token never seen, by algorithm.
func BenchmarkJWT(b *testing.B) {
	issuer := startIssuer(b, authntest.Options{})
	algorithms := []string{"RS256", "PS256", "ES256", "EdDSA"}
	for _, a := range algorithms {
		if _, err := issuer.Rotate(a); err != nil {
			b.Fatal(err)
		}
	}
	keys := startKeys(b, KeySetOptions{Issuer: issuer.URL()})
	j := newTestJWT(b, issuer.URL(), keys, nil)
	typical := map[string]any{
		"jti": "6c1f3a52-8a1e-4f0b-9d36-0f5c7a0f9b11", "azp": "console", "email": "alice@example.com", "email_verified": true,
		"groups": []string{"ops-team", "developers", "on-call"}, "scope": "openid profile orders:read orders:write",
		"realm_access": map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-corp"}},
	}
	ctx := context.Background()
	b.Run("cached", func(b *testing.B) {
		in := &Input{Value: issuer.Token(typical), Now: time.Now()}
		wantReason(b, j.Authenticate(ctx, in), policy.ReasonNone)
		b.ReportAllocs()
		for b.Loop() {
			j.Authenticate(ctx, in)
		}
	})
	b.Run("cached/parallel", func(b *testing.B) {
		in := &Input{Value: issuer.Token(typical), Now: time.Now()}
		wantReason(b, j.Authenticate(ctx, in), policy.ReasonNone)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			own := *in
			for pb.Next() {
				j.Authenticate(ctx, &own)
			}
		})
	})
	b.Run("hit", func(b *testing.B) { // without the hash, as when an earlier authenticator made it
		in := &Input{Value: issuer.Token(typical), Now: time.Now()}
		wantReason(b, j.Authenticate(ctx, in), policy.ReasonNone)
		key := j.CacheKey(in.Value)
		b.ReportAllocs()
		for b.Loop() {
			j.Cached(key, in.Now)
		}
	})
	b.Run("peek", func(b *testing.B) {
		token := issuer.Token(typical)
		b.ReportAllocs()
		for b.Loop() {
			new(Input).peekJWT(token)
		}
	})
	for _, a := range algorithms {
		key, err := authntest.NewKey("bench-"+a, a)
		if err != nil {
			b.Fatal(err)
		}
		issuer.Publish(key.JWK())
		if err := keys.Reload(ctx); err != nil {
			b.Fatal(err)
		}
		b.Run(strings.ToLower(a), func(b *testing.B) {
			tokens, cacheKeys := make([]string, 256), make([]CacheKey, 256)
			for i := range tokens {
				typical["jti"] = fmt.Sprint(i)
				tokens[i] = key.Token(issuer.Claims(typical))
				cacheKeys[i] = j.CacheKey(tokens[i])
			}
			now := time.Now()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				n := i % len(tokens)
				j.verified.Delete(cacheKeys[n])
				if r := j.Authenticate(ctx, &Input{Value: tokens[n], Now: now}); r.Identity == nil {
					b.Fatal(r.Reason, r.Detail)
				}
			}
		})
	}
}
