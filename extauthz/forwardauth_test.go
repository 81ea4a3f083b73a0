package extauthz

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// trusting makes the loopback a trusted proxy.
func trusting(c *Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("198.51.100.0/24")}
}

// httpDoor serves the HTTP door, and gives a function that sends requests to it as they
// are written: line, and headers.
func (w *world) httpDoor(t testing.TB) func(line string, headers ...string) *http.Response {
	door := NewForwardAuth(w.gate, Limits{})
	server := httptest.NewServer(door.Handler(http.NotFoundHandler()))
	t.Cleanup(server.Close)
	return func(line string, headers ...string) *http.Response {
		t.Helper()
		conn := must(net.Dial("tcp", server.Listener.Addr().String()))
		defer conn.Close()
		if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Host: ") }) {
			headers = append(headers, "Host: gatehouse:9180")
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\n%s\r\nConnection: close\r\n\r\n", line, strings.Join(headers, "\r\n"))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s %q: %v", line, headers, err)
		}
		response.Body.Close()
		return response
	}
}

// dialects ask the HTTP door about a request, each in its way.
var dialects = []struct {
	name string
	ask  func(r req) (line string, headers []string)
}{
	{"nginx", func(r req) (string, []string) {
		return "GET /authorize", []string{"X-Original-URL: https://" + r.host + r.path, "X-Original-URI: " + r.path, "X-Original-Method: " + r.method}
	}},
	{"traefik", func(r req) (string, []string) {
		return "GET /authorize", []string{"X-Forwarded-Proto: https", "X-Forwarded-Host: " + r.host, "X-Forwarded-Uri: " + r.path, "X-Forwarded-Method: " + r.method}
	}},
	{"envoy", func(r req) (string, []string) {
		return r.method + " " + EnvoyPrefix + r.path, []string{"Host: " + r.host, "X-Forwarded-Proto: https"}
	}},
}

