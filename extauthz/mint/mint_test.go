package mint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-authz/gatehouse/extauthz/mint/verify"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const issuer = "https://gatehouse.example.com"

func mustKey(t *testing.T, algorithm string) Key {
	t.Helper()
	k, err := GenerateKey(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustMinter(t *testing.T, cfg Config) *Minter {
	t.Helper()
	if cfg.Issuer == "" {
		cfg.Issuer = issuer
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// payload is the token's claims, unverified.
func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

var alice = &policy.Principal{
	Authenticator: "corp", Realm: "staff", Issuer: "https://idp", Subject: "alice", Username: "alice@example.com",
	Tenant: "acme", Roles: []string{"admin", "user"}, Scopes: []string{"orders:read", "orders:write"},
	Attributes: map[string]policy.Attribute{
		"department": {Values: []string{"sales"}},
		"amr":        {Values: []string{"pwd", "mfa"}, List: true},
		"teams":      {List: true},
	},
}

func TestMintedTokenIsVerifiedByAnUpstream(t *testing.T) {
	for _, algorithm := range []string{"ES256", "EdDSA", "RS256"} {
		t.Run(algorithm, func(t *testing.T) {
			m := mustMinter(t, Config{Keys: []Key{mustKey(t, algorithm)}, Bind: []string{"method", "host", "path"}})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(m.JWKS()) }))
			defer srv.Close()
			v, err := verify.New(t.Context(), srv.URL, issuer, "orders")
			if err != nil {
				t.Fatal(err)
			}
			asked := &policy.Request{Method: "GET", Host: "api.example.com", Path: "/orders/7"}
			token, err := m.Mint(alice, asked, "orders", time.Minute, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			request := func(method, url string) error {
				r := httptest.NewRequest(method, url, nil)
				r.Header.Set("Authorization", "Bearer "+token.Text)
				id, err := v.Request(r)
				if err == nil && (id.Subject != "staff:alice" || id.Tenant != "acme" || id.Scope != "orders:read orders:write" || len(id.Roles) != 2) {
					t.Errorf("identity = %+v", id)
				}
				return err
			}
			for _, good := range []string{"http://api.example.com/orders/7", "http://API.example.com:8080/orders/7/"} {
				if err := request("GET", good); err != nil {
					t.Errorf("GET %s: %v", good, err)
				}
			}
			if request("POST", "http://api.example.com/orders/7") == nil ||
				request("GET", "http://other.example.com/orders/7") == nil ||
				request("GET", "http://api.example.com/orders/8") == nil {
				t.Error("a token bound to one request was good for another")
			}
			other, err := verify.New(t.Context(), srv.URL, issuer, "billing")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Token(token.Text); err == nil {
				t.Error("a token for orders was good at billing")
			}
			stranger := mustMinter(t, Config{Keys: []Key{mustKey(t, algorithm)}})
			forged, err := stranger.Mint(alice, asked, "orders", time.Minute, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Token(forged.Text); err == nil {
				t.Error("a token signed by another key was good")
			}
		})
	}
}

func TestExpiryNeverPassesTheCredentials(t *testing.T) {
	m := mustMinter(t, Config{Keys: []Key{mustKey(t, "EdDSA")}})
	now := time.Unix(1_800_000_000, 600_000_000)
	for _, row := range []struct {
		name    string
		ttl     time.Duration
		expires time.Time
		want    int64 // exp
		reuse   int64
	}{
		{"a credential without an end: the ttl", time.Minute, time.Time{}, 1_800_000_060, 1_800_000_030},
		{"a credential that ends later: the ttl", time.Minute, now.Add(time.Hour), 1_800_000_060, 1_800_000_030},
		{"a credential that ends earlier: its end", time.Hour, now.Add(600 * time.Second), 1_800_000_600, 1_800_000_300},
		{"a ttl over the maximum is cut", 48 * time.Hour, time.Time{}, 1_800_086_400, 1_800_043_200},
		{"a credential that has ended: none", time.Minute, now.Add(-time.Second), 0, 0},
		{"a credential that ends within this second: none", time.Minute, now.Add(100 * time.Millisecond), 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := *alice
			p.Expires = row.expires
			token, err := m.Mint(&p, &policy.Request{}, "", row.ttl, now)
			if row.want == 0 {
				if !errors.Is(err, ErrExpired) {
					t.Fatalf("Mint = %v, want ErrExpired", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := int64(payload(t, token.Text)["exp"].(float64)); got != row.want {
				t.Errorf("exp = %d, want %d", got, row.want)
			}
			if got := token.Reuse.Unix(); got != row.reuse {
				t.Errorf("reuse until %d, want %d", got, row.reuse)
			}
		})
	}
}

func TestClaims(t *testing.T) {
	for _, row := range []struct {
		name      string
		claims    map[string]string
		principal *policy.Principal
		want      string // JSON without iat, exp, jti
	}{
		{"everything under the default names", nil, alice,
			`{"iss":"https://gatehouse.example.com","sub":"staff:alice","username":"alice@example.com","tenant":"acme","realm":"staff","authenticator":"corp","roles":["admin","user"],"scope":"orders:read orders:write","attributes":{"department":"sales","amr":["pwd","mfa"],"teams":[]}}`},
		{"scopes under another name are a list", map[string]string{"scopes": "scopes", "roles": "groups"}, alice,
			`{"iss":"https://gatehouse.example.com","sub":"staff:alice","username":"alice@example.com","tenant":"acme","realm":"staff","authenticator":"corp","groups":["admin","user"],"scopes":["orders:read","orders:write"],"attributes":{"department":"sales","amr":["pwd","mfa"],"teams":[]}}`},
		{"an unscoped caller has no scope claim", nil, &policy.Principal{Authenticator: "a", Realm: "r", Username: "u", Unscoped: true, Scopes: []string{"x"}},
			`{"iss":"https://gatehouse.example.com","sub":"r:u","username":"u","realm":"r","authenticator":"a","roles":[],"unscoped":true}`},
		{"a colon in the realm cannot move the border", nil, &policy.Principal{Authenticator: "a", Realm: "r:x%", Subject: "y:z"},
			`{"iss":"https://gatehouse.example.com","sub":"r%3Ax%25:y:z","realm":"r:x%","authenticator":"a","roles":[],"scope":""}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			m := mustMinter(t, Config{Keys: []Key{mustKey(t, "EdDSA")}, Claims: row.claims})
			token, err := m.Mint(row.principal, &policy.Request{}, "", time.Minute, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			got := payload(t, token.Text)
			for _, name := range []string{"iat", "exp", "jti"} {
				if got[name] == nil {
					t.Errorf("no %s", name)
				}
				delete(got, name)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(row.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRotationOverlaps(t *testing.T) {
	before, after := mustKey(t, "ES256"), mustKey(t, "ES256")
	old := mustMinter(t, Config{Keys: []Key{before}})
	both := mustMinter(t, Config{Keys: []Key{after, before}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(both.JWKS()) }))
	defer srv.Close()
	v, err := verify.New(t.Context(), srv.URL, issuer, "orders")
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*Minter{"signed before the rotation": old, "signed after it": both} {
		token, err := m.Mint(alice, &policy.Request{}, "orders", time.Minute, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Token(token.Text); err != nil {
			t.Errorf("a token %s: %v", name, err)
		}
	}
}

func TestSharedSecretIsNeverPublished(t *testing.T) {
	key, weak, err := SecretKey("", []byte("eleven byte"))
	if err != nil || !weak {
		t.Fatalf("SecretKey = weak %v, %v", weak, err)
	}
	m := mustMinter(t, Config{Keys: []Key{key}})
	if got := string(m.JWKS()); got != `{"keys":[]}` {
		t.Errorf("JWKS = %s", got)
	}
	if got := fmt.Sprintf("%v %+v %#v", key, key, key); strings.Contains(got, "eleven") {
		t.Errorf("printing a key shows its secret: %s", got)
	}
	token, err := m.Mint(alice, &policy.Request{}, "", time.Minute, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(token.Text, func(*jwt.Token) (any, error) { return []byte("eleven byte"), nil }, jwt.WithValidMethods([]string{"HS256"})); err != nil {
		t.Error(err)
	}
}

func TestConfigurationIsRefused(t *testing.T) {
	key := mustKey(t, "EdDSA")
	for _, row := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no issuer", Config{Keys: []Key{key}}, "an identity token needs an issuer"},
		{"no key", Config{Issuer: issuer}, "an identity token needs a signing key"},
		{"the zero key", Config{Issuer: issuer, Keys: []Key{{}}}, "an identity token needs a signing key"},
		{"two keys with one id", Config{Issuer: issuer, Keys: []Key{key, key}}, "two signing keys have the id"},
		{"an unknown field", Config{Issuer: issuer, Keys: []Key{key}, Claims: map[string]string{"role": "r"}}, `no field "role"`},
		{"a claim that is ours", Config{Issuer: issuer, Keys: []Key{key}, Claims: map[string]string{"roles": "exp"}}, `claim "exp" would hold both`},
		{"two fields in one claim", Config{Issuer: issuer, Keys: []Key{key}, Claims: map[string]string{"roles": "tenant"}}, `claim "tenant" would hold both`},
		{"binding to something else", Config{Issuer: issuer, Keys: []Key{key}, Bind: []string{"body"}}, `binding to "body"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, err := New(row.cfg); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("New = %v, want %q", err, row.want)
			}
		})
	}
}

// The key of RFC 8037 appendix A.2 and its thumbprint, appendix A.3.
func TestThumbprintRFC8037(t *testing.T) {
	const text = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----`
	key, err := ParseKey("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if key.Algorithm != "EdDSA" || key.ID != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("ParseKey = %v", key)
	}
}

func TestKeysAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"not PEM":                "hello",
		"a certificate":          "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----",
		"garbage in a PEM block": "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----",
	} {
		if _, err := ParseKey("k", []byte(text)); err == nil {
			t.Errorf("%s was accepted as a key", name)
		}
	}
	if _, err := GenerateKey("HS256"); err == nil {
		t.Error("a shared secret was made up")
	}
	if _, _, err := SecretKey("k", nil); err == nil {
		t.Error("an empty secret was accepted")
	}
}

func TestDiscovery(t *testing.T) {
	m := mustMinter(t, Config{Keys: []Key{mustKey(t, "ES256"), mustKey(t, "EdDSA"), mustKey(t, "ES256")}})
	var doc map[string]any
	if err := json.Unmarshal(m.Discovery(issuer+"/jwks", m.Algorithms()), &doc); err != nil {
		t.Fatal(err)
	}
	want := []any{"ES256", "EdDSA"}
	if doc["issuer"] != issuer || doc["jwks_uri"] != issuer+"/jwks" || !cmp.Equal(doc["id_token_signing_alg_values_supported"], any(want)) {
		t.Errorf("discovery = %v", doc)
	}
}

func BenchmarkMint(b *testing.B) {
	for _, algorithm := range []string{"ES256", "EdDSA", "RS256"} {
		b.Run("alg="+algorithm, func(b *testing.B) {
			k, err := GenerateKey(algorithm)
			if err != nil {
				b.Fatal(err)
			}
			m, err := New(Config{Issuer: issuer, Keys: []Key{k}})
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Mint(alice, &policy.Request{}, "orders", time.Minute, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
