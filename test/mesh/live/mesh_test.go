package live

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

const (
	istioFolder   = "../../../envoy/istio"
	gatewayFolder = "../../../envoy/gateway"
	chartFolder   = "../../../envoy/kubernetes/chart"

	// gatehouseAddress is where the pod of gatehouse would be, see manifests/mesh.yaml.
	gatehouseAddress = "10.99.0.3:9191"

	// changeTimeout is how long a change may take from the API server to the proxies.
	changeTimeout = 30 * time.Second
)

// addresses are what manifests/mesh.yaml makes the proxies listen on.
var addresses = map[string]string{
	meshtest.Sidecar:    "10.99.0.11:19443",
	meshtest.SidecarTCP: "10.99.0.11:19444",
	meshtest.Gateway:    "10.99.0.13:18000",
	caller:              "127.0.0.1:17000",
}

// caller is the listener of a proxy beside a workload that calls another: what is sent there
// without TLS arrives at the other's sidecar with it.
const caller = "caller"

// mesh is Istio with a workload, one that calls it, and a gateway.
type mesh struct {
	*cluster
	ca        *meshtest.Authority
	issuer    *authntest.Issuer
	upstream  *echo.Server // behind the sidecar
	gatehouse *harness.Gatehouse
	client    meshtest.Client

	echo, callerProxy, gateway *harness.Envoy
}

// startMesh installs what envoy/kubernetes and envoy/istio tell users to, file by file.
func startMesh(t *testing.T) *mesh {
	t.Helper()
	m := &mesh{cluster: startCluster(t), ca: meshtest.NewAuthority(t)}
	var err error
	if m.issuer, err = authntest.Start(authntest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.issuer.Close)
	for _, address := range []string{"10.99.0.20:8080", "127.0.0.1:8080"} {
		if m.upstream, err = echo.Serve(address); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.upstream.Close() })
	}

	m.define(t, istioCRDs)
	m.helm(t, "install", "gatehouse", chartFolder, "--namespace", "gatehouse", "--create-namespace",
		"--set-file", "config="+filepath.Join(istioFolder, "gatehouse.yaml"))
	m.kubectl(t, "create", "namespace", "istio-system")
	m.configureMesh(t, shipped(t, istioFolder, "meshconfig.yaml"))
	m.apply(t, "manifests/mesh.yaml", filepath.Join(istioFolder, "authorization-policy.yaml"))
	m.runs(t, "echo", "10.99.0.11")
	m.runs(t, "client", "10.99.0.12")

	m.serve(t, shipped(t, istioFolder, "gatehouse.yaml"))
	startIstiod(t, m.cluster)
	m.echo = startNode(t, m.ca, node{"sidecar", "echo", "demo", "echo", "10.99.0.11", object{"app": "echo", "security.istio.io/tlsMode": "istio"}})
	m.callerProxy = startNode(t, m.ca, node{"sidecar", "client", "demo", "client", "10.99.0.12", object{"role": "client", "security.istio.io/tlsMode": "istio"}})
	m.gateway = startNode(t, m.ca, node{"router", "gateway", "istio-ingress", "gateway", "10.99.0.13", object{"istio": "ingressgateway"}})
	m.client = meshtest.Client{Authority: m.ca, Address: func(t testing.TB, listener string) string { return addresses[listener] }}
	return m
}

// shipped is a file that users copy.
func shipped(t testing.TB, folder, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaced is text with one thing in it changed.
func replaced(t testing.TB, text, old, replacement string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q is there %d times, want once", old, n)
	}
	return strings.Replace(text, old, replacement, 1)
}

// configureMesh gives Istio its MeshConfig, with the part that is the users'.
func (m *mesh) configureMesh(t testing.TB, providers string) {
	t.Helper()
	config := providers + `
trustDomain: cluster.local
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
defaultConfig: {discoveryAddress: "` + istiodGRPC + `"}
`
	document, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": object{"name": "istio", "namespace": "istio-system"},
		"data":     object{"mesh": config},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.applyText(t, string(document))
}

// runs says that a pod of the namespace demo runs, as a kubelet would.
func (m *mesh) runs(t testing.TB, pod, address string) {
	t.Helper()
	m.kubectl(t, "patch", "pod", pod, "--namespace", "demo", "--subresource=status", "--type=merge", "--patch", fmt.Sprintf(
		`{"status": {"phase": "Running", "podIP": %[1]q, "podIPs": [{"ip": %[1]q}], "conditions": [{"type": "Ready", "status": "True"}]}}`, address))
}

// serve runs gatehouse with a configuration, in the place of the one that ran before.
func (m *mesh) serve(t testing.TB, config string) {
	t.Helper()
	if m.gatehouse != nil {
		m.gatehouse.Stop()
	}
	m.gatehouse = harness.StartGatehouse(t, config,
		harness.Env("GRPC_ADDRESS="+gatehouseAddress), harness.Env("OPS_ADDRESS=127.0.0.1:0"), harness.Env("ISSUER="+m.issuer.URL()))
	m.gatehouse.WaitFor(t, "readiness", startTimeout, func(output string) bool { return strings.Contains(output, `"msg":"serving"`) })
}

// configure has the running gatehouse load another configuration.
func (m *mesh) configure(t testing.TB, config string) {
	t.Helper()
	m.gatehouse.Configure(t, config)
	m.gatehouse.Reload(t, "configuration loaded")
}

// alice is a token of a person with groups.
func (m *mesh) alice(groups ...string) string {
	return m.issuer.Token(map[string]any{"email": "alice@example.com", "groups": groups})
}

// until waits for a change that is on its way.
func (m *mesh) until(t testing.TB, row meshtest.Row) {
	t.Helper()
	untilAnswered(t, m.client, changeTimeout, row)
}

// untilAnswered sends the request of a row until it is answered as the row says.
func untilAnswered(t testing.TB, client meshtest.Client, timeout time.Duration, row meshtest.Row) {
	t.Helper()
	method, target, _ := strings.Cut(row.Request, " ")
	harness.Eventually(t, timeout, func() error {
		got, err := client.Ask(t, row.Listener, row.Caller, method, target, row.Header.Clone())
		if err == nil && got.Status != row.Status {
			err = fmt.Errorf("%s: %s: status %d, want %d: %s", row.Name, row.Request, got.Status, row.Status, got.Body)
		}
		return err
	})
}

// helm runs helm, which must succeed.
func (c *cluster) helm(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, c.client(t, programs.Helm, args...))
}
