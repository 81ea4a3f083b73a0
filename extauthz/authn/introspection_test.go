package authn

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func newTestIntrospection(t *testing.T, p *testProvider, change func(*IntrospectionOptions)) *Introspection {
	t.Helper()
	o := IntrospectionOptions{
		URL: p.Server.URL + "/introspect", ClientID: testClient, ClientSecret: NewSecret(testPass), CacheFor: time.Minute, Remote: quick,
		Mapping: &Mapping{Stamp: Stamp{Authenticator: "opaque", Realm: "r"}, Subject: &Field{Claim: "sub", Required: true}, Scopes: &Field{Claim: "scope"}},
	}
	if change != nil {
		change(&o)
	}
	i, err := NewIntrospection(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func TestIntrospection(t *testing.T) {
	p := startProvider(t)
	now := time.Now()
	p.active = map[string]string{
		"good&=+ %":     fmt.Sprintf(`{"active": true, "sub": "alice", "scope": "a b", "iss": "https://idp", "jti": "1", "exp": %d}`, now.Unix()+300),
		"eternal":       `{"active": true, "sub": "alice"}`,
		"inactive":      `{"active": false, "sub": "alice"}`,
		"text":          `{"active": "true", "sub": "alice"}`,
		"silent":        `{"sub": "alice"}`,
		"nobody":        `{"active": true}`,
		"expired":       fmt.Sprintf(`{"active": true, "sub": "alice", "exp": %d}`, now.Unix()-1),
		"early":         fmt.Sprintf(`{"active": true, "sub": "alice", "nbf": %d}`, now.Unix()+60),
		"odd":           `{"active": true, "sub": "alice", "exp": "tomorrow"}`,
		"number":        `{"active": true, "sub": 7}`,
		"for us":        `{"active": true, "sub": "alice", "aud": ["x", "us"]}`,
		"for others":    `{"active": true, "sub": "alice", "aud": "others"}`,
		"case of claim": `{"Active": true, "sub": "alice"}`,
	}
	plain := newTestIntrospection(t, p, nil)
	ours := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
		o.Audiences = []string{"us"}
		o.Remote.CacheKeys = NewCacheKeys()
	})
	for _, tt := range []struct {
		name   string
		by     *Introspection
		token  string
		reason policy.Reason
	}{
		{"active, and escaped on the way", plain, "good&=+ %", 0},
		{"active without end", plain, "eternal", 0},
		{"inactive", plain, "inactive", policy.ReasonTokenInactive},
		{"unknown", plain, "unknown", policy.ReasonTokenInactive},
		{"active is no boolean", plain, "text", policy.ReasonProviderUnavailable},
		{"active is absent", plain, "silent", policy.ReasonProviderUnavailable},
		{"active is spelled in another case", plain, "case of claim", policy.ReasonProviderUnavailable},
		{"nobody", plain, "nobody", policy.ReasonClaimMissing},
		{"active and expired", plain, "expired", policy.ReasonExpired},
		{"active and not yet valid", plain, "early", policy.ReasonNotYetValid},
		{"an exp that is no date", plain, "odd", policy.ReasonClaimType},
		{"a subject that is no text", plain, "number", policy.ReasonClaimType},
		{"for us", ours, "for us", 0},
		{"for others", ours, "for others", policy.ReasonAudienceMismatch},
		{"for nobody", ours, "eternal", policy.ReasonAudienceMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.by.Authenticate(t.Context(), &Input{Value: tt.token, Request: request(), Now: now})
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
				t.Errorf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
			}
		})
	}

	t.Run("the principal", func(t *testing.T) {
		got := plain.Authenticate(t.Context(), &Input{Value: "good&=+ %", Request: request(), Now: now}).Identity.Principal
		if got.Authenticator != "opaque" || got.Issuer != "https://idp" || got.TokenID != "1" || got.Expires.Unix() != now.Unix()+300 || len(got.Scopes) != 2 {
			t.Errorf("it is %+v", got)
		}
	})
	t.Run("an answer is kept for a while, and never past its exp", func(t *testing.T) {
		i := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
			o.CacheFor = 10 * time.Minute
			o.Remote.CacheKeys = NewCacheKeys()
		})
		calls := func(at time.Duration, token string) int32 {
			before := p.calls.Load()
			i.Authenticate(t.Context(), &Input{Value: token, Request: request(), Now: now.Add(at)})
			return p.calls.Load() - before
		}
		for _, step := range []struct {
			at    time.Duration
			token string
			want  int32
		}{
			{0, "good&=+ %", 1}, {299 * time.Second, "good&=+ %", 0}, {301 * time.Second, "good&=+ %", 1},
			{0, "eternal", 1}, {599 * time.Second, "eternal", 0}, {600 * time.Second, "eternal", 1},
			{0, "unknown", 1}, {refusedFor - 1, "unknown", 0}, {refusedFor, "unknown", 1},
		} {
			if got := calls(step.at, step.token); got != step.want {
				t.Errorf("%q after %v: %d calls, want %d", step.token, step.at, got, step.want)
			}
		}
	})
	t.Run("nobody is asked where no I/O is wanted", func(t *testing.T) {
		before := p.calls.Load()
		got := plain.Authenticate(t.Context(), &Input{Value: "not seen yet", Request: request(), Now: now, Local: true})
		if got.Identity != nil || got.Reason.Outcome() != policy.Unavailable || p.calls.Load() != before {
			t.Errorf("Authenticate = %+v after %d calls", got, p.calls.Load()-before)
		}
		if got := plain.Authenticate(t.Context(), &Input{Value: "eternal", Request: request(), Now: now, Local: true}); got.Identity == nil {
			t.Errorf("what is known: %v", got.Reason)
		}
	})
	t.Run("a wrong secret of ours is an outage", func(t *testing.T) {
		i := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
			o.ClientSecret = NewSecret("wrong")
			o.Remote.CacheKeys = NewCacheKeys()
		})
		if got := i.Authenticate(t.Context(), &Input{Value: "eternal", Request: request(), Now: now}); got.Reason != policy.ReasonProviderUnavailable {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	t.Run("a hit allocates nothing", func(t *testing.T) {
		in := &Input{Value: "eternal", Request: request(), Now: now}
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { plain.Authenticate(ctx, in) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	p.active["outage"] = `{"active": true, "sub": "alice"}`
	testOutages(t, p, plain, "outage")
}
