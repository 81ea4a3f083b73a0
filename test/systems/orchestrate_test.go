package systems

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"crypto/rsa"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

const orchestrateClaim = "https://api.orchestrate.network"

func TestOrchestrate(t *testing.T) {
	const key, next = "orchestrate-api-key-0123456789", "orchestrate-api-key-to-come-01"
	provider := idp.Start(t)
	environment := []string{
		"AUTH_API_KEY=" + key, "AUTH_API_KEY_NEXT=" + next,
		"AUTH_JWT_ISSUER_URL=" + provider.Issuer, "AUTH_JWT_AUDIENCE=orders, key-manager",
		"AUTH_JWT_ORCHESTRATE_CLAIMS=" + orchestrateClaim,
	}
	s, g, e := start(t, "orchestrate", "ORC", environment...)
	client, internal := e.Address(t, "client"), e.Address(t, "internal")
	s.through = client
	both := []any{"orders", "key-manager"}
	// as makes a token whose claim is the value given.
	as := func(claim any, more idp.Claims) string {
		return bearer(provider.Token(t, idp.Claims{"aud": both, orchestrateClaim: claim}.With(more)))
	}
	tenant := func(name string) string {
		return as(map[string]any{"tenant_id": name, "username": name + "-user"}, nil)
	}
	foo, abc, all := tenant("foo"), tenant("a:b:c"), tenant("*")
	withKey := "X-API-Key: " + key

	s.run(
		Case{Requires: "ORC 1", Name: "the right key is an internal service with access to all tenants", Through: internal, Request: "GET /x", Headers: cat(withKey), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "_", "x-allowed-tenants": "*", "x-username": "", "x-api-key": "", "authorization": ""}},
		Case{Requires: "ORC 1", Name: "the key to come is good as well", Through: internal, Request: "GET /x", Headers: cat("X-API-Key: " + next), Status: 200,
			Upstream: map[string]string{"x-allowed-tenants": "*"}},
		Case{Requires: "ORC 1", Name: "any other key is refused", Through: internal, Request: "GET /x", Headers: cat("X-API-Key: " + key + "x"), Status: 401},
		Case{Requires: "ORC 1", Name: "a prefix of the key is refused", Through: internal, Request: "GET /x", Headers: cat("X-API-Key: " + key[:10]), Status: 401},
		Case{Requires: "ORC 1", Name: "a wrong key beside a good token is refused", Through: internal, Request: "GET /x", Headers: cat("X-API-Key: wrong", foo), Status: 401},
		Case{Requires: "ORC 1", Name: "a token beside the right key is ignored", Through: internal, Request: "GET /x", Headers: cat(withKey, foo), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "_", "x-allowed-tenants": "*", "authorization": "", "x-api-key": ""}},
		Case{Requires: "ORC 1", Name: "a garbage token beside the right key is ignored", Through: internal, Request: "GET /x", Headers: cat(withKey, "Authorization: Bearer nonsense"), Status: 200,
			Upstream: map[string]string{"authorization": ""}},
		Case{Requires: "ORC 1", Name: "the key twice is malformed", Through: internal, Request: "GET /x", Headers: cat(withKey, withKey), Status: 400},

		Case{Requires: "ORC 2", Name: "the right key does not count for clients", Request: "GET /x", Headers: cat(withKey), Status: 401},
		Case{Requires: "ORC 2", Name: "the right key beside a good token does not count for clients", Request: "GET /x", Headers: cat(withKey, foo), Status: 401},
		Case{Requires: "ORC 2", Name: "a client cannot say that it is internal", Request: "GET /x", Headers: cat(withKey, "Listener: internal", "X-Envoy-Internal: true"), Status: 401},

		Case{Requires: "ORC 3", Name: "a token of the issuer is good", Request: "GET /x", Headers: cat(foo), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "foo", "x-username": "foo-user", "x-allowed-tenants": "_,foo", "authorization": "", "x-api-key": ""}},
		Case{Requires: "ORC 3", Name: "the same token is good again", Request: "GET /y", Headers: cat(foo), Status: 200, Upstream: map[string]string{"x-tenant-id": "foo"}},
		Case{Requires: "ORC 3", Name: "a slash behind the issuer matters", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": "foo"}, idp.Claims{"iss": provider.Issuer + "/"})), Status: 401},
		Case{Requires: "ORC 3", Name: "one of the two audiences is not enough", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": "foo"}, idp.Claims{"aud": "orders"})), Status: 401},
		Case{Requires: "ORC 3", Name: "no leeway: expired a second ago is refused", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": "foo"}, idp.Claims{"exp": time.Now().Unix() - 1})), Status: 401},
		Case{Requires: "ORC 3", Name: "exp is required", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": "foo"}, idp.Claims{"exp": nil})), Status: 401},
		Case{Requires: "ORC 3", Name: "RS256 only", Request: "GET /x", Headers: cat(bearer(provider.TokenSignedWith(t, "ES256", idp.Claims{"aud": both, orchestrateClaim: map[string]any{"tenant_id": "foo"}}))), Status: 401},
		Case{Requires: "ORC 3", Name: "HS256 with the public key as the secret is refused", Request: "GET /x", Headers: cat(bearer(confused(t, provider.Issuer, foo))), Status: 401},
		Case{Requires: "ORC 3", Name: "kid is required", Request: "GET /x", Headers: cat(bearer(reheaded(t, foo, `{"alg":"RS256","typ":"at+jwt"}`))), Status: 401},
		Case{Requires: "ORC 3", Name: "the scheme may have any case", Request: "GET /x", Headers: cat(strings.Replace(foo, "Bearer", "bEaReR", 1)), Status: 200},
		Case{Requires: "ORC 3", Name: "no credential is refused", Request: "GET /x", Status: 401},

		Case{Requires: "ORC 4", Name: "the claim is missing", Request: "GET /x", Headers: cat(as(nil, nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "the claim is a text", Request: "GET /x", Headers: cat(as("foo", nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "the claim is a list", Request: "GET /x", Headers: cat(as([]any{"foo"}, nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "the tenant is a number", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": 7}, nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "the tenant is absent", Request: "GET /x", Headers: cat(as(map[string]any{"username": "u"}, nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "the tenant is empty", Request: "GET /x", Headers: cat(as(map[string]any{"tenant_id": ""}, nil)), Status: 401},
		Case{Requires: "ORC 4", Name: "tenant and username come from the token only", Request: "GET /x?tenant_id=bar", Headers: cat(foo, "X-Tenant: bar"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "foo", "x-username": "foo-user"}},

		Case{Requires: "ORC 6", Name: "a forged set of tenants is replaced", Request: "GET /x", Headers: cat(foo, "X-Allowed-Tenants: *"), Status: 200,
			Upstream: map[string]string{"x-allowed-tenants": "_,foo"}},

		Case{Requires: "ORC 7", Name: "an empty selection is none", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID:"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "foo", "x-username": "foo-user", "x-allowed-tenants": "_,foo"}},
		Case{Requires: "ORC 7", Name: "foo selects foo: its username is cleared", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: foo"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "foo", "x-username": "", "x-allowed-tenants": "_,foo"}},
		Case{Requires: "ORC 7", Name: "foo selects the default tenant", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: _"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "_", "x-username": ""}},
		Case{Requires: "ORC 7, ORC 8", Name: "foo selects bar", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: bar"), Status: 401},
		Case{Requires: "ORC 7", Name: "foo selects all", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: *"), Status: 401},
		Case{Requires: "ORC 7", Name: "foo selects its child", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: foo:child"), Status: 401},
		Case{Requires: "ORC 7", Name: "a:b:c reads its ancestors", Request: "GET /x", Headers: cat(abc), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "a:b:c", "x-allowed-tenants": "_,a,a:b,a:b:c"}},
		Case{Requires: "ORC 7", Name: "a:b:c selects a", Request: "GET /x", Headers: cat(abc, "X-Tenant-ID: a"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "a", "x-username": "", "x-allowed-tenants": "_,a"}},
		Case{Requires: "ORC 7", Name: "a:b:c selects a:b", Request: "GET /x", Headers: cat(abc, "X-Tenant-ID: a:b"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "a:b", "x-allowed-tenants": "_,a,a:b"}},
		Case{Requires: "ORC 7", Name: "a:b:c selects itself", Request: "GET /x", Headers: cat(abc, "X-Tenant-ID: a:b:c"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "a:b:c", "x-username": "", "x-allowed-tenants": "_,a,a:b,a:b:c"}},
		Case{Requires: "ORC 7", Name: "a:b:c selects its child", Request: "GET /x", Headers: cat(abc, "X-Tenant-ID: a:b:c:d"), Status: 401},
		Case{Requires: "ORC 7", Name: "a:b:c selects a stranger", Request: "GET /x", Headers: cat(abc, "X-Tenant-ID: b"), Status: 401},
		Case{Requires: "ORC 7", Name: "the wildcard reads all", Request: "GET /x", Headers: cat(all), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "_", "x-username": "*-user", "x-allowed-tenants": "*"}},
		Case{Requires: "ORC 7", Name: "the wildcard selects any tenant", Request: "GET /x", Headers: cat(all, "X-Tenant-ID: x:y"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "x:y", "x-username": "", "x-allowed-tenants": "_,x,x:y"}},
		Case{Requires: "ORC 7", Name: "the wildcard cannot select itself", Request: "GET /x", Headers: cat(all, "X-Tenant-ID: *"), Status: 401},
		Case{Requires: "ORC 7", Name: "two selections are malformed", Request: "GET /x", Headers: cat(foo, "X-Tenant-ID: foo", "X-Tenant-ID: _"), Status: 400},
		Case{Requires: "ORC 7", Name: "a service selects tenant and user", Through: internal, Request: "GET /x", Headers: cat(withKey, "X-Tenant-ID: foo", "X-Username: u"), Status: 200,
			Upstream: map[string]string{"x-tenant-id": "foo", "x-username": "u", "x-allowed-tenants": "_,foo"}},
		Case{Requires: "ORC 7", Name: "a service speaks for all owners", Through: internal, Request: "GET /x", Headers: cat(withKey, "X-Username: *"), Status: 200,
			Upstream: map[string]string{"x-username": "*"}},
		Case{Requires: "ORC 7", Name: "a token with a username, its own included", Request: "GET /x", Headers: cat(foo, "X-Username: foo-user"), Status: 401},

		Case{Requires: "ORC 8", Name: "a resource of foo, for foo", Request: "GET /resources/foo/1", Headers: cat(foo), Status: 200},
		Case{Requires: "ORC 8", Name: "a resource of bar, for foo, does not exist", Request: "GET /resources/bar/1", Headers: cat(foo), Status: 404},
		Case{Requires: "ORC 8", Name: "an owned resource, for its owner", Request: "GET /resources/owned", Headers: cat(foo), Status: 200},
		Case{Requires: "ORC 8", Name: "an owned resource, for another user of the tenant", Request: "GET /resources/owned", Headers: cat(as(map[string]any{"tenant_id": "foo", "username": "other"}, nil)), Status: 404},
		Case{Requires: "ORC 8", Name: "an owned resource, for nobody in particular", Request: "GET /resources/owned", Headers: cat(foo, "X-Tenant-ID: foo"), Status: 404},
		Case{Requires: "ORC 8", Name: "an owned resource, for a service that speaks for all owners", Through: internal, Request: "GET /resources/owned", Headers: cat(withKey, "X-Username: *"), Status: 200},
		Case{Requires: "ORC 8", Name: "an owned resource, for a service without a user", Through: internal, Request: "GET /resources/owned", Headers: cat(withKey), Status: 404},
		Case{Requires: "ORC 8", Name: "a resource without a credential", Request: "GET /resources/foo/1", Status: 401},

		Case{Requires: "ORC 9", Name: "the client listener does not serve metrics", Request: "GET /metrics", Status: 401},
	)
	s.prove("ORC 2", "the key is in no log and no answer", func(t *testing.T) {
		for _, output := range []string{g.Output(), e.Output()} {
			if strings.Contains(output, key) || strings.Contains(output, next) {
				t.Error("a log holds the key")
			}
		}
	})
	s.prove("ORC 9", "metrics need no credential on their own listener", func(t *testing.T) {
		resp, err := http.Get("http://" + g.Ops + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(text), "gatehouse_decisions_total") {
			t.Errorf("metrics = %s", resp.Status)
		}
	})

	s.prove("ORC 5", "without multi-tenancy nobody is asked", func(t *testing.T) {
		off := startGatehouse(t, "orchestrate", "MULTI_TENANCY_ENABLED=false")
		e := harness.StartEnvoyFile(t, "orchestrate/envoy.yaml", off.GRPC, serveEcho(t).Address())
		sub := &Suite{t: t, through: e.Address(t, "client"), proven: map[string][]string{}}
		everything := map[string]string{"x-tenant-id": "_", "x-username": "", "x-allowed-tenants": "_", "authorization": "", "x-api-key": ""}
		sub.run(
			Case{Requires: "ORC 5", Name: "no credential", Request: "GET /x", Status: 200, Upstream: everything},
			Case{Requires: "ORC 5", Name: "forged headers are removed", Request: "GET /x", Status: 200, Upstream: everything,
				Headers: cat("X-Tenant-ID: foo", "X-Username: root", "X-Allowed-Tenants: *", "X-API-Key: "+key, foo)},
		)
	})
	s.prove("ORC 10", "one audience, another claim and another key by the environment", func(t *testing.T) {
		other := startGatehouse(t, "orchestrate", "AUTH_API_KEY=another", "AUTH_JWT_ISSUER_URL="+provider.Issuer, "AUTH_JWT_AUDIENCE=orders", "AUTH_JWT_ORCHESTRATE_CLAIMS=urn:other")
		e := harness.StartEnvoyFile(t, "orchestrate/envoy.yaml", other.GRPC, serveEcho(t).Address())
		sub := &Suite{t: t, through: e.Address(t, "client"), proven: map[string][]string{}}
		sub.run(
			Case{Requires: "ORC 10", Name: "the other claim counts", Request: "GET /x", Status: 200, Headers: cat(bearer(provider.Token(t, idp.Claims{"urn:other": map[string]any{"tenant_id": "foo"}}))),
				Upstream: map[string]string{"x-tenant-id": "foo", "x-username": ""}},
			Case{Requires: "ORC 10", Name: "the first claim does not", Request: "GET /x", Status: 401, Headers: cat(foo)},
			Case{Requires: "ORC 10", Name: "the other key counts", Through: e.Address(t, "internal"), Request: "GET /x", Status: 200, Headers: cat("X-API-Key: another")},
			Case{Requires: "ORC 10", Name: "the first key does not", Through: e.Address(t, "internal"), Request: "GET /x", Status: 401, Headers: cat(withKey)},
		)
	})
	s.complete(10)
}

// reheaded is the token of an Authorization header with another JOSE header.
func reheaded(t *testing.T, authorization, header string) string {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(authorization, "Authorization: Bearer "), ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWS: %q", authorization)
	}
	parts[0] = base64.RawURLEncoding.EncodeToString([]byte(header))
	return strings.Join(parts, ".")
}

// confused is the token signed by HS256 with the issuer's public key, as PEM, for the secret.
func confused(t *testing.T, issuer, authorization string) string {
	t.Helper()
	resp, err := http.Get(issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set struct {
		Keys []struct{ Kid, Kty, N, E string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kty != "RSA" {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(k.N)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		token := reheaded(t, authorization, `{"alg":"HS256","kid":"`+k.Kid+`"}`)
		signed := token[:strings.LastIndexByte(token, '.')]
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	t.Fatal("the issuer has no RSA key")
	return ""
}
