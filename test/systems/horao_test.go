package systems

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/keycloak"
)

const (
	horaoSecret = "abracadabra"
	horaoRole   = "https://claims.idp.example.com/role"
	// HS256 with that secret over {"peer":"some.fqdn.com"}, as HORAO's own documents have it.
	horaoToken = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJwZWVyIjoic29tZS5mcWRuLmNvbSJ9.aUyykxiKi1eF1i1UQO3ef7QSFxk_xko2NDCsQMIuIpQ"
)

func horaoEnvironment(metadata string, more ...string) []string {
	return append([]string{
		"PEER_SECRET=" + horaoSecret, "OAUTH_SERVER_METADATA_URL=" + metadata, "OAUTH_CLIENT_ID=orders", "OAUTH_ROLE_URI=" + horaoRole,
	}, more...)
}

func TestHORAO(t *testing.T) {
	provider := idp.Start(t)
	metadata := provider.Issuer + "/.well-known/openid-configuration"
	s, _, e := start(t, "horao", "HOR", horaoEnvironment(metadata, "PEERS= 127.0.0.2, http://127.0.0.3:8081/synchronize ,127.0.1.0/24")...)
	s.through = e.Address(t, "front")
	peer := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
		token, err := jwt.NewWithClaims(method, claims).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return bearer(token)
	}
	signed := func(claims jwt.MapClaims) string { return peer(jwt.SigningMethodHS256, []byte(horaoSecret), claims) }
	const listed, stranger = "127.0.0.2", "127.0.0.22"
	sync := func(requires, name, source string, status int, upstream map[string]string, headers ...string) Case {
		return Case{Requires: requires, Name: name, From: source, Request: "POST /synchronize", Headers: append([]string{"Content-Length: 0", "Peer: true"}, headers...), Status: status, Upstream: upstream}
	}
	person := func(claims idp.Claims) string {
		return bearer(provider.Token(t, idp.Claims{"email": "ada@example.org"}.With(claims)))
	}
	administrator, user := person(idp.Claims{horaoRole: "administrator"}), person(nil)
	is := func(role string) map[string]string {
		return map[string]string{"x-horao-role": role, "x-horao-identity": "ada@example.org", "x-peer-id": "", "authorization": ""}
	}

	s.run(
		sync("HOR 1, HOR 7", "the known token from a listed source", listed, 200, map[string]string{"x-peer-id": "some.fqdn.com", "x-horao-role": "peer", "x-horao-identity": "some.fqdn.com", "authorization": ""}, bearer(horaoToken)),
		sync("HOR 1", "no token", listed, 401, nil),
		sync("HOR 1", "the wrong secret", listed, 401, nil, peer(jwt.SigningMethodHS256, []byte("wrong"), jwt.MapClaims{"peer": "x"})),
		sync("HOR 1", "HS512", listed, 401, nil, peer(jwt.SigningMethodHS512, []byte(horaoSecret), jwt.MapClaims{"peer": "x"})),
		sync("HOR 1", "no signature", listed, 401, nil, peer(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"peer": "x"})),
		sync("HOR 1", "expired, where there is an expiry", listed, 401, nil, signed(jwt.MapClaims{"peer": "x", "exp": 1_700_000_000})),
		sync("HOR 1", "the Peer header alone is nothing", listed, 401, nil, "X-Peer-ID: some.fqdn.com"),

		sync("HOR 2", "a stranger whose address begins like a listed one", stranger, 403, nil, bearer(horaoToken)),
		sync("HOR 2", "an entry with scheme, port and path", "127.0.0.3", 200, map[string]string{"x-peer-id": "some.fqdn.com"}, bearer(horaoToken)),
		sync("HOR 2", "a network", "127.0.1.77", 200, nil, bearer(horaoToken)),
		sync("HOR 2", "a stranger who says that it was forwarded", stranger, 403, nil, bearer(horaoToken), "X-Forwarded-For: "+listed, "X-Real-IP: "+listed),
		sync("HOR 2, HOR 6", "a stranger with a bad token is a bad token", stranger, 401, nil, peer(jwt.SigningMethodHS256, []byte("wrong"), jwt.MapClaims{"peer": "x"})),

		sync("HOR 3", "no peer claim", listed, 401, nil, signed(jwt.MapClaims{"iss": "x"})),
		sync("HOR 3", "an empty peer claim", listed, 401, nil, signed(jwt.MapClaims{"peer": ""})),
		sync("HOR 3", "a peer claim that is a number", listed, 401, nil, signed(jwt.MapClaims{"peer": 7})),
		sync("HOR 3, HOR 7", "the claim is the identity, a forged header is replaced", listed, 200, map[string]string{"x-peer-id": "host-7"}, signed(jwt.MapClaims{"peer": "host-7"}), "X-Peer-ID: host-1", "X-HORAO-Role: administrator"),

		Case{Requires: "HOR 4", Name: "a user needs an email", Request: "GET /reservations", Headers: cat(bearer(provider.Token(t, nil))), Status: 401},
		Case{Requires: "HOR 4", Name: "a token for another client", Request: "GET /reservations", Headers: cat(person(idp.Claims{"aud": "other"})), Status: 401},
		Case{Requires: "HOR 4", Name: "no token", Request: "GET /reservations", Status: 401},
		Case{Requires: "HOR 4", Name: "the login is open", Request: "POST /login", Headers: cat("Content-Length: 0", "X-HORAO-Role: administrator"), Status: 200, Upstream: map[string]string{"x-horao-role": "", "x-horao-identity": "", "x-peer-id": ""}},

		Case{Requires: "HOR 5, HOR 7", Name: "the role as a text", Request: "GET /admin/x", Headers: cat(administrator), Status: 200, Upstream: is("administrator")},
		Case{Requires: "HOR 5", Name: "the role in a list", Request: "GET /admin/x", Headers: cat(person(idp.Claims{horaoRole: []any{"x", "administrator"}})), Status: 200, Upstream: is("administrator")},
		Case{Requires: "HOR 5", Name: "without the claim a regular user", Request: "GET /reservations", Headers: cat(user), Status: 200, Upstream: is("user")},
		Case{Requires: "HOR 5", Name: "nonadministrator is a regular user", Request: "GET /reservations", Headers: cat(person(idp.Claims{horaoRole: "nonadministrator"})), Status: 200, Upstream: is("user")},
		Case{Requires: "HOR 5", Name: "Administrator is a regular user", Request: "GET /reservations", Headers: cat(person(idp.Claims{horaoRole: "Administrator"})), Status: 200, Upstream: is("user")},
		Case{Requires: "HOR 5", Name: "a claim of another type is a regular user", Request: "GET /reservations", Headers: cat(person(idp.Claims{horaoRole: map[string]any{"administrator": true}})), Status: 200, Upstream: is("user")},
		Case{Requires: "HOR 5, HOR 6", Name: "a user on an administrator's route", Request: "GET /admin/x", Headers: cat(user), Status: 403},
		Case{Requires: "HOR 5", Name: "a claim of that name under another object does not count", Request: "GET /admin/x", Headers: cat(person(idp.Claims{"roles": map[string]any{horaoRole: "administrator"}})), Status: 403},

		Case{Requires: "HOR 1", Name: "the token says who it is, with or without the header Peer", From: listed, Request: "POST /synchronize", Headers: cat("Content-Length: 0", bearer(horaoToken)), Status: 200},
		Case{Requires: "HOR 1", Name: "with a header Peer that says no", From: listed, Request: "POST /synchronize", Headers: cat("Content-Length: 0", "Peer: false", bearer(horaoToken)), Status: 403},
		Case{Requires: "HOR 6", Name: "a peer is no user", From: listed, Request: "GET /reservations", Headers: cat(bearer(horaoToken)), Status: 401},
		Case{Requires: "HOR 6", Name: "a peer is no administrator", From: listed, Request: "GET /admin/x", Headers: cat(bearer(horaoToken)), Status: 401},
		sync("HOR 6", "a user is no peer", listed, 401, nil, user),
		sync("HOR 6", "an administrator is no peer", listed, 401, nil, administrator),
		Case{Requires: "HOR 6", Name: "synchronize by another method", From: listed, Request: "GET /synchronize", Headers: cat(bearer(horaoToken)), Status: 403},
	)
	for _, no := range []string{"False", "false", "0"} {
		s.prove("HOR 2", "PEER_STRICT="+no+": the origin is not checked, the signature is", func(t *testing.T) {
			g := startGatehouse(t, "horao", horaoEnvironment(metadata, "PEERS=127.0.0.2", "PEER_STRICT="+no)...)
			e := harness.StartEnvoyFile(t, "horao/envoy.yaml", g.GRPC, serveEcho(t).Address())
			post := func(token string) int {
				return harness.SendFrom(t, stranger, e.Address(t, "front"), "POST /synchronize", "Content-Length: 0", "Peer: true", token).Status
			}
			if got := post(bearer(horaoToken)); got != http.StatusOK {
				t.Errorf("a stranger with a good token: %d", got)
			}
			if got := post(peer(jwt.SigningMethodHS256, []byte("wrong"), jwt.MapClaims{"peer": "x"})); got != http.StatusUnauthorized {
				t.Errorf("a stranger with a bad token: %d", got)
			}
		})
	}
	s.prove("HOR 2", "an empty list admits nobody", func(t *testing.T) {
		g := startGatehouse(t, "horao", horaoEnvironment(metadata)...)
		e := harness.StartEnvoyFile(t, "horao/envoy.yaml", g.GRPC, serveEcho(t).Address())
		if got := harness.SendFrom(t, listed, e.Address(t, "front"), "POST /synchronize", "Content-Length: 0", "Peer: true", bearer(horaoToken)).Status; got != http.StatusForbidden {
			t.Errorf("status %d, want 403", got)
		}
	})
	s.prove("HOR 2", "a host name is resolved", func(t *testing.T) {
		g := startGatehouse(t, "horao", horaoEnvironment(metadata, "PEERS=localhost")...)
		e := harness.StartEnvoyFile(t, "horao/envoy.yaml", g.GRPC, serveEcho(t).Address())
		if got := harness.SendFrom(t, "127.0.0.1", e.Address(t, "front"), "POST /synchronize", "Content-Length: 0", "Peer: true", bearer(horaoToken)).Status; got != http.StatusOK {
			t.Errorf("status %d, want 200", got)
		}
	})
	s.prove("HOR 2", "a boolean of another spelling does not load", func(t *testing.T) {
		cmd := exec.Command(harness.Binary(t), "validate", filepath.Join("horao", "gatehouse.yaml"))
		cmd.Env = append(cmd.Environ(), horaoEnvironment(metadata, "PEER_STRICT=yes")...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "gatehouse.yaml:") || !strings.Contains(string(out), "yes") {
			t.Errorf("validate = %v\n%s", err, out)
		}
	})
	s.complete(7)
}