// TestDoorsAgree sends the same requests to both doors.
func TestDoorsAgree(t *testing.T) {
	w := newWorld(t, trusting)
	grpcDoor, send := w.asker(t), w.httpDoor(t)
	token := w.token(nil)
	html := "text/html,*/*;q=0.8"
	for _, r := range []req{
		{path: "/"},
		{path: "/nowhere"},
		{path: "/me/"},
		req{path: "/me/?a=b"}.withBearer(token),
		req{path: "/me/"}.withBearer(token + "x"),
		req{path: "/me/"}.with("cookie", "a=1; access_token="+token),
		req{path: "/me/"}.with("authorization", "Bearer "+token+",Bearer "+token),
		req{path: "/keep/"}.withBearer(token),
		req{path: "/minted/"}.withBearer(token),
		req{path: "/order/a%2cb"}.withBearer(token).with("x-order", "forged"),
		req{path: "/admin/x"}.withBearer(token).with("x-roles", "admin"),
		req{path: "/scoped/"}.withBearer(token),
		req{path: "/machines/", source: "10.1.2.3"}.with("x-api-key", apiKeyText),
		req{path: "/machines/"}.with("x-api-key", apiKeyText),
		{path: "/hidden/"},
		{path: "/internal/"},
		{path: "//evil.example/x"},
		{path: "/a/../admin"},
		{path: "/%2e%2e/admin"},
		{path: "/a;b"},
		{path: "/tenants/acme/orders/", method: "DELETE"},
		req{host: "ui.example.com", path: "/app/x?a=b"}.with("accept", html),
		{host: "nav.example.com", path: "/app/"},
		req{path: "/me/"}.withBearer(token).with("x-select-tenant", "acme"),
		req{path: "/me/"}.withBearer(token).with("x-select-tenant", "globex"),
		req{path: "/nowhere"}.with("accept", "text/plain"),
		// hosts
		req{path: "/me/", host: "API.example.com:8443"}.withBearer(token),
		req{path: "/me/", host: "api.example.com."}.withBearer(token),
		req{path: "/me/", host: "evil.example"}.withBearer(token),
		req{path: "/me/", host: "user@api.example.com"}.withBearer(token),
		// methods
		req{path: "/me/", method: "POST"}.withBearer(token),
		req{path: "/me/", method: "get"}.withBearer(token),
		{path: "/me/", method: "PROPFIND"},
		req{path: "/cors/x", method: "OPTIONS"}.with("origin", "https://ui.example.com").with("access-control-request-method", "PUT"),
		req{path: "/cors/x", method: "OPTIONS"}.with("origin", "https://ui.example.com"),
		// paths
		{path: "/a%00b"}, {path: "/a%5cb"}, {path: "/a%2fb"}, {path: "/%zz"}, {path: "/a/./b"}, {path: "/a%252fb"}, {path: "/%61dmin/"}, {path: "/admin/..;/me"},
		req{path: "/me/?a=//evil&a=%0d%0a"}.withBearer(token),
		// credentials
		req{path: "/me/"}.with("authorization", "Basic dTpw"),
		req{path: "/me/"}.with("authorization", "Bearer"),
		req{path: "/me/"}.with("authorization", "Bearer "+strings.Repeat("a", 20_000)),
		req{path: "/me/"}.with("cookie", "access_token="+token+"; access_token="+token),
		req{path: "/me/"}.with("cookie", "access_token="+token+", access_token=x"),
		req{path: "/"}.withBearer("junk"),
		// forged identity, in every spelling
		req{path: "/"}.with("X-Roles", "admin").with("x-http-method-override", "DELETE"),
		req{path: "/me/"}.withBearer(token).with("x-user", "mallory"),
		// who is asked what
		req{host: "ui.example.com", path: "/app/"}.with("accept", html).with("sec-fetch-mode", "cors"),
		req{host: "ui.example.com", path: "/app/"}.with("accept", "text/html;q=0.1, application/json"),
		req{host: "ui.example.com", path: "/app/", method: "POST"}.with("accept", html),
		req{host: "ui.example.com", path: "/admin/"}.withBearer(token).with("accept", html),
	} {
		if r.host == "" {
			r.host = "api.example.com"
		}
		if r.method == "" {
			r.method = "GET"
		}
		if r.source == "" {
			r.source = "192.0.2.7"
		}
		want := grpcDoor(r)
		for _, d := range dialects {
			line, headers := d.ask(r)
			headers = append(headers, "X-Forwarded-For: 203.0.113.9, "+r.source+", 198.51.100.3")
			for name, value := range r.headers {
				headers = append(headers, name+": "+value)
			}
			got := send(line, headers...)
			compareDoors(t, d.name, r, want, got)
		}
	}
}

// compareDoors holds an HTTP answer to what came through the gRPC door.
func compareDoors(t *testing.T, dialect string, r req, want seen, got *http.Response) {
	t.Helper()
	status := want.status
	if dialect == "nginx" && status != 200 {
		if told := got.Header.Get(StatusHeader); told != fmt.Sprint(status) {
			t.Errorf("%s: %v: %s is %q, want %d", dialect, r, StatusHeader, told, status)
		}
		if status != 401 && status != 302 {
			status = 403
		} else {
			status = 401
		}
	}
	if dialect == "envoy" && got.StatusCode == http.StatusBadRequest && status == http.StatusBadRequest && got.Header.Get(DecisionHeader) == "" {
		return // net/http refuses such hosts and escapes itself, where they are the request's own
	}
	if got.StatusCode != status {
		t.Errorf("%s: %v = %d, want %d", dialect, r, got.StatusCode, status)
		return
	}
	if status != 200 {
		wanted := maps.Clone(want.client)
		if location, ok := wanted["location"]; ok && dialect == "nginx" {
			delete(wanted, "location")
			wanted[SignInHeader] = location
		}
		delete(wanted, DecisionHeader)
		for name, value := range wanted {
			if got.Header.Get(name) != value {
				t.Errorf("%s: %v: response header %s is %q, want %q", dialect, r, name, got.Header.Get(name), value)
			}
		}
		return
	}
	for name, values := range want.upstream {
		_, sent := r.headers[name]
		value := got.Header.Get(name)
		if name == "authorization" && values[0] == "Bearer MINTED" {
			values = []string{value}
			if !strings.HasPrefix(value, "Bearer ey") {
				t.Errorf("%s: %v: authorization is %q, want a minted token", dialect, r, value)
			}
		}
		if strings.HasPrefix(name, ":") || name == "x-request-id" || sent && value == "" {
			continue // as the client sent it
		}
		if diff := cmp.Diff(values, []string{value}); diff != "" {
			t.Errorf("%s: %v: header %s for the upstream (-grpc +http):\n%s", dialect, r, name, diff)
		}
	}
	if dialect != "envoy" {
		return
	}
	removed := strings.Split(got.Header.Get(envoyRemove), ",")
	for name := range r.headers {
		if _, ok := want.upstream[name]; !ok && !slices.Contains(removed, name) {
			t.Errorf("%s: %v: Envoy is not told to remove %s: %q", dialect, r, name, removed)
		}
	}
}

