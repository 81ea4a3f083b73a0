package hostile

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// A systemRow is one request to a system's own configuration. sees is what the upstream
// gets from us, as name=value; a name alone: it gets none.
type systemRow struct {
	name    string
	request request
	want    int
	sees    []string
}

// startSystem runs the configuration of a system as its operators would.
func startSystem(t *testing.T, name string, environment ...string) server {
	t.Helper()
	config, err := os.ReadFile(filepath.Join("..", "systems", name, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	options := []harness.Option{
		harness.Env("LISTEN_GRPC=127.0.0.1:0"), harness.Env("LISTEN_HTTP=127.0.0.1:0"), harness.Env("LISTEN_OPS=127.0.0.1:0"),
		harness.Env("STORE_PATH=" + filepath.Join(t.TempDir(), "gatehouse.db")),
	}
	for _, assignment := range environment {
		options = append(options, harness.Env(assignment))
	}
	g := harness.StartGatehouse(t, string(config), options...)
	g.WaitServing(t)
	return server{name, g, harness.Dial(t, g.GRPC)}
}

// startIssuer starts an issuer that ends with the test.
func startIssuer(t *testing.T) *authntest.Issuer {
	t.Helper()
	issuer, err := authntest.Start(authntest.Options{Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

// run asks every row, of which the first must be good: it is asked until the keys of the
// issuer are there.
func (s server) run(t *testing.T, rows []systemRow) {
	t.Helper()
	harness.Eventually(t, eventually, func() error {
		a, err := s.trySend(encode(t, rows[0].request.mapForm()))
		if err == nil && a.status != rows[0].want {
			err = fmt.Errorf("%s: %s", rows[0].name, a)
		}
		return err
	})
	for _, row := range rows {
		a, err := s.trySend(encode(t, row.request.mapForm()))
		if err != nil {
			t.Fatal(err)
		}
		if a.status != row.want {
			t.Errorf("%s: %d %s, want %d", row.name, a.status, a.reason, row.want)
		}
		for _, see := range row.sees {
			name, want, _ := strings.Cut(see, "=")
			if got := a.set[name]; got != want {
				t.Errorf("%s: the upstream sees %s: %q, want %q", row.name, name, got, want)
			}
		}
	}
}

func TestOrchestrateFromOutside(t *testing.T) {
	const claims, key = "https://api.orchestrate.network", "orchestrate-key-0123456789"
	issuer := startIssuer(t)
	s := startSystem(t, "orchestrate", "AUTH_API_KEY="+key, "AUTH_JWT_ISSUER_URL="+issuer.URL(), "AUTH_JWT_AUDIENCE=orders,billing", "AUTH_JWT_ORCHESTRATE_CLAIMS="+claims)
	token := func(tenant any, changes map[string]any) header {
		all := map[string]any{"aud": []string{"orders", "billing"}, claims: map[string]any{"tenant_id": tenant, "username": "u"}}
		maps.Copy(all, changes)
		return header{"authorization", "Bearer " + issuer.Token(all)}
	}
	on := func(listener string, context map[string]string, headers ...header) request {
		r := get("/x", headers...)
		r.context = map[string]string{"listener": listener}
		maps.Copy(r.context, context)
		return r
	}
	client := func(headers ...header) request { return on("client", nil, headers...) }
	internal := func(headers ...header) request { return on("internal", nil, headers...) }
	choose := func(tenant string) header { return header{"x-tenant-id", tenant} }
	apiKey, user := header{"x-api-key", key}, header{"x-username", "u2"}
	resource := func(tenant, owner string) map[string]string {
		return map[string]string{"tenant": tenant, "owner": owner}
	}
	foo := token("foo", nil)
	unsigned := strings.Split(strings.TrimPrefix(foo.value, "Bearer "), ".")[1]
	s.run(t, []systemRow{
		{"a token", client(foo), 200, []string{"x-tenant-id=foo", "x-username=u", "x-allowed-tenants=_,foo", "authorization"}},
		{"forged headers", client(foo, header{"x-allowed-tenants", "*"}), 200, []string{"x-allowed-tenants=_,foo"}},
		{"an empty selection", client(foo, choose("")), 200, []string{"x-tenant-id=foo", "x-username=u"}},
		{"its own tenant", client(foo, choose("foo")), 200, []string{"x-tenant-id=foo", "x-username", "x-allowed-tenants=_,foo"}},
		{"the public tenant", client(foo, choose("_")), 200, []string{"x-tenant-id=_", "x-username"}},
		{"another tenant", client(foo, choose("bar")), 401, nil},
		{"all tenants", client(foo, choose("*")), 401, nil},
		{"a child", client(foo, choose("foo:child")), 401, nil},
		{"an empty part", client(foo, choose("foo:")), 401, nil},
		{"a wildcard for a part", client(token("*", nil), choose("foo:*")), 401, nil},
		{"a username", client(foo, user), 401, nil},
		{"its own username", client(foo, header{"x-username", "u"}), 401, nil},
		{"an empty username", client(foo, header{"x-username", ""}), 200, nil},
		{"nested tenants", client(token("a:b:c", nil)), 200, []string{"x-allowed-tenants=_,a,a:b,a:b:c"}},
		{"an ancestor", client(token("a:b:c", nil), choose("a:b")), 200, []string{"x-tenant-id=a:b", "x-allowed-tenants=_,a,a:b"}},
		{"a sibling", client(token("a:b:c", nil), choose("a:d")), 401, nil},
		{"a token for all", client(token("*", nil)), 200, []string{"x-tenant-id=_", "x-allowed-tenants=*", "x-username=u"}},
		{"a token for all acts for one", client(token("*", nil), choose("foo:bar")), 200, []string{"x-tenant-id=foo:bar", "x-allowed-tenants=_,foo,foo:bar"}},
		{"a token for all acts for all", client(token("*", nil), choose("*")), 401, nil},
		{"one audience of two", client(token("foo", map[string]any{"aud": "orders"})), 401, nil},
		{"the claim is a string", client(token("foo", map[string]any{claims: "foo"})), 401, nil},
		{"the claim is a list", client(token("foo", map[string]any{claims: []string{"foo"}})), 401, nil},
		{"no claim", client(token("foo", map[string]any{claims: nil})), 401, nil},
		{"the tenant is a number", client(token(7, nil)), 401, nil},
		{"the tenant is empty", client(token("", nil)), 401, nil},
		{"the tenant is null", client(token(nil, nil)), 401, nil},
		{"an issuer with a slash", client(token("foo", map[string]any{"iss": issuer.URL() + "/"})), 401, nil},
		{"expired a second ago", client(token("foo", map[string]any{"exp": time.Now().Unix() - 1})), 401, nil},
		{"no expiry", client(token("foo", map[string]any{"exp": nil})), 401, nil},
		{"no kid", client(header{"authorization", "Bearer " + issuer.Current().Sign(map[string]any{"alg": "RS256"}, issuer.Claims(map[string]any{"aud": []string{"orders", "billing"}, claims: map[string]any{"tenant_id": "foo"}}))}), 401, nil},
		{"no signature", client(header{"authorization", "Bearer " + authntest.Encode([]byte(`{"alg":"none"}`)) + "." + unsigned + "."}), 401, nil},
		{"nothing", client(), 401, nil},
		{"the key on the client listener", client(apiKey), 401, nil},
		{"the key on the client listener beside a token", client(apiKey, foo), 401, nil},
		{"the key without a listener", get("/x", apiKey), 401, nil},
		{"a wrong key on the client listener beside a token", client(header{"x-api-key", "wrong"}, foo), 401, nil},
		{"the key", internal(apiKey), 200, []string{"x-tenant-id=_", "x-allowed-tenants=*", "x-api-key", "x-username"}},
		{"the key beside a bad token", internal(apiKey, header{"authorization", "Bearer x"}), 200, []string{"x-allowed-tenants=*", "authorization"}},
		{"a wrong key beside a token", internal(header{"x-api-key", "wrong"}, foo), 401, nil},
		{"an empty key beside a token", internal(header{"x-api-key", ""}, foo), 401, nil},
		{"the key twice", internal(apiKey, apiKey), 400, nil},
		{"the key for a tenant and a user", internal(apiKey, choose("foo"), user), 200, []string{"x-tenant-id=foo", "x-username=u2"}},
		{"the key for all users", internal(apiKey, header{"x-username", "*"}), 200, []string{"x-username=*"}},
		{"the key for all tenants", internal(apiKey, choose("*")), 401, nil},
		{"a resource of its own", on("client", resource("foo", ""), foo), 200, nil},
		{"a resource of its owner", on("client", resource("foo", "u"), foo), 200, nil},
		{"a resource of another owner", on("client", resource("foo", "v"), foo), 404, nil},
		{"a resource of another tenant", on("client", resource("bar", ""), foo), 404, nil},
		{"a resource of another tenant and its owner", on("client", resource("bar", "u"), foo), 404, nil},
		{"a resource of the public tenant", on("client", resource("_", ""), foo), 200, nil},
		{"a resource of a child", on("client", resource("foo:child", ""), foo), 404, nil},
		{"a resource, without a credential", on("client", resource("foo", "")), 401, nil},
		{"a resource of an ancestor", on("client", resource("a", ""), token("a:b", nil)), 200, nil},
		{"any resource, for all users", on("internal", resource("foo", "v"), apiKey, header{"x-username", "*"}), 200, nil},
		{"a path that is not canonical", on("client", nil, foo).at("/a/../x"), 400, nil},
	})
}

// at is r for another path.
func (r request) at(path string) request { r.path = path; return r }

// by is r with another method.
func (r request) by(method string) request { r.method = method; return r }

func TestHORAOFromOutside(t *testing.T) {
	const secret, role = "abracadabra", "https://claims.idp.example.com/role"
	issuer := startIssuer(t)
	s := startSystem(t, "horao", "PEER_SECRET="+secret, "PEERS=10.0.0.1, 10.1.0.0/24", "HOST_ID=me", "OAUTH_SERVER_METADATA_URL="+issuer.DiscoveryURL(), "OAUTH_CLIENT_ID=orders", "OAUTH_ROLE_URI="+role)
	user := func(changes map[string]any) header {
		all := map[string]any{"email": "ada@example.org"}
		maps.Copy(all, changes)
		return header{"authorization", "Bearer " + issuer.Token(all)}
	}
	peer := func(secret, claims string) header {
		return header{"authorization", "Bearer " + hmacSigned([]byte(secret), sha256.New, `{"alg":"HS256","typ":"JWT"}`, claims)}
	}
	known := header{"authorization", "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJwZWVyIjoic29tZS5mcWRuLmNvbSJ9.aUyykxiKi1eF1i1UQO3ef7QSFxk_xko2NDCsQMIuIpQ"}
	synchronize := func(source string, headers ...header) request {
		r := get("/synchronize", append(headers, header{"peer", "true"})...).by("POST")
		r.source = source
		return r
	}
	bare := get("/synchronize", known).by("POST")
	bare.source = "10.0.0.1"
	admin, nobody := map[string]any{role: "administrator"}, map[string]any{role: "nonadministrator"}
	s.run(t, []systemRow{
		{"a user", get("/reservations", user(nil)), 200, []string{"x-horao-role=user", "x-horao-identity=ada@example.org", "x-peer-id"}},
		{"a peer", synchronize("10.0.0.1", known), 200, []string{"x-horao-role=peer", "x-horao-identity=some.fqdn.com", "x-peer-id=some.fqdn.com", "authorization"}},
		{"a peer as an IPv4-mapped address", synchronize("::ffff:10.0.0.1", known), 200, nil},
		{"a peer of a network", synchronize("10.1.0.77", known), 200, nil},
		{"an address that begins like a peer's", synchronize("10.0.0.12", known), 403, nil},
		{"an address beside the network", synchronize("10.1.1.0", known), 403, nil},
		{"a stranger that says it was forwarded", synchronize("192.0.2.9", known, header{"x-forwarded-for", "10.0.0.1"}), 403, nil},
		{"without the header Peer", bare, 200, nil},
		{"the wrong secret", synchronize("10.0.0.1", peer("wrong", `{"peer":"x"}`)), 401, nil},
		{"no secret", synchronize("10.0.0.1", peer("", `{"peer":"x"}`)), 401, nil},
		{"no peer", synchronize("10.0.0.1", peer(secret, `{}`)), 401, nil},
		{"an empty peer", synchronize("10.0.0.1", peer(secret, `{"peer":""}`)), 401, nil},
		{"a list of peers", synchronize("10.0.0.1", peer(secret, `{"peer":["x"]}`)), 401, nil},
		{"two peers", synchronize("10.0.0.1", peer(secret, `{"peer":"x","peer":"y"}`)), 401, nil},
		{"expired", synchronize("10.0.0.1", peer(secret, `{"peer":"x","exp":1}`)), 401, nil},
		{"no credential", synchronize("10.0.0.1"), 401, nil},
		{"two credentials", synchronize("10.0.0.1", known, known), 400, nil},
		{"a user on synchronize", synchronize("10.0.0.1", user(admin)), 401, nil},
		{"a peer by GET", synchronize("10.0.0.1", known).by("GET"), 403, nil},
		{"a peer below", synchronize("10.0.0.1", known).at("/synchronize/x"), 401, nil},
		{"a peer with a slash behind", synchronize("10.0.0.1", known).at("/synchronize/"), 200, nil},
		{"a peer as a user", synchronize("10.0.0.1", known).at("/reservations"), 401, nil},
		{"a peer as an administrator", synchronize("10.0.0.1", known).at("/admin/x"), 401, nil},
		{"an administrator", get("/admin/x", user(admin)), 200, []string{"x-horao-role=administrator"}},
		{"an administrator among other roles", get("/admin/x", user(map[string]any{role: []string{"x", "administrator"}})), 200, []string{"x-horao-role=administrator"}},
		{"a role that ends like it", get("/admin/x", user(nobody)), 403, nil},
		{"a role that ends like it is a user's", get("/x", user(nobody)), 200, []string{"x-horao-role=user"}},
		{"a role in capitals", get("/admin/x", user(map[string]any{role: "ADMINISTRATOR"})), 403, nil},
		{"a role that is an object", get("/x", user(map[string]any{role: map[string]any{"administrator": true}})), 200, []string{"x-horao-role=user"}},
		{"no email", get("/x", user(map[string]any{"email": nil})), 401, nil},
		{"an email that is a list", get("/x", user(map[string]any{"email": []string{"a"}})), 401, nil},
		{"another audience", get("/x", user(map[string]any{"aud": "other"})), 401, nil},
		{"the login", get("/login", header{"x-horao-role", "administrator"}).by("POST"), 200, []string{"x-horao-role"}},
		{"the login by GET", get("/login"), 401, nil},
	})
}

func TestAuthOTronFromOutside(t *testing.T) {
	issuer := startIssuer(t)
	s := startSystem(t, "auth-o-tron", "AOT_OIDC_ISSUER="+issuer.URL(), "AOT_WHOAMI_URL=http://127.0.0.1:1/who-am-i", "AOT_OFFLINE_CLIENT_ID=c", "AOT_OFFLINE_CLIENT_SECRET=client-secret-0123456789", "AOT_JWT_SECRET=minting-secret-0123456789abcdef0123456789")
	token := func(changes map[string]any) header {
		all := map[string]any{"aud": "aot", "preferred_username": "ada", "scope": "read:users"}
		maps.Copy(all, changes)
		return header{"authorization", "Bearer " + issuer.Token(all)}
	}
	roles := func(roles ...string) map[string]any { return map[string]any{"roles": roles} }
	s.run(t, []systemRow{
		{"a token", get("/x", token(nil)), 200, nil},
		{"a role of the realm", get("/admin/x", token(map[string]any{"realm_access": roles("user", "admin")})), 200, nil},
		{"a role of a client", get("/admin/x", token(map[string]any{"resource_access": map[string]any{"a": roles("user"), "b": roles("admin")}})), 200, nil},
		{"an entitlement", get("/admin/x", token(map[string]any{"entitlements": []string{"admin"}})), 200, nil},
		{"no role", get("/admin/x", token(nil)), 403, nil},
		{"a client called like the role", get("/admin/x", token(map[string]any{"resource_access": map[string]any{"admin": roles("user")}})), 403, nil},
		{"a client without roles", get("/x", token(map[string]any{"resource_access": map[string]any{"a": map[string]any{}}})), 200, nil},
		{"a role of the wrong realm", get("/ecmwf-admin/x", token(map[string]any{"realm_access": roles("admin")})), 403, nil},
		{"a user without a name", get("/x", token(map[string]any{"preferred_username": nil})), 200, nil},
		{"neither a name nor a subject", get("/x", token(map[string]any{"preferred_username": nil, "sub": nil})), 401, nil},
		{"a scope", get("/read/x", token(nil)), 200, nil},
		{"another scope", get("/write/x", token(nil)), 403, nil},
		{"a password has all scopes", get("/write/x", basic("adam", "other")), 200, nil},
		{"a password and its grant", get("/admin/x", basic("adam", "admin")), 200, nil},
		{"the other realm has no grant", get("/admin/x", basic("adam", "other")), 403, nil},
		{"the realm that is selected", get("/x", basic("adam", "admin"), header{"x-auth-realm", "other"}), 401, nil},
		{"a realm that nobody has", get("/x", basic("adam", "admin"), header{"x-auth-realm", "nowhere"}), 401, nil},
		{"a good one and a bad one", get("/x", header{"authorization", basic("adam", "admin").value + ", Bearer x.y.z"}), 200, nil},
		{"four credentials", get("/x", header{"authorization", "Basic a, Bearer b, Digest c, Plain d"}), 401, nil},
		{"two of a scheme", get("/x", header{"authorization", token(nil).value + "," + token(nil).value}), 401, nil},
		{"three words", get("/x", header{"authorization", "Bearer a b"}), 401, nil},
		{"nothing", get("/x"), 401, nil},
		{"a path that is not canonical", get("//x", token(nil)), 400, nil},
	})
	a, err := s.trySend(encode(t, get("/x").mapForm()))
	if err != nil {
		t.Fatal(err)
	}
	const challenges = `Bearer realm="oidc", Bearer realm="ecmwf", Basic realm="ecmwf", Basic realm="other"`
	if got := a.replies["www-authenticate"]; got != challenges {
		t.Errorf("WWW-Authenticate: %s, want %s", got, challenges)
	}
}

func TestODJFromOutside(t *testing.T) {
	const named, product = "https://live.example/remote-token/token", "sit_odj-core_core-v1_prod"
	issuer := startIssuer(t)
	s := startSystem(t, "odj", "ODJ_ISSUER="+named, "ODJ_DISCOVERY_URL="+issuer.DiscoveryURL())
	text := func(changes map[string]any) string {
		all := map[string]any{"iss": named, "aud": "odj", "sub": "aad:42", "email": "ada@example.org", "scope": "email profile", "name": "Ada"}
		maps.Copy(all, changes)
		return issuer.Token(all)
	}
	bearer := func(changes map[string]any) header { return header{"authorization", "Bearer " + text(changes)} }
	cookie := func(value string) header { return header{"cookie", "odj_access_token=" + value} }
	at := func(host, path string, headers ...header) request {
		r := get(path, headers...)
		r.host = host
		return r
	}
	const ui, api = "ui.example", "api.example"
	machine := func(products any) map[string]any {
		return map[string]any{"sub": "myapi:7", "email": nil, "scope": nil, "app_id": "app", "api_product_list": products}
	}
	s.run(t, []systemRow{
		{"a token", at(api, "/x", bearer(nil)), 200, []string{"x-auth-source=aad", "x-auth-id=42", "x-auth-email=ada@example.org", "x-auth-products", "authorization"}},
		{"the landing page", at(ui, "/"), 200, nil},
		{"the landing page with a query", at(ui, "/?a=b"), 200, nil},
		{"the landing page with a bad cookie", at(ui, "/", cookie("x")), 200, []string{"x-auth-id"}},
		{"the landing page with two cookies", at(ui, "/", cookie("x"), cookie("y")), 200, nil},
		{"two slashes", at(ui, "//"), 400, nil},
		{"two slashes and a host", at(ui, "//evil.example/x"), 400, nil},
		{"the index", at(ui, "/index.html"), 302, nil},
		{"a page", at(ui, "/app?a=b"), 302, nil},
		{"a page by HEAD", at(ui, "/app").by("HEAD"), 302, nil},
		{"a page by POST", at(ui, "/app").by("POST"), 401, nil},
		{"a page with a bad cookie", at(ui, "/app", cookie("x")), 302, nil},
		{"a page with a bad token", at(ui, "/app", header{"authorization", "Bearer x"}), 401, nil},
		{"a page with a good cookie", at(ui, "/app", cookie(text(nil))), 200, []string{"x-auth-source=aad"}},
		{"a page with two cookies", at(ui, "/app", header{"cookie", "odj_access_token=" + text(nil) + "; odj_access_token=x"}), 400, nil},
		{"the page to sign in", at(ui, "/authenticate?redirect_uri=x"), 200, nil},
		{"below the page to sign in", at(ui, "/authenticate/x"), 302, nil},
		{"a page of an unknown host", at("evil.example", "/app"), 403, nil},
		{"an API without a token", at(api, "/x"), 401, nil},
		{"an API with a bad cookie", at(api, "/x", cookie("x")), 401, nil},
		{"a bad cookie and a good token", at(api, "/x", cookie("x"), bearer(nil)), 200, nil},
		{"a good cookie and a bad token", at(api, "/x", cookie(text(nil)), header{"authorization", "Bearer x"}), 401, nil},
		{"after a good token, nothing", at(api, "/x"), 401, nil},
		{"another source", at(api, "/x", bearer(map[string]any{"sub": "foo:x"})), 401, nil},
		{"a source in capitals", at(api, "/x", bearer(map[string]any{"sub": "AAD:42"})), 401, nil},
		{"no id", at(api, "/x", bearer(map[string]any{"sub": "aad:"})), 401, nil},
		{"no source", at(api, "/x", bearer(map[string]any{"sub": "42"})), 401, nil},
		{"a source in front of the source", at(api, "/x", bearer(map[string]any{"sub": "x aad:42"})), 401, nil},
		{"an id with a colon", at(api, "/x", bearer(map[string]any{"sub": "aad:4:2"})), 200, []string{"x-auth-source=aad", "x-auth-id=4:2"}},
		{"no subject", at(api, "/x", bearer(map[string]any{"sub": nil})), 401, nil},
		{"the issuer that signs is not the one that is named", at(api, "/x", bearer(map[string]any{"iss": issuer.URL()})), 401, nil},
		{"another audience", at(api, "/x", bearer(map[string]any{"aud": "odj2"})), 401, nil},
		{"the product in a list", at(api, "/core/x", bearer(machine([]string{"a", product}))), 200, []string{"x-auth-source=myapi", "x-auth-products=a," + product}},
		{"the product in a string of a list", at(api, "/core/x", bearer(machine(`["a","`+product+`"]`))), 200, []string{"x-auth-products=a," + product}},
		{"the product by itself", at(api, "/core/x", bearer(machine(product))), 200, nil},
		{"a prefix of the product", at(api, "/core/x", bearer(machine([]string{product[:len(product)-1]}))), 403, nil},
		{"a product that begins like it", at(api, "/core/x", bearer(machine([]string{product + "2"}))), 403, nil},
		{"no product", at(api, "/core/x", bearer(machine([]string{}))), 403, nil},
		{"a user without products", at(api, "/core/x", bearer(nil)), 403, nil},
		{"a user with the scope", at(api, "/users/x", bearer(nil)), 200, nil},
		{"a user without the scope", at(api, "/users/x", bearer(map[string]any{"scope": "profile emails"})), 403, nil},
		{"a machine with the scope", at(api, "/users/x", bearer(map[string]any{"sub": "myapi:7", "scope": "email"})), 403, nil},
	})
	a, err := s.trySend(encode(t, at(ui, "/app?a=b").mapForm()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.replies["location"], "https://ui.example/authenticate?redirect_uri=%2Fapp%3Fa%3Db"; got != want {
		t.Errorf("Location: %s, want %s", got, want)
	}
}

func TestConduktorFromOutside(t *testing.T) {
	const key, secret, console = "conduktor-key-0123456789abcdef", "console-secret-0123456789abcdef0123456789", "https://console.example"
	issuer := startIssuer(t)
	s := startSystem(t, "conduktor", "CDK_SSO_JWTAUTH_ISSUER="+issuer.URL(), "CDK_SSO_JWTAUTH_USERNAMECLAIM=email", "CDK_SSO_JWTAUTH_GROUPSCLAIM=groups", "CDK_SSO_JWTAUTH_APIKEYCLAIM=apikey",
		"CONSOLE_ISSUER="+console, "CONSOLE_JWT_SECRET="+secret, "CONSOLE_API_KEY="+key)
	bearer := func(claims map[string]any) header {
		return header{"authorization", "Bearer " + issuer.Token(claims)}
	}
	own := func(expires int64) header {
		claims := fmt.Sprintf(`{"iss":%q,"sub":"c","email":"c@example.org","exp":%d}`, console, expires)
		return header{"authorization", "Bearer " + hmacSigned([]byte(secret), sha256.New, `{"alg":"HS256"}`, claims)}
	}
	const email = "e@example.org"
	good := bearer(map[string]any{"email": email})
	groups := func(groups any) request {
		return get("/api/x", bearer(map[string]any{"email": email, "groups": groups}))
	}
	s.run(t, []systemRow{
		{"an email", get("/api/x", good), 200, []string{"x-user-email=" + email, "authorization=" + good.value, "x-api-key-id", "x-groups"}},
		{"a key and an email", get("/api/x", bearer(map[string]any{"apikey": key, "email": email})), 200, []string{"x-api-key-id=k-valid", "x-user-email", "x-groups"}},
		{"a key", get("/api/x", bearer(map[string]any{"apikey": key})), 200, []string{"x-api-key-id=k-valid"}},
		{"a bad key and an email", get("/api/x", bearer(map[string]any{"apikey": "bogus", "email": email})), 200, []string{"x-user-email=" + email, "x-api-key-id"}},
		{"a bad key", get("/api/x", bearer(map[string]any{"apikey": "bogus"})), 401, nil},
		{"neither", get("/api/x", bearer(nil)), 401, nil},
		{"an empty key", get("/api/x", bearer(map[string]any{"apikey": ""})), 401, nil},
		{"a number for a key", get("/api/x", bearer(map[string]any{"apikey": 7, "email": email})), 200, []string{"x-user-email=" + email}},
		{"a list of keys", get("/api/x", bearer(map[string]any{"apikey": []string{key}, "email": email})), 200, []string{"x-api-key-id"}},
		{"an empty email", get("/api/x", bearer(map[string]any{"email": ""})), 401, nil},
		{"a list of emails", get("/api/x", bearer(map[string]any{"email": []string{email}})), 401, nil},
		{"any audience", get("/api/x", bearer(map[string]any{"email": email, "aud": nil})), 200, nil},
		{"groups", groups([]string{"project-a", "zzz"}), 200, []string{"x-groups=team-a"}},
		{"a group", groups("project-b"), 200, []string{"x-groups=team-b"}},
		{"a group called like ours", groups([]string{"team-a"}), 200, []string{"x-groups"}},
		{"the key by itself", get("/api/x", header{"x-api-key", key}), 401, nil},
		{"the key beside a token", get("/api/x", header{"x-api-key", key}, good), 200, []string{"x-user-email=" + email, "x-api-key-id"}},
		{"another issuer, the same keys", get("/api/x", bearer(map[string]any{"email": email, "iss": issuer.URL() + "/"})), 401, nil},
		{"a token of Console's", get("/api/x", own(time.Now().Unix()+300)), 200, []string{"x-user-email=c@example.org"}},
		{"an expired token of Console's", get("/api/x", own(time.Now().Unix()-300)), 401, nil},
		{"the login", get("/api/login", header{"x-user-email", "forged"}).by("POST"), 200, []string{"x-user-email"}},
		{"the login by GET", get("/api/login"), 401, nil},
		{"what is called public", get("/api/public/x"), 401, nil},
		{"two tokens", get("/api/x", good, good), 400, nil},
		{"a token and a password", get("/api/x", good, basic("id", "secret")), 400, nil},
		{"a password that is no base64", get("/api/x", header{"authorization", "Basic !"}), 401, nil},
		{"forged groups", get("/api/x", good, header{"x-groups", "team-a"}, header{"x_api_key_id", "k-valid"}), 200, []string{"x-groups", "x-api-key-id"}},
	})
}

// TestSemantics36AdminIsElsewhere: what Envoy can reach decides and nothing else.
func TestSemantics36AdminIsElsewhere(t *testing.T) {
	issuer := startIssuer(t)
	s := startSystem(t, "horao", "PEER_SECRET=x", "OAUTH_SERVER_METADATA_URL="+issuer.DiscoveryURL(), "OAUTH_CLIENT_ID=orders", "OAUTH_ROLE_URI=role")
	for service := range services(t, s) {
		switch service {
		case "envoy.service.auth.v3.Authorization", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection":
		default:
			t.Errorf("the listener of Check serves %s as well", service)
		}
	}
}
