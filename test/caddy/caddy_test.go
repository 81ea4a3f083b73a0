package caddy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const config = `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, http: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
trusted_proxies: [127.0.0.1/32]
authenticators:
- name: machines
  only_from: [{sources: [127.0.0.2/32]}]
  api_key:
    from: [{header: x-api-key}]
    keys: [{id: ci, secret: {env: API_KEY}, principal: {tenant: acme, username: ci, roles: [user]}}]
sign_in:
- {hosts: [ui.example.com], url: "https://{host}/authenticate?redirect_uri={request_uri}"}
forward:
  headers: {x-tenant-id: "{tenant}", x-user: "{username}", x-roles: "{roles}"}
routes:
- {match: ["GET /{$}", "/authenticate"], public: true}
- {match: ["/me/"], allow: [{authenticated: true}]}
- {match: ["/admin/"], allow: [{roles: {all: [admin]}}]}
`

// client is where requests come from: not from the proxy's own address.
const client = "127.0.0.2"

const apiKey = "the-key-of-ci-that-is-long-enough"

func TestBehindCaddy(t *testing.T) {
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	gatehouse := harness.StartGatehouse(t, config, harness.Env("API_KEY="+apiKey))
	address := Start(t, "../../envoy/Caddyfile", gatehouse.HTTP, upstream.Address())

	key := "X-Api-Key: " + apiKey
	names := []string{"x-tenant-id", "x-user", "x-roles", "x-api-key", "authorization", "x-http-method-override"}
	forged := []string{
		"X-Tenant-Id: globex", "x_tenant_id: globex", "X-Roles: admin", "x_roles: admin", "X-User: root",
		"Authorization: Basic eDp5", "X-Http-Method-Override: DELETE",
	}
	identity := []string{"x-roles: user", "x-tenant-id: acme", "x-user: ci"}
	for _, row := range []struct {
		name     string
		request  string
		headers  []string
		status   int
		upstream []string // identity headers and credentials that it received
		header   string   // of the answer: `name: value`
	}{
		{"a public page is open", "GET /", nil, 200, nil, ""},
		{"forged headers do not pass a public page", "GET /", forged, 200, nil, ""},
		{"no key is 401 with a challenge", "GET /me/", nil, 401, nil, `Www-Authenticate: Bearer realm="machines"`},
		{"a wrong key is 401", "GET /me/", []string{"X-Api-Key: wrong"}, 401, nil, ""},
		{"a key gives identity and does not go on", "GET /me/x?a=b", []string{key}, 200, identity, ""},
		{"forged headers are replaced", "GET /me/", append([]string{key}, forged...), 200, identity, ""},
		{"a role that is missing is 403", "GET /admin/", []string{key}, 403, nil, ""},
		{"what no route covers is 403", "GET /nowhere", []string{key}, 403, nil, ""},
		{"a path with two readings is 400", "GET /me/%2e%2e/admin/", []string{key}, 400, nil, ""},
		{"two slashes are 400", "GET //me/", []string{key}, 400, nil, ""},
		{"a browser is sent to sign in", "GET /me/x?a=b", []string{"Host: ui.example.com", "Accept: text/html"}, 302, nil, "Location: https://ui.example.com/authenticate?redirect_uri=%2Fme%2Fx%3Fa%3Db"},
		{"a POST is decided as one", "POST /", []string{"Content-Length: 0"}, 403, nil, ""},
		{"a client cannot make up the request that is decided", "GET /admin/", []string{key, "X-Forwarded-Uri: /", "X-Forwarded-Method: GET", "X-Forwarded-Host: x"}, 403, nil, ""},
		{"nor in the way that nginx says it", "GET /admin/", []string{key, "X-Original-URL: http://example.com/", "X-Original-URI: /", "X-Original-Method: GET"}, 403, nil, ""},
		{"nor where it comes from", "GET /me/", []string{key, "X-Forwarded-For: 192.0.2.1"}, 200, identity, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := harness.SendFrom(t, client, address, row.request, row.headers...)
			if got.Status != row.status || (got.Upstream != nil) != (row.status == 200) {
				t.Fatalf("%s %q = %d, want %d; the upstream saw %v: %s", row.request, row.headers, got.Status, row.status, got.Upstream, got.Body)
			}
			if name, value, _ := strings.Cut(row.header, ": "); row.header != "" && got.Header.Get(name) != value {
				t.Errorf("%s: header %s is %q, want %q", row.request, name, got.Header.Get(name), value)
			}
			if got.Upstream == nil {
				return
			}
			if have := seen(got, names); !slices.Equal(have, row.upstream) {
				t.Errorf("%s: the upstream received %q, want %q", row.request, have, row.upstream)
			}
			if _, target, _ := strings.Cut(row.request, " "); got.Upstream.Target != target {
				t.Errorf("%s: the upstream was asked for %s", row.request, got.Upstream.Target)
			}
		})
	}
	gatehouse.Stop()
	if got := harness.Send(t, address, "GET /"); got.Status < 500 || got.Upstream != nil {
		t.Errorf("without gatehouse: %d, upstream %v, want 502", got.Status, got.Upstream)
	}
}

// seen are the headers that say who calls, sorted, with their names in lower case.
func seen(a harness.Answer, names []string) []string {
	var lines []string
	for _, line := range harness.Folded(a.Upstream, names...) {
		name, value, _ := strings.Cut(line, ": ")
		lines = append(lines, strings.ToLower(name)+": "+value)
	}
	slices.Sort(lines)
	return lines
}
