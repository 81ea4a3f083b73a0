package extauthz

import (
	"context"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A step is one request and what came of it, as a row of a table.
type step struct {
	name   string
	req    req
	status int
	reason string
	want   map[string]string // upstream headers, or response headers of a refusal; "-" for none
}

// take sends a step's request and holds the outcome to it.
func (s step) take(t *testing.T, ask func(req) seen) seen {
	t.Helper()
	got := ask(s.req)
	if got.status != s.status || got.metadata["reason"] != s.reason {
		t.Fatalf("%s: Check(%v) = %d %v, want %d %s", s.name, s.req, got.status, got.metadata["reason"], s.status, s.reason)
	}
	for name, want := range s.want {
		have := got.got(name)
		if got.status != 200 {
			var ok bool
			if have, ok = got.client[name]; !ok {
				have = "-"
			}
		}
		if have != want {
			t.Errorf("%s: Check(%v): header %s is %q, want %q", s.name, s.req, name, have, want)
		}
	}
	return got
}

func TestSemantics03Shadow(t *testing.T) {
	w := newWorld(t)
	var last Record
	var shadow policy.Decision
	w.gate.options.Observe = func(r *Record) {
		last = *r
		if r.Shadow != nil {
			shadow = *r.Shadow
		}
	}
	ask := w.asker(t)
	user := w.token(nil)
	step{"a shadow route decides nothing", req{path: "/me/soon/x"}.withBearer(user), 200, "requirement_met", nil}.take(t, ask)
	if last.Shadow == nil || shadow.Reason != policy.ReasonRequirement || shadow.Route.Name != "soon" {
		t.Errorf("what the shadow route would have said is %v, want requirement_not_met by soon", shadow)
	}
	step{"what it does not cover has no shadow", req{path: "/me/x"}.withBearer(user), 200, "requirement_met", nil}.take(t, ask)
	if last.Shadow != nil {
		t.Errorf("a request that no shadow route covers has a shadow decision: %v", *last.Shadow)
	}
}

func TestSemantics03ShadowAll(t *testing.T) {
	w := newWorld(t)
	w.gate.options.ShadowAll = true
	var shadow policy.Decision
	w.gate.options.Observe = func(r *Record) {
		if r.Shadow != nil {
			shadow = *r.Shadow
		}
	}
	ask := w.asker(t)
	forged := map[string]string{"x-roles": "admin", "x_roles": "admin", "cookie": "access_token=x; a=1", "x-api-key": "k", "authorization": "Basic eDp5"}
	bare := map[string]string{"x-roles": "-", "x_roles": "-", "cookie": "a=1", "x-api-key": "-", "authorization": "-"}
	for _, s := range []step{
		{"the forbidden passes without identity and credentials", req{path: "/nowhere", headers: forged}, 200, "shadowed", bare},
		{"the unauthenticated passes likewise", req{path: "/machines/", headers: forged}, 200, "shadowed", bare},
		{"a wrong role passes without identity", req{path: "/admin/"}.withBearer(w.token(nil)), 200, "shadowed", map[string]string{"x-user": "-", "authorization": "-"}},
		{"the malformed does not", req{path: "//"}, 400, "path_not_canonical", nil},
		{"the allowed is as it was", req{path: "/me/"}.withBearer(w.token(nil)), 200, "requirement_met", map[string]string{"x-user": "eve@example.com"}},
	} {
		s.take(t, ask)
	}
	step{"the refusal is recorded", req{path: "/admin/"}.withBearer(w.token(nil)), 200, "shadowed", nil}.take(t, ask)
	if shadow.Reason != policy.ReasonRequirement {
		t.Errorf("the refusal that was let pass is recorded as %v", shadow.Reason)
	}
	w.gate.Swap(nil)
	step{"the unavailable does not pass", req{path: "/"}, 503, "not_ready", nil}.take(t, ask)
}

func TestSemantics05CredentialPlaces(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	token := w.token(nil)
	all := map[string]string{"authorization": "Bearer bad", "x-api-key": "k", "x_api_key": "k", "X.Api.Key": "k", "cookie": "access_token=bad; theme=dark"}
	for _, s := range []step{
		{"a public route clears every place", req{path: "/?access_token=bad&q=1", headers: all}, 200, "public",
			map[string]string{"authorization": "-", "x-api-key": "-", "x_api_key": "-", "x.api.key": "-", "cookie": "theme=dark"}},
		{"a place whose authenticator is not accepted is cleared", req{path: "/machines/", source: "10.0.0.1"}.withBearer(token).with("x-api-key", apiKeyText), 200, "requirement_met",
			map[string]string{"authorization": "-", "x-api-key": "-"}},
		{"keep puts back the verified token", req{path: "/keep/"}.with("authorization", "bearer "+token), 200, "requirement_met",
			map[string]string{"authorization": "Bearer " + token}},
		{"keep puts back nothing else", req{path: "/keep/", source: "10.0.0.1"}.with("x-api-key", apiKeyText).with("cookie", "access_token="+token).with("authorization", "Basic eDp5"), 200, "requirement_met",
			map[string]string{"x-api-key": apiKeyText, "cookie": "-", "authorization": "-"}},
		{"keep leaves the verified cookie", req{path: "/keep/"}.with("cookie", "a=1; access_token="+token), 200, "requirement_met",
			map[string]string{"cookie": "a=1; access_token=" + token, "authorization": "-"}},
		{"pass leaves all of them", req{path: "/login/", headers: map[string]string{"authorization": "Basic eDp5", "x-api-key": "k", "cookie": "access_token=a"}}, 200, "public",
			map[string]string{"authorization": "Basic eDp5", "x-api-key": "k", "cookie": "access_token=a"}},
	} {
		s.take(t, ask)
	}
	for _, row := range []struct{ name, query, want string }{
		{"a query parameter is removed", "access_token=x&q=1", "q=1"},
		{"in every spelling", "access%5ftoken=x&a=1&%61ccess_token=y", "a=1"},
		{"a parameter behind a semicolon takes the one around with it", "q=1;access_token=x&b=2", "b=2"},
		{"another parameter stays", "access_tokens=x", "access_tokens=x"},
	} {
		if got := ask(req{path: "/?" + row.query}); got.query != row.want {
			t.Errorf("%s: the upstream's query is %q, want %q", row.name, got.query, row.want)
		}
	}
	if got := ask(req{path: "/keep/?access_token=" + token + "&q=1"}); got.query != "access_token="+token+"&q=1" {
		t.Errorf("keep leaves the verified parameter: the upstream's query is %q", got.query)
	}
	if got := ask(req{path: "/login/?access_token=x"}); got.query != "access_token=x" {
		t.Errorf("pass leaves parameters: the upstream's query is %q", got.query)
	}
}

func TestSemantics12NothingMintedForNobody(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		for i := range c.Routes {
			if c.Routes[i].Policy.Name == "minted" {
				c.Routes[i].Policy.Allow = nil
				c.Routes[i].Policy.Public = true
			}
		}
		c.AnonymousTenant = "_"
	})
	ask := w.asker(t)
	step{"nobody gets no token, and no forged one", req{path: "/minted/"}.with("authorization", "Bearer forged"), 200, "public",
		map[string]string{"authorization": "-", "x-tenant-id": "_"}}.take(t, ask)
	step{"a principal does", req{path: "/minted/"}.withBearer(w.token(nil)), 200, "public",
		map[string]string{"authorization": "Bearer MINTED"}}.take(t, ask)
}