func TestForwardAuthBelievesNobodyByDefault(t *testing.T) {
	w := newWorld(t)
	send := w.httpDoor(t)
	for _, d := range dialects {
		line, headers := d.ask(req{method: "GET", host: "api.example.com", path: "/"})
		if got := send(line, headers...); got.StatusCode != 403 {
			t.Errorf("%s: from a peer that nobody trusts: %d, want 403", d.name, got.StatusCode)
		}
	}
}

func TestForwardAuthReadings(t *testing.T) {
	w := newWorld(t, trusting)
	send := w.httpDoor(t)
	for _, row := range []struct {
		name    string
		line    string
		headers []string
		status  int
		told    string // of StatusHeader
	}{
		{"nginx with URI and method", "GET /authorize", []string{"X-Original-URI: /", "X-Original-Method: GET"}, 200, ""},
		{"nginx without a method", "GET /authorize", []string{"X-Original-URI: /"}, 403, "400"},
		{"a method that a client may have made up does not count for nginx", "GET /authorize", []string{"X-Original-URI: /", "X-Forwarded-Method: GET"}, 403, "400"},
		{"nginx with a URL only", "GET /authorize", []string{"X-Original-URL: http://api.example.com", "X-Original-Method: GET"}, 200, ""},
		{"URL and URI that differ", "GET /authorize", []string{"X-Original-URL: http://h/", "X-Original-URI: /me/", "X-Original-Method: GET"}, 403, "400"},
		{"a forwarded URI that differs", "GET /authorize", []string{"X-Original-URI: /me/", "X-Forwarded-Uri: /", "X-Original-Method: GET"}, 403, "400"},
		{"an original URI that differs, through Traefik", "GET /authorize", []string{"X-Original-URI: /", "X-Forwarded-Uri: /me/", "X-Forwarded-Method: GET"}, 403, "400"},
		{"a method that differs", "GET /authorize", []string{"X-Original-Method: GET", "X-Forwarded-Uri: /", "X-Forwarded-Method: POST"}, 400, ""},
		{"a host that differs", "GET /authorize", []string{"X-Original-URL: http://a/", "X-Original-Method: GET", "X-Forwarded-Host: b"}, 403, "400"},
		{"a header twice", "GET /authorize", []string{"X-Forwarded-Uri: /", "X-Forwarded-Uri: /", "X-Forwarded-Method: GET"}, 400, ""},
		{"nothing at all", "GET /authorize", nil, 400, ""},
		{"a URL without a scheme", "GET /authorize", []string{"X-Original-URL: //h/", "X-Original-Method: GET"}, 403, "400"},
		{"a URL of another scheme", "GET /authorize", []string{"X-Original-URL: file:///etc", "X-Original-Method: GET"}, 403, "400"},
		{"a POST is nobody's auth request", "POST /authorize", []string{"X-Forwarded-Uri: /", "X-Forwarded-Method: GET", "Content-Length: 0"}, 400, ""},
		{"HEAD is", "HEAD /authorize", []string{"X-Forwarded-Uri: /", "X-Forwarded-Method: GET"}, 200, ""},
		{"a query of the door itself does not matter", "GET /authorize?x=y", []string{"X-Forwarded-Uri: /", "X-Forwarded-Method: GET"}, 200, ""},
		{"a proxy of another kind that asks at Envoy's path", "GET /authorize/envoy/", []string{"X-Original-URI: /admin/", "X-Original-Method: GET"}, 400, ""},
		{"a trailing slash is another path", "GET /authorize/", []string{"X-Forwarded-Uri: /", "X-Forwarded-Method: GET"}, 404, ""},
		{"a credential in the query cannot be removed here", "GET /authorize", []string{"X-Forwarded-Uri: /?access_token=x", "X-Forwarded-Method: GET"}, 403, ""},
	} {
		got := send(row.line, row.headers...)
		if got.StatusCode != row.status || got.Header.Get(StatusHeader) != row.told {
			t.Errorf("%s: %d, %s %q, want %d, %q", row.name, got.StatusCode, StatusHeader, got.Header.Get(StatusHeader), row.status, row.told)
		}
	}
}

