package systems

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-authz/gatehouse/test/keycloak"
)

// TestKeycloak runs the suites that need a real Keycloak, on one.
func TestKeycloak(t *testing.T) {
	kc := keycloak.Start(t)
	t.Run("realms", func(t *testing.T) { testRealms(t, kc) })
	t.Run("conduktor", func(t *testing.T) { testConduktor(t, kc) })
	t.Run("odj", func(t *testing.T) { testODJKeycloak(t, kc) })
	t.Run("auth-o-tron", func(t *testing.T) { testAuthOTron(t, kc) })
	t.Run("horao", func(t *testing.T) { testHORAOKeycloak(t, kc) })
}

// claims of a token, unverified.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWS: %q", token)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// testRealms holds the realms against the claims that the suites count on.
func testRealms(t *testing.T, s *keycloak.Server) {
	for _, realm := range []string{"orchestrate", "conduktor", "odj", "aot", "horao"} {
		s.Wait(t, realm)
	}
	for _, row := range []struct {
		name  string
		token keycloak.Grant
		want  map[string]any
	}{
		{"orchestrate: an object under a claim that is a URI", s.Password(t, "orchestrate", "orchestrate", "", "foo", ""),
			map[string]any{"https://api.orchestrate.network": map[string]any{"tenant_id": "foo", "username": "foo-user"}}},
		{"conduktor: groups and mail", s.Password(t, "conduktor", "console", "", "ada", ""),
			map[string]any{"email": "ada@example.org", "groups": []any{"project-a", "zzz"}}},
		{"conduktor: a key beside the mail", s.Password(t, "conduktor", "console", "", "key", ""),
			map[string]any{"email": "key@example.org", "apikey": "conduktor-key-0123456789abcdef"}},
		{"conduktor: no mail", s.Password(t, "conduktor", "console-without-email", "", "bogus", ""),
			map[string]any{"email": nil, "apikey": "bogus"}},
		{"conduktor: a client by itself", s.ClientCredentials(t, "conduktor", "cdk-cli", "cdk-cli:secret"),
			map[string]any{"email": "cli@example.org"}},
		{"odj: a subject with its source", s.Password(t, "odj", "aad", "", "ada", ""),
			map[string]any{"sub": "aad:ada-1", "email": "ada@example.org", "aud": "odj"}},
		{"odj: a machine with products", s.ClientCredentials(t, "odj", "myapi", "myapi-secret"),
			map[string]any{"sub": "myapi:app-7", "api_product_list": []any{"sit_odj-core_core-v1_prod", "other"}, "app_id": "app-7"}},
		{"aot: roles and department", s.Password(t, "aot", "web", "", "ada", ""),
			map[string]any{"department": "engineering", "preferred_username": "ada", "aud": "aot"}},
		{"horao: no mail", s.Password(t, "horao", "horao-without-email", "", "bob", ""),
			map[string]any{"email": nil}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := claims(t, row.token.AccessToken)
			for name, want := range row.want {
				if diff := cmp.Diff(want, got[name]); diff != "" {
					t.Errorf("claim %s: %s", name, diff)
				}
			}
		})
	}
	t.Run("aot: an offline token", func(t *testing.T) {
		g := s.Password(t, "aot", "aot-offline", "aot-offline-secret", "ada", "offline_access")
		if got := claims(t, g.RefreshToken)["typ"]; got != "Offline" {
			t.Errorf("typ = %v, want Offline", got)
		}
		s.Revoke(t, "aot", "aot-offline", "aot-offline-secret", g.RefreshToken)
	})
	t.Run("horao: a role in a claim that is a URI", func(t *testing.T) {
		g := s.Password(t, "horao", "horao", "", "ada", "")
		if got, _ := json.Marshal(claims(t, g.AccessToken)["https://claims.idp.example.com/role"]); !strings.Contains(string(got), `"administrator"`) {
			t.Errorf("role = %s", got)
		}
	})
	t.Run("a new key signs", func(t *testing.T) {
		before := s.Password(t, "aot", "web", "", "ada", "").AccessToken
		s.AddKey(t, "aot", "rotated")
		after := s.Password(t, "aot", "web", "", "ada", "").AccessToken
		if a, b := strings.Split(before, ".")[0], strings.Split(after, ".")[0]; a == b {
			t.Errorf("both have the header %s", a)
		}
	})
}
