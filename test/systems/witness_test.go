package systems

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// edits is how many edits of each of the five configurations are planted: 200 in all in
// acceptance, and 20 in every run.
func edits() int {
	if os.Getenv("ACCEPTANCE") != "" {
		return 40
	}
	return 4
}

// A witness is a change as `gatehouse diff --output json` has it.
type witness struct {
	Direction string
	Request   struct {
		Method, Host, Path string
		TCP                bool
		Context, Headers   map[string]string
	}
	Principal *struct {
		Authenticator, Realm, Subject, Username, Tenant string
		Wildcard                                        bool
		Roles, Scopes                                   []string
		Attributes                                      map[string][]string
	}
	Assumed []any
}

// A presenter makes credentials of principals: header lines, and what Envoy has to say of
// the place that they come from. false: no credential of this test is of such a principal.
type presenter func(w *witness) (headers []string, context map[string]string, ok bool)

// A subjected is a system whose configuration is edited.
type subjected struct {
	name        string
	environment []string
	presentable []string // authenticators of whose principals the test has credentials
	present     presenter
	battery     []probe // requests by which a widening shows that diff does not find

	old, new *harness.Gatehouse
	edits    []*planted
}

// A probe is a request with credentials, known to be refused or allowed by asking.
type probe struct {
	request string
	headers []string
	context map[string]string
}

// A planted edit is one, and what diff says about it.
type planted struct {
	what, config string
	widens       []*witness
	fails        bool // diff exits with 1
}

// TestWitnessesThroughEnvoy plants random edits into the configurations of the five
// systems. Each witness of a widening that diff gives is sent, with a real credential,
// through the real Envoy: the gatehouse with the old configuration refuses it, and the one
// with the edit lets it reach the upstream. And a battery of requests finds nothing that
// passes after an edit and did not before, unless diff has said that the edit widens.
func TestWitnessesThroughEnvoy(t *testing.T) {
	provider := idp.Start(t)
	systems := []*subjected{orchestrateWitnesses(t, provider), conduktorWitnesses(t, provider), odjWitnesses(t, provider), authotronWitnesses(t, provider), horaoWitnesses(t, provider)}
	var starting sync.WaitGroup
	for i, s := range systems {
		s.old, s.new = startGatehouse(t, s.name, s.environment...), startGatehouse(t, s.name, s.environment...)
		starting.Go(func() { s.plant(t, rand.New(rand.NewPCG(uint64(i), 12))) })
	}
	starting.Wait()
	contexts := newContexts()
	var fronts []harness.Front
	for _, s := range systems {
		for _, p := range s.battery {
			contexts.add(p.context)
		}
		for _, e := range s.edits {
			for _, w := range e.widens {
				if _, more, ok := s.present(w); ok {
					contexts.add(merged(w.Request.Context, more))
				}
			}
		}
	}
	for _, s := range systems {
		fronts = append(fronts,
			harness.Front{Name: "old-" + s.name, Gatehouse: []string{s.old.GRPC}, Changes: []harness.Change{contexts.routes}},
			harness.Front{Name: "new-" + s.name, Gatehouse: []string{s.new.GRPC}, Changes: []harness.Change{contexts.routes}})
	}
	envoy := harness.StartEnvoy(t, serveEcho(t).Address(), fronts...)
	for _, s := range systems {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.try(t, envoy.Address(t, "old-"+s.name), envoy.Address(t, "new-"+s.name), contexts)
		})
	}
}

// plant makes edits that load, and asks diff about each.
func (s *subjected) plant(t *testing.T, random *rand.Rand) {
	path := filepath.Join(s.name, "gatehouse.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	e := &editor{random, string(text), s.presentable}
	dir := t.TempDir()
	for tries := 0; len(s.edits) < edits() && tries < 20*edits(); tries++ {
		config, what := e.edit(t)
		edited := filepath.Join(dir, "edited.yaml")
		if err := os.WriteFile(edited, []byte(config), 0o600); err != nil {
			t.Error(err)
			return
		}
		cmd := exec.Command(harness.Binary(t), "diff", "--output", "json", path, edited)
		cmd.Env = append(append(os.Environ(), s.environment...), "STORE_PATH="+filepath.Join(dir, "gatehouse.db"))
		out, err := cmd.Output()
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			t.Error(err)
			return
		}
		if len(out) == 0 {
			continue // it does not load
		}
		var said struct{ Changes []*witness }
		if err := json.Unmarshal(out, &said); err != nil {
			t.Errorf("reading %s: %v", out, err)
			return
		}
		p := &planted{what: what, config: config, fails: err != nil}
		for _, w := range said.Changes {
			if w.Direction == "widens" {
				p.widens = append(p.widens, w)
			}
		}
		s.edits = append(s.edits, p)
	}
	if len(s.edits) < edits() {
		t.Errorf("%s: %d edits load, want %d", s.name, len(s.edits), edits())
	}
}

