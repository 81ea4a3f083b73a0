package extauthz

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint/verify"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// asking lets callers of corp ask the table.
func asking(w *world) func(*Config) {
	return func(c *Config) {
		c.Routes = append(c.Routes, Route{Forward: c.Forward, Policy: &policy.Route{
			Name: "ask", Index: len(c.Routes), Patterns: patterns(w.t, "POST /access/v1/"),
			Allow: []policy.Requirement{{Roles: &policy.Sets{Any: []string{"pep"}}}},
		}})
	}
}

func (w *world) httpServer(t testing.TB) *httptest.Server {
	server := httptest.NewServer(NewHTTPHandler(w.gate, Limits{}, http.NotFoundHandler()))
	t.Cleanup(server.Close)
	return server
}

func TestAuthZEN(t *testing.T) {
	w := newWorld(t)
	w = newWorld(t, asking(w))
	server := w.httpServer(t)
	pep := w.token(map[string]any{"groups": []string{"pep"}})
	post := func(path, token, body string) (int, map[string]any) {
		t.Helper()
		request := must(http.NewRequest("POST", server.URL+path, strings.NewReader(body)))
		request.Header.Set("X-Request-Id", "r1")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response := must(http.DefaultClient.Do(request))
		defer response.Body.Close()
		var answer map[string]any
		if err := json.Unmarshal(must(io.ReadAll(response.Body)), &answer); err != nil {
			t.Fatal(err)
		}
		if response.Header.Get("X-Request-Id") != "r1" {
			t.Errorf("X-Request-Id is %q, want what the request has", response.Header.Get("X-Request-Id"))
		}
		return response.StatusCode, answer
	}
	const reader = `"subject":{"type":"corp","id":"u1","properties":{"tenant":"acme","roles":["reader"]}}`
	const orders = `"action":{"name":"GET"},"resource":{"type":"route","id":"/tenants/acme/orders/7"}`
	for _, row := range []struct {
		name     string
		token    string
		body     string
		status   int
		decision any
		reason   string
	}{
		{"a reader may read", pep, `{` + reader + `,` + orders + `}`, 200, true, "requirement_met"},
		{"by a URL as well", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"uri","id":"https://api.example.com/tenants/acme/orders/7"}}`, 200, true, "requirement_met"},
		{"another tenant may not", pep, strings.Replace(`{`+reader+`,`+orders+`}`, "acme", "globex", 1), 200, false, "requirement_not_met"},
		{"nobody gets a wildcard by saying so", pep, strings.Replace(`{`+reader+`,`+orders+`}`, `"tenant":"acme"`, `"tenant":"*"`, 1), 200, false, "requirement_not_met"},
		{"a path with two readings", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"//x"}}`, 200, false, "path_not_canonical"},
		{"an authenticator that the route does not accept", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"/machines/"}}`, 200, false, "no_credential"},
		{"what no route covers", pep, `{` + reader + `,"action":{"name":"GET"},"resource":{"type":"route","id":"/nowhere"}}`, 200, false, "no_route"},
		{"an unknown authenticator", pep, `{"subject":{"type":"user","id":"u"},` + orders + `}`, 400, nil, ""},
		{"no subject", pep, `{` + orders + `}`, 400, nil, ""},
		{"no JSON", pep, `{`, 400, nil, ""},
		{"who may not ask", w.token(nil), `{` + reader + `,` + orders + `}`, 403, nil, ""},
		{"who does not say who he is", "", `{` + reader + `,` + orders + `}`, 401, nil, ""},
	} {
		status, answer := post(EvaluationPath, row.token, row.body)
		context, _ := answer["context"].(map[string]any)
		reason, _ := context["reason"].(string)
		if status != row.status || answer["decision"] != row.decision || reason != row.reason {
			t.Errorf("%s: %d %v, want %d %v %s", row.name, status, answer, row.status, row.decision, row.reason)
		}
	}

	const several = `{` + reader + `,"action":{"name":"GET"},"evaluations":[
		{"resource":{"type":"route","id":"/tenants/acme/orders/7"}},
		{"resource":{"type":"route","id":"/admin/"}},
		{"resource":{"type":"route"}},
		{"resource":{"type":"route","id":"/me/"}}]`
	for options, want := range map[string]string{
		``: "true false false true",
		`,"options":{"evaluations_semantic":"deny_on_first_deny"}`:     "true false",
		`,"options":{"evaluations_semantic":"permit_on_first_permit"}`: "true",
	} {
		_, answer := post(EvaluationsPath, pep, several+options+`}`)
		var got []string
		list, _ := answer["evaluations"].([]any)
		for _, one := range list {
			got = append(got, map[bool]string{true: "true", false: "false"}[one.(map[string]any)["decision"].(bool)])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("evaluations with %q: %v, want %s", options, answer, want)
		}
	}
	if status, _ := post(EvaluationsPath, pep, several+`,"options":{"evaluations_semantic":"x"}}`); status != 400 {
		t.Errorf("an unknown semantic: %d, want 400", status)
	}
}

// A public route that covers the API lets nobody ask.
func TestAuthZENIsNeverPublic(t *testing.T) {
	w := newWorld(t)
	w = newWorld(t, func(c *Config) {
		c.Routes = append(c.Routes, Route{Forward: c.Forward, Policy: &policy.Route{
			Name: "ask", Index: len(c.Routes), Patterns: patterns(w.t, "POST /access/v1/"), Public: true,
		}})
	})
	server := w.httpServer(t)
	for _, token := range []string{"", w.token(nil)} {
		request := must(http.NewRequest("POST", server.URL+EvaluationPath, strings.NewReader(`{}`)))
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response := must(http.DefaultClient.Do(request))
		response.Body.Close()
		if response.StatusCode != 403 {
			t.Errorf("asking through a public route: %d, want 403", response.StatusCode)
		}
	}
}

func TestAuthZENConfiguration(t *testing.T) {
	server := newWorld(t).httpServer(t)
	response := must(http.Get(server.URL + AuthZENConfigPath))
	defer response.Body.Close()
	var got map[string]string
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got["policy_decision_point"] != server.URL || got["access_evaluation_endpoint"] != server.URL+EvaluationPath || got["access_evaluations_endpoint"] != server.URL+EvaluationsPath {
		t.Errorf("the document is %v", got)
	}
}

// The minted token is verified with the keys that the HTTP listener publishes.
func TestPublishedKeys(t *testing.T) {
	w := newWorld(t, trusting)
	w.now = time.Now()
	server := w.httpServer(t)
	request := must(http.NewRequest("GET", server.URL+AuthorizePath, nil))
	for name, value := range map[string]string{
		"X-Original-URL": "https://api.example.com/minted/", "X-Original-Method": "GET", "Authorization": "Bearer " + w.token(nil),
	} {
		request.Header.Set(name, value)
	}
	response := must(http.DefaultClient.Do(request))
	response.Body.Close()
	minted := strings.TrimPrefix(response.Header.Get("Authorization"), "Bearer ")
	verifier := must(verify.New(t.Context(), server.URL+JWKSPath, "https://gatehouse.example.com", "api.example.com"))
	who, err := verifier.Token(minted)
	if err != nil {
		t.Fatalf("verifying %q: %v", minted, err)
	}
	if who.Tenant != "acme:sales" || who.Subject != "corp:u1" {
		t.Errorf("the upstream sees %+v", who)
	}
	response = must(http.Get(server.URL + DiscoveryPath))
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Errorf("discovery: %d, want 200", response.StatusCode)
	}
}

// minting adds a route that has identity tokens signed by m.
func minting(w *world, name string, m *mint.Minter) func(*Config) {
	return func(c *Config) {
		c.Routes = append(c.Routes, Route{
			Forward: &Forward{Token: &IdentityToken{Header: "authorization", Scheme: "Bearer", TTL: time.Minute, Minter: m}},
			Policy: &policy.Route{
				Name: name, Index: len(c.Routes), Patterns: patterns(w.t, "/"+name+"/"),
				Allow: []policy.Requirement{{Authenticated: &policy.Flag{}}},
			},
		})
	}
}

// TestDiscoveryListsAllAlgorithms: the key set has the keys of all minters, and so has the
// document that leads to it.
func TestDiscoveryListsAllAlgorithms(t *testing.T) {
	w := newWorld(t)
	other := must(mint.New(mint.Config{Issuer: "https://other.example.com", Keys: []mint.Key{
		must(mint.GenerateKey("EdDSA")), must(mint.GenerateKey("ES256")),
	}}))
	pending := must(mint.New(mint.Config{Issuer: "https://other.example.com", Ring: mint.NewRing(nil, "RS256")}))
	for _, test := range []struct {
		name   string
		config []func(*Config)
		status int
		want   []any
	}{
		{"one minter", nil, 200, []any{"ES256"}},
		{"two, with an algorithm in common", []func(*Config){minting(w, "other", other)}, 200, []any{"ES256", "EdDSA"}},
		{"one whose keys are not known yet", []func(*Config){minting(w, "pending", pending)}, 503, nil},
	} {
		response := must(http.Get(newWorld(t, test.config...).httpServer(t).URL + DiscoveryPath))
		var doc map[string]any
		err := json.NewDecoder(response.Body).Decode(&doc)
		response.Body.Close()
		if response.StatusCode != test.status || (err == nil) != (test.status == 200) {
			t.Fatalf("%s: %d %v, want %d", test.name, response.StatusCode, err, test.status)
		}
		if got, _ := doc["id_token_signing_alg_values_supported"].([]any); !slices.Equal(got, test.want) {
			t.Errorf("%s: the algorithms are %v, want %v", test.name, got, test.want)
		}
	}
}
