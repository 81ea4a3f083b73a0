package extauthz

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// identityNames are what the configurations of the property own, some of them.
var identityNames = []string{"x-tenant-id", "x-user", "x-roles", "x_legacy", "x-groups"}

var identityValues = []string{"{tenant}", "{tenants}", "{username}", "{roles}", "{attributes.department}", "{attributes.groups}", "{path.id}", "{query.q}", "{context.zone}", "fixed", "{username}-{path.id}"}

// forged marks what a client sent and the upstream must not get.
const forged = "forged"

// drawForward makes a forward block.
func drawForward(t *rapid.T, w testing.TB, modes ...Credentials) *Forward {
	f := &Forward{
		Credentials:   rapid.SampledFrom(modes).Draw(t, "credentials"),
		KeepOverrides: rapid.Bool().Draw(t, "overrides"),
	}
	for _, name := range identityNames {
		if rapid.Bool().Draw(t, name) {
			h := header(w, name, rapid.SampledFrom(identityValues).Draw(t, "value of "+name))
			h.JSON = rapid.Bool().Draw(t, name+" as JSON")
			f.Headers = append(f.Headers, h)
		}
	}
	if rapid.Bool().Draw(t, "remove") {
		f.Remove = []string{"x-internal"}
	}
	return f
}

// drawSpelling writes a name as somebody who wants to get around us does.
func drawSpelling(t *rapid.T, name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '-' || c == '_' {
			b[i] = rapid.SampledFrom([]byte("-_.!")).Draw(t, "separator")
		}
	}
	return string(b)
}

func TestHygieneProperty(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(rt *rapid.T) {
		public := rapid.Bool().Draw(rt, "public")
		modes := []Credentials{Strip, Keep}
		if public {
			modes = append(modes, Pass)
		}
		here, elsewhere := drawForward(rt, t, modes...), drawForward(rt, t, Strip)
		c := &Config{Set: w.config.Set, Tenancy: w.config.Tenancy, Forward: elsewhere, SelectHeader: "x-select-tenant", Limits: w.config.Limits}
		route := &policy.Route{Name: "a", Patterns: patterns(t, "/a/{id}"), Public: public}
		if !public {
			route.Allow = []policy.Requirement{{Authenticated: &policy.Flag{}}}
		}
		other := &policy.Route{Name: "b", Index: 1, Forbid: true, Patterns: patterns(t, "/b")}
		c.Routes = []Route{{Policy: route, Forward: here}, {Policy: other, Forward: elsewhere}}
		table, problems := policy.NewTable([]*policy.Route{route, other}, c.Tenancy)
		if table == nil {
			rt.Fatal(problems)
		}
		c.Table = table
		snapshot := must(NewSnapshot(c))
		gate := NewGate(Options{Now: func() time.Time { return w.now }})
		gate.Swap(snapshot)

		r, token := drawRequest(rt, w)
		server := must(NewServer(gate, ServerOptions{}))
		for range 2 { // the second time from what was kept of the first
			response := askTwice(rt, gate, server, r)
			checkSound(rt, response)
			s := envoy(r.message(), response)
			if s.status != 200 {
				continue
			}
			checkUpstream(rt, s, snapshot, here, token)
		}
	})
}

// askTwice asks with both codecs, which must say the same but for the id.
func askTwice(t *rapid.T, gate *Gate, server *Server, r req) *authv3.CheckResponse {
	message := must(proto.Marshal(r.message()))
	fast := &check{message: message}
	fast.decode(false)
	gate.run(context.Background(), &fast.exchange, nil)
	fast.encode(false)
	var response authv3.CheckResponse
	if err := proto.Unmarshal(fast.reply, &response); err != nil {
		t.Fatalf("the reply to %v cannot be decoded: %v", r, err)
	}
	if plain := CheckResponse(&fast.answer); !proto.Equal(plain, &response) {
		t.Fatalf("the reply to %v is %v, the plain encoder's %v", r, &response, plain)
	}
	plain := gate.Check(context.Background(), DecodeCheck(message))
	if a, b := plain.Decision.Reason, fast.answer.Decision.Reason; a != b {
		t.Fatalf("%v: plain %v, fast %v", r, a, b)
	}
	return &response
}