func TestSemantics14ClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	peer := netip.MustParseAddr("127.0.0.1")
	for _, row := range []struct {
		name string
		xff  []string
		want string
	}{
		{"without the header it is the peer", nil, "127.0.0.1"},
		{"the right-most that is no proxy", []string{"1.1.1.1, 2.2.2.2, 10.0.0.1"}, "2.2.2.2"},
		{"over several lines", []string{"1.1.1.1", "2.2.2.2, 10.0.0.1", "10.0.0.2"}, "2.2.2.2"},
		{"all of them proxies", []string{"10.0.0.9, 10.0.0.1"}, "10.0.0.9"},
		{"IPv4 in IPv6 is IPv4", []string{"::ffff:10.0.0.1"}, "10.0.0.1"},
		{"what is no address is none", []string{"1.1.1.1, unknown"}, "invalid IP"},
		{"an empty hop is none", []string{"1.1.1.1,"}, "invalid IP"},
		{"what is left of the client does not matter", []string{"unknown, 2.2.2.2"}, "2.2.2.2"},
		{"with a port it is none", []string{"2.2.2.2:80"}, "invalid IP"},
	} {
		if got := clientAddr(peer, row.xff, trusted); got.String() != row.want {
			t.Errorf("%s: clientAddr(%q) = %v, want %s", row.name, row.xff, got, row.want)
		}
	}
}

// With --shadow-all a credential that this door cannot remove is refused as ever.
func TestForwardAuthShadowAll(t *testing.T) {
	w := newWorld(t, trusting)
	w.gate.options.ShadowAll = true
	send := w.httpDoor(t)
	for uri, want := range map[string]int{"/nowhere": 200, "/nowhere?access_token=x": 403, "//": 400} {
		if got := send("GET /authorize", "X-Forwarded-Uri: "+uri, "X-Forwarded-Method: GET"); got.StatusCode != want {
			t.Errorf("%s: %d, want %d", uri, got.StatusCode, want)
		}
	}
}

// TestForwardAuthRefusesImitations: a proxy removes the headers that its configuration
// names, in the spellings that it names, and cannot be told of others. Envoy can.
func TestForwardAuthRefusesImitations(t *testing.T) {
	w := newWorld(t, trusting)
	send := w.httpDoor(t)
	for _, row := range []struct {
		header string
		status int // for all but Envoy
	}{
		{"X-Tenant_id: globex", 400},
		{"x_tenant-id: globex", 400},
		{"x.tenant.id: globex", 400},
		{"X_TENANT_ID: globex", 400},
		{"X-Http_Method-Override: DELETE", 400},
		{"x_api_key: x", 400},
		{"x-select_tenant: acme", 400},
		{"X-Tenant-Id: globex", 200}, // the proxy's to replace
		{"X_Request_Id: 7", 200},
		{"x_tenant_idx: 7", 200},
	} {
		for _, dialect := range dialects {
			line, headers := dialect.ask(req{method: "GET", host: "api.example.com", path: "/me/"})
			response := send(line, append(headers, "Authorization: Bearer "+w.token(nil), row.header)...)
			want := row.status
			if dialect.name == "envoy" {
				want = 200
			} else if dialect.name == "nginx" && want == 400 {
				want = 403
				if got := response.Header.Get(StatusHeader); got != "400" {
					t.Errorf("%s with %s: %s is %q", dialect.name, row.header, StatusHeader, got)
				}
			}
			if response.StatusCode != want {
				t.Errorf("%s with %s: %d, want %d", dialect.name, row.header, response.StatusCode, want)
			}
		}
	}
}
