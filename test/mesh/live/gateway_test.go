package live

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/envoy"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// front is the listener of the Gateway.
const front = "front"

// edge is Envoy Gateway in its standalone mode, with the Envoy that it started.
type edge struct {
	dir       string // of Envoy Gateway
	issuer    *authntest.Issuer
	upstream  *echo.Server
	gatehouse *harness.Gatehouse
	client    meshtest.Client
}

// startEdge runs Envoy Gateway with the manifests of envoy/gateway, and gatehouse with the
// configuration there.
func startEdge(t *testing.T) *edge {
	t.Helper()
	if err := network(); err != nil {
		t.Fatal(err)
	}
	e := &edge{dir: t.TempDir()}
	var err error
	if e.issuer, err = authntest.Start(authntest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.issuer.Close)
	if e.upstream, err = echo.Serve("127.0.0.1:8080"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.upstream.Close() })
	e.serve(t)

	// Envoy Gateway would download an Envoy; it runs the one that is there.
	binary, err := envoy.Find(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(e.dir, "data", "envoy-versions", envoy.Version, "bin")
	if err := errors.Join(os.MkdirAll(place, 0o755), os.Symlink(binary, filepath.Join(place, "envoy")),
		os.MkdirAll(filepath.Join(e.dir, "resources"), 0o755), os.MkdirAll(filepath.Join(e.dir, "run"), 0o755)); err != nil {
		t.Fatal(err)
	}
	e.write(t, "gateway.yaml", strings.ReplaceAll(shipped(t, "manifests", "gateway.yaml"), "ENVOY_VERSION", envoy.Version))
	e.asShipped(t)
	config := filepath.Join(e.dir, "envoy-gateway.yaml")
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(standalone, "DIR", e.dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.CommandContext(t.Context(), program(t, programs.EnvoyGateway), "certgen", "--local", "--config-home", filepath.Join(e.dir, "config")))
	harness.Start(t, "envoy-gateway", exec.Command(program(t, programs.EnvoyGateway), "server", "--config-path", config))
	e.client = meshtest.Client{Address: func(testing.TB, string) string { return "127.0.0.1:8888" }}
	return e
}

const standalone = `
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyGateway
gateway: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
provider:
  type: Custom
  custom:
    resource: {type: File, file: {paths: [DIR/resources]}}
    infrastructure:
      type: Host
      host: {configHome: DIR/config, dataHome: DIR/data, stateHome: DIR/state, runtimeDir: DIR/run}
extensionApis: {enableBackend: true}
`

// write gives Envoy Gateway a file of manifests, whole.
func (e *edge) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(e.dir, "resources", name)
	tmp := filepath.Join(e.dir, name)
	if err := errors.Join(os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, path)); err != nil {
		t.Fatal(err)
	}
}

// The manifests that users apply.
const (
	securityPolicy      = "security-policy.yaml"
	clientTrafficPolicy = "client-traffic-policy.yaml"
)

// asShipped gives them to Envoy Gateway.
func (e *edge) asShipped(t testing.TB) {
	t.Helper()
	e.policy(t, shipped(t, gatewayFolder, securityPolicy))
	e.write(t, clientTrafficPolicy, shipped(t, gatewayFolder, clientTrafficPolicy))
}

// policy gives Envoy Gateway a SecurityPolicy, with a Backend in the place of the service: in
// its standalone mode it knows neither services nor grants.
func (e *edge) policy(t testing.TB, text string) {
	t.Helper()
	e.write(t, securityPolicy, strings.Replace(text, "{name: gatehouse, namespace: gatehouse, port: 9191}", "{group: gateway.envoyproxy.io, kind: Backend, name: gatehouse, port: 9191}", 1))
}

// serve runs gatehouse with the configuration that users copy.
func (e *edge) serve(t testing.TB) {
	t.Helper()
	e.gatehouse = harness.StartGatehouse(t, shipped(t, gatewayFolder, "gatehouse.yaml"),
		harness.Env("GRPC_ADDRESS="+gatehouseAddress), harness.Env("OPS_ADDRESS=127.0.0.1:0"), harness.Env("ISSUER="+e.issuer.URL()))
	e.gatehouse.WaitFor(t, "readiness", startTimeout, func(output string) bool { return strings.Contains(output, `"msg":"serving"`) })
}

