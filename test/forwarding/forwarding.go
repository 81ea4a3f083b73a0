// Package forwarding holds what every proxy must do that asks gatehouse over HTTP about its
// requests, whichever it is: the tests of Caddy, nginx and Traefik each start theirs with
// the configuration that this repository ships, and have it send [Rows]. Start reading at
// [Start].
package forwarding

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// config is what gatehouse decides by; the proxy is the peer 127.0.0.1.
const config = `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, http: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
trusted_proxies: [127.0.0.1/32]
authenticators:
- name: machines
  only_from: [{sources: [127.0.0.2/32]}]
  api_key:
    from: [{header: x-api-key}, {cookie: key}]
    keys: [{id: ci, secret: {env: API_KEY}, principal: {tenant: acme, username: ci, roles: [user]}}]
sign_in:
- {hosts: [ui.example.com], url: "https://{host}/authenticate?redirect_uri={request_uri}"}
forward:
  headers: {x-tenant-id: "{tenant}", x-user: "{username}", x-roles: "{roles}"}
routes:
- {match: ["GET /{$}", "/authenticate"], public: true}
- {match: ["/me/"], allow: [{authenticated: true}]}
- {match: ["/admin/"], allow: [{roles: {all: [admin]}}]}
- {match: ["/hidden/"], allow: [{roles: {all: [admin]}}], answers: {unauthenticated: 404, forbidden: 404}}
`

const (
	// Client is where requests come from: not from the proxy's own address.
	Client = "127.0.0.2"

	// Key is a header with a credential of the tenant acme, user ci, role user.
	Key = "X-Api-Key: " + secret

	// Cookie is the same credential beside another cookie.
	Cookie = "Cookie: a=1; key=" + secret

	secret = "the-key-of-ci-that-is-long-enough"
)

// Identity is what the upstream is told of the owner of [Key].
var Identity = []string{"x-roles: user", "x-tenant-id: acme", "x-user: ci"}

// A Row is a request, and what the client and the upstream see of it.
type Row struct {
	Name     string
	Request  string // method and target
	Headers  []string
	Status   int
	Upstream []string // identity headers and credentials that it received, sorted
	Header   string   // of the answer: `name: value`
	Target   string   // that the upstream was asked for, where it is not that of the request
}

// forged are headers that only gatehouse may give, and others that change what a request is.
var forged = []string{
	"X-Tenant-Id: globex", "x_tenant_id: globex", "X-Roles: admin", "x_roles: admin", "X-User: root",
	"Authorization: Basic eDp5", "X-Http-Method-Override: DELETE",
}

// Rows are the requests that every proxy treats alike.
var Rows = []Row{
	{Name: "a public page is open", Request: "GET /", Status: 200},
	{Name: "forged headers do not pass a public page", Request: "GET /", Headers: forged, Status: 200},
	{Name: "no key is 401 with a challenge", Request: "GET /me/", Status: 401, Header: `Www-Authenticate: Bearer realm="machines"`},
	{Name: "a wrong key is 401", Request: "GET /me/", Headers: []string{"X-Api-Key: wrong"}, Status: 401},
	{Name: "a key gives identity and does not go on", Request: "GET /me/x?a=b", Headers: []string{Key}, Status: 200, Upstream: Identity},
	{Name: "forged headers are replaced", Request: "GET /me/", Headers: append([]string{Key}, forged...), Status: 200, Upstream: Identity},
	{Name: "a role that is missing is 403", Request: "GET /admin/", Headers: []string{Key}, Status: 403},
	{Name: "what no route covers is 403", Request: "GET /nowhere", Headers: []string{Key}, Status: 403},
	{Name: "a hidden route is 404", Request: "GET /hidden/", Headers: []string{Key}, Status: 404},
	{Name: "an encoded slash is 400", Request: "GET /me/a%2Fb", Headers: []string{Key}, Status: 400},
	{Name: "a path parameter is 400", Request: "GET /me/..;/admin/", Headers: []string{Key}, Status: 400},
	{Name: "a browser is sent to sign in", Request: "GET /me/x?a=b", Headers: []string{"Host: ui.example.com", "Accept: text/html"}, Status: 302,
		Header: "Location: https://ui.example.com/authenticate?redirect_uri=%2Fme%2Fx%3Fa%3Db"},
	{Name: "a POST is decided as one", Request: "POST /", Headers: []string{"Content-Length: 0"}, Status: 403},
	{Name: "a client cannot make up the request that is decided", Request: "GET /admin/", Headers: []string{Key, "X-Forwarded-Uri: /", "X-Forwarded-Method: GET", "X-Forwarded-Host: x"}, Status: 403},
	{Name: "nor in the way that nginx says it", Request: "GET /admin/", Headers: []string{Key, "X-Original-URL: http://example.com/", "X-Original-URI: /", "X-Original-Method: GET"}, Status: 403},
	{Name: "nor where it comes from", Request: "GET /me/", Headers: []string{Key, "X-Forwarded-For: 192.0.2.1"}, Status: 200, Upstream: Identity},
}

