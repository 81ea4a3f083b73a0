package authn

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

var (
	testNow   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	testStamp = Stamp{Authenticator: "machines", Realm: "internal"}
)

func hashOf(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

// storeFunc is a KeyStore.
type storeFunc func(key string) (*policy.Principal, policy.Reason, error)

func (f storeFunc) LookupKey(_ context.Context, key string, _ time.Time) (*policy.Principal, policy.Reason, error) {
	return f(key)
}

func TestAPIKey(t *testing.T) {
	stored := storeFunc(func(key string) (*policy.Principal, policy.Reason, error) {
		switch key {
		case "stored":
			return &policy.Principal{Subject: "s"}, policy.ReasonNone, nil
		case "revoked":
			return nil, policy.ReasonTokenRevoked, nil
		case "down":
			return nil, policy.ReasonNone, errors.New("connection refused")
		case "confused":
			return nil, policy.ReasonMet, nil
		}
		return nil, policy.ReasonKeyUnknown, nil
	})
	a, err := NewAPIKey(testStamp, []Key{
		{ID: "batch", Secret: NewSecret("current"), Principal: policy.Principal{Tenant: "acme", Roles: []string{"service"}}},
		{ID: "batch-next", Secret: NewSecret("next"), Principal: policy.Principal{Tenant: "acme"}},
		{ID: "ci", SHA256: hashOf("hashed"), Principal: policy.Principal{Subject: "ci-bot"}},
	}, stored)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, key string
		subject   string // "": refused
		reason    policy.Reason
	}{
		{"the key", "current", "batch", 0},
		{"the key that will replace it", "next", "batch-next", 0},
		{"a key of which only the hash is known", "hashed", "ci-bot", 0},
		{"a key of the store", "stored", "s", 0},
		{"another key", "wrong", "", policy.ReasonKeyUnknown},
		{"a prefix of the key", "curren", "", policy.ReasonKeyUnknown},
		{"the key in other case", "CURRENT", "", policy.ReasonKeyUnknown},
		{"the hash instead of the key", string(hashOf("hashed")), "", policy.ReasonKeyUnknown},
		{"nothing", "", "", policy.ReasonKeyUnknown},
		{"a revoked key", "revoked", "", policy.ReasonTokenRevoked},
		{"a store that is down", "down", "", policy.ReasonStoreUnavailable},
		{"a store that contradicts itself", "confused", "", policy.ReasonKeyUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.Authenticate(t.Context(), &Input{Value: tt.key, Now: testNow})
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.subject != "") {
				t.Fatalf("Authenticate(%q) = %v, %v, want %v", tt.key, got.Identity, got.Reason, tt.reason)
			}
			if got.Identity == nil {
				return
			}
			if p := got.Identity.Principal; p.Subject != tt.subject || p.Authenticator != "machines" || p.Realm != "internal" {
				t.Errorf("Authenticate(%q) = %+v, want subject %q", tt.key, p, tt.subject)
			}
		})
	}

	t.Run("the store is not asked where no I/O is wanted", func(t *testing.T) {
		for _, key := range []string{"stored", "down"} {
			if got := a.Authenticate(t.Context(), &Input{Value: key, Now: testNow, Local: true}); got.Reason != policy.ReasonStoreUnavailable {
				t.Errorf("Authenticate(%q) = %v, want %v", key, got.Reason, policy.ReasonStoreUnavailable)
			}
		}
	})
}

func TestAPIKeysThatDoNotLoad(t *testing.T) {
	for _, tt := range []struct {
		name string
		keys []Key
		want string
	}{
		{"an empty secret", []Key{{ID: "a"}}, "it is empty"},
		{"the hash of nothing", []Key{{ID: "a", SHA256: hashOf("")}}, "it is empty"},
		{"a short hash", []Key{{ID: "a", SHA256: []byte("abc")}}, "3 bytes"},
		{"secret and hash", []Key{{ID: "a", Secret: NewSecret("x"), SHA256: hashOf("x")}}, "both"},
		{"two keys with one secret", []Key{{ID: "a", Secret: NewSecret("x")}, {ID: "b", Secret: NewSecret("x")}}, `same key as "a"`},
		{"a secret and its hash", []Key{{ID: "a", Secret: NewSecret("x")}, {ID: "b", SHA256: hashOf("x")}}, `same key as "a"`},
		{"two keys with one id", []Key{{ID: "a", Secret: NewSecret("x")}, {ID: "a", Secret: NewSecret("y")}}, "used twice"},
		{"no id", []Key{{Secret: NewSecret("x")}}, "no id"},
		{"a line break that a file left", []Key{{ID: "a", Secret: NewSecret("x\n")}}, "visible"},
		{"a comma, which could be the seam of two headers", []Key{{ID: "a", Secret: NewSecret("x,y")}}, "comma"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewAPIKey(testStamp, tt.keys, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewAPIKey gives %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("without keys none is good", func(t *testing.T) {
		a, err := NewAPIKey(testStamp, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Authenticate(t.Context(), &Input{}); got.Identity != nil || got.Reason != policy.ReasonKeyUnknown {
			t.Errorf("Authenticate of nothing gives %+v", got)
		}
	})
}

func TestAPIKeyNoAllocs(t *testing.T) {
	a, err := NewAPIKey(testStamp, []Key{{ID: "a", Secret: NewSecret("a-key-of-a-usual-length-0123456789abcdef0123456789")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Value: "a-key-of-a-usual-length-0123456789abcdef0123456789", Now: testNow}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { a.Authenticate(ctx, in) }); n != 0 {
		t.Errorf("a hit makes %v allocations", n)
	}
}
