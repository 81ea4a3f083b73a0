package mesh

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// envoyGatewayListener is the name of the listener under test.
const envoyGatewayListener = "envoy-gateway"

// TestEnvoyGateway runs what Envoy Gateway's translator generates, with the settings of
// envoy/gateway, and the configuration in that folder answering.
func TestEnvoyGateway(t *testing.T) {
	w := newWorld(t, gatewayFolder, nil)
	var whole object
	if err := json.Unmarshal(gatewayGolden(t), &whole); err != nil {
		t.Fatal(err)
	}
	asShipped(whole)

	// Where things are is ours: one port, routes and endpoints in the file, and routes for all
	// hosts and paths.
	routes := whole["routes"].([]any)[0].(object)
	host := routes["virtualHosts"].([]any)[0].(object)
	host["domains"] = []any{"*"}
	host["routes"].([]any)[0].(object)["match"] = object{"prefix": "/"}
	routes["virtualHosts"] = []any{host}
	listener := whole["listeners"].([]any)[0].(object)
	listener["name"], listener["address"] = envoyGatewayListener, socketAddress("127.0.0.1", 0)
	typed(".HttpConnectionManager", func(m object) {
		delete(m, "rds")
		m["routeConfig"] = routes
		for _, extension := range m["earlyHeaderMutationExtensions"].([]any) {
			extension.(object)["typedConfig"].(object)["@type"] = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
		}
	})(listener)
	var clusters []any
	for _, c := range whole["clusters"].([]any) {
		cluster := c.(object)
		name := text(cluster["name"])
		address := w.upstream.Address()
		if strings.Contains(name, "grpc-backend") {
			address = w.gatehouse.GRPC
			delete(cluster, "healthChecks") // a replica that was never checked is asked as well; this test has one
		}
		delete(cluster, "edsClusterConfig")
		delete(cluster, "dnsLookupFamily")
		cluster["type"] = "STATIC"
		cluster["loadAssignment"] = endpoint(t, name, address)
		clusters = append(clusters, cluster)
	}
	w.startEnvoy(t, []any{listener}, clusters)

	bearer := func(tenant string, groups ...string) http.Header {
		token := w.issuer.Token(map[string]any{"email": "alice@acme.example", "tenant": tenant, "groups": groups})
		return http.Header{"Authorization": {"Bearer " + token}}
	}
	seen := []string{"x-roles: reader", "x-tenant-id: acme", "x-user: alice@acme.example"}
	lying := bearer("acme", "reader")
	for name, values := range meshtest.Forged {
		lying[name] = values
	}
	w.client().Check(t, []meshtest.Row{
		meshtest.NewRow("nobody is refused", envoyGatewayListener, "", "GET /tenants/acme/orders", nil, 401),
		meshtest.NewRow("a reader reads", envoyGatewayListener, "", "GET /tenants/acme/orders", bearer("acme", "reader"), 200, seen...),
		meshtest.NewRow("forged identity headers do not arrive", envoyGatewayListener, "", "GET /tenants/acme/orders", lying, 200, seen...),
		meshtest.NewRow("another tenant is forbidden", envoyGatewayListener, "", "GET /tenants/other/orders", bearer("acme", "reader"), 403),
		meshtest.NewRow("a reader does not write", envoyGatewayListener, "", "POST /tenants/acme/orders", bearer("acme", "reader"), 403),
		meshtest.NewRow("two slashes become one before the check", envoyGatewayListener, "", "GET /tenants//acme/orders", bearer("acme", "reader"), 200, seen...),
		meshtest.NewRow("an encoded slash is refused", envoyGatewayListener, "", "GET /tenants%2facme/orders", bearer("acme", "reader"), 400),
	})
	w.gatehouse.Kill()
	w.client().Check(t, []meshtest.Row{meshtest.NewRow("an outage is no refusal", envoyGatewayListener, "", "GET /healthz", nil, 503)})
}
