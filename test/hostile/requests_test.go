package hostile

import (
	"fmt"
	"strings"
)

// pathRows ask, as somebody who is no administrator, for /admin/ and others in every
// spelling that some server reads as such.
func (s *stack) pathRows() []row {
	var rows []row
	token := s.bearer(s.token(nil))
	seen := make(map[string]bool)
	add := func(path, want string) {
		if seen[path] {
			return
		}
		seen[path] = true
		rows = append(rows, row{fmt.Sprintf("%.120q", path), get(path, token...), want})
	}
	malformed := func(paths ...string) {
		for _, path := range paths {
			add(path, "400 path_not_canonical")
		}
	}
	// Escapes of what must not be escaped, control characters and bytes outside ASCII,
	// at every position of a path.
	for _, odd := range []string{
		"%2f", "%2F", "%5c", "%5C", "%25", "%252f", "%25%32%66", "%00", "%0a", "%0d", "%0d%0a", "%09", "%1f", "%7f", "%7F", "%", "%2", "%zz", "%u002f", "%u2215", "%%32%66", "%c0%af", "%c0%ae",
		"%e0%80%af", "%f0%80%80%af", "%ff", "%fe", "%80", "%c2", "%ed%a0%80", "%c2%85", "%c2%80", "%f4%90%80%80", "\\", "\x00", "\t", "\r", "\n", "\x7f", "é", "\u2215", "#", " ", ";", ";a=b", "%3b", "%3B", ";.js",
	} {
		malformed("/public/"+odd, "/public/"+odd+"-admin", "/public/x"+odd+"x", "/public"+odd+"/admin", odd+"/admin", "/"+odd+"-admin/", "/admin"+odd)
	}
	for _, dots := range []string{
		".", "..", "%2e", "%2E", "%2e.", ".%2e", "%2e%2e", "%2E%2E", "..;", ".;", "..;x=1", "%2e%2e;", "..%3b", ".;a/..",
	} {
		malformed("/public/"+dots+"/admin", "/public/"+dots, "/"+dots+"/admin", "/public/x/"+dots+"/"+dots+"/admin/", "/"+dots)
	}
	malformed("//", "//admin", "/admin//", "/admin//x", "///", "//evil.example/admin", "/public//admin", "/./", "/../", "admin", "admin/", "./admin", "http://h.example/admin", "http:/admin", "?x", "?/admin",
		"/admin?x#y", "/admin#", "/#/admin", "/public/?a\x00", "/public/?a\x7f", "/public/?a\nb", "\\admin", "/admin\\", "/public/..\\admin", "/public\\..\\admin")
	// Three and more dots are a name.
	for _, name := range []string{"...", "..x", "x..", ".x", "%2e%2e%2e", ".well-known"} {
		add("/public/"+name, "200 public")
		add("/"+name+"/admin", "403 no_route")
	}
	// What is the same path is decided the same.
	for _, path := range []string{
		"/admin", "/admin/", "/admin/x", "/%61dmin", "/%61%64%6d%69%6e", "/%61%64%6D%69%6E/", "/admin/%78", "/admin/x/", "/admin?x", "/admin/?x=/public/", "/admin?", "/admin/x?..", "/admin/?x=%2f..%2f", "/admin/?x=%zz",
		"/admin/%41", "/admin/a%20b", "/admin/%C3%A9", "/admin/%c3%a9", "/admin/%3f", "/admin/%23", "/admin/a=b&c", "/admin/a,b", "/admin/a:b@c", "/admin/(a)'!*", "/admin/~a", "/admin/%7ea",
	} {
		add(path, "404 requirement_not_met")
	}
	// Another case, and what only looks like it, is another path.
	for _, path := range []string{
		"/Admin/", "/ADMIN", "/aDmin/x", "/%41dmin/", "/admin.json", "/admin.", "/admin~", "/admi", "/adminx", "/admin%20", "/admin%3f", "/admin%23", "/%20admin", "/admin,", "/admin:80", "/admin@", "/@admin", "/admın", "*", "/*",
		"/аdmin", "/admin%C2%A0", "/ad%C2%ADmin", "/admin%E2%80%8B",
	} {
		want := "403 no_route"
		if strings.ContainsAny(path, "ıа") {
			want = "400 path_not_canonical"
		}
		add(path, want)
	}
	add("", "403 no_route")
	for _, path := range []string{"/internal", "/internal/", "/internal/x", "/%69nternal/"} {
		add(path, "403 route_forbids")
	}
	// Path parameters are compared as decoded text.
	for path, want := range map[string]string{
		"/users/alice": "200", "/users/alice/": "200", "/users/alice/x": "200", "/users/%61lice": "200", "/users/Alice": "403", "/users/bob": "403", "/users/": "403", "/users": "403", "/users/alice%20": "403", "/users/%20alice": "403",
		"/users/*": "403", "/users/alice,": "403", "/users/alice%00": "400", "/users/alice%2fx": "400", "/users/x/alice": "403", "/users/{user}": "403", "/users/%7Buser%7D": "403",
		"/tenants/acme/orders": "200", "/tenants/acme/orders/7": "200", "/tenants/_/orders": "200", "/tenants/*/orders": "403", "/tenants/other/orders": "403", "/tenants/acme:child/orders": "403", "/tenants/ACME/orders": "403",
		"/tenants/acm/orders": "403", "/tenants/acme%3achild/orders": "403", "/tenants//orders": "400", "/tenants/orders": "403", "/tenants/acme/Orders": "403", "/tenants/acme/orders%2f": "400", "/tenants/acme/x/../orders": "400",
	} {
		add(path, want)
	}
	add("/public/"+strings.Repeat("a", 60<<10), "200 public")
	add("/public"+strings.Repeat("/a", 20<<10), "200 public")
	add("/admin"+strings.Repeat("/a", 20<<10), "404 requirement_not_met")
	add("/"+strings.Repeat("/", 20<<10), "400 path_not_canonical")
	add("/public/"+strings.Repeat("%61", 20<<10), "200 public")
	return rows
}

