package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// featureConfig uses what config does not: tenants below tenants, places, grants, expressions, sign-in,
// shadow routes, routes by name, kept credentials and minted tokens.
const featureConfig = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}

authenticators:
- name: machines
  only_from: [{context: {listener: internal}}]
  impersonate: true
  api_key:
    keys:
    - {id: batch, secret: {env: BATCH_KEY}, principal: {tenant: "*", roles: [service]}}
- name: corp
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    principal:
      username: {claim: email}
      tenant: {claim: tenant}
      roles: {claim: groups}
      attributes:
        amr: {claim: amr}

grants:
- {when: {usernames: [alice@acme.example], authenticators: [corp]}, add: {roles: [operator]}}

tenancy: {separator: ":", default: "_", wildcard: "*", select_header: x-tenant-id, username_header: x-username}

routes:
- match: ["GET ui.example.com/authenticate"]
  name: sign-in
  public: true
- match: ["GET ui.example.com/ui/"]
  name: ui
  allow: [{authenticated: true}]
- match: ["GET /me/"]
  name: me
  allow: [{authenticated: true}]
- match: ["GET /tenants/{tenant}/"]
  name: tenants
  allow: [{readable_tenant: "{path.tenant}"}]
- match: ["GET /operators/"]
  name: operators
  allow: [{roles: {any: [operator]}}]
- match: ["GET /mfa/"]
  name: mfa
  allow: [{when: '"mfa" in principal.attributes.amr'}]
- match: ["GET /hidden/"]
  name: hidden
  allow: [{roles: {all: [ghost]}}]
  answers: {forbidden: 404, body: none}
- match: ["GET /me/shadowed/"]
  name: shadowed
  mode: shadow
  forbid: true
- match: ["GET /kept/"]
  name: kept
  allow: [{authenticated: true}]
  credentials: keep
- match: ["GET /minted/"]
  name: minted
  allow: [{authenticated: true}]
  forward:
    headers: {x-tenant: "{tenant}"}
    identity_token: {issuer: "https://gatehouse.example.com", audience: billing}
- match: ["POST /cors/"]
  name: cors
  preflight: allow
  allow: [{authenticated: true}]
- name: by-name
  allow: [{authenticated: true}]

sign_in:
- {hosts: [ui.example.com], url: "https://{host}/authenticate?redirect_uri={request_uri}"}

forward:
  headers:
    x-tenant: "{tenant}"
    x-tenants: "{tenants}"
    x-caller: "{username}"
