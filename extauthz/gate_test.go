package extauthz

import (
	"context"
	"maps"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// asker sends requests through all doors, which must agree.
func (w *world) asker(t testing.TB) func(r req) seen {
	var clients []authv3.AuthorizationClient
	for _, d := range doors {
		client, _, _ := w.dial(t, d.options)
		clients = append(clients, client)
	}
	return func(r req) seen {
		t.Helper()
		var first seen
		for i, client := range clients {
			message := r.message()
			response, err := client.Check(context.Background(), message)
			if err != nil {
				t.Fatalf("Check(%v) through the %s door: %v", message, doors[i].name, err)
			}
			checkSound(t, response)
			s := envoy(message, response)
			id, _ := s.metadata["decision_id"].(string)
			if len(id) != idLength {
				t.Errorf("decision id %q has not %d characters", id, idLength)
			}
			if s.status != 200 && s.client[DecisionHeader] != id {
				t.Errorf("header %s is %q, metadata has %q", DecisionHeader, s.client[DecisionHeader], id)
			}
			s = s.anonymous(id)
			if i == 0 {
				first = s
			} else if diff := cmp.Diff(first, s, cmp.AllowUnexported(seen{})); diff != "" {
				t.Errorf("the doors differ for %v (-%s +%s):\n%s", message, doors[0].name, doors[i].name, diff)
			}
		}
		return first
	}
}

// anonymous takes the decision's id out.
func (s seen) anonymous(id string) seen {
	if id == "" {
		return s
	}
	s.body = strings.ReplaceAll(s.body, id, "ID")
	s.metadata = maps.Clone(s.metadata)
	s.metadata["decision_id"] = "ID"
	s.client = maps.Clone(s.client)
	if s.client != nil {
		s.client[DecisionHeader] = "ID"
	}
	if s.upstream != nil { // an ES256 signature is another one every time
		s.upstream = maps.Clone(s.upstream)
		if v := s.upstream["authorization"]; len(v) == 1 && strings.Count(v[0], ".") == 2 && strings.HasPrefix(v[0], "Bearer eyJhbGciOiJFUzI1NiI") {
			s.upstream["authorization"] = []string{"Bearer MINTED"}
		}
	}
	return s
}

// checkSound holds a response to what Envoy needs (see envoy's own reading of it).
func checkSound(t rapid.TB, response *authv3.CheckResponse) {
	t.Helper()
	ok, denied := response.GetOkResponse(), response.GetDeniedResponse()
	if response.GetStatus() == nil {
		t.Errorf("no status: Envoy would allow: %v", response)
	}
	if response.GetStatus().GetCode() == 0 {
		if ok == nil || denied != nil {
			t.Errorf("OK without an ok response, or beside a denied one: %v", response)
		}
		set := map[string]bool{}
		for _, h := range ok.GetHeaders() {
			name := h.GetHeader().GetKey()
			if set[name] {
				t.Errorf("header %s is set twice", name)
			}
			set[name] = true
			if h.GetAppend() == nil || h.GetAppend().GetValue() || h.GetAppendAction().String() != "OVERWRITE_IF_EXISTS_OR_ADD" {
				t.Errorf("header %s does not say in both ways that it overwrites: %v", name, h)
			}
			if v := h.GetHeader().GetValue(); v == "" || strings.ContainsAny(v, "\r\n\x00") {
				t.Errorf("header %s has the value %q", name, v)
			}
		}
		for _, name := range ok.GetHeadersToRemove() {
			if set[name] {
				t.Errorf("header %s is both set and removed: Envoy removes it", name)
			}
		}
		return
	}
	if denied == nil || ok != nil {
		t.Errorf("a refusal without a denied response, or beside an ok one: %v", response)
	}
	if code := int(denied.GetStatus().GetCode()); code != 302 && (code < 400 || code > 599) {
		t.Errorf("a refusal with HTTP status %d", code)
	}
	for _, name := range []string{"cache-control", DecisionHeader} {
		found := false
		for _, h := range denied.GetHeaders() {
			found = found || h.GetHeader().GetKey() == name
		}
		if !found {
			t.Errorf("a refusal without %s: %v", name, denied)
		}
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	ask := w.asker(t)
	token := w.token(nil)
	expired := w.token(map[string]any{"exp": w.now.Unix() - 1})
	admin := w.token(map[string]any{"groups": []string{"admin"}})
	machine := req{source: "10.1.2.3", headers: map[string]string{"x-api-key": apiKeyText}}
	at := func(r req, path string) req { r.path = path; return r }

	for _, row := range []struct {
		name   string
		req    req
		status int
		reason string
		want   map[string]string // upstream headers, or response headers of a refusal; "-" for none
	}{
		// Routes.
		{"a public route is open", req{path: "/"}, 200, "public", nil},
		{"what no route covers is forbidden", req{path: "/nowhere"}, 403, "no_route", nil},
		{"what no route covers is forbidden, whoever asks", req{path: "/nowhere"}.withBearer(admin), 403, "no_route", nil},
		{"a route that forbids does", req{path: "/internal/x"}.withBearer(admin), 403, "route_forbids", nil},
		{"a path with two readings is malformed", req{path: "/a/../admin/x"}, 400, "path_not_canonical", nil},
		{"two hosts are malformed", req{path: "/", host: "a,b"}, 400, "host_invalid", nil},
		{"a method that is no token is malformed", req{path: "/", method: "GE T"}, 400, "method_invalid", nil},

		// Credentials.
		{"no credential is 401", req{path: "/me/"}, 401, "no_credential",
			map[string]string{"www-authenticate": `ApiKey realm="internal", Bearer realm="corp"`}},
		{"a bad token is 401 and says so to Bearer clients", req{path: "/me/"}.withBearer(expired), 401, "expired",
			map[string]string{"www-authenticate": `ApiKey realm="internal", Bearer realm="corp", error="invalid_token"`}},
		{"two tokens are malformed", req{path: "/me/"}.with("authorization", "Bearer "+token+",Bearer "+token), 400, "credential_repeated", nil},
		{"only what a route accepts is challenged for", req{path: "/machines/"}, 401, "no_credential",
			map[string]string{"www-authenticate": `ApiKey realm="internal"`}},
		{"a token is not looked at where only keys are accepted", req{path: "/machines/"}.withBearer(token), 401, "no_credential", nil},
		{"a wrong key never falls through to a good token", at(machine, "/me/").with("x-api-key", "wrong").withBearer(token), 401, "api_key_unknown", nil},
		{"a right key from elsewhere is refused", req{path: "/me/"}.with("x-api-key", apiKeyText), 401, "wrong_place", nil},

		// Identity.
		{"a token gives headers", req{path: "/me/"}.withBearer(token), 200, "requirement_met", map[string]string{
			"authorization": "-", "x-tenant-id": "acme:sales", "x-tenants": "_,acme,acme:sales", "x-user": "eve@example.com",
			"x-roles": "reader,a%2Cb", "x-department": "Gr%C3%B6%C3%9Fe", "x-groups": `["reader","a,b"]`,
		}},
		{"a cookie works as well and is taken out", req{path: "/me/"}.with("cookie", "a=1; access_token="+token+"; b=2"), 200, "requirement_met",
			map[string]string{"cookie": "a=1; b=2", "x-user": "eve@example.com"}},
		{"the only cookie is taken out", req{path: "/me/"}.with("cookie", "access_token="+token), 200, "requirement_met", map[string]string{"cookie": "-"}},
		{"headers that the principal has no value for are removed", req{path: "/me/"}.withBearer(w.token(map[string]any{"email": nil})).with("x-user", "root"), 200, "requirement_met",
			map[string]string{"x-user": "-"}},
		{"a control character in an identity is refused", req{path: "/me/"}.withBearer(w.token(map[string]any{"email": "eve\r\nx-roles: admin"})), 403, "invalid_identity", nil},
		{"an identity that is too large is refused", req{path: "/me/"}.withBearer(w.token(map[string]any{"email": strings.Repeat("é", 3000)})), 403, "identity_too_large", nil},
		{"headers may refer to the request", req{path: "/order/a%20b%2c", context: map[string]string{"zone": "eu"}}.withBearer(token), 200, "requirement_met",
			map[string]string{"x-order": "a b,", "x-link": "eve@example.com@eu", "x-tenant-id": "-"}},
		{"one absent reference makes a header absent", req{path: "/order/7"}.withBearer(token).with("x-link", "forged"), 200, "requirement_met",
			map[string]string{"x-order": "7", "x-link": "-"}},
		{"headers of other upstreams are removed", req{path: "/me/"}.withBearer(token).with("x-order", "7"), 200, "requirement_met",
			map[string]string{"x-order": "-"}},
		{"a minted token replaces the credential", req{path: "/minted/"}.withBearer(token), 200, "requirement_met", map[string]string{"authorization": "Bearer MINTED"}},

		// Requirements.
		{"a requirement that holds", req{path: "/tenants/acme/orders/7"}.withBearer(token), 200, "requirement_met", nil},
		{"another tenant is forbidden", req{path: "/tenants/globex/orders/7"}.withBearer(token), 403, "requirement_not_met", nil},
		{"a missing scope is told", req{path: "/scoped/"}.withBearer(token), 403, "insufficient_scope",
			map[string]string{"www-authenticate": `Bearer realm="corp", error="insufficient_scope", scope="orders:read orders:write"`}},
		{"a wildcard key reads every tenant", at(machine, "/tenants/globex/orders/"), 200, "requirement_met",
			map[string]string{"x-api-key": "-", "x-tenant-id": "_", "x-tenants": "*"}},
		{"HEAD follows GET", req{method: "HEAD", path: "/tenants/acme/orders/"}.withBearer(token), 200, "requirement_met", nil},

		// Answers.
		{"a route hides itself", req{path: "/hidden/x"}, 404, "no_credential", map[string]string{"www-authenticate": "-", "content-type": "-"}},
		{"a route hides itself from those who may not see it", req{path: "/hidden/x"}.withBearer(token), 404, "requirement_not_met", nil},
		{"refusals are problem+json", req{path: "/nowhere"}, 403, "no_route", map[string]string{"content-type": "application/problem+json", "cache-control": "no-store"}},
		{"who wants text gets it", req{path: "/nowhere"}.with("accept", "text/plain"), 403, "no_route", map[string]string{"content-type": "text/plain; charset=utf-8"}},
		{"a browser gets a page", req{path: "/nowhere"}.with("accept", "text/html,*/*;q=0.8"), 403, "no_route", map[string]string{"content-type": "text/html; charset=utf-8"}},
		{"a gRPC client gets text", req{path: "/nowhere", method: "POST"}.with("content-type", "application/grpc"), 403, "no_route", map[string]string{"content-type": "text/plain; charset=utf-8"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := ask(row.req)
			if got.status != row.status || got.metadata["reason"] != row.reason {
				t.Fatalf("Check(%v) = %d %v, want %d %s", row.req, got.status, got.metadata["reason"], row.status, row.reason)
			}
			for name, want := range row.want {
				have := got.got(name)
				if got.status != 200 {
					var ok bool
					if have, ok = got.client[name]; !ok {
						have = "-"
					}
				}
				if have != want {
					t.Errorf("Check(%v): header %s is %q, want %q", row.req, name, have, want)
				}
			}
		})
	}
}

func TestUndecodableIsMalformed(t *testing.T) {
	w := newWorld(t)
	for _, d := range doors {
		_, _, conn := w.dial(t, d.options)
		for _, message := range []string{"\x0a", "\x0a\x05ab", "\xff\xff\xff", strings.Repeat("\x0a\x04", 3)} {
			var reply authv3.CheckResponse
			err := conn.Invoke(context.Background(), "/envoy.service.auth.v3.Authorization/Check", rawMessage(message), &reply, callRaw())
			if err != nil {
				t.Fatalf("%s: Check(%q): %v", d.name, message, err)
			}
			checkSound(t, &reply)
			if code := int(reply.GetDeniedResponse().GetStatus().GetCode()); code != 400 {
				t.Errorf("%s: Check(%q) = %d, want 400", d.name, message, code)
			}
		}
		var reply authv3.CheckResponse
		if err := conn.Invoke(context.Background(), "/envoy.service.auth.v3.Authorization/Check", rawMessage(""), &reply, callRaw()); err != nil {
			t.Fatal(err)
		}
		if reply.GetStatus().GetCode() == 0 {
			t.Errorf("%s: an empty Check is allowed", d.name)
		}
	}
}

func TestNotReady(t *testing.T) {
	w := newWorld(t)
	w.gate.Swap(nil)
	ask := w.asker(t)
	got := ask(req{path: "/"})
	if got.status != 503 || got.metadata["reason"] != "not_ready" || got.client["retry-after"] == "" {
		t.Errorf("without a configuration: %d %v %v, want 503 not_ready with Retry-After", got.status, got.metadata["reason"], got.client)
	}
}

func TestZeroAnswerRefuses(t *testing.T) {
	for name, a := range map[string]*Answer{
		"the zero answer":                        {},
		"a status of success without permission": {Status: 200},
		"permission without anything to go on":   {Decision: verdict(1 << 7)},
	} {
		response := CheckResponse(a)
		if response.GetStatus().GetCode() == 0 || response.GetDeniedResponse().GetStatus().GetCode() < 400 {
			t.Errorf("%s: %v, want a refusal", name, response)
		}
		wire, _ := appendCheckResponse(nil, nil, a)
		var decoded authv3.CheckResponse
		if err := proto.Unmarshal(wire, &decoded); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(&decoded, response) {
			t.Errorf("%s: fast %v, plain %v", name, &decoded, response)
		}
	}
}
