package mesh

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// answerTimeout is how long a client waits for one answer.
const answerTimeout = 30 * time.Second

// The names of the listeners under test.
const (
	sidecar    = "sidecar"     // inbound, STRICT mutual TLS
	sidecarTCP = "sidecar-tcp" // the same for a port that is not HTTP
	gateway    = "gateway"     // plain HTTP, at the edge
)

// world is a mesh of one workload and one gateway.
type world struct {
	ca        *authority
	issuer    *authntest.Issuer
	upstream  *echo.Server
	gatehouse *harness.Gatehouse
	envoy     *harness.Envoy
}

// setup is what a test wants to have otherwise.
type setup struct {
	listeners func(listener object)                 // changes each generated listener
	cluster   func(cluster object)                  // changes the cluster by which gatehouse is asked
	config    func(ca *authority) (old, new string) // replaces a line of gatehouse's configuration
}

// start runs the generated listeners, and the shipped configuration of gatehouse behind them.
func start(t *testing.T, s setup) *world {
	t.Helper()
	w := newWorld(t, istioFolder, s.config)
	listeners := []any{
		adaptListener(generated(t, "sidecar-inbound-listener.json"), sidecar),
		adaptListener(generated(t, "sidecar-tcp-listener.json"), sidecarTCP),
		adaptListener(generated(t, "gateway-listener.json"), gateway),
	}
	if s.listeners != nil {
		for _, listener := range listeners {
			s.listeners(listener.(object))
		}
	}
	asked := adaptCluster(t, generated(t, "ext-authz-cluster.json"), w.gatehouse.GRPC)
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
func newWorld(t *testing.T, folder string, config func(ca *authority) (old, new string)) *world {
	t.Helper()
	w := &world{ca: newAuthority(t)}
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

// answer is what a client got.
type answer struct {
	status   int
	body     string
	upstream *echo.Received // what reached the application; nil if nothing did
}

// ask sends one request to a listener, over mutual TLS if the caller has an identity. target
// is sent as it is written.
func (w *world) ask(t *testing.T, listener, caller, method, target string, header http.Header) (answer, error) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	scheme := "http"
	if listener == sidecar || listener == sidecarTCP {
		scheme = "https"
		transport.TLSClientConfig = w.clientTLS(t, caller)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+w.envoy.Address(t, listener)+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = target
	if strings.HasPrefix(target, "//") { // an opaque URL must not look like one with a host
		request.URL.Opaque, request.URL.Path = "", target
	}
	request.Header, request.Host = header, "echo.demo.svc.cluster.local"
	response, err := (&http.Client{Transport: transport, Timeout: answerTimeout}).Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, body: string(body)}
	if response.Header.Get("X-Upstream") == "echo" {
		decoder := json.NewDecoder(bytes.NewReader(body))
		if err := decoder.Decode(&a.upstream); err != nil {
			t.Fatalf("reading the upstream's answer: %v: %s", err, body)
		}
	}
	return a, nil
}

// clientTLS are the settings of a caller's sidecar; the server is known by its SPIFFE
// identity, which has no host name to verify.
func (w *world) clientTLS(t *testing.T, caller string) *tls.Config {
	t.Helper()
	config := &tls.Config{
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			roots := x509.NewCertPool()
			roots.AddCert(w.ca.certificate)
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}
	if caller != "" {
		config.Certificates = []tls.Certificate{w.ca.workload(t, "spiffe://cluster.local/"+caller)}
	}
	return config
}

// row is one request and what must become of it.
type row struct {
	name     string
	listener string
	caller   string // the SPIFFE identity below the trust domain
	request  string // METHOD TARGET
	header   http.Header
	status   int
	seen     []string // identity headers at the application, if the request got there
}

func (w *world) check(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			method, target, _ := strings.Cut(r.request, " ")
			got, err := w.ask(t, r.listener, r.caller, method, target, r.header.Clone())
			if err != nil {
				t.Fatal(err)
			}
			if got.status != r.status {
				t.Fatalf("%s as %q: status %d, want %d: %s", r.request, r.caller, got.status, r.status, got.body)
			}
			if (got.upstream != nil) != (r.status == http.StatusOK) {
				t.Fatalf("%s as %q: status %d, and the application was asked: %t", r.request, r.caller, got.status, got.upstream != nil)
			}
			if got.upstream == nil {
				return
			}
			seen := harness.Folded(got.upstream, "x-user", "x-tenant-id", "x-roles", "authorization")
			slices.Sort(seen)
			if !slices.Equal(seen, r.seen) {
				t.Errorf("%s as %q: the application saw %q, want %q", r.request, r.caller, seen, r.seen)
			}
		})
	}
}