func TestSemantics13RequestOverrides(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	headers := map[string]string{}
	want := map[string]string{}
	for _, name := range overrideHeaders {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", ".")} {
			headers[spelling], want[spelling] = "DELETE", "-"
		}
	}
	step{"every spelling is removed", req{path: "/", headers: headers}, 200, "public", want}.take(t, ask)

	w = newWorld(t, func(c *Config) { c.Routes[0].Forward.KeepOverrides = true })
	step{"unless they are kept", req{path: "/"}.with("x-http-method-override", "DELETE"), 200, "public",
		map[string]string{"x-http-method-override": "DELETE"}}.take(t, w.asker(t))
}

// What we do not see, Envoy still forwards (allowed_headers).
func TestSemantics13HiddenSpellings(t *testing.T) {
	w := newWorld(t)
	clients := map[string]*authv3.CheckResponse{}
	for _, d := range doors {
		client, _, _ := w.dial(t, d.options)
		clients[d.name] = must(client.Check(context.Background(), req{path: "/me/"}.withBearer(w.token(nil)).message()))
	}
	for door, response := range clients {
		removed := map[string]bool{}
		for _, name := range response.GetOkResponse().GetHeadersToRemove() {
			removed[name] = true
		}
		for _, name := range []string{"x_tenant_id", "x_roles", "x_user", "x_api_key", "x_http_method_override", "x-order", "x_order", "x-select-tenant"} {
			if !removed[name] {
				t.Errorf("%s: %s is not removed: %v", door, name, response)
			}
		}
	}
}