// try sends the witnesses and the battery to both sides.
func (s *subjected) try(t *testing.T, old, new string, contexts *contexts) {
	before := map[int]bool{}
	for i, p := range s.battery {
		before[i] = reaches(t, old, p.request, contexts.header(p.context), p.headers)
	}
	widening, confirmed, without := 0, 0, 0
	for _, e := range s.edits {
		s.new.Configure(t, e.config)
		s.new.Reload(t, "configuration loaded")
		found := 0
		for _, w := range e.widens {
			headers, more, ok := s.present(w)
			if !ok || len(w.Assumed) > 0 {
				without++
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(w.Request.Headers)) {
				headers = append(headers, name+": "+w.Request.Headers[name])
			}
			headers = append(headers, "Host: "+w.Request.Host)
			request, context := w.Request.Method+" "+w.Request.Path, contexts.header(merged(w.Request.Context, more))
			if reaches(t, old, request, context, headers) || !reaches(t, new, request, context, headers) {
				t.Errorf("%s: %s %+v by %+v is not confirmed", e.what, request, w.Request, w.Principal)
			}
			found++
		}
		confirmed += found
		if len(e.widens) > 0 {
			widening++
			if found == 0 {
				t.Errorf("%s: widens, and none of %d witnesses could be tried", e.what, len(e.widens))
			}
			if !e.fails {
				t.Errorf("%s: widens, and diff exits with 0", e.what)
			}
		}
		for i, p := range s.battery {
			if !before[i] && reaches(t, new, p.request, contexts.header(p.context), p.headers) && len(e.widens) == 0 {
				t.Errorf("%s: %s with %q passes now, and diff does not say that anything widens", e.what, p.request, p.headers)
			}
		}
	}
	t.Logf("%d edits, of which %d widen; %d witnesses confirmed, %d without a credential; %d requests of the battery for each", len(s.edits), widening, confirmed, without, len(s.battery))
}

// reaches sends a request and tells whether the upstream has answered.
func reaches(t *testing.T, address, request, context string, headers []string) bool {
	t.Helper()
	headers = append(slices.Clone(headers), context)
	method, _, _ := strings.Cut(request, " ")
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		headers = append(headers, "Content-Length: 0")
	}
	answer := harness.Answer{Status: http.StatusServiceUnavailable}
	for tries := 0; answer.Status == http.StatusServiceUnavailable && tries < 20; tries++ { // on a busy machine a password takes its time
		answer = harness.Send(t, address, request, headers...)
	}
	return answer.Header.Get("X-Upstream") == "echo"
}

func merged(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return all
}

// contexts are sets of context extensions, each of which Envoy sends with the requests that
// have its number in a header.
type contexts struct{ list []map[string]string }

const contextHeader = "x-test-context"

func newContexts() *contexts { return &contexts{[]map[string]string{{}}} }

func (c *contexts) index(context map[string]string) int {
	return slices.IndexFunc(c.list, func(known map[string]string) bool { return maps.Equal(known, context) })
}

func (c *contexts) add(context map[string]string) {
	if c.index(context) < 0 {
		c.list = append(c.list, context)
	}
}

func (c *contexts) header(context map[string]string) string {
	return fmt.Sprintf("%s: %d", contextHeader, c.index(context))
}

// routes gives a front a route for each context.
func (c *contexts) routes(p harness.Parts) {
	var routes []any
	for i, context := range c.list {
		routes = append(routes, map[string]any{
			"match": map[string]any{"prefix": "/", "headers": []any{map[string]any{"name": contextHeader, "string_match": map[string]any{"exact": fmt.Sprint(i)}}}},
			"route": map[string]any{"cluster": "upstream"},
			"typed_per_filter_config": map[string]any{"envoy.filters.http.ext_authz": map[string]any{
				"@type":          "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
				"check_settings": map[string]any{"context_extensions": context},
			}},
		})
	}
	p.VirtualHost["routes"] = routes
	delete(p.Connection, "early_header_mutation_extensions") // clients select tenants here
}

// probes are each of the requests with each of the credentials, and with none.
func probes(requests []string, credentials ...[]string) []probe {
	var list []probe
	for _, text := range requests {
		request, host, _ := strings.Cut(text, " @")
		for _, headers := range append(credentials, nil) {
			if host != "" {
				headers = append(slices.Clone(headers), "Host: "+host)
			}
			list = append(list, probe{request: request, headers: headers})
		}
	}
	return list
}