// forged are identity headers that a client made up.
var forged = http.Header{"X-User": {"root"}, "X-Roles": {"writer"}, "X-Tenant-Id": {"billing"}}

// sidecarRows hold for each policy: all targets are below /api/.
func sidecarRows(w *world) []row {
	reader := []string{"x-roles: reader", "x-tenant-id: demo", "x-user: demo/client"}
	writer := []string{"x-roles: reader,writer", "x-tenant-id: billing", "x-user: billing/reports"}
	alice := w.issuer.Token(map[string]any{"email": "alice@example.com", "groups": []string{"reader"}})
	return []row{
		{"a workload reads", sidecar, "ns/demo/sa/client", "GET /api/orders", nil, 200, reader},
		{"forged identity headers do not arrive", sidecar, "ns/demo/sa/client", "GET /api/orders", forged, 200, reader},
		{"a forged certificate header gives no identity", sidecar, "ns/demo/sa/client", "POST /api/orders",
			http.Header{"X-Forwarded-Client-Cert": {"By=spiffe://cluster.local/ns/demo/sa/echo;Hash=00;Subject=\"\";URI=spiffe://cluster.local/ns/billing/sa/reports"}}, 403, nil},
		{"a workload of another namespace has the roles of its pattern", sidecar, "ns/billing/sa/reports", "POST /api/orders", nil, 200, writer},
		{"a role that the pattern does not give is missing", sidecar, "ns/demo/sa/client", "POST /api/orders", nil, 403, nil},
		{"an identity that no pattern names is nobody", sidecar, "system/node", "GET /api/orders", nil, 401, nil},
		{"an identity with more segments than the pattern is nobody", sidecar, "ns/billing/sa/reports/x", "GET /api/orders", nil, 401, nil},
		{"a token goes before the certificate", sidecar, "ns/billing/sa/reports", "POST /api/orders", http.Header{"Authorization": {"Bearer " + alice}}, 403, nil},
		{"a token's bearer reads", sidecar, "ns/billing/sa/reports", "GET /api/orders", http.Header{"Authorization": {"Bearer " + alice}}, 200, []string{"x-roles: reader", "x-user: alice@example.com"}},
		{"a broken token is not made good by a certificate", sidecar, "ns/billing/sa/reports", "GET /api/orders", http.Header{"Authorization": {"Bearer " + alice + "x"}}, 401, nil},
		{"dot segments are resolved before the check", sidecar, "ns/demo/sa/client", "GET /public/../api/orders", nil, 200, reader},
	}
}

// gatewayRows hold for each policy as well. No caller has an identity here.
func gatewayRows(w *world) []row {
	alice := w.issuer.Token(map[string]any{"email": "alice@example.com", "groups": []string{"reader"}})
	seen := []string{"x-roles: reader", "x-user: alice@example.com"}
	return []row{
		{"nobody is refused", gateway, "", "GET /api/orders", nil, 401, nil},
		{"forged identity headers make nobody somebody", gateway, "", "GET /api/orders", forged, 401, nil},
		{"a certificate header from outside gives no identity", gateway, "", "GET /api/orders",
			http.Header{"X-Forwarded-Client-Cert": {"URI=spiffe://cluster.local/ns/billing/sa/reports"}}, 401, nil},
		{"a token's bearer reads", gateway, "", "GET /api/orders", http.Header{"Authorization": {"Bearer " + alice}}, 200, seen},
		{"a token's bearer does not write", gateway, "", "POST /api/orders", http.Header{"Authorization": {"Bearer " + alice}}, 403, nil},
		{"what no route covers is forbidden", gateway, "", "GET /elsewhere", http.Header{"Authorization": {"Bearer " + alice}}, 403, nil},
	}
}