// admin is the admin endpoint of the Envoy that Envoy Gateway started.
func (e *edge) admin() (string, error) {
	found, err := filepath.Glob(filepath.Join(e.dir, "run", "*", "admin-address.txt"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d Envoys: %w", len(found), err)
	}
	text, err := os.ReadFile(found[0])
	return strings.TrimSpace(string(text)), err
}

// diagnosed waits until the doctor finds what it should in what Envoy was told.
func (e *edge) diagnosed(t *testing.T, want ...string) {
	t.Helper()
	var examined []byte
	var verdict error
	harness.Eventually(t, changeTimeout, func() error {
		dump := []byte(e.generated(t))
		if bytes.Equal(dump, examined) {
			return verdict
		}
		examined, verdict = dump, nil
		checks, findings := meshtest.Examine(t, dump, filepath.Join(gatewayFolder, "gatehouse.yaml"))
		if !slices.Equal(checks, want) {
			verdict = fmt.Errorf("findings = %v, want %v: %+v", checks, want, findings)
		}
		return verdict
	})
}

func (e *edge) bearer(tenant string, groups ...string) http.Header {
	return meshtest.Bearer(e.issuer.Token(map[string]any{"email": "alice@acme.example", "tenant": tenant, "groups": groups}))
}

// rows are what README.md promises.
func (e *edge) rows() []meshtest.Row {
	reader := e.bearer("acme", "reader")
	lying := reader.Clone()
	for name, values := range meshtest.Forged {
		lying[name] = values
	}
	seen := []string{"x-roles: reader", "x-tenant-id: acme", "x-user: alice@acme.example"}
	return []meshtest.Row{
		meshtest.NewRow("nobody is refused", front, "", "GET /tenants/acme/orders", nil, 401),
		meshtest.NewRow("a reader reads", front, "", "GET /tenants/acme/orders", reader, 200, seen...),
		meshtest.NewRow("forged identity headers do not arrive", front, "", "GET /tenants/acme/orders", lying, 200, seen...),
		meshtest.NewRow("another tenant is forbidden", front, "", "GET /tenants/other/orders", reader, 403),
		meshtest.NewRow("a reader does not write", front, "", "POST /tenants/acme/orders", reader, 403),
		meshtest.NewRow("two slashes become one before the check", front, "", "GET /tenants//acme/orders", reader, 200, seen...),
		meshtest.NewRow("an encoded slash is refused", front, "", "GET /tenants%2facme/orders", reader, 400),
		meshtest.NewRow("a header with underscores is refused", front, "", "GET /tenants/acme/orders", http.Header{"x_user": {"root"}}, 400),
		meshtest.NewRow("a public route is public", front, "", "GET /healthz", nil, 200),
	}
}

// TestEnvoyGateway gives Envoy Gateway the manifests in envoy/gateway, has its Envoy ask
// gatehouse, and then makes every mistake that the doctor should find.
func TestEnvoyGateway(t *testing.T) {
	e := startEdge(t)
	untilAnswered(t, e.client, startTimeout, e.rows()[8])
	e.client.Check(t, e.rows())
	e.diagnosed(t)
	t.Run("changes under traffic", e.changesUnderTraffic)
	t.Run("faults", e.faults)
	t.Run("a policy that is not accepted", e.notAccepted)

	e.gatehouse.Kill()
	untilAnswered(t, e.client, changeTimeout, meshtest.NewRow("an outage is no refusal", front, "", "GET /tenants/acme/orders", e.bearer("acme", "reader"), 503))
	e.client.Check(t, []meshtest.Row{meshtest.NewRow("a public route is closed as well", front, "", "GET /healthz", nil, 503)})
	e.serve(t)
	untilAnswered(t, e.client, changeTimeout, e.rows()[1])
}

// faults has Envoy Gateway generate what users should not want.
func (e *edge) faults(t *testing.T) {
	policy, traffic := shipped(t, gatewayFolder, securityPolicy), shipped(t, gatewayFolder, clientTrafficPolicy)
	for _, row := range []struct {
		name     string
		file     string
		old, new string
		want     []string
	}{
		{"failOpen", policy, "failOpen: false", "failOpen: true", []string{"error fail-open"}},
		{"no statusOnError", policy, "    statusOnError: 503\n", "", []string{"warning status-on-error"}},
		{"a timeout of a minute", policy, "    timeout: 1s\n    # No", "    timeout: 60s\n    # No", []string{"warning timeout"}},
		{"headersToExtAuth", policy, "    contextExtensions:\n", "    headersToExtAuth: [cookie]\n    contextExtensions:\n", []string{"error hidden"}},
		{"recomputeRoute", policy, "    contextExtensions:\n", "    recomputeRoute: true\n    contextExtensions:\n", []string{"warning route-cache"}},
		{"a body that does not fit", policy, "    contextExtensions:\n", "    bodyToExtAuth: {maxRequestBytes: 67108864}\n    contextExtensions:\n", []string{"error message"}},
		{"a route whose own policy does not ask", policy, "---\n", ownPolicy, []string{"error disabled"}},
		{"no policy", policy, policy, "", []string{"error missing"}},
		{"identity headers left", traffic, "    earlyRequestHeaders:\n      remove: [x-tenant-id, x-tenants, x-user, x-roles]                     # CHANGE\n", "", []string{"warning identity"}},
		{"slashes unescaped", traffic, "escapedSlashesAction: RejectRequest", "escapedSlashesAction: UnescapeAndForward", []string{"warning path"}},
		{"slashes not merged", traffic, "disableMergeSlashes: false", "disableMergeSlashes: true", []string{"warning path"}},
		{"underscores allowed", traffic, "withUnderscoresAction: RejectRequest", "withUnderscoresAction: Allow", []string{"warning underscores"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := replaced(t, row.file, row.old, row.new)
			e.withoutPolicies(t)
			e.asShipped(t)
			if row.file == policy {
				e.policy(t, changed)
			} else {
				e.write(t, clientTrafficPolicy, changed)
			}
			e.diagnosed(t, row.want...)
		})
	}
	e.withoutPolicies(t)
	e.asShipped(t)
	e.diagnosed(t)
}

// withoutPolicies takes all policies away: Envoy Gateway merges what a file says into what it
// said before, so that a line which is gone would still count.
func (e *edge) withoutPolicies(t *testing.T) {
	t.Helper()
	e.write(t, securityPolicy, "")
	e.write(t, clientTrafficPolicy, "")
	e.diagnosed(t, "error missing")
}

// ownPolicy replaces the Gateway's for one route.
const ownPolicy = `---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: own, namespace: default}
spec:
  targetRefs:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, name: other}
  cors: {allowOrigins: ["https://shop.example.com"]}
---
`

// notAccepted is what users see whose policy names a service that is not there.
func (e *edge) notAccepted(t *testing.T) {
	e.policy(t, replaced(t, shipped(t, gatewayFolder, securityPolicy), "{name: gatehouse, namespace: gatehouse, port: 9191}", "{name: gatehouse, port: 9191}"))
	untilAnswered(t, e.client, changeTimeout, meshtest.NewRow("every request is refused", front, "", "GET /healthz", nil, 500))
	e.asShipped(t)
	untilAnswered(t, e.client, changeTimeout, e.rows()[8])
}

// changesUnderTraffic changes the policy in ways that no request should notice.
func (e *edge) changesUnderTraffic(t *testing.T) {
	streams, stop := traffic(t, e.client, []meshtest.Row{e.rows()[0], e.rows()[1], e.rows()[3]})
	defer stop()
	policy := shipped(t, gatewayFolder, securityPolicy)
	for _, change := range []struct{ name, old, new string }{
		{"another timeout", "    timeout: 1s\n    # No", "    timeout: 1500ms\n    # No"},
		{"another context extension", "{name: listener, type: Value, value: front}", "{name: listener, type: Value, value: front}\n    - {name: more, type: Value, value: x}"},
		{"the shipped policy again", "", ""},
	} {
		t.Run(change.name, func(t *testing.T) {
			text := policy
			if change.old != "" {
				text = replaced(t, policy, change.old, change.new)
			}
			before := e.generated(t)
			e.policy(t, text)
			harness.Eventually(t, changeTimeout, func() error {
				if e.generated(t) == before {
					return errors.New("Envoy was told nothing new")
				}
				return nil
			})
			aftermath(t, streams)
		})
	}
	stop()
	undisturbed(t, streams)
}

// generated is what Envoy was told.
func (e *edge) generated(t testing.TB) string {
	t.Helper()
	admin, err := e.admin()
	if err != nil {
		t.Fatal(err)
	}
	return string(meshtest.Dump(t, admin))
}