func TestSemantics18PublicRoutes(t *testing.T) {
	w := newWorld(t)
	var ignored policy.Reason
	w.gate.options.Observe = func(r *Record) { ignored = r.Ignored }
	ask := w.asker(t)
	token := w.token(nil)
	for _, s := range []struct {
		step
		ignored policy.Reason
	}{
		{step{"a valid credential gives identity", req{path: "/"}.withBearer(token), 200, "public", map[string]string{"x-user": "eve@example.com"}}, policy.ReasonNone},
		{step{"an invalid one counts as none", req{path: "/"}.withBearer(token + "x"), 200, "public", map[string]string{"x-user": "-", "authorization": "-"}}, policy.ReasonSignatureInvalid},
		{step{"a misplaced one counts as none", req{path: "/"}.with("x-api-key", apiKeyText), 200, "public", map[string]string{"x-roles": "-"}}, policy.ReasonWrongPlace},
		{step{"a repeated one counts as none", req{path: "/"}.with("cookie", "access_token=a; access_token=b"), 200, "public", map[string]string{"x-user": "-", "cookie": "-"}}, policy.ReasonCredentialRepeated},
		{step{"no one is no one", req{path: "/"}, 200, "public", map[string]string{"x-user": "-"}}, policy.ReasonNone},
		{step{"a malformed path is malformed everywhere", req{path: "/assets//x"}, 400, "path_not_canonical", nil}, policy.ReasonNone},
	} {
		s.take(t, ask)
		if ignored != s.ignored {
			t.Errorf("%s: ignored for %v, want %v", s.name, ignored, s.ignored)
		}
	}
}

func TestSemantics23HeaderValues(t *testing.T) {
	for _, row := range []struct {
		name string
		got  func() ([]byte, error)
		want string
	}{
		{"ASCII stays", func() ([]byte, error) { return appendText(nil, "a b;c=\"d\",e") }, `a b;c="d",e`},
		{"a percent sign is encoded", func() ([]byte, error) { return appendText(nil, "100%") }, "100%25"},
		{"what is not ASCII is encoded", func() ([]byte, error) { return appendText(nil, "é") }, "%C3%A9"},
		{"blanks at the ends are encoded", func() ([]byte, error) { return appendText(nil, " a b ") }, "%20a b%20"},
		{"nothing but blanks is encoded", func() ([]byte, error) { return appendText(nil, "  ") }, "%20%20"},
		{"commas in a list are encoded", func() ([]byte, error) { return appendList(nil, []string{"a,b", "", "c"}) }, "a%2Cb,c"},
		{"a list in JSON has JSON's escapes", func() ([]byte, error) { return appendJSONList(nil, []string{"a,b", `"\é😀%`}) }, `["a,b","\"\\\u00e9\ud83d\ude00%"]`},
		{"no list is empty", func() ([]byte, error) { return appendJSONList(nil, nil) }, "[]"},
	} {
		if got, err := row.got(); err != nil || string(got) != row.want {
			t.Errorf("%s: %q, %v, want %q", row.name, got, err, row.want)
		}
	}
	for _, s := range []string{"a\nb", "a\rb", "a\x00", "\x7f", "\t", "\u0085", "\u009f"} {
		if _, err := appendText(nil, s); err == nil {
			t.Errorf("appendText(%q) takes a control character", s)
		}
		if _, err := appendList(nil, []string{"a", s}); err == nil {
			t.Errorf("appendList(%q) takes a control character", s)
		}
		if _, err := appendJSONList(nil, []string{"a", s}); err == nil {
			t.Errorf("appendJSONList(%q) takes a control character", s)
		}
	}
}

func TestSemantics24Cookies(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	token := w.token(nil)
	for _, s := range []step{
		{"a cookie twice is malformed", req{path: "/me/"}.with("cookie", "access_token="+token+"; access_token="+token), 400, "credential_repeated", nil},
		{"two lines joined by a comma are one request with two cookies", req{path: "/me/"}.with("cookie", "a=1,access_token="+token), 400, "credential_repeated", nil},
		{"raw lines are read apart", req{path: "/me/", raw: [][2]string{{"cookie", "a=\xff"}, {"cookie", "access_token=" + token}, {"cookie", "b=2"}}}, 200, "requirement_met", map[string]string{"cookie": "b=2"}},
		{"other cookies are nobody's business", req{path: "/me/"}.with("cookie", "a=1; a=2; access_token="+token), 200, "requirement_met", map[string]string{"cookie": "a=1; a=2"}},
	} {
		s.take(t, ask)
	}
}