// testHORAOKeycloak holds tokens of a real provider against the same rules.
func testHORAOKeycloak(t *testing.T, kc *keycloak.Server) {
	kc.Wait(t, "horao")
	s, _, e := start(t, "horao", "HOR", horaoEnvironment(kc.Issuer("horao")+"/.well-known/openid-configuration", "OAUTH_CLIENT_ID=horao")...)
	s.through = e.Address(t, "front")
	as := func(client, user string) string {
		return bearer(kc.Password(t, "horao", client, "", user, "").AccessToken)
	}
	s.run(
		Case{Requires: "HOR 5", Name: "an administrator of Keycloak", Request: "GET /admin/x", Headers: cat(as("horao", "ada")), Status: 200,
			Upstream: map[string]string{"x-horao-role": "administrator", "x-horao-identity": "ada@example.org"}},
		Case{Requires: "HOR 5", Name: "a user of Keycloak with another role", Request: "GET /admin/x", Headers: cat(as("horao", "bob")), Status: 403},
		Case{Requires: "HOR 5", Name: "a user of Keycloak", Request: "GET /reservations", Headers: cat(as("horao", "bob")), Status: 200, Upstream: map[string]string{"x-horao-role": "user"}},
		Case{Requires: "HOR 4", Name: "a user of Keycloak without an email", Request: "GET /reservations", Headers: cat(as("horao-without-email", "bob")), Status: 401},
	)
}