func orchestrateWitnesses(t *testing.T, provider *idp.Provider) *subjected {
	const key = "orchestrate-api-key-0123456789"
	as := func(tenant, username string) []string {
		claim := map[string]any{"tenant_id": tenant}
		if username != "" {
			claim["username"] = username
		}
		return []string{bearer(provider.Token(t, idp.Claims{"aud": []any{"orders"}, orchestrateClaim: claim}))}
	}
	internal := map[string]string{"listener": "internal"}
	s := &subjected{
		name:        "orchestrate",
		presentable: []string{"services", "clients"},
		environment: []string{
			"AUTH_API_KEY=" + key, "AUTH_JWT_ISSUER_URL=" + provider.Issuer, "AUTH_JWT_AUDIENCE=orders", "AUTH_JWT_ORCHESTRATE_CLAIMS=" + orchestrateClaim,
		},
		present: func(w *witness) ([]string, map[string]string, bool) {
			switch p := w.Principal; {
			case p == nil:
				return nil, nil, true
			case p.Authenticator == "services":
				return []string{"X-API-Key: " + key}, internal, true
			case p.Wildcard:
				return as("*", p.Username), nil, true
			default:
				return as(p.Tenant, p.Username), nil, true
			}
		},
		battery: probes([]string{"GET /", "POST /x", "GET /open/x"}, as("foo", "fay"), as("*", "ann")),
	}
	for _, context := range []map[string]string{{"tenant": "foo"}, {"tenant": "bar"}, {"tenant": "foo", "owner": "fay"}, {"tenant": "foo", "owner": "bob"}, {"owner": "bob"}} {
		for _, p := range probes([]string{"GET /x", "DELETE /x"}, as("foo", "fay"), as("bar", "bob")) {
			p.context = context
			s.battery = append(s.battery, p)
		}
	}
	s.battery = append(s.battery, probe{"GET /x", []string{"X-API-Key: " + key}, internal})
	return s
}

func conduktorWitnesses(t *testing.T, provider *idp.Provider) *subjected {
	const consoleIssuer, secret, key = "https://console.example", "console-secret-of-32-bytes-!!!!!", "conduktor-key-0123456789abcdef"
	user := func(email string, more idp.Claims) []string {
		return []string{bearer(provider.Token(t, idp.Claims{"email": email}.With(more)))}
	}
	return &subjected{
		name:        "conduktor",
		presentable: []string{"idp", "keys"},
		environment: []string{
			"CDK_SSO_JWTAUTH_ISSUER=" + provider.Issuer, "CONSOLE_ISSUER=" + consoleIssuer, "CONSOLE_JWT_SECRET=" + secret, "CONSOLE_API_KEY=" + key,
		},
		present: func(w *witness) ([]string, map[string]string, bool) {
			p := w.Principal
			if p == nil {
				return nil, nil, true
			}
			if len(p.Roles)+len(p.Scopes) > 0 {
				return nil, nil, false
			}
			email := p.Username
			if email == "" {
				email = "ada@example.org"
			}
			switch p.Authenticator {
			case "idp":
				return user(email, nil), nil, true
			case "keys":
				return []string{"X-API-Key: " + key}, nil, true
			case "keys in idp":
				return user(email, idp.Claims{"apikey": key}), nil, true
			}
			return nil, nil, false
		},
		battery: probes([]string{"GET /", "POST /api/login", "GET /api/login", "POST /api/login/open/x", "GET /open/x", "POST /api/public/x"},
			user("ada@example.org", nil), user("bob@example.org", idp.Claims{"groups": []any{"project-a"}}), []string{"X-API-Key: " + key}),
	}
}

func odjWitnesses(t *testing.T, provider *idp.Provider) *subjected {
	token := func(claims idp.Claims) []string {
		return []string{bearer(provider.Token(t, idp.Claims{"iss": "https://live.api.schwarz/remote-token/token", "aud": "odj", "name": "Ada"}.With(claims)))}
	}
	return &subjected{
		name:        "odj",
		presentable: []string{"portal"},
		environment: []string{"ODJ_DISCOVERY_URL=" + provider.Issuer + "/.well-known/openid-configuration"},
		present: func(w *witness) ([]string, map[string]string, bool) {
			p := w.Principal
			if p == nil {
				return nil, nil, true
			}
			source := "myapi"
			if slices.Contains(p.Attributes["source"], "aad") {
				source = "aad"
			}
			claims := idp.Claims{"sub": source + ":ada-1"}
			if len(p.Scopes) > 0 {
				claims["scope"] = strings.Join(p.Scopes, " ")
			}
			for attribute, claim := range map[string]string{"products": "api_product_list", "email": "email", "app": "app_id"} {
				if values := p.Attributes[attribute]; len(values) > 0 {
					claims[claim] = values
				}
			}
			return token(claims), nil, true
		},
		battery: probes([]string{
			"GET / @ui.example", "GET /app @ui.example", "POST /app @ui.example", "GET /authenticate @ui.example", "GET /core/x @api.example", "GET /users/x @api.example",
			"DELETE /users/open/x @api.example", "GET /core/open/x @api.example", "GET /x @api.example", "GET / @elsewhere.example", "GET /core/x @elsewhere.example",
		}, token(idp.Claims{"sub": "aad:ada-1", "scope": "email"}), token(idp.Claims{"sub": "aad:bob-1"}), token(idp.Claims{"sub": "myapi:7", "api_product_list": []any{"sit_odj-core_core-v1_prod"}})),
	}
}