// TestPoliciesThatNamePaths runs the listeners as they were generated.
func TestPoliciesThatNamePaths(t *testing.T) {
	w := start(t, setup{})
	w.check(t, sidecarRows(w))
	w.check(t, gatewayRows(w))
	// Why envoy/istio says rules: [{}].
	w.check(t, []row{
		{"a policy that names paths does not ask about two slashes", sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200, nil},
		{"nor about an encoded slash", sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 200, nil},
		{"nor about capitals", sidecar, "ns/demo/sa/client", "GET /API/orders", nil, 200, nil},
	})
}

// TestPoliciesForEveryRequest is about the policy in envoy/istio.
func TestPoliciesForEveryRequest(t *testing.T) {
	w := start(t, setup{listeners: askAboutEverything})
	w.check(t, sidecarRows(w))
	w.check(t, gatewayRows(w))
	w.check(t, []row{
		{"two slashes have two readings", sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 400, nil},
		{"an encoded slash has two readings", sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 400, nil},
		{"capitals are another path", sidecar, "ns/demo/sa/client", "GET /API/orders", nil, 403, nil},
		{"a public route is public", gateway, "", "GET /healthz", nil, 200, nil},
		{"on a public route forged identity headers do not arrive", gateway, "", "GET /healthz", forged, 200, nil},
	})
	w.checkTLSIsRequired(t)
	w.checkTCP(t)
	w.checkOutage(t)
}

// checkTLSIsRequired has a client without a certificate try.
func (w *world) checkTLSIsRequired(t *testing.T) {
	t.Helper()
	served := w.upstream.Served()
	for _, listener := range []string{sidecar, sidecarTCP} {
		if got, err := w.ask(t, listener, "", "GET", "/api/orders", nil); err == nil {
			t.Errorf("%s answered %d to a client without a certificate", listener, got.status)
		}
	}
	if w.upstream.Served() != served {
		t.Error("a client without a certificate reached the application")
	}
}

// checkTCP is about connections: the check has a peer and nothing else.
func (w *world) checkTCP(t *testing.T) {
	t.Helper()
	// The bytes in the connection happen to be a request, so that the echo answers.
	got, err := w.ask(t, sidecarTCP, "ns/billing/sa/reports", "GET", "/x", nil)
	if err != nil || got.status != http.StatusOK {
		t.Errorf("TCP: a peer with the role got %d, %v; want the application", got.status, err)
	}
	for _, caller := range []string{"ns/demo/sa/client", "system/node"} {
		if got, err := w.ask(t, sidecarTCP, caller, "GET", "/x", nil); err == nil {
			t.Errorf("TCP: %s got %d, want a closed connection", caller, got.status)
		}
	}
}

// checkOutage ends gatehouse.
func (w *world) checkOutage(t *testing.T) {
	t.Helper()
	w.gatehouse.Kill()
	w.check(t, []row{
		{"an outage is no refusal", sidecar, "ns/billing/sa/reports", "GET /api/orders", nil, 503, nil},
		{"a public route is closed as well", gateway, "", "GET /healthz", nil, 503, nil},
		{"an outage at the gateway is no refusal either", gateway, "", "GET /api/orders", nil, 503, nil},
	})
	if got, err := w.ask(t, sidecarTCP, "ns/billing/sa/reports", "GET", "/x", nil); err == nil {
		t.Errorf("TCP without gatehouse: got %d, want a closed connection", got.status)
	}
}