`

// startFeatures runs the stack with featureConfig and an Envoy listener for each set of
// context extensions.
func startFeatures(t *testing.T) *stack {
	t.Helper()
	s := &stack{upstream: startEcho(t), provider: idp.Start(t)}
	s.owned = []string{"x-tenant", "x-tenants", "x-caller", "x-tenant-id", "x-username", "authorization", "x-api-key"}
	s.gatehouse = startGatehouse(t, featureConfig, s.provider.Issuer)
	s.gatehouse.WaitServing(t)
	front := func(name string, context map[string]string) harness.Front {
		return harness.Front{Name: name, Gatehouse: []string{s.gatehouse.GRPC}, Changes: []harness.Change{harness.Unhardened, harness.ContextExtensions(context)}}
	}
	s.envoy = harness.StartEnvoy(t, s.upstream.Address(),
		front("front", map[string]string{"listener": "front"}),
		front("internal", map[string]string{"listener": "internal"}),
		front("by name", map[string]string{"gatehouse.route": "by-name"}),
		front("other name", map[string]string{"gatehouse.route": "operators"}),
		front("unknown name", map[string]string{"gatehouse.route": "nothing"}))
	nested := idp.Claims{"sub": "u-1", "email": "alice@acme.example", "tenant": "acme:sales", "amr": []string{"pwd", "mfa"}}
	s.words = map[string]string{
		"key":   batchKey,
		"alice": s.provider.Token(t, nested),
		"bob":   s.provider.Token(t, idp.Claims{"sub": "u-2", "email": "bob@acme.example", "tenant": "acme"}),
		"star":  s.provider.Token(t, idp.Claims{"sub": "u-3", "email": "star@acme.example", "tenant": "*"}),
	}
	s.waitForKeys(t, "front")
	return s
}

// TestFeatures goes through the configuration language, one row for what each part means
// to client and upstream.
func TestFeatures(t *testing.T) {
	s := startFeatures(t)
	identity := func(tenant, tenants, caller string) []string {
		seen := []string{"x-tenant: " + tenant, "x-tenants: " + tenants}
		if caller != "" {
			seen = append([]string{"x-caller: " + caller}, seen...)
		}
		return seen
	}
	seenNested := identity("acme:sales", "_,acme,acme:sales", "alice@acme.example")

	for front, rows := range map[string][]row{
		"front": {
			// tenants below tenants
			{name: "her own tenant", request: "GET /tenants/acme:sales/x", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "its parent is readable", request: "GET /tenants/acme/x", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "so is the default", request: "GET /tenants/_/x", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "a child is not", request: "GET /tenants/acme:sales:eu/x", headers: []string{"authorization: Bearer $alice"}, status: 403},
			{name: "a sibling is not", request: "GET /tenants/acme:ops/x", headers: []string{"authorization: Bearer $alice"}, status: 403},
			{name: "the wildcard as a value never holds", request: "GET /tenants/*/x", headers: []string{"authorization: Bearer $alice"}, status: 403},
			{name: "the parent's people do not read the child", request: "GET /tenants/acme:sales/x", headers: []string{"authorization: Bearer $bob"}, status: 403},

			// selection of a tenant
			{name: "acting for the parent clears the username", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-tenant-id: acme"}, status: 200, upstream: identity("acme", "_,acme", "")},
			{name: "acting for a child is refused", request: "GET /me", headers: []string{"authorization: Bearer $bob", "x-tenant-id: acme:sales"}, status: 401, reason: "tenant_not_selectable"},
			{name: "acting for the wildcard is refused", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-tenant-id: *"}, status: 401, reason: "tenant_not_selectable"},
			{name: "selecting twice", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-tenant-id: acme", "x-tenant-id: _"}, status: 400, reason: "selection_repeated"},
			{name: "a username from a person, her own included", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-username: alice@acme.example"}, status: 401, reason: "tenant_not_selectable"},
			{name: "public, without a principal: the selection is removed", request: "GET /authenticate", headers: []string{"host: ui.example.com", "x-tenant-id: acme", "x-username: root"}, status: 200},

			// places
			{name: "the right key at the wrong door", request: "GET /me", headers: []string{"x-api-key: $key"}, status: 401, reason: "wrong_place"},
			{name: "and beside a good token", request: "GET /me", headers: []string{"x-api-key: $key", "authorization: Bearer $alice"}, status: 401, reason: "wrong_place"},

			// grants, expressions, answers
			{name: "a granted role", request: "GET /operators", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "nobody else has it", request: "GET /operators", headers: []string{"authorization: Bearer $bob"}, status: 403},
			{name: "an expression holds", request: "GET /mfa", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "an expression that cannot be evaluated does not", request: "GET /mfa", headers: []string{"authorization: Bearer $bob"}, status: 403, reason: "expression_error"},
			{name: "hidden", request: "GET /hidden", headers: []string{"authorization: Bearer $alice"}, status: 404, answer: []string{"content-type:"}},
			{name: "hidden, no credential", request: "GET /hidden", status: 401},
			{name: "a shadow route decides nothing", request: "GET /me/shadowed", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},

			// credentials
			{name: "kept: the verified credential goes on", request: "GET /kept", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: append([]string{"authorization: Bearer $alice"}, seenNested...)},

			// sign-in
			{name: "a browser is sent to sign in", request: "GET /ui/page?x=1&y=%2F", headers: []string{"host: ui.example.com", "accept: text/html"}, status: 302, answer: []string{"location: https://ui.example.com/authenticate?redirect_uri=%2Fui%2Fpage%3Fx%3D1%26y%3D%252F"}},
			{name: "a script gets the 401", request: "GET /ui/page", headers: []string{"host: ui.example.com", "accept: application/json"}, status: 401, answer: []string{"location:"}},
			{name: "so does one that says it is", request: "GET /ui/page", headers: []string{"host: ui.example.com", "accept: text/html", "sec-fetch-mode: cors"}, status: 401, answer: []string{"location:"}},
			{name: "a host that is not listed never reaches a Location", request: "GET /me", headers: []string{"host: evil.example", "accept: text/html", "x-forwarded-host: ui.example.com"}, status: 401, answer: []string{"location:"}},
			{name: "the page itself is public", request: "GET /authenticate", headers: []string{"host: ui.example.com", "accept: text/html"}, status: 200},

			// CORS
			{name: "a preflight passes, without identity and credential", request: "OPTIONS /cors", headers: []string{"origin: https://ui.example.com", "access-control-request-method: POST", "authorization: Bearer $alice", "x-caller: root"}, status: 200},
			{name: "one for a method that the route lacks does not", request: "OPTIONS /cors", headers: []string{"origin: https://ui.example.com", "access-control-request-method: PUT"}, status: 403},
			{name: "nor does one of a route that does not say so", request: "OPTIONS /me", headers: []string{"origin: https://ui.example.com", "access-control-request-method: GET"}, status: 403},
			{name: "the request behind it is asked for a credential", request: "POST /cors", headers: []string{"origin: https://ui.example.com", "content-length: 0"}, status: 401},

			// a wildcard that comes from a claim
			{name: "a claim may not say it", request: "GET /tenants/acme/x", headers: []string{"authorization: Bearer $star"}, status: 401, reason: "claim_type"},
		},
		"internal": {
			{name: "the key at its door acts for the default tenant", request: "GET /me", headers: []string{"x-api-key: $key"}, status: 200, upstream: identity("_", "*", "")},
			{name: "and for any it selects", request: "GET /me", headers: []string{"x-api-key: $key", "x-tenant-id: acme:sales"}, status: 200, upstream: identity("acme:sales", "_,acme,acme:sales", "")},
			{name: "and for a user", request: "GET /me", headers: []string{"x-api-key: $key", "x-tenant-id: acme", "x-username: dora"}, status: 200, upstream: identity("acme", "_,acme", "dora")},
			{name: "but not for the wildcard", request: "GET /me", headers: []string{"x-api-key: $key", "x-tenant-id: *"}, status: 401},
			{name: "a wrong key", request: "GET /me", headers: []string{"x-api-key: wrong"}, status: 401, reason: "api_key_unknown"},
		},
		"by name": {
			{name: "the route that Envoy names decides", request: "GET /anything", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "and asks for a credential", request: "GET /anything", status: 401},
			{name: "a malformed path stays one", request: "GET /a/../b", headers: []string{"authorization: Bearer $alice"}, status: 400},
		},
		"other name": {
			{name: "a named route that the request matches", request: "GET /operators", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenNested},
			{name: "and one that it does not", request: "GET /me", headers: []string{"authorization: Bearer $alice"}, status: 403, reason: "route_mismatch"},
		},
		"unknown name": {
			{name: "a name that the table lacks", request: "GET /me", headers: []string{"authorization: Bearer $alice"}, status: 403, reason: "route_unknown"},
		},
	} {
		t.Run(front, func(t *testing.T) {
			for _, row := range rows {
				for i, line := range row.upstream {
					if strings.Contains(line, "$") {
						row.upstream = slices.Clone(row.upstream)
						row.upstream[i] = s.expand(line)
					}
				}
				t.Run(row.name, func(t *testing.T) { s.runRow(t, front, row) })
			}
		})
	}

	t.Run("shadow decisions are logged", func(t *testing.T) {
		harness.Eventually(t, settle, func() error {
			for _, decision := range s.gatehouse.Decisions() {
				if decision["path"] == "/me/shadowed" && decision["shadow_outcome"] == "forbidden" {
					return nil
				}
			}
			return errNotLogged
		})
	})
}

// TestMintedToken: the upstream gets a token of ours in place of the client's, and nothing
// where nobody is known.
func TestMintedToken(t *testing.T) {
	s := startFeatures(t)
	answer := harness.Send(t, s.envoy.Address(t, "front"), "GET /minted", s.expand("authorization: Bearer $alice"))
	if answer.Status != http.StatusOK {
		t.Fatalf("status %d: %s", answer.Status, answer.Body)
	}
	got := harness.Folded(answer.Upstream, "authorization")
	if len(got) != 1 || strings.Contains(got[0], s.words["alice"]) {
		t.Fatalf("the upstream saw %q, want one token of ours", got)
	}
	token := strings.TrimPrefix(got[0], "authorization: Bearer ")
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(token, claims); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"iss": "https://gatehouse.example.com", "aud": "billing", "tenant": "acme:sales"} {
		if claims[name] != want {
			t.Errorf("claim %s = %v, want %s", name, claims[name], want)
		}
	}
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(header, &fields); err != nil || fields["alg"] != "ES256" {
		t.Errorf("header %s, %v; want ES256", header, err)
	}
}