func (s *stack) hostRows() []row {
	var rows []row
	token := s.bearer(s.token(map[string]any{"groups": []string{"nobody"}}))
	add := func(host, want string) {
		r := get("/me/", token...)
		r.host = host
		rows = append(rows, row{fmt.Sprintf("%.120q", host), r, want})
	}
	// api.example.com asks for a role that this caller lacks; every other host does not.
	for _, host := range []string{"api.example.com", "API.example.com", "api.example.com.", "api.example.com:443", "api.example.com.:443", "Api.Example.Com:80", "api.example.com:0", "api.example.com:65535"} {
		add(host, "403 requirement_not_met")
	}
	for _, host := range []string{"", "h.example", "apiexample.com", "xapi.example.com", "api.example.com.evil.example", "api.example.co", "example.com", "localhost", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "[0:0:0:0:0:0:0:1]", "a_b.example", "-a.example", "xn--pi-ila.example"} {
		add(host, "200 requirement_met")
	}
	for _, host := range []string{
		"api.example.com,api.example.com", "h.example,api.example.com", "api.example.com h.example", " api.example.com", "api.example.com ", "api.example.com\t", "api.example.com\x00", "api.example.com\r\n", "user@api.example.com",
		"user:pass@api.example.com", "api.example.com@h.example", "api.example.com/", "/api.example.com", "http://api.example.com", "api.example.com?", "api.example.com#", "api..example.com", ".api.example.com", "api.example.com..", ".", "..",
		"api.example.com:", "api.example.com:x", "api.example.com:80:80", "api.example.com:-1", "api.example.com:65536", "api.example.com:080080", "api.example.com: 80", ":80", ":", "[", "]", "[]", "[::1", "::1", "[::1]x", "[::1]:", "[127.0.0.1]",
		"[::1%eth0]", "[::1%25eth0]", "[api.example.com]", "äpi.example.com", "api%2eexample.com", "api.example.com%00", "*.example.com", "*", "api\\example.com", "api;example.com", "(api)", "api.example.com|h", "api\u3002example.com",
		"API\u212a.example.com", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "aa", strings.Repeat("a", 70000),
	} {
		add(host, "400 host_invalid")
	}
	wild := func(host, want string) {
		r := get("/wild/", token...)
		r.host = host
		rows = append(rows, row{"wild " + host, r, want})
	}
	wild("a.example.com", "200 requirement_met")
	wild("a.b.example.com", "200 requirement_met")
	wild("A.EXAMPLE.COM.:80", "200 requirement_met")
	wild("example.com", "403 no_route")
	wild("xexample.com", "403 no_route")
	wild("a.example.com.evil.example", "403 no_route")
	wild(".example.com", "400 host_invalid")
	return rows
}