func TestSemantics26Answers(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	got := step{"a hidden route is not there", req{path: "/hidden/"}, 404, "no_credential", map[string]string{"www-authenticate": "-"}}.take(t, ask)
	if got.body != "" {
		t.Errorf("body: none has the body %q", got.body)
	}
	got = step{"a problem says what its status says", req{path: "/admin/"}.withBearer(w.token(nil)), 403, "requirement_not_met", nil}.take(t, ask)
	if want := `{"type":"about:blank","title":"Forbidden","status":403,"decision_id":"ID"}` + "\n"; got.body != want {
		t.Errorf("body %s, want %s", got.body, want)
	}
	got = step{"a HEAD has no body", req{method: "HEAD", path: "/admin/"}, 401, "no_credential", map[string]string{"content-type": "application/problem+json"}}.take(t, ask)
	if got.body != "" {
		t.Errorf("a HEAD has the body %q", got.body)
	}
}

func TestSemantics27Preflight(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	preflight := func(path, method string) req {
		return req{method: "OPTIONS", path: path, headers: map[string]string{
			"origin": "https://app.example.com", "access-control-request-method": method, "x-roles": "admin", "authorization": "Bearer x",
		}}
	}
	for _, s := range []step{
		{"a preflight for a method of the route passes, without identity or credentials", preflight("/cors/x", "PUT"), 200, "preflight", map[string]string{"x-roles": "-", "authorization": "-"}},
		{"one for another method does not", preflight("/cors/x", "DELETE"), 403, "no_route", nil},
		{"one for a route that does not say so does not", preflight("/me/", "PUT"), 401, "token_malformed", nil},
		{"an OPTIONS without Origin is an ordinary method", req{method: "OPTIONS", path: "/cors/x", headers: map[string]string{"access-control-request-method": "PUT"}}, 403, "no_route", nil},
		{"the request itself needs a credential", req{method: "PUT", path: "/cors/x"}, 401, "no_credential", nil},
	} {
		s.take(t, ask)
	}
}

func TestSemantics28SignIn(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	const html = "text/html,application/xhtml+xml,*/*;q=0.8"
	browser := func(host, path string) req { return req{host: host, path: path}.with("accept", html) }
	for _, s := range []step{
		{"a browser is sent to sign in", browser("ui.example.com", "/app/x?a=b"), 302, "no_credential",
			map[string]string{"location": "https://ui.example.com/authenticate?redirect_uri=%2Fapp%2Fx%3Fa%3Db"}},
		{"the host's port and case do not count", browser("UI.example.com:8443", "/app/x"), 302, "no_credential",
			map[string]string{"location": "https://ui.example.com/authenticate?redirect_uri=%2Fapp%2Fx"}},
		{"a bad cookie does so as well", browser("ui.example.com", "/app/").with("cookie", "access_token=garbage"), 302, "token_malformed", nil},
		{"a script gets a 401", browser("ui.example.com", "/app/").with("sec-fetch-mode", "cors"), 401, "no_credential", nil},
		{"XMLHttpRequest gets a 401", browser("ui.example.com", "/app/").with("x-requested-with", "XMLHttpRequest"), 401, "no_credential", nil},
		{"a websocket gets a 401", browser("ui.example.com", "/app/").with("upgrade", "websocket"), 401, "no_credential", nil},
		{"a POST gets a 401", req{method: "POST", host: "ui.example.com", path: "/app/"}.with("accept", html), 401, "no_credential", nil},
		{"gRPC gets a 401", browser("ui.example.com", "/app/").with("content-type", "application/grpc"), 401, "no_credential", nil},
		{"what does not ask for pages gets a 401", req{host: "ui.example.com", path: "/app/"}.with("accept", "*/*"), 401, "no_credential", nil},
		{"unless navigations are redirected", req{host: "nav.example.com", path: "/app/"}.with("accept", "*/*"), 302, "no_credential",
			map[string]string{"location": "https://id.example.com/?back=https%3A%2F%2Fnav.example.com%2Fapp"}},
		{"a navigation has no Authorization header", req{host: "nav.example.com", path: "/app/"}.withBearer("x"), 401, "token_malformed", nil},
		{"who may not gets no redirect", browser("ui.example.com", "/admin/").withBearer(w.token(nil)), 403, "requirement_not_met", nil},
		{"a route without sign_in gives a 401", browser("ui.example.com", "/me/"), 401, "no_credential", nil},
		{"an unknown host reaches no Location", browser("evil.example", "/app/"), 403, "no_route", map[string]string{"location": "-"}},
		{"a double slash reaches no Location", browser("ui.example.com", "//evil.example/x"), 400, "path_not_canonical", map[string]string{"location": "-"}},
	} {
		t.Run(s.name, func(t *testing.T) { s.take(t, ask) })
	}
}

