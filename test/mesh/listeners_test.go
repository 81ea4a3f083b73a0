package mesh

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// answerTimeout is how long a client waits for one answer.
const answerTimeout = 30 * time.Second

// world is a mesh of one workload and one gateway.
type world struct {
	ca        *meshtest.Authority
	issuer    *authntest.Issuer
	upstream  *echo.Server
	gatehouse *harness.Gatehouse
	envoy     *harness.Envoy
}

// client sends requests to the listeners.
func (w *world) client() meshtest.Client {
	return meshtest.Client{Authority: w.ca, Address: w.envoy.Address}
}

// token is a token of a person at the issuer.
func (w *world) token(groups ...string) string {
	return w.issuer.Token(map[string]any{"email": "alice@example.com", "groups": groups})
}

// setup is what a test wants to have otherwise.
type setup struct {
	variant   string                                         // of the listeners, as their files begin
	mutualTLS bool                                           // gatehouse is asked with destination-rule.yaml in place
	listeners func(listener object)                          // changes each generated listener
	cluster   func(cluster object)                           // changes the cluster by which gatehouse is asked
	config    func(ca *meshtest.Authority) (old, new string) // replaces a line of gatehouse's configuration
}

// start runs the generated listeners, and the shipped configuration of gatehouse behind them.
func start(t *testing.T, s setup) *world {
	t.Helper()
	w := newWorld(t, istioFolder, s.config)
	listeners := []any{
		adaptListener(generated(t, s.variant+"sidecar-listener.json"), meshtest.Sidecar),
		adaptListener(generated(t, "tcp-listener.json"), meshtest.SidecarTCP),
		adaptListener(generated(t, s.variant+"gateway-listener.json"), meshtest.Gateway),
	}
	if s.listeners != nil {
		for _, listener := range listeners {
			s.listeners(listener.(object))
		}
	}
	provider := "provider-cluster.json"
	if s.mutualTLS {
		provider = "mutual-tls-" + provider
	}
	asked := adaptCluster(t, generated(t, provider), w.gatehouse.GRPC)
	if s.cluster != nil {
		s.cluster(asked)
	}
	w.startEnvoy(t, listeners, []any{
		asked,
		plainCluster(t, "inbound|19443||", w.upstream.Address()),
		plainCluster(t, "inbound|19444||", w.upstream.Address()),
		plainCluster(t, "outbound", w.upstream.Address()),
	})
	return w
}

// newWorld runs all but Envoy, gatehouse with the configuration in a folder.
func newWorld(t *testing.T, folder string, config func(ca *meshtest.Authority) (old, new string)) *world {
	t.Helper()
	w := &world{ca: meshtest.NewAuthority(t)}
	var err error
	if w.issuer, err = authntest.Start(authntest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.issuer.Close)
	if w.upstream, err = echo.Serve("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.upstream.Close() })
	text, err := os.ReadFile(filepath.Join(folder, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	shipped := string(text)
	if config != nil {
		old, replacement := config(w.ca)
		if strings.Count(shipped, old) != 1 {
			t.Fatalf("gatehouse.yaml of %s holds %q %d times", folder, old, strings.Count(shipped, old))
		}
		shipped = strings.Replace(shipped, old, replacement, 1)
	}
	w.gatehouse = harness.StartGatehouse(t, shipped,
		harness.Env("GRPC_ADDRESS=127.0.0.1:0"), harness.Env("OPS_ADDRESS=127.0.0.1:0"), harness.Env("ISSUER="+w.issuer.URL()))
	w.gatehouse.WaitFor(t, "readiness", answerTimeout, func(output string) bool { return strings.Contains(output, `"msg":"serving"`) })
	return w
}

// startEnvoy runs an Envoy that has the secrets of a workload.
func (w *world) startEnvoy(t *testing.T, listeners, clusters []any) {
	t.Helper()
	bootstrap, err := json.Marshal(object{
		"admin": object{"address": socketAddress("127.0.0.1", 0)},
		"static_resources": object{
			"listeners": listeners, "clusters": clusters,
			"secrets": secrets(t, w.ca, "spiffe://cluster.local/ns/demo/sa/echo"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.envoy = harness.StartEnvoyConfig(t, bootstrap)
}

// TestPoliciesThatNamePaths runs a policy that names paths, and says why envoy/istio has none.
func TestPoliciesThatNamePaths(t *testing.T) {
	w := start(t, setup{variant: "named-paths-"})
	c, alice := w.client(), w.token("reader")
	c.Check(t, meshtest.SidecarRows(alice))
	c.Check(t, meshtest.GatewayRows(alice))
	c.Check(t, meshtest.NamedPathsRows())
}

// TestPoliciesForEveryRequest is about the policy in envoy/istio.
func TestPoliciesForEveryRequest(t *testing.T) {
	w := start(t, setup{})
	c, alice := w.client(), w.token("reader")
	c.Check(t, meshtest.SidecarRows(alice))
	c.Check(t, meshtest.GatewayRows(alice))
	c.Check(t, meshtest.EveryRequestRows(alice))
	c.CheckTCP(t)
	served := w.upstream.Served()
	c.CheckTLSIsRequired(t)
	if w.upstream.Served() != served {
		t.Error("a client without a certificate reached the application")
	}
	w.gatehouse.Kill()
	c.Check(t, meshtest.OutageRows())
	c.CheckTCPRefused(t, "ns/billing/sa/reports")
}
