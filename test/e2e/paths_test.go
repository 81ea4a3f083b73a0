package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestPaths sends paths that can be read in more than one way, without a credential, to a
// table in which /assets/ is public and /admin/ is not. The unhardened Envoys hand over
// what the client wrote; the hardened one puts some of it right first.
func TestPaths(t *testing.T) {
	s := start(t)
	tests := []struct {
		name     string
		target   string
		status   int
		hardened int
	}{
		// one reading
		{"a public path", "/assets/logo", 200, 200},
		{"its subtree with a slash", "/assets/", 200, 200},
		{"and without", "/assets", 200, 200},
		{"a guarded path", "/admin", 401, 401},
		{"a guarded path with a slash", "/admin/", 401, 401},
		{"an escaped letter is the letter", "/%61dmin", 401, 401},
		{"an escaped letter in a public path", "/assets/%41", 200, 200},
		{"letter case counts", "/ADMIN", 403, 403},
		{"non-ASCII as UTF-8", "/assets/%c3%bc", 200, 200},
		{"a space", "/assets/a%20b", 200, 200},
		{"the query is no path", "/assets/logo?next=/../admin//", 200, 200},
		{"dots inside a segment", "/assets/a..b/...", 200, 200},
		{"the absolute form", "http://example.com/admin", 401, 401},

		// dot segments
		{"dots up", "/assets/../admin", 400, 401},
		{"dots up and back", "/admin/../assets/logo", 400, 200},
		{"escaped dots up", "/assets/%2e%2e/admin", 400, 401},
		{"half escaped dots up", "/assets/.%2E/admin", 400, 401},
		{"a dot", "/assets/./logo", 400, 200},
		{"a dot at the end", "/assets/.", 400, 200},
		{"dots at the end", "/admin/..", 400, 403},

		// slashes
		{"two slashes", "/assets//logo", 400, 200},
		{"two slashes at the start", "//admin", 400, 401},
		{"an escaped slash", "/assets%2Flogo", 400, 400},
		{"escaped dots and slash", "/assets/..%2fadmin", 400, 400},
		{"an escaped backslash", "/assets/..%5cadmin", 400, 400},
		{"a backslash", `/assets/..\admin`, 400, 401},
		{"an escaped percent", "/assets/%252e%252e/admin", 400, 400},

		// what upstreams read into a segment
		{"a parameter", "/admin;x=1", 400, 400},
		{"a parameter in a public path", "/assets/a;x=1", 400, 400},
		{"an escaped semicolon", "/assets/a%3bx", 400, 400},
		{"dots with a parameter", "/assets/..;/admin", 400, 401},
		{"escaped dots with a parameter", "/assets/%2e%2e;/admin", 400, 400},

		// what no path holds
		{"NUL", "/assets/a%00", 400, 400},
		{"a line break", "/assets/a%0d%0ab", 400, 400},
		{"DEL", "/assets/a%7f", 400, 400},
		{"no UTF-8", "/assets/%ff", 400, 400},
		{"an overlong slash", "/assets/..%c0%af", 400, 400},
		{"half an escape", "/assets/a%2", 400, 400},
		{"no escape", "/assets/%zz", 400, 400},
		{"a percent at the end", "/assets/a%", 400, 400},
		{"a fragment", "/assets/a#b", 400, 400},
	}
	for _, front := range fronts {
		t.Run(front, func(t *testing.T) {
			for _, test := range tests {
				want := test.status
				if front == "hardened" {
					want = test.hardened
				}
				answer := harness.Send(t, s.envoy.Address(t, front), "GET "+test.target)
				if answer.Status != want {
					t.Errorf("%s: GET %s: status %d, want %d\n%s", test.name, test.target, answer.Status, want, answer.Body)
				}
				if answer.Upstream == nil {
					continue
				}
				// Nothing was changed behind the decision.
				if sent := strings.TrimPrefix(test.target, "http://example.com"); front != "hardened" && answer.Upstream.Target != sent {
					t.Errorf("%s: the upstream saw %s, the client sent %s", test.name, answer.Upstream.Target, sent)
				}
				if !strings.HasPrefix(answer.Upstream.Target, "/assets") {
					t.Errorf("%s: the upstream saw %s without a credential", test.name, answer.Upstream.Target)
				}
			}
		})
	}
}

// TestQueryIsLeftAlone: Envoy re-sorts and rewrites the whole query as soon as an answer
// names one parameter, so none is named without need.
func TestQueryIsLeftAlone(t *testing.T) {
	s := start(t)
	const target = "/me?b=2&a=1&&c&d=&b=%2e%2E+x"
	for _, front := range fronts {
		answer := harness.Send(t, s.envoy.Address(t, front), "GET "+target, s.expand("authorization: Bearer $alice"))
		if answer.Upstream == nil || answer.Upstream.Target != target {
			t.Errorf("%s: GET %s: status %d, the upstream saw %+v", front, target, answer.Status, answer.Upstream)
		}
	}
}

// TestMethods: what is not named is not open.
func TestMethods(t *testing.T) {
	s := start(t)
	for _, test := range []struct {
		request string
		status  int
	}{
		{"HEAD /assets/logo", 200}, // follows GET
		{"POST /assets/logo", 403},
		{"OPTIONS /assets/logo", 403},
		{"TRACE /assets/logo", 403},
		{"PROPFIND /assets/logo", 403},
		{"DELETE /admin", 401},
		{"PROPFIND /admin", 401},
		{"PUT /internal/x", 403},
	} {
		for _, front := range fronts {
			if answer := harness.Send(t, s.envoy.Address(t, front), test.request, "content-length: 0"); answer.Status != test.status {
				t.Errorf("%s: %s: status %d, want %d", front, test.request, answer.Status, test.status)
			}
		}
	}
}

// TestSemantics21Hosts: a host that can be read in two ways is refused.
func TestSemantics21Hosts(t *testing.T) {
	s := start(t)
	for _, test := range []struct {
		hosts  []string
		status int
	}{
		{[]string{"Host: example.com"}, 200},
		{[]string{"Host: EXAMPLE.com:8080"}, 200},
		{[]string{"Host: example.com."}, 200},
		{[]string{"Host: [::1]:80"}, 200},
		{[]string{"Host: a.example", "Host: b.example"}, 400},
		{[]string{"Host: a.example,b.example"}, 400},
		{[]string{"Host: user@example.com"}, 400},
		{[]string{"Host: a..example"}, 400},
	} {
		for _, front := range fronts {
			answer := harness.Send(t, s.envoy.Address(t, front), "GET /assets/logo", test.hosts...)
			if answer.Status != test.status {
				t.Errorf("%s: %v: status %d, want %d", front, test.hosts, answer.Status, test.status)
			}
		}
	}
}

// TestSemantics27OptionsIsAMethod: without preflight: allow a preflight is an ordinary request.
func TestSemantics27OptionsIsAMethod(t *testing.T) {
	s := start(t)
	preflight := []string{"origin: https://ui.example.com", "access-control-request-method: GET"}
	for target, status := range map[string]int{"/assets/logo": 403, "/me": 401} {
		if answer := harness.Send(t, s.envoy.Address(t, "unhardened"), fmt.Sprintf("OPTIONS %s", target), preflight...); answer.Status != status {
			t.Errorf("preflight of %s: status %d, want %d", target, answer.Status, status)
		}
	}
}