func TestSemantics35TenantSelection(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	user := req{path: "/me/"}.withBearer(w.token(nil)) // of acme:sales
	machine := req{path: "/me/", source: "10.0.0.1"}.with("x-api-key", apiKeyText)
	for _, s := range []step{
		{"a tenant that is readable", user.with("x-select-tenant", "acme"), 200, "requirement_met", map[string]string{"x-tenant-id": "acme", "x-tenants": "_,acme", "x-user": "-", "x-select-tenant": "-"}},
		{"a tenant that is not", user.with("x-select-tenant", "globex"), 401, "tenant_not_selectable", nil},
		{"a child", user.with("x-select-tenant", "acme:sales:eu"), 401, "tenant_not_selectable", nil},
		{"the wildcard", machine.with("x-select-tenant", "*"), 401, "tenant_not_selectable", nil},
		{"any by the wildcard", machine.with("x-select-tenant", "globex"), 200, "requirement_met", map[string]string{"x-tenant-id": "globex", "x-tenants": "_,globex"}},
		{"a user by who may", machine.with("x-select-user", "u"), 200, "requirement_met", map[string]string{"x-user": "u", "x-select-user": "-"}},
		{"a user by who may not", user.with("x-select-user", "eve@example.com"), 401, "tenant_not_selectable", nil},
		{"two tenants", user.with("x-select-tenant", "acme,acme"), 400, "selection_repeated", nil},
		{"an empty one is none", user.with("x-select-tenant", ""), 200, "requirement_met", map[string]string{"x-tenant-id": "acme:sales"}},
		{"on a public route with a principal", req{path: "/"}.withBearer(w.token(nil)).with("x-select-tenant", "globex"), 401, "tenant_not_selectable", nil},
		{"on a public route without one it is just removed", req{path: "/"}.with("x-select-tenant", "globex"), 200, "public", map[string]string{"x-select-tenant": "-"}},
	} {
		t.Run(s.name, func(t *testing.T) { s.take(t, ask) })
	}
}

func TestSemantics11NamedRoutes(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	named := func(path, route string) req {
		return req{path: path, context: map[string]string{policy.RouteName: route}}.withBearer(w.token(nil))
	}
	for _, s := range []step{
		{"a route without patterns is reached by name", named("/anything", "named"), 200, "requirement_met", map[string]string{"x-user": "eve@example.com"}},
		{"the request must match as well", named("/anything", "me"), 403, "route_mismatch", nil},
		{"an unknown name is forbidden", named("/me/", "nobody"), 403, "route_unknown", nil},
		{"an unknown name is forbidden on public paths", named("/", "nobody"), 403, "route_unknown", nil},
	} {
		s.take(t, ask)
	}
}

func TestConnections(t *testing.T) {
	w := newWorld(t)
	message := req{path: "/"}.message()
	message.Attributes.Request = nil
	for _, d := range doors {
		client, _, _ := w.dial(t, d.options)
		response := must(client.Check(context.Background(), message))
		checkSound(t, response)
		if s := envoy(message, response); s.status != 403 || s.metadata["reason"] != "not_http" {
			t.Errorf("%s: a connection without HTTP = %d %v, want 403 not_http", d.name, s.status, s.metadata["reason"])
		}
	}
}

func TestSemantics34OwnedEverywhere(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Forward.Remove = []string{"x-internal"} })
	ask := w.asker(t)
	token := w.token(nil)
	for _, s := range []step{
		{"what one route sets is removed on all others", req{path: "/me/"}.withBearer(token).with("x-order", "forged"), 200, "requirement_met", map[string]string{"x-order": "-"}},
		{"also on public ones", req{path: "/"}.with("x-order", "forged"), 200, "public", map[string]string{"x-order": "-"}},
		{"a route's own headers replace the file's, which are removed", req{path: "/order/7"}.withBearer(token).with("x-user", "forged"), 200, "requirement_met", map[string]string{"x-order": "7", "x-user": "-"}},
		{"what is only to be removed is", req{path: "/order/7"}.withBearer(token).with("x-internal", "forged"), 200, "requirement_met", map[string]string{"x-internal": "-"}},
		{"so where everything else passes", req{path: "/login/"}.with("x-internal", "forged"), 200, "public", map[string]string{"x-internal": "-"}},
	} {
		s.take(t, ask)
	}
}