func (s *stack) methodRows() []row {
	var rows []row
	add := func(method, path, want string) {
		r := get(path, s.bearer(s.token(map[string]any{"scope": "orders:write"}))...)
		r.method = method
		rows = append(rows, row{fmt.Sprintf("%q %s", method, path), r, want})
	}
	const orders = "/tenants/acme/orders/"
	add("GET", orders, "200 requirement_met")
	add("HEAD", orders, "200 requirement_met")
	add("POST", orders, "200 requirement_met")
	add("PUT", orders, "200 requirement_met")
	for _, method := range []string{"DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "Get", "post", "GETS", "G", "M-SEARCH", "BREW", "PRI", "!", "GET-"} {
		add(method, orders, "403 no_route")
	}
	for _, method := range []string{"", " ", "GET ", " GET", "GET,POST", "GET POST", "GET\x00", "GET\n", "GÉT", "GET/", "GET:", "(GET)", "\"GET\"", "GET\t", "GET;", "{GET}", "<GET>", "G@T", "GET?", "[GET]", "GET="} {
		add(method, orders, "400 method_invalid")
		add(method, "/", "400 method_invalid")
	}
	add("HEAD", "/public/", "200 public")
	add("POST", "/public/", "403 no_route")
	add("DELETE", "/", "403 no_route")
	// A preflight that names a method is that method's only where the route says so.
	preflight := func(name, path, want string, headers ...header) {
		rows = append(rows, row{name, request{method: "OPTIONS", host: "h.example", path: path, headers: headers}, want})
	}
	origin, asks := header{"origin", "https://ui.example"}, header{"access-control-request-method", "PUT"}
	preflight("a preflight that may pass", "/cors/x", "200 preflight", origin, asks)
	preflight("a preflight with a bad token", "/cors/x", "200 preflight", origin, asks, header{"authorization", "Bearer x"})
	preflight("no origin", "/cors/x", "403 no_route", asks)
	preflight("no method asked for", "/cors/x", "403 no_route", origin)
	preflight("another method asked for", "/cors/x", "403 no_route", origin, header{"access-control-request-method", "DELETE"})
	preflight("two methods asked for", "/cors/x", "403 no_route", origin, header{"access-control-request-method", "PUT,DELETE"})
	preflight("no method at all asked for", "/cors/x", "403 no_route", origin, header{"access-control-request-method", ""})
	preflight("a route without preflights", "/me/", "401 no_credential", origin, header{"access-control-request-method", "GET"})
	preflight("a forbidden route", "/internal/", "403 route_forbids", origin, header{"access-control-request-method", "GET"})
	preflight("a path that is not canonical", "/cors/../me", "400 path_not_canonical", origin, asks)
	rows = append(rows, row{"a PUT with a preflight's headers", request{method: "PUT", host: "h.example", path: "/cors/x", headers: []header{origin, asks}}, "401 no_credential"})
	return rows
}

// forgedRows send every header that an upstream could take for ours; that none of them
// goes on is one of the invariants.
func (s *stack) forgedRows() []row {
	var rows []row
	names := append(append([]string{}, identity...), override...)
	names = append(names, secret...)
	for _, name := range names {
		for _, spelling := range []string{
			name, strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.ReplaceAll(name, "-", "~"), strings.ReplaceAll(name, "-", "!"),
		} {
			for _, path := range []string{"/", "/me/", "/keep/", "/login", "/admin/"} {
				r := get(path, header{spelling, "forged"})
				want := "200 public"
				if path == "/login" {
					r.method = "POST"
				}
				if path == "/me/" || path == "/keep/" || path == "/admin/" {
					want = "200 requirement_met"
					if strings.EqualFold(spelling, "authorization") {
						r.headers = nil
					}
					r = r.with(s.bearer(s.token(map[string]any{"groups": []string{"ops-team"}, "amr": []string{"mfa"}}))...)
					if strings.EqualFold(spelling, "x-api-key") {
						want = "401 api_key_unknown"
					}
					if strings.EqualFold(spelling, "x-inside-key") {
						want = "401 wrong_place"
					}
				}
				rows = append(rows, row{spelling + " on " + path, r, want})
			}
		}
	}
	deduped := rows[:0]
	seen := make(map[string]bool)
	for _, r := range rows {
		if !seen[r.name] {
			seen[r.name] = true
			deduped = append(deduped, r)
		}
	}
	return deduped
}

