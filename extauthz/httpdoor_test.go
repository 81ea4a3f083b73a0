package extauthz

import (
	"encoding/json"
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

func (w *world) httpServer(t testing.TB) *httptest.Server {
	server := httptest.NewServer(NewHTTPHandler(w.gate, Limits{}, http.NotFoundHandler()))
	t.Cleanup(server.Close)
	return server
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