func authotronWitnesses(t *testing.T, provider *idp.Provider) *subjected {
	whoami := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"uid": %q, "email": "uid@example.org"}`, r.URL.Query().Get("token"))
	}))
	t.Cleanup(whoami.Close)
	basic := func(user, password string) []string {
		return []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
	}
	token := func(claims idp.Claims) []string {
		return []string{bearer(provider.Token(t, idp.Claims{"aud": "aot"}.With(claims)))}
	}
	return &subjected{
		name:        "auth-o-tron",
		presentable: []string{"oidc", "ecmwf-api", "ecmwf-users", "other-users"},
		environment: []string{
			"AOT_OIDC_ISSUER=" + provider.Issuer, "AOT_WHOAMI_URL=" + whoami.URL, "AOT_JWT_SECRET=a-secret-of-thirty-two-bytes-!!!",
			"AOT_OFFLINE_CLIENT_SECRET=signed-secret",
		},
		present: func(w *witness) ([]string, map[string]string, bool) {
			p := w.Principal
			if p == nil {
				return nil, nil, true
			}
			switch p.Authenticator {
			case "oidc":
				claims := idp.Claims{"roles": p.Roles}
				if p.Username != "" {
					claims["preferred_username"] = p.Username
				}
				if len(p.Scopes) > 0 {
					claims["scope"] = strings.Join(p.Scopes, " ")
				}
				if v := p.Attributes["department"]; len(v) > 0 {
					claims["department"] = v
				}
				return token(claims), nil, true
			case "ecmwf-users":
				return basic(p.Username, "admin"), nil, true
			case "other-users":
				return basic(p.Username, "other"), nil, true
			case "ecmwf-api":
				return []string{bearer(p.Username)}, nil, true
			}
			return nil, nil, false
		},
		battery: probes([]string{"GET /", "GET /admin/x", "GET /ecmwf-admin/x", "GET /dept/x", "POST /any-dept/x", "GET /read/x", "GET /write/x", "GET /write/open/x", "POST /admin/open/x"},
			token(idp.Claims{"sub": "plain"}), token(idp.Claims{"roles": []any{"admin"}}), token(idp.Claims{"scope": "read:users", "department": "sales"}), basic("adam", "other"), basic("eve", "admin")),
	}
}

func horaoWitnesses(t *testing.T, provider *idp.Provider) *subjected {
	peer := func(name string) []string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"peer": name}).SignedString([]byte(horaoSecret))
		if err != nil {
			t.Fatal(err)
		}
		return []string{bearer(token)}
	}
	person := func(email string, more idp.Claims) []string {
		return []string{bearer(provider.Token(t, idp.Claims{"aud": "orders", "email": email}.With(more)))}
	}
	return &subjected{
		name:        "horao",
		presentable: []string{"cluster", "people"},
		environment: horaoEnvironment(provider.Issuer+"/.well-known/openid-configuration", "PEERS=127.0.0.1"),
		present: func(w *witness) ([]string, map[string]string, bool) {
			p := w.Principal
			switch {
			case p == nil:
				return nil, nil, true
			case p.Authenticator == "cluster":
				return peer(p.Subject), nil, true
			case slices.Contains(p.Roles, "administrator"):
				return person(p.Username, idp.Claims{horaoRole: "administrator"}), nil, true
			}
			return person(p.Username, nil), nil, true
		},
		battery: probes([]string{"GET /", "POST /synchronize", "GET /synchronize", "POST /login", "GET /login", "GET /admin/x", "POST /admin/open/x", "GET /login/open/x", "POST /synchronize/open/x"},
			peer("some.fqdn.com"), person("ada@example.org", nil), person("eve@example.org", idp.Claims{horaoRole: "administrator"})),
	}
}
