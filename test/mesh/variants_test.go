package mesh

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// patches are the values that envoy/istio/envoy-filter.yaml merges into what Istio generated,
// by what they apply to.
func patches(t *testing.T) map[string]object {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(istioFolder, "envoy-filter.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var filter object
	if err := yaml.Unmarshal(content, &filter); err != nil {
		t.Fatal(err)
	}
	values := map[string]object{}
	for _, patch := range at(filter, "spec", "configPatches").([]any) {
		values[text(at(patch, "applyTo"))] = at(patch, "patch", "value").(object)
	}
	return values
}

// merge puts a patch into an object, as Istio's MERGE does with objects.
func merge(into, patch object) {
	for name, value := range patch {
		inner, isObject := value.(object)
		old, wasObject := into[name].(object)
		if isObject && wasObject {
			merge(old, inner)
			continue
		}
		into[name] = value
	}
}

// TestEnvoyFilter merges the patches of envoy/istio into the sidecar and looks at what they
// are for: gatehouse learns which door it is, and harmless paths are put right.
func TestEnvoyFilter(t *testing.T) {
	values := patches(t)
	if kinds := slices.Sorted(maps.Keys(values)); !slices.Equal(kinds, []string{"HTTP_ROUTE", "NETWORK_FILTER"}) {
		t.Fatalf("patches for %v", kinds)
	}
	w := start(t, setup{
		listeners: func(listener object) {
			askAboutEverything(listener)
			if listener["name"] != meshtest.Sidecar {
				return
			}
			perRoute(func(route object) { merge(route, values["HTTP_ROUTE"]) })(listener)
			each(listener, func(o object) {
				if o["name"] == "envoy.filters.network.http_connection_manager" {
					merge(o, values["NETWORK_FILTER"])
				}
			})
		},
		config: func(*meshtest.Authority) (string, string) {
			return "- name: people\n", "- name: people\n  only_from: [{context: {workload: echo.demo}}]\n"
		},
	})
	alice := meshtest.Bearer(w.token("reader"))
	w.client().Check(t, []meshtest.Row{
		meshtest.NewRow("a token counts at the door that sends the context", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", alice, 200, "x-roles: reader", "x-user: alice@example.com"),
		meshtest.NewRow("and at no other", meshtest.Gateway, "", "GET /api/orders", alice, 401),
		meshtest.NewRow("two slashes become one before the check", meshtest.Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200, "x-roles: reader", "x-tenant-id: demo", "x-user: demo/client"),
		meshtest.NewRow("an encoded slash is refused", meshtest.Sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 400),
		meshtest.NewRow("a header with underscores is refused", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", http.Header{"x_user": {"root"}}, 400),
	})
}

// TestMutualTLSToGatehouse is about a gatehouse without a sidecar, which Envoys ask over TLS
// with certificates of the mesh, as destination-rule.yaml has them do.
func TestMutualTLSToGatehouse(t *testing.T) {
	const identity = "spiffe://cluster.local/ns/gatehouse/sa/gatehouse"
	rule, err := os.ReadFile(filepath.Join(istioFolder, "destination-rule.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rule), identity) {
		t.Errorf("destination-rule.yaml does not name %s", identity)
	}
	client := func() object {
		return object{
			"alpn_protocols":                     []any{"h2"},
			"tls_certificate_sds_secret_configs": []any{object{"name": "default"}},
			"combined_validation_context": object{
				"default_validation_context": object{"match_typed_subject_alt_names": []any{
					object{"san_type": "URI", "matcher": object{"exact": identity}},
				}},
				"validation_context_sds_secret_config": object{"name": "ROOTCA"},
			},
		}
	}
	anonymous := client()
	delete(anonymous, "tls_certificate_sds_secret_configs")
	for _, r := range []struct {
		name     string
		identity string // of gatehouse
		client   object // TLS settings of Envoy
		status   int
	}{
		{"both prove who they are", identity, client(), 200},
		{"gatehouse is somebody else", "spiffe://cluster.local/ns/demo/sa/gatehouse", client(), 503},
		{"Envoy proves nothing", identity, anonymous, 503},
		{"Envoy speaks no TLS", identity, nil, 503},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := start(t, setup{
				listeners: askAboutEverything,
				cluster: func(cluster object) {
					if r.client != nil {
						cluster["transport_socket"] = object{"name": "envoy.transport_sockets.tls", "typed_config": object{
							"@type":              "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
							"common_tls_context": r.client,
						}}
					}
				},
				config: func(ca *meshtest.Authority) (string, string) {
					const listener = `  grpc: {address: "${GRPC_ADDRESS:-0.0.0.0:9191}"}`
					folder := writeIdentity(t, ca, ca.Workload(t, r.identity))
					return listener, strings.TrimSuffix(listener, "}") +
						fmt.Sprintf(", tls: {cert_file: %[1]s/tls.crt, key_file: %[1]s/tls.key, client_ca_file: %[1]s/ca.crt}}", folder)
				},
			})
			w.client().Check(t, []meshtest.Row{meshtest.NewRow("a request", meshtest.Sidecar, "ns/demo/sa/client", "GET /healthz", nil, r.status, "x-roles: reader", "x-tenant-id: demo", "x-user: demo/client")})
		})
	}
}

// writeIdentity writes the files of a Kubernetes TLS secret.
func writeIdentity(t *testing.T, ca *meshtest.Authority, certificate tls.Certificate) string {
	t.Helper()
	folder := t.TempDir()
	chain, key := meshtest.PEM(t, certificate)
	for name, content := range map[string]string{"tls.crt": chain, "tls.key": key, "ca.crt": ca.Root()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}
