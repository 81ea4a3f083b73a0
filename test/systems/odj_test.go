package systems

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/keycloak"
)

func TestODJ(t *testing.T) {
	const issuer = "https://live.api.schwarz/remote-token/token"
	provider := idp.Start(t)
	environment := []string{"ODJ_DISCOVERY_URL=" + provider.Issuer + "/.well-known/openid-configuration"}
	s, g, e := start(t, "odj", "ODJ", environment...)
	s.through = e.Address(t, "front")
	token := func(claims idp.Claims) string {
		return provider.Token(t, idp.Claims{"iss": issuer, "aud": "odj"}.With(claims))
	}
	aad := token(idp.Claims{"sub": "aad:ada-1", "name": "Ada", "email": "ada@example.org", "scope": "openid email"})
	noScope := token(idp.Claims{"sub": "aad:bob-1", "name": "Bob", "email": "bob@example.org", "scope": "openid"})
	machine := func(products any) string {
		return token(idp.Claims{"sub": "myapi:app-7", "app_id": "app-7", "name": "build server", "api_product_list": products})
	}
	const product = "sit_odj-core_core-v1_prod"
	myapi := machine([]any{product, "other"})
	const ui, api = "Host: ui.example", "Host: api.example"
	cookie := func(value string) string { return "Cookie: theme=dark; odj_access_token=" + value + "; lang=de" }
	signIn := func(escaped string) map[string]string {
		return map[string]string{"location": "https://ui.example/authenticate?redirect_uri=" + escaped}
	}

	s.run(
		Case{Requires: "ODJ 1", Name: "issuer and discovery are configured apart", Request: "GET /things", Headers: cat(api, bearer(aad)), Status: 200},
		Case{Requires: "ODJ 1", Name: "the issuer that the discovery document names does not count", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"iss": provider.Issuer, "sub": "aad:x"}))), Status: 401},
		Case{Requires: "ODJ 1", Name: "another audience", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "aad:x", "aud": "orders"}))), Status: 401},
		Case{Requires: "ODJ 1", Name: "expired", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "aad:x", "exp": 1_700_000_000}))), Status: 401},
		Case{Requires: "ODJ 1", Name: "not yet valid", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "aad:x", "nbf": 4_000_000_000}))), Status: 401},
		Case{Requires: "ODJ 1", Name: "issued in the future", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "aad:x", "iat": 4_000_000_000}))), Status: 401},

		Case{Requires: "ODJ 2", Name: "source and id of a user, apart", Request: "GET /things", Headers: cat(api, bearer(aad)), Status: 200,
			Upstream: map[string]string{"x-auth-source": "aad", "x-auth-id": "ada-1", "x-auth-email": "ada@example.org", "x-auth-products": "", "authorization": ""}},
		Case{Requires: "ODJ 2", Name: "an id with a colon", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "myapi:a:b"}))), Status: 200,
			Upstream: map[string]string{"x-auth-source": "myapi", "x-auth-id": "a:b"}},
		Case{Requires: "ODJ 2", Name: "another source", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "foo:x"}))), Status: 401},
		Case{Requires: "ODJ 2", Name: "an empty id", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "aad:"}))), Status: 401},
		Case{Requires: "ODJ 2", Name: "no source", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "ada"}))), Status: 401},
		Case{Requires: "ODJ 2", Name: "the source in capitals", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": "AAD:x"}))), Status: 401},
		Case{Requires: "ODJ 2", Name: "no subject", Request: "GET /things", Headers: cat(api, bearer(token(idp.Claims{"sub": nil}))), Status: 401},

		Case{Requires: "ODJ 3", Name: "a machine's products as a list", Request: "GET /things", Headers: cat(api, bearer(myapi)), Status: 200,
			Upstream: map[string]string{"x-auth-source": "myapi", "x-auth-id": "app-7", "x-auth-products": product + ",other", "x-auth-email": ""}},
		Case{Requires: "ODJ 3", Name: "a machine's products as a text that holds a list", Request: "GET /things", Headers: cat(api, bearer(machine(`["`+product+`","other"]`))), Status: 200,
			Upstream: map[string]string{"x-auth-products": product + ",other"}},

		Case{Requires: "ODJ 4", Name: "the token in the cookie", Request: "GET /things", Headers: cat(api, cookie(aad)), Status: 200,
			Upstream: map[string]string{"x-auth-id": "ada-1", "cookie": "theme=dark; lang=de"}},
		Case{Requires: "ODJ 4", Name: "a bad cookie beside a good Bearer", Request: "GET /things", Headers: cat(api, cookie("garbage"), bearer(myapi)), Status: 200,
			Upstream: map[string]string{"x-auth-id": "app-7"}},
		Case{Requires: "ODJ 4", Name: "a good cookie beside a bad Bearer", Request: "GET /things", Headers: cat(api, cookie(aad), bearer("garbage")), Status: 401},
		Case{Requires: "ODJ 4", Name: "the cookie twice", Request: "GET /things", Headers: cat(api, "Cookie: odj_access_token="+aad+"; odj_access_token="+aad), Status: 400},
		Case{Requires: "ODJ 4", Name: "the cookie in two lines", Request: "GET /things", Headers: cat(api, "Cookie: odj_access_token="+aad, "Cookie: odj_access_token="+myapi), Status: 400},
		Case{Requires: "ODJ 4", Name: "the cookie twice on a public page counts as none", Request: "GET /", Headers: cat(ui, "Cookie: odj_access_token="+aad+"; odj_access_token="+aad), Status: 200,
			Upstream: map[string]string{"x-auth-id": ""}},

		Case{Requires: "ODJ 5", Name: "the landing page is open", Request: "GET /", Headers: cat(ui), Status: 200},
		Case{Requires: "ODJ 5", Name: "the landing page with a query", Request: "GET /?a=b", Headers: cat(ui), Status: 200},
		Case{Requires: "ODJ 5", Name: "the sign-in is open", Request: "GET /authenticate?redirect_uri=%2Fapp", Headers: cat(ui), Status: 200},
		Case{Requires: "ODJ 5", Name: "a page without a token", Request: "GET /app?a=b", Headers: cat(ui), Status: 302, Client: signIn("%2Fapp%3Fa%3Db")},
		Case{Requires: "ODJ 5", Name: "index.html is not the landing page", Request: "GET /index.html", Headers: cat(ui), Status: 302, Client: signIn("%2Findex.html")},
		Case{Requires: "ODJ 5", Name: "a page with a garbage cookie", Request: "GET /app", Headers: cat(ui, cookie("garbage")), Status: 302, Client: signIn("%2Fapp")},
		Case{Requires: "ODJ 5", Name: "a page with a good cookie", Request: "GET /app", Headers: cat(ui, cookie(aad)), Status: 200},
		Case{Requires: "ODJ 5", Name: "HEAD is a navigation", Request: "HEAD /app", Headers: cat(ui), Status: 302, Client: signIn("%2Fapp")},
		Case{Requires: "ODJ 5", Name: "a form gets 401", Request: "POST /app", Headers: cat(ui, "Content-Length: 0"), Status: 401, Client: map[string]string{"location": ""}},
		Case{Requires: "ODJ 5", Name: "an API route gets 401", Request: "GET /things", Headers: cat(api), Status: 401, Client: map[string]string{"location": "", "www-authenticate": `Bearer realm="portal"`}},
		Case{Requires: "ODJ 5", Name: "two slashes are not the landing page", Request: "GET //", Headers: cat(ui), Status: 400},

		Case{Requires: "ODJ 8", Name: "the product opens its route", Request: "GET /core/x", Headers: cat(api, bearer(myapi)), Status: 200},
		Case{Requires: "ODJ 8", Name: "another product does not", Request: "GET /core/x", Headers: cat(api, bearer(machine([]any{"other"}))), Status: 403},
		Case{Requires: "ODJ 8", Name: "no product does not", Request: "GET /core/x", Headers: cat(api, bearer(aad)), Status: 403},
		Case{Requires: "ODJ 8", Name: "a prefix of the product does not", Request: "GET /core/x", Headers: cat(api, bearer(machine([]any{"sit_odj-core_core-v1"}))), Status: 403},
		Case{Requires: "ODJ 8", Name: "a longer product does not", Request: "GET /core/x", Headers: cat(api, bearer(machine([]any{product + "-2"}))), Status: 403},
		Case{Requires: "ODJ 8", Name: "source and scope open the users", Request: "GET /users/1", Headers: cat(api, bearer(aad)), Status: 200},
		Case{Requires: "ODJ 8", Name: "a user without the scope", Request: "GET /users/1", Headers: cat(api, bearer(noScope)), Status: 403},
		Case{Requires: "ODJ 8", Name: "a machine is no user", Request: "GET /users/1", Headers: cat(api, bearer(token(idp.Claims{"sub": "myapi:x", "scope": "email"}))), Status: 403},

		Case{Requires: "ODJ 9", Name: "an unknown host gets no Location", Request: "GET /app", Headers: cat("Host: evil.example"), Status: 403, Client: map[string]string{"location": ""}},
		Case{Requires: "ODJ 9", Name: "a path that looks like a host is no open redirect", Request: "GET //evil.example/x", Headers: cat(ui), Status: 400, Client: map[string]string{"location": ""}},
		Case{Requires: "ODJ 9", Name: "two hosts", Request: "GET /app", Headers: cat(ui, "Host: evil.example"), Status: 400, Client: map[string]string{"location": ""}},
		Case{Requires: "ODJ 9", Name: "a forwarded host does not count", Request: "GET /app", Headers: cat(ui, "X-Forwarded-Host: evil.example"), Status: 302, Client: signIn("%2Fapp")},

		Case{Requires: "ODJ 7", Name: "after a good request, one without a credential is refused", Request: "GET /things", Headers: cat(api), Status: 401},
		Case{Requires: "ODJ 7", Name: "after a good request, one with another credential is refused", Request: "GET /things", Headers: cat(api, bearer(aad[:len(aad)-4]+"AAAA")), Status: 401},
	)
	s.prove("ODJ 1", "keys that cannot be reached are an outage", func(t *testing.T) {
		away := startGatehouse(t, "odj", "ODJ_DISCOVERY_URL=http://127.0.0.1:1/.well-known/openid-configuration")
		e := harness.StartEnvoyFile(t, "odj/envoy.yaml", away.GRPC, serveEcho(t).Address())
		if answer := harness.Send(t, e.Address(t, "front"), "GET /things", api, bearer(aad)); answer.Status != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", answer.Status)
		}
	})
	s.prove("ODJ 6", "through nginx", func(t *testing.T) { odjThroughNginx(t, g, aad, myapi) })
	s.complete(9)
}