func (s *stack) selectionRows() []row {
	var rows []row
	add := func(name, want string, headers ...header) {
		rows = append(rows, row{name, get("/me/", headers...), want})
	}
	token := func(tenant string) header { return s.bearer(s.token(map[string]any{"tenant": tenant}))[0] }
	choose := func(tenant string) header { return header{"x-select-tenant", tenant} }
	const no, yes, repeated = "401 tenant_not_selectable", "200 requirement_met", "400 selection_repeated"
	for _, row := range []struct{ own, wanted, want string }{
		{"foo", "", yes}, {"foo", "foo", yes}, {"foo", "_", yes}, {"foo", "bar", no}, {"foo", "*", no}, {"foo", "foo:child", no}, {"foo", "FOO", no}, {"foo", "fo", no},
		{"a:b:c", "a", yes}, {"a:b:c", "a:b", yes}, {"a:b:c", "a:b:c", yes}, {"a:b:c", "a:b:c:d", no}, {"a:b:c", "b", no}, {"a:b:c", "a:c", no}, {"a:b:c", "_", yes},
		{"foo", "foo:", no}, {"foo", ":foo", no}, {"foo", "_:foo", no}, {"foo", "foo\x00", repeated},
		{"*", "", "401 claim_type"}, {"*", "foo", "401 claim_type"}, {"*", "*", "401 claim_type"}, // only with `wildcard: true`
	} {
		add(fmt.Sprintf("%q acts for %q", row.own, row.wanted), row.want, token(row.own), choose(row.wanted))
	}
	add("two selections", repeated, token("foo"), choose("foo"), choose("foo"))
	add("two selections, one empty", repeated, token("foo"), choose(""), choose("bar"))
	add("a list of selections", repeated, token("foo"), choose("foo,bar"))
	add("another spelling of the header", yes, token("foo"), header{"x_select_tenant", "bar"})
	add("a token selects a user", no, token("foo"), header{"x-select-user", "bob"})
	add("a token selects itself", no, token("foo"), header{"x-select-user", "alice@acme.example"})
	add("a key without the right to selects a user", no, header{"x-api-key", batchKey}, header{"x-select-user", "bob"})
	add("a key for all tenants selects one", yes, header{"x-api-key", batchKey}, choose("foo"))
	add("a key for all tenants selects all", no, header{"x-api-key", batchKey}, choose("*"))
	add("a key for all tenants selects a part of all", no, header{"x-api-key", batchKey}, choose("*:a"))
	add("a key for one tenant selects another", no, header{"x-api-key", acmeKey}, choose("foo"))
	add("nobody selects", "401 no_credential", choose("foo"))
	public := get("/public/", choose("bar"))
	rows = append(rows,
		row{"nobody selects where it is public", public, "200 public"},
		row{"somebody selects wrongly where it is public", public.with(token("foo")), no},
	)
	inside := get("/me/", header{"x-inside-key", insideKey}, header{"x-select-user", "bob"})
	inside.source = "10.1.2.3"
	rows = append(rows, row{"a key with the right to selects a user", inside, yes})
	return rows
}

func (s *stack) namedRows() []row {
	var rows []row
	add := func(name string, r request, context map[string]string, want string) {
		r.context = context
		rows = append(rows, row{name, r, want})
	}
	me := s.me(s.token(nil))
	named := func(route string) map[string]string { return map[string]string{"gatehouse.route": route} }
	add("its own route", me, named("me"), "200 requirement_met")
	add("a public route that it does not match", me, named("public"), "403 route_mismatch")
	add("a public route, asked for /admin/", get("/admin/"), named("public"), "403 route_mismatch")
	for _, route := range []string{"", "nobody", "ME", "me ", "me\x00", "/me/", "*", "public,me"} {
		add(fmt.Sprintf("a route called %q", route), me, named(route), "403 route_unknown")
	}
	add("a route without patterns", me, map[string]string{"gatehouse.route": "by-name", "tenant": "acme"}, "200 requirement_met")
	add("a route without patterns, another tenant", me, map[string]string{"gatehouse.route": "by-name", "tenant": "other"}, "403 requirement_not_met")
	add("a route without patterns, no tenant", me, named("by-name"), "403 requirement_not_met")
	add("a route without patterns, an empty tenant", me, map[string]string{"gatehouse.route": "by-name", "tenant": ""}, "403 requirement_not_met")
	add("a route without patterns, every tenant", me, map[string]string{"gatehouse.route": "by-name", "tenant": "*"}, "403 requirement_not_met")
	add("a route without patterns, a path that is not canonical", get("/a/../b", s.bearer(s.token(nil))...), map[string]string{"gatehouse.route": "by-name", "tenant": "acme"}, "400 path_not_canonical")
	add("the name in another case is no name", me, map[string]string{"Gatehouse.Route": "public"}, "200 requirement_met")
	add("the name as a header is no name", me.with(header{"gatehouse.route", "public"}), nil, "200 requirement_met")
	return rows
}

