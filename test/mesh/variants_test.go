package mesh

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// TestEnvoyFilter is about what istiod makes of the EnvoyFilter in envoy/istio: gatehouse
// learns which door it is, and harmless paths are put right.
func TestEnvoyFilter(t *testing.T) {
	w := start(t, setup{
		variant: "envoy-filter-",
		listeners: func(listener object) { // Envoy does not dump the values
			each(listener, func(o object) {
				if extensions, ok := o["context_extensions"].(object); ok && extensions["workload"] == "[redacted]" {
					extensions["workload"] = "echo.demo"
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

// anonymous has Envoy show no certificate.
func anonymous(cluster object) {
	each(cluster, func(o object) { delete(o, "tls_certificate_sds_secret_configs") })
}

// TestMutualTLSToGatehouse is about a gatehouse without a sidecar, which Envoys ask over TLS
// with certificates of the mesh, as destination-rule.yaml has them do.
func TestMutualTLSToGatehouse(t *testing.T) {
	const identity = "spiffe://cluster.local/ns/gatehouse/sa/gatehouse"
	for _, r := range []struct {
		name      string
		identity  string               // of gatehouse
		mutualTLS bool                 // of Envoy
		cluster   func(cluster object) // changes how gatehouse is asked
		status    int
	}{
		{"both prove who they are", identity, true, nil, 200},
		{"gatehouse is somebody else", "spiffe://cluster.local/ns/demo/sa/gatehouse", true, nil, 503},
		{"Envoy proves nothing", identity, true, anonymous, 503},
		{"Envoy speaks no TLS", identity, false, nil, 503},
	} {
		t.Run(r.name, func(t *testing.T) {
			w := start(t, setup{
				mutualTLS: r.mutualTLS, cluster: r.cluster,
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