// testODJKeycloak holds tokens that a real provider mapped against the same rules.
func testODJKeycloak(t *testing.T, kc *keycloak.Server) {
	kc.Wait(t, "odj")
	s, _, e := start(t, "odj", "ODJ", "ODJ_ISSUER="+kc.Issuer("odj"), "ODJ_DISCOVERY_URL="+kc.Issuer("odj")+"/.well-known/openid-configuration")
	s.through = e.Address(t, "front")
	const api = "Host: api.example"
	s.run(
		Case{Requires: "ODJ 3", Name: "a user of Keycloak", Request: "GET /users/1", Headers: cat(api, bearer(kc.Password(t, "odj", "aad", "", "ada", "").AccessToken)), Status: 200,
			Upstream: map[string]string{"x-auth-source": "aad", "x-auth-id": "ada-1", "x-auth-email": "ada@example.org"}},
		Case{Requires: "ODJ 8", Name: "a machine of Keycloak", Request: "GET /core/1", Headers: cat(api, bearer(kc.ClientCredentials(t, "odj", "myapi", "myapi-secret").AccessToken)), Status: 200,
			Upstream: map[string]string{"x-auth-source": "myapi", "x-auth-id": "app-7", "x-auth-products": "sit_odj-core_core-v1_prod,other"}},
	)
	if strings.Contains(e.Output(), "ey") && strings.Contains(e.Output(), ".ey") {
		t.Error("a token is in Envoy's log")
	}
}