func (s *stack) certificateRows() []row {
	var rows []row
	for certificate, want := range map[string]string{
		"spiffe://cluster.local/ns/acme/sa/web": "200 requirement_met", "": "401 no_credential", "spiffe://cluster.local/ns/acme/sa/": "401", "spiffe://cluster.local/ns//sa/web": "401", "spiffe://cluster.local/ns/acme/sa/web/x": "401",
		"spiffe://cluster.local/ns/acme/sa/web/": "401", "spiffe://evil.example/ns/acme/sa/web": "401", "SPIFFE://cluster.local/ns/acme/sa/web": "401", "spiffe://cluster.local.evil.example/ns/acme/sa/web": "401", "spiffe://cluster.local/ns/a/b/sa/web": "401",
		"xspiffe://cluster.local/ns/acme/sa/web": "401", "CN=web": "401", "spiffe://cluster.local/ns/acme/sa/web,spiffe://cluster.local/ns/acme/sa/web": "401", "spiffe://cluster.local/ns/../sa/web": "401", "spiffe://cluster.local/ns/acme/sa/web?x": "401", "spiffe://cluster.local/ns/acme/sa/%2e%2e": "401",
		"spiffe://cluster.local/ns/*/sa/web": "401",
	} {
		r := get("/mesh/", header{"x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/acme/sa/admin"})
		r.certificate = certificate
		rows = append(rows, row{fmt.Sprintf("%q", certificate), r, want})
	}
	return rows
}

func (s *stack) browserRows() []row {
	var rows []row
	add := func(name, want, method, host, path string, headers ...header) {
		rows = append(rows, row{name, request{method: method, host: host, path: path, headers: headers}, want})
	}
	html := header{"accept", "text/html,application/xhtml+xml,*/*;q=0.8"}
	add("a page", "302 no_credential", "GET", "ui.example.com", "/app/x?a=b&c=//evil.example", html)
	add("a page with a bad token", "302", "GET", "ui.example.com", "/app/", html, header{"authorization", "Bearer x"})
	add("a host with a port", "302 no_credential", "GET", "UI.example.com.:8443", "/app/", html)
	add("another host", "401 no_credential", "GET", "evil.example", "/me/", html)
	add("another host in x-forwarded-host", "401 no_credential", "GET", "evil.example", "/me/", html, header{"x-forwarded-host", "ui.example.com"})
	add("a forged scheme and host", "302 no_credential", "GET", "ui.example.com", "/app/", html, header{"x-forwarded-host", "evil.example"}, header{"x-forwarded-proto", "javascript"})
	add("two slashes", "400 path_not_canonical", "GET", "ui.example.com", "//evil.example/app/", html)
	add("a script", "401 no_credential", "GET", "ui.example.com", "/app/", html, header{"sec-fetch-mode", "cors"})
	add("a program", "401 no_credential", "GET", "ui.example.com", "/app/", header{"accept", "application/json"})
	add("no accept", "401 no_credential", "GET", "ui.example.com", "/app/")
	add("a POST", "401 no_credential", "POST", "ui.example.com", "/app/", html)
	add("a websocket", "401 no_credential", "GET", "ui.example.com", "/app/", html, header{"upgrade", "websocket"})
	add("gRPC", "401 no_credential", "POST", "h.example", "/orders.Orders/Get", header{"content-type", "application/grpc"})
	add("the page to sign in", "200 public", "GET", "ui.example.com", "/authenticate?redirect_uri=x", html)
	add("an absurd accept", "401 no_credential", "GET", "h.example", "/me/", header{"accept", strings.Repeat("text/html;q=NaN,", 500)})
	return rows
}
