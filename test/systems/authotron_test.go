package systems

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/keycloak"
)

const authotronSecret = "authotron-secret-0123456789abcdef0123456789"

// whoAmI is ECMWF's endpoint as auth-o-tron asks it: GET ?token=…, {uid, email}.
type whoAmI struct {
	*httptest.Server
	status atomic.Int32
	asked  atomic.Int32
}

func serveWhoAmI(t *testing.T) *whoAmI {
	t.Helper()
	w := &whoAmI{}
	w.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		if status := int(w.status.Load()); status != 0 {
			out.WriteHeader(status)
			return
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		switch token := query.Get("token"); {
		case err != nil || len(query) != 1:
			out.WriteHeader(http.StatusInternalServerError)
		case token == "a+b/c=":
			_ = json.NewEncoder(out).Encode(map[string]string{"uid": "escaped", "email": "escaped@ecmwf.int"})
		case token == "nameless":
			_ = json.NewEncoder(out).Encode(map[string]string{"email": "x@ecmwf.int"})
		case strings.HasPrefix(token, "key-"):
			_ = json.NewEncoder(out).Encode(map[string]string{"uid": token[4:], "email": token[4:] + "@ecmwf.int"})
		default:
			out.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(w.Close)
	return w
}

func testAuthOTron(t *testing.T, kc *keycloak.Server) {
	kc.Wait(t, "aot")
	between := front(t, kc.Base())
	kc = kc.At(between.url)
	ecmwf := serveWhoAmI(t)
	s, g, e := start(t, "auth-o-tron", "AOT",
		"AOT_OIDC_ISSUER="+kc.Issuer("aot"), "AOT_WHOAMI_URL="+ecmwf.URL, "AOT_OFFLINE_CLIENT_ID=aot-offline", "AOT_OFFLINE_CLIENT_SECRET=aot-offline-secret", "AOT_JWT_SECRET="+authotronSecret)
	s.through = e.Address(t, "front")
	credentials := func(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }
	basic := func(pair string) string { return "Authorization: Basic " + credentials(pair) }
	ada := kc.Password(t, "aot", "web", "", "ada", "").AccessToken
	bob := kc.Password(t, "aot", "web", "", "bob", "").AccessToken
	offline := kc.Password(t, "aot", "aot-offline", "aot-offline-secret", "ada", "offline_access").RefreshToken
	refresh := kc.Password(t, "aot", "aot-offline", "aot-offline-secret", "ada", "").RefreshToken

	s.run(
		Case{Requires: "AOT 1", Name: "a JWT", Request: "GET /x", Headers: cat(bearer(ada)), Status: 200},
		Case{Requires: "AOT 1", Name: "an ECMWF API token", Request: "GET /x", Headers: cat(bearer("key-eva")), Status: 200},
		Case{Requires: "AOT 1, AOT 7", Name: "an offline token", Request: "GET /x", Headers: cat(bearer(offline)), Status: 200},
		Case{Requires: "AOT 1", Name: "a password of one list", Request: "GET /x", Headers: cat(basic("adam:admin")), Status: 200},
		Case{Requires: "AOT 1", Name: "a password of the other list", Request: "GET /x", Headers: cat(basic("adam:other")), Status: 200},
		Case{Requires: "AOT 1", Name: "a password of no list", Request: "GET /x", Headers: cat(basic("adam:wrong")), Status: 401},
		Case{Requires: "AOT 1", Name: "a user of no list", Request: "GET /x", Headers: cat(basic("nobody:admin")), Status: 401},

		Case{Requires: "AOT 4", Name: "a role by the grant", Request: "GET /admin/x", Headers: cat(basic("adam:admin")), Status: 200},
		Case{Requires: "AOT 4, AOT 10", Name: "the same name of another realm has no grant", Request: "GET /admin/x", Headers: cat(basic("adam:other")), Status: 403},
		Case{Requires: "AOT 4", Name: "a role of the token", Request: "GET /admin/x", Headers: cat(bearer(ada)), Status: 200},
		Case{Requires: "AOT 4", Name: "a role of the wrong realm", Request: "GET /ecmwf-admin/x", Headers: cat(bearer(ada)), Status: 403},
		Case{Requires: "AOT 4, AOT 10", Name: "a role of the right realm", Request: "GET /ecmwf-admin/x", Headers: cat(basic("eve:admin")), Status: 200},
		Case{Requires: "AOT 4", Name: "an attribute's value", Request: "GET /dept/x", Headers: cat(bearer(ada)), Status: 200},
		Case{Requires: "AOT 4", Name: "an attribute that is absent", Request: "GET /any-dept/x", Headers: cat(bearer(bob)), Status: 403},
		Case{Requires: "AOT 4", Name: "an attribute that is present", Request: "GET /any-dept/x", Headers: cat(bearer(ada)), Status: 200},
		Case{Requires: "AOT 5", Name: "a user by password has all scopes", Request: "GET /write/x", Headers: cat(basic("adam:other")), Status: 200},
		Case{Requires: "AOT 5", Name: "a token without the scope", Request: "GET /read/x", Headers: cat(bearer(ada)), Status: 403},

		Case{Requires: "AOT 6", Name: "the token is percent-encoded", Request: "GET /x", Headers: cat(bearer("a+b/c=")), Status: 200},
		Case{Requires: "AOT 6", Name: "a refused token", Request: "GET /x", Headers: cat(bearer("stranger")), Status: 401},
		Case{Requires: "AOT 6", Name: "an answer without uid", Request: "GET /x", Headers: cat(bearer("nameless")), Status: 401},
		Case{Requires: "AOT 7", Name: "a refresh token that is not offline", Request: "GET /x", Headers: cat(bearer(refresh)), Status: 401},

		Case{Requires: "AOT 8", Name: "several credentials, the first good one counts", Request: "GET /x", Headers: cat("Authorization: Basic " + credentials("adam:admin") + ", Bearer stranger"), Status: 200},
		Case{Requires: "AOT 8", Name: "several credentials in several lines", Request: "GET /x", Headers: cat(basic("adam:wrong"), bearer(ada)), Status: 200},
		Case{Requires: "AOT 8", Name: "four credentials", Request: "GET /x", Headers: cat("Authorization: Basic a, Bearer b, Digest c, Plain d"), Status: 401},
		Case{Requires: "AOT 8", Name: "two of one scheme", Request: "GET /x", Headers: cat("Authorization: Bearer " + ada + ", Bearer " + ada), Status: 401},
		Case{Requires: "AOT 8", Name: "three words", Request: "GET /x", Headers: cat("Authorization: Bearer a b"), Status: 401},
		Case{Requires: "AOT 8", Name: "Plain is Basic", Request: "GET /x", Headers: cat("Authorization: pLaIn " + credentials("adam:admin")), Status: 200},
		Case{Requires: "AOT 8", Name: "the realm header selects", Request: "GET /x", Headers: cat(basic("adam:other"), "X-Auth-Realm: other"), Status: 200},
		Case{Requires: "AOT 8", Name: "the realm header excludes", Request: "GET /x", Headers: cat(basic("adam:admin"), "X-Auth-Realm: other"), Status: 401},
		Case{Requires: "AOT 8", Name: "the realm header excludes tokens as well", Request: "GET /x", Headers: cat(bearer(ada), "X-Auth-Realm: other"), Status: 401},
		Case{Requires: "AOT 8", Name: "an unknown realm", Request: "GET /x", Headers: cat(basic("adam:admin"), "X-Auth-Realm: nowhere"), Status: 401},

		Case{Requires: "AOT 9", Name: "one challenge per scheme and realm, in order", Request: "GET /x", Status: 401, Body: `"title":"Unauthorized"`,
			Client: map[string]string{"content-type": "application/problem+json", "www-authenticate": `Bearer realm="oidc", Bearer realm="ecmwf", Basic realm="ecmwf", Basic realm="other"`}},
		Case{Requires: "AOT 11", Name: "another audience", Request: "GET /x", Headers: cat(bearer(kc.Password(t, "aot", "admin-cli", "", "ada", "").AccessToken)), Status: 401},
		Case{Requires: "AOT 11", Name: "another issuer", Request: "GET /x", Headers: cat(bearer(kc.Password(t, "horao", "horao", "", "ada", "").AccessToken)), Status: 401},
	)

	s.prove("AOT 3", "the backend gets a short-lived token and nothing else", func(t *testing.T) {
		claims := minted(t, s.through, basic("adam:admin"), "X-API-Key: x")
		want := map[string]any{"iss": "authotron-test", "realm": "ecmwf", "username": "adam", "sub": "ecmwf:adam"}
		for name, value := range want {
			if claims[name] != value {
				t.Errorf("%s = %v, want %v", name, claims[name], value)
			}
		}
		if roles, _ := json.Marshal(claims["roles"]); string(roles) != `["user","admin"]` {
			t.Errorf("roles = %s", roles)
		}
		if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
			t.Errorf("exp - iat = %v, want 3600", life)
		}
		if other := minted(t, s.through, basic("adam:other")); other["realm"] != "other" || other["sub"] == claims["sub"] {
			t.Errorf("realm = %v, sub = %v", other["realm"], other["sub"])
		}
	})
	s.prove("AOT 3", "it ends with the token that came in", func(t *testing.T) {
		incoming := jwt.MapClaims{}
		if _, _, err := jwt.NewParser().ParseUnverified(ada, incoming); err != nil {
			t.Fatal(err)
		}
		if got := minted(t, s.through, bearer(ada))["exp"]; got != incoming["exp"] {
			t.Errorf("exp = %v, want %v", got, incoming["exp"])
		}
	})
	s.prove("AOT 6", "an answer is kept for a while", func(t *testing.T) {
		before := ecmwf.asked.Load()
		for range 5 {
			if got := harness.Send(t, s.through, "GET /x", bearer("key-cached")).Status; got != 200 {
				t.Fatalf("status %d", got)
			}
		}
		if got := ecmwf.asked.Load() - before; got != 1 {
			t.Errorf("asked %d times, want once", got)
		}
	})
	s.prove("AOT 6", "an outage is no refusal", func(t *testing.T) {
		ecmwf.status.Store(500)
		defer ecmwf.status.Store(0)
		if got := harness.Send(t, s.through, "GET /x", bearer("key-new")).Status; got != 503 {
			t.Errorf("status %d, want 503", got)
		}
	})
	s.prove("AOT 1", "a provider that is down does not hinder the others", func(t *testing.T) {
		between.down.Store(true)
		defer between.down.Store(false)
		for _, good := range []string{basic("adam:admin"), bearer("key-eva"), bearer(ada)} {
			start := time.Now()
			if got := harness.Send(t, s.through, "GET /x", good).Status; got != 200 {
				t.Errorf("%.30s…: status %d", good, got)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("%.30s… took %v", good, took)
			}
		}
	})
	s.prove("AOT 7", "a revoked offline token is refused", func(t *testing.T) {
		own := kc.Password(t, "aot", "aot-offline", "aot-offline-secret", "bob", "offline_access").RefreshToken
		kc.Revoke(t, "aot", "aot-offline", "aot-offline-secret", own)
		if got := harness.Send(t, s.through, "GET /x", bearer(own)).Status; got != 401 {
			t.Errorf("status %d, want 401", got)
		}
	})
	s.prove("AOT 2", "through nginx", func(t *testing.T) { authotronThroughNginx(t, g, basic("adam:admin"), basic("adam:wrong")) })
	authotronTokens(s)
	s.complete(11)
}

// authotronTokens tries opaque tokens.
func authotronTokens(s *Suite) {
	create := func(t *testing.T, scope string) (id, token string) {
		t.Helper()
		var made struct{ ID, Token string }
		out := s.gatehouse(t, "tokens", "create", "--owner=adam", "--realm=ecmwf", "--scope="+scope, "--output=json")
		if err := json.Unmarshal([]byte(out), &made); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return made.ID, made.Token
	}
	s.prove("AOT 5", "an opaque token opens what its scopes say", func(t *testing.T) {
		id, token := create(t, "read:users")
		sub := &Suite{t: t, through: s.through, store: s.store, proven: map[string][]string{}}
		sub.run(
			Case{Requires: "AOT 5", Name: "its scope", Request: "GET /read/x", Headers: cat(bearer(token)), Status: 200},
			Case{Requires: "AOT 5", Name: "another scope", Request: "GET /write/x", Headers: cat(bearer(token)), Status: 403},
			Case{Requires: "AOT 6", Name: "a mistyped token", Request: "GET /read/x", Headers: cat(bearer(token[:len(token)-1] + "0")), Status: 401},
		)
		if strings.Contains(token, "adam") {
			t.Errorf("the token names its owner: %s", token)
		}
		s.gatehouse(t, "tokens", "revoke", id)
		harness.Eventually(t, 2*time.Second, func() error { // the promise is one second
			if got := harness.Send(t, s.through, "GET /read/x", bearer(token)).Status; got != 401 {
				return fmt.Errorf("a revoked token: %d", got)
			}
			return nil
		})
	})
	s.prove("AOT 6", "all tokens of an owner are revoked at once", func(t *testing.T) {
		_, token := create(t, "read:users")
		if got := harness.Send(t, s.through, "GET /read/x", bearer(token)).Status; got != 200 {
			t.Fatalf("status %d", got)
		}
		s.gatehouse(t, "tokens", "revoke", "--owner=adam", "--realm=ecmwf")
		harness.Eventually(t, 2*time.Second, func() error {
			if got := harness.Send(t, s.through, "GET /read/x", bearer(token)).Status; got != 401 {
				return fmt.Errorf("a revoked token: %d", got)
			}
			return nil
		})
	})
}

// minted sends a request and reads the token that the upstream received, verified.
func minted(t *testing.T, address string, headers ...string) jwt.MapClaims {
	t.Helper()
	answer := harness.Send(t, address, "GET /x", headers...)
	if answer.Status != 200 {
		t.Fatalf("status %d: %s", answer.Status, answer.Body)
	}
	lines := harness.Folded(answer.Upstream, "authorization")
	if len(lines) != 1 {
		t.Fatalf("upstream received %q, want one token", lines)
	}
	return readMinted(t, lines[0][len("authorization: "):]) // nginx writes capitals
}

// readMinted verifies the value of an Authorization header.
func readMinted(t *testing.T, value string) jwt.MapClaims {
	t.Helper()
	token, found := strings.CutPrefix(value, "Bearer ")
	if !found {
		t.Fatalf("no bearer token: %q", value)
	}
	claims := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return []byte(authotronSecret), nil }, jwt.WithValidMethods([]string{"HS256"})); err != nil {
		t.Fatal(err)
	}
	return claims
}
