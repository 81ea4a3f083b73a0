package e2e

import (
	"net"
	"slices"
	"strconv"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-authz/gatehouse/envoy"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// mintedConfig gives each upstream a token of ours, whose key gatehouse makes and publishes.
const mintedConfig = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  http: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
authenticators:
- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys: [{id: batch, secret: {env: BATCH_KEY}, principal: {subject: batch, tenant: acme, roles: [service]}}]
routes:
- {match: ["/orders/"], allow: [{authenticated: true}]}
- match: ["/billing/"]
  allow: [{authenticated: true}]
  identity_token: {audience: billing}
- {match: ["/open/"], public: true}
forward:
  headers: {x-tenant: "{tenant}"}
  identity_token: {issuer: "https://gatehouse.example.com", audience: orders}
`

// startVerifying runs an Envoy that verifies, behind ext_authz and with its own jwt_authn
// filter, what gatehouse mints: for orders, with the keys that gatehouse publishes.
func startVerifying(t *testing.T, gatehouse *harness.Gatehouse, upstream string) *harness.Envoy {
	t.Helper()
	rendered, err := envoy.Render(envoy.Addresses{
		Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Gatehouse: []string{gatehouse.GRPC}, Upstream: upstream,
	})
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := yaml.Unmarshal(rendered, &whole); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(gatehouse.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	resources := whole["static_resources"].(map[string]any)
	resources["clusters"] = append(resources["clusters"].([]any), map[string]any{
		"name": "keys",
		"load_assignment": map[string]any{"cluster_name": "keys", "endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
			"endpoint": map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}}},
		}}}}},
	})
	chain := resources["listeners"].([]any)[0].(map[string]any)["filter_chains"].([]any)[0].(map[string]any)
	connection := chain["filters"].([]any)[0].(map[string]any)["typed_config"].(map[string]any)
	filters := connection["http_filters"].([]any)
	connection["http_filters"] = slices.Insert(filters, len(filters)-1, any(map[string]any{
		"name": "envoy.filters.http.jwt_authn",
		"typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
			"providers": map[string]any{"gatehouse": map[string]any{
				"issuer": "https://gatehouse.example.com", "audiences": []any{"orders"},
				"remote_jwks":        map[string]any{"http_uri": map[string]any{"uri": "http://" + gatehouse.HTTP + "/.well-known/jwks.json", "cluster": "keys", "timeout": "5s"}, "cache_duration": keysAge.String()},
				"claim_to_headers":   []any{map[string]any{"header_name": "x-verified-tenant", "claim_name": "tenant"}},
				"header_in_metadata": "header", "forward": true,
			}},
			"rules": []any{map[string]any{"match": map[string]any{"prefix": "/"}, "requires": map[string]any{"provider_name": "gatehouse"}}},
		},
	}))
	for _, host := range connection["route_config"].(map[string]any)["virtual_hosts"].([]any) {
		host.(map[string]any)["request_headers_to_add"] = []any{map[string]any{
			"header": map[string]any{"key": "x-signed-by", "value": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:header:kid)%"},
		}}
	}
	config, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return harness.StartEnvoyConfig(t, config)
}

// TestMintedTokenIsVerifiedByEnvoy: what gatehouse mints is good for the jwt_authn filter
// of the Envoy that asked, and nothing else is.
func TestMintedTokenIsVerifiedByEnvoy(t *testing.T) {
	upstream := startEcho(t)
	gatehouse := startGatehouse(t, mintedConfig, "")
	gatehouse.WaitServing(t)
	address := startVerifying(t, gatehouse, upstream.Address()).Address(t, "front")
	key := "x-api-key: " + batchKey
	for _, tt := range []struct {
		name, request string
		headers       []string
		status        int
		byGatehouse   bool // the refusal
	}{
		{"a token for this upstream", "GET /orders/", []string{key}, 200, false},
		{"whatever the client says it is", "GET /orders/", []string{key, "authorization: Bearer e30.e30.", "x-verified-tenant: globex"}, 200, false},
		{"a token for another upstream is refused by Envoy", "GET /billing/", []string{key}, 403, false},
		{"where nobody is known there is no token", "GET /open/", nil, 401, false},
		{"and the client's does not get there", "GET /open/", []string{"authorization: Bearer e30.e30."}, 401, false},
		{"gatehouse refuses before", "GET /orders/", nil, 401, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := harness.Send(t, address, tt.request, tt.headers...)
			if got.Status != tt.status || (got.Upstream != nil) != (tt.status == 200) {
				t.Fatalf("status %d, want %d; upstream %v: %s", got.Status, tt.status, got.Upstream, got.Body)
			}
			if id := got.Header.Get("x-gatehouse-decision-id"); (id != "") != tt.byGatehouse {
				t.Errorf("decision id %q, want one: %t: %s", id, tt.byGatehouse, got.Body)
			}
			if got.Upstream == nil {
				return
			}
			if seen := harness.Folded(got.Upstream, "x-verified-tenant"); !slices.Equal(seen, []string{"x-verified-tenant: acme"}) {
				t.Errorf("the upstream saw %q", seen)
			}
		})
	}
}