// drawRequest makes a request with forged headers, and sometimes a good token, which
// is somewhere where tokens are.
func drawRequest(t *rapid.T, w *world) (req, string) {
	token := w.token(map[string]any{
		"email":      rapid.SampledFrom([]any{nil, "eve@example.com", "ü", " x "}).Draw(t, "email"),
		"groups":     rapid.SampledFrom([]any{nil, "one", []string{"a", "b,c"}}).Draw(t, "groups"),
		"department": rapid.SampledFrom([]any{nil, "sales", []string{"x", "y"}}).Draw(t, "department"),
		"tenant":     rapid.SampledFrom([]any{nil, "acme", "acme:eu"}).Draw(t, "tenant"),
	})
	headers := map[string]string{}
	names := slices.Concat(identityNames, overrideHeaders, []string{"x-internal", "x-api-key", "authorization", "x-select-tenant"})
	for range rapid.IntRange(0, 8).Draw(t, "forged headers") {
		name := drawSpelling(t, rapid.SampledFrom(names).Draw(t, "name"))
		if name != "x-select-tenant" && name != "x-api-key" {
			headers[name] = forged
		}
	}
	r := req{path: "/a/" + rapid.SampledFrom([]string{"7", "%20", "%C3%A9", "x"}).Draw(t, "id"), context: map[string]string{"zone": "eu"}}
	query := []string{}
	cookies := []string{"theme=dark"}
	switch rapid.SampledFrom([]string{"none", "header", "cookie", "query", "bad"}).Draw(t, "credential") {
	case "header":
		headers["authorization"] = "Bearer " + token
	case "cookie":
		delete(headers, "authorization")
		cookies = append(cookies, "access_token="+token)
	case "query":
		delete(headers, "authorization")
		query = append(query, "access_token="+token)
	case "bad":
		cookies = append(cookies, "access_token="+forged)
		query = append(query, "access_token="+forged, "%61ccess_token="+forged)
	default:
		token = ""
	}
	if rapid.Bool().Draw(t, "cookies") || len(cookies) > 1 {
		headers["cookie"] = strings.Join(cookies, "; ")
	}
	query = append(query, "q="+rapid.SampledFrom([]string{"1", "%20"}).Draw(t, "q"))
	r.path += "?" + strings.Join(query, "&")
	r.headers = headers
	return r, token
}

// checkUpstream: of what is taken nothing that the client sent gets through, in any
// spelling, and no credential but the one that is kept.
func checkUpstream(t *rapid.T, s seen, snapshot *Snapshot, f *Forward, token string) {
	set := map[string]bool{}
	for _, h := range f.Headers {
		set[h.Name] = true
	}
	for name, values := range s.upstream {
		why := snapshot.taken.folded[foldName(name)]
		switch {
		case why == 0 || why == credential && f.Credentials == Pass || why == override && f.KeepOverrides:
			continue
		case why == credential && f.Credentials == Keep && slices.Equal(values, []string{"Bearer " + token}):
			continue
		}
		if !set[name] {
			t.Errorf("the upstream got %s: %q, which is taken", name, values)
		}
		if slices.Contains(values, forged) {
			t.Errorf("the upstream got %s: %q from the client", name, values)
		}
	}
	if f.Credentials == Pass {
		return
	}
	places := strings.Join(s.upstream["cookie"], "; ") + "?" + s.query
	if strings.Contains(places, forged) {
		t.Errorf("the upstream got a credential that is not good: %q", places)
	}
	if f.Credentials == Strip && token != "" && (strings.Contains(places, token) || strings.Contains(s.got("authorization"), token)) {
		t.Errorf("the upstream got the credential: %q", places)
	}
}
