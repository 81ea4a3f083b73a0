package live

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// TestIstio installs gatehouse in a mesh as envoy/istio says, and then changes the mesh as
// its users would. Each part puts back what it has changed.
func TestIstio(t *testing.T) {
	m := startMesh(t)
	m.until(t, meshtest.EveryRequestRows("")[0])
	m.until(t, meshtest.GatewayRows("")[0])
	for _, proxy := range m.proxies() {
		accepted(t, proxy)
	}
	t.Run("as shipped", m.asShipped)
	t.Run("both doors", m.bothDoors)
	t.Run("the doctor", m.doctor)
	t.Run("faults", m.faults)
	t.Run("recorded listeners", m.recorded)
	t.Run("changes under traffic", m.changesUnderTraffic)
	t.Run("order", m.order)
	t.Run("policies that name paths", m.namedPaths)
	t.Run("EnvoyFilter", m.envoyFilter)
	t.Run("TCP without a block for it", m.tcpWithoutBlock)
	t.Run("providers", m.providers)
	t.Run("mutual TLS to gatehouse", m.mutualTLS)
	t.Run("outage", m.outage)
}

// asShipped sends the requests of README.md.
func (m *mesh) asShipped(t *testing.T) {
	m.client.Check(t, meshtest.SidecarRows(m.alice("reader")))
	m.client.Check(t, meshtest.GatewayRows(m.alice("reader")))
	m.client.Check(t, meshtest.EveryRequestRows(m.alice("reader")))
	m.client.CheckTCP(t)
	served := m.upstream.Served()
	m.client.CheckTLSIsRequired(t)
	if m.upstream.Served() != served {
		t.Error("a client without a certificate reached the application")
	}
	m.client.Check(t, []meshtest.Row{
		meshtest.NewRow("a workload's own sidecar makes the connection", caller, "", "GET /api/orders", nil, 200, meshtest.Reader...),
		meshtest.NewRow("and what it may not do is refused", caller, "", "POST /api/orders", nil, 403),
		meshtest.NewRow("a forged identity does not get through two proxies", caller, "", "GET /api/orders", meshtest.Forged, 200, meshtest.Reader...),
	})
}

// bothDoors has gatehouse asked twice about a request: at the gateway, and at the workload
// behind it. A token that the first check takes off is not there for the second.
func (m *mesh) bothDoors(t *testing.T) {
	alice := meshtest.Bearer(m.alice("reader"))
	alice.Set("X-Doors", "both")
	gateway := []string{"x-roles: reader", "x-tenant-id: istio-ingress", "x-user: istio-ingress/gateway"}
	m.client.Check(t, []meshtest.Row{
		meshtest.NewRow("the workload knows the gateway, and not who came to it", meshtest.Gateway, "", "GET /api/orders", alice, 200, gateway...),
	})
	plain := shipped(t, istioFolder, "gatehouse.yaml")
	m.configure(t, replaced(t, plain, "forward:\n", "forward:\n  credentials: keep\n"))
	m.client.Check(t, []meshtest.Row{
		meshtest.NewRow("with credentials: keep it knows", meshtest.Gateway, "", "GET /api/orders", alice, 200,
			append([]string{"authorization: " + alice.Get("Authorization")}, meshtest.Alice...)...),
		meshtest.NewRow("nobody is refused at the first door", meshtest.Gateway, "", "GET /api/orders", http.Header{"X-Doors": {"both"}}, 401),
	})
	m.configure(t, plain)
}

// namedPaths is why envoy/istio says rules: [{}].
func (m *mesh) namedPaths(t *testing.T) {
	m.applyText(t, strings.ReplaceAll(shipped(t, istioFolder, "authorization-policy.yaml"), "rules: [{}]", `rules: [{to: [{operation: {paths: ["/api/*"]}}]}]`))
	m.until(t, meshtest.NamedPathsRows()[0])
	m.client.Check(t, meshtest.SidecarRows(m.alice("reader")))
	m.client.Check(t, meshtest.NamedPathsRows())
	// On a TCP port the rule about paths has become one about everything.
	m.client.CheckTCP(t)
	record(t, m.echo, sidecarListener, "named-paths-sidecar-listener.json")
	record(t, m.gateway, gatewayListener, "named-paths-gateway-listener.json")
	m.restorePolicy(t)
}

// restorePolicy applies the shipped policy again.
func (m *mesh) restorePolicy(t testing.TB) {
	t.Helper()
	m.apply(t, filepath.Join(istioFolder, "authorization-policy.yaml"))
	m.until(t, meshtest.EveryRequestRows("")[0])
	m.until(t, meshtest.GatewayRows("")[0])
}