// Start runs gatehouse and an echo upstream until the test ends.
func Start(t *testing.T) (gatehouse *harness.Gatehouse, upstream string) {
	t.Helper()
	server, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return harness.StartGatehouse(t, config, harness.Env("API_KEY="+secret)), server.Address()
}

// startTimeout is how long a proxy may take on a busy machine; usually it is 200 ms.
const startTimeout = 30 * time.Second

// Wait returns when the proxy listens at address, and fails if it has ended before.
func Wait(t testing.TB, proxy *harness.Process, address string) {
	t.Helper()
	harness.Eventually(t, startTimeout, func() error {
		select {
		case <-proxy.Done():
			t.Fatalf("the proxy ended:\n%s", proxy.Output())
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// FreeAddress is an address at which nobody listens, for a proxy that cannot tell which
// port it got.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Render reads a shipped file, replaces what is given in pairs, and writes it to path.
func Render(t testing.TB, file, path string, pairs ...string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.NewReplacer(pairs...).Replace(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Send sends the rows to the proxy at address.
func Send(t *testing.T, address string, rows []Row) {
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			got := harness.SendFrom(t, Client, address, row.Request, row.Headers...)
			if got.Status != row.Status || (got.Upstream != nil) != (row.Status == 200) {
				t.Fatalf("%s %q = %d, want %d; the upstream saw %v: %s", row.Request, row.Headers, got.Status, row.Status, got.Upstream, got.Body)
			}
			if name, value, _ := strings.Cut(row.Header, ": "); row.Header != "" && got.Header.Get(name) != value {
				t.Errorf("%s: header %s is %q, want %q", row.Request, name, got.Header.Get(name), value)
			}
			if got.Upstream == nil {
				return
			}
			if have := seen(got); !slices.Equal(have, row.Upstream) {
				t.Errorf("%s: the upstream received %q, want %q", row.Request, have, row.Upstream)
			}
			target := row.Target
			if target == "" {
				_, target, _ = strings.Cut(row.Request, " ")
			}
			if got.Upstream.Target != target {
				t.Errorf("%s: the upstream was asked for %s, want %s", row.Request, got.Upstream.Target, target)
			}
		})
	}
}

// Dialer opens connections from [Client].
func Dialer() *net.Dialer {
	return &net.Dialer{Timeout: startTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(Client)}}
}

// Refused checks that nothing passes at address now that gatehouse has stopped.
func Refused(t *testing.T, address string) {
	t.Helper()
	if got := harness.SendFrom(t, Client, address, "GET /"); got.Status < 500 || got.Upstream != nil {
		t.Errorf("without gatehouse: %d, upstream %v, want an error of the proxy", got.Status, got.Upstream)
	}
}

// seen are the headers that say who calls and what a request is, sorted, with their names
// in lower case.
func seen(a harness.Answer) []string {
	var lines []string
	for _, line := range harness.Folded(a.Upstream, "x-tenant-id", "x-user", "x-roles", "x-api-key", "authorization", "x-http-method-override") {
		name, value, _ := strings.Cut(line, ": ")
		lines = append(lines, strings.ToLower(name)+": "+value)
	}
	slices.Sort(lines)
	return lines
}