// envoyFilter applies the shipped EnvoyFilter and looks at what it is for.
func (m *mesh) envoyFilter(t *testing.T) {
	filter := filepath.Join(istioFolder, "envoy-filter.yaml")
	plain := shipped(t, istioFolder, "gatehouse.yaml")
	m.apply(t, filter)
	m.configure(t, replaced(t, plain, "- name: people\n", "- name: people\n  only_from: [{context: {workload: echo.demo}}]\n"))
	alice := meshtest.Bearer(m.alice("reader"))
	m.until(t, meshtest.NewRow("the filter has arrived", meshtest.Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200))
	m.client.Check(t, []meshtest.Row{
		meshtest.NewRow("a token counts at the door that sends the context", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", alice, 200, meshtest.Alice...),
		meshtest.NewRow("and at no other", meshtest.Gateway, "", "GET /api/orders", alice, 401),
		meshtest.NewRow("two slashes become one before the check", meshtest.Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200, meshtest.Reader...),
		meshtest.NewRow("an encoded slash is refused", meshtest.Sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 400),
		meshtest.NewRow("a header with underscores is refused", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", http.Header{"x_user": {"root"}}, 400),
	})
	record(t, m.echo, sidecarListener, "envoy-filter-sidecar-listener.json")
	record(t, m.gateway, gatewayListener, "envoy-filter-gateway-listener.json")
	m.remove(t, filter)
	m.configure(t, plain)
	m.until(t, meshtest.EveryRequestRows("")[0])
}

// tcpWithoutBlock has gatehouse asked about connections that its configuration says nothing
// about.
func (m *mesh) tcpWithoutBlock(t *testing.T) {
	plain := shipped(t, istioFolder, "gatehouse.yaml")
	m.configure(t, replaced(t, plain, "tcp:\n  allow: [{roles: {any: [writer]}}]\n", ""))
	m.client.CheckTCPRefused(t, "ns/billing/sa/reports", "ns/demo/sa/client", "system/node")
	m.configure(t, plain)
	m.client.CheckTCP(t)
}

// providers is about policies that Istio cannot make anything of: it denies.
func (m *mesh) providers(t *testing.T) {
	const reader = "ns/demo/sa/client"
	denied := meshtest.NewRow("RBAC: access denied", meshtest.Sidecar, reader, "GET /api/orders", nil, 403)
	policy := shipped(t, istioFolder, "authorization-policy.yaml")
	t.Run("a provider that MeshConfig does not name", func(t *testing.T) {
		m.applyText(t, strings.ReplaceAll(policy, "provider: {name: gatehouse}", "provider: {name: gatehuose}"))
		m.until(t, denied)
		m.restorePolicy(t)
	})
	t.Run("a service that is not there", func(t *testing.T) {
		config := shipped(t, istioFolder, "meshconfig.yaml")
		m.configureMesh(t, replaced(t, config, "service: gatehouse.gatehouse.", "service: gatehouse.elsewhere."))
		m.until(t, denied)
		m.configureMesh(t, config)
		m.restorePolicy(t)
	})
	t.Run("two providers for one workload", func(t *testing.T) {
		config := shipped(t, istioFolder, "meshconfig.yaml")
		m.configureMesh(t, config+"- {name: other, envoyExtAuthzGrpc: {service: gatehouse.gatehouse.svc.cluster.local, port: 9191}}\n")
		m.applyText(t, secondPolicy)
		m.until(t, denied)
		m.kubectl(t, "delete", "authorizationpolicy", "second", "--namespace", "demo")
		m.configureMesh(t, config)
		m.restorePolicy(t)
	})
	m.client.Check(t, meshtest.SidecarRows(m.alice("reader")))
}

const secondPolicy = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: second, namespace: demo}
spec:
  selector: {matchLabels: {app: echo}}
  action: CUSTOM
  provider: {name: other}
  rules: [{}]
`

// mutualTLS is about a gatehouse without a sidecar that asks for certificates, as
// destination-rule.yaml says.
func (m *mesh) mutualTLS(t *testing.T) {
	rule := filepath.Join(istioFolder, "destination-rule.yaml")
	plain := shipped(t, istioFolder, "gatehouse.yaml")
	read := meshtest.NewRow("a workload reads", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", nil, 200, meshtest.Reader...)
	outage := meshtest.NewRow("no gatehouse that it believes", meshtest.Sidecar, "ns/demo/sa/client", "GET /api/orders", nil, 503)

	m.serve(t, m.withTLS(t, plain, "spiffe://cluster.local/ns/gatehouse/sa/gatehouse"))
	m.until(t, outage) // without the rule the proxies speak no TLS to it
	m.apply(t, rule)
	m.until(t, read)
	m.until(t, meshtest.GatewayRows(m.alice("reader"))[3])
	m.client.Check(t, []meshtest.Row{read})
	record(t, m.echo, providerCluster, "mutual-tls-provider-cluster.json")

	m.serve(t, m.withTLS(t, plain, "spiffe://cluster.local/ns/demo/sa/gatehouse"))
	m.client.Check(t, []meshtest.Row{outage}) // another identity

	m.remove(t, rule)
	m.serve(t, plain)
	m.until(t, read)
}

// withTLS is a configuration whose gRPC listener asks for certificates of the mesh.
func (m *mesh) withTLS(t testing.TB, config, identity string) string {
	t.Helper()
	const plain = `  grpc: {address: "${GRPC_ADDRESS:-0.0.0.0:9191}"}`
	folder := t.TempDir()
	chain, key := meshtest.PEM(t, m.ca.Workload(t, identity))
	for name, content := range map[string]string{"tls.crt": chain, "tls.key": key, "ca.crt": m.ca.Root()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := strings.ReplaceAll(", tls: {cert_file: F/tls.crt, key_file: F/tls.key, client_ca_file: F/ca.crt}}", "F/", folder+"/")
	return replaced(t, config, plain, strings.TrimSuffix(plain, "}")+files)
}

// outage ends gatehouse, and starts it again.
func (m *mesh) outage(t *testing.T) {
	m.gatehouse.Kill()
	m.client.Check(t, meshtest.OutageRows())
	m.client.CheckTCPRefused(t, "ns/billing/sa/reports")
	m.serve(t, shipped(t, istioFolder, "gatehouse.yaml"))
	m.until(t, meshtest.SidecarRows("")[0])
	m.client.CheckTCP(t)
}
