package live

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// proxies are the Envoys of the mesh, by what they are.
func (m *mesh) proxies() map[string]*harness.Envoy {
	return map[string]*harness.Envoy{"sidecar": m.echo, "the caller's sidecar": m.callerProxy, "gateway": m.gateway}
}

// doctor examines what the proxies were told: with the EnvoyFilter of envoy/istio it has
// nothing to say, and without it the three warnings that README.md explains.
func (m *mesh) doctor(t *testing.T) {
	config := filepath.Join(istioFolder, "gatehouse.yaml")
	diagnose := func(t *testing.T, want map[string][]string) {
		t.Helper()
		for name, proxy := range m.proxies() {
			if checks, findings := meshtest.Examine(t, meshtest.Dump(t, proxy.Admin()), config); !slices.Equal(checks, want[name]) {
				t.Errorf("%s: findings = %v, want %v: %+v", name, checks, want[name], findings)
			}
		}
	}
	diagnose(t, map[string][]string{"sidecar": meshtest.MeshWarnings, "gateway": meshtest.MeshWarnings})
	filter := filepath.Join(istioFolder, "envoy-filter.yaml")
	m.apply(t, filter)
	m.until(t, meshtest.NewRow("the filter has arrived", meshtest.Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200))
	m.until(t, meshtest.NewRow("and at the gateway", meshtest.Gateway, "", "GET //healthz", nil, 200))
	diagnose(t, nil)
	m.remove(t, filter)
	m.until(t, meshtest.EveryRequestRows("")[0])
	m.until(t, meshtest.NewRow("and at the gateway", meshtest.Gateway, "", "GET //healthz", nil, 400))
}

// extAuthzPatch is an EnvoyFilter that changes the filter which asks gatehouse.
const extAuthzPatch = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: fault, namespace: demo}
spec:
  workloadSelector: {labels: {app: echo}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.ext_authz}}}}
    patch: PATCH
`

// routePatch is one that changes the routes of the workload.
const routePatch = `
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: fault, namespace: demo}
spec:
  workloadSelector: {labels: {app: echo}}
  configPatches:
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_INBOUND}
    patch: {operation: MERGE, value: {typed_per_filter_config: {envoy.filters.http.ext_authz: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true}}}}
`

// merging is a patch of the filter's own settings.
func merging(settings string) string {
	return strings.Replace(extAuthzPatch, "PATCH", `{operation: MERGE, value: {typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz, `+settings+`}}}`, 1)
}

// faults has istiod generate what users should not want, and the doctor find it.
func (m *mesh) faults(t *testing.T) {
	providers, policy := shipped(t, istioFolder, "meshconfig.yaml"), shipped(t, istioFolder, "authorization-policy.yaml")
	provider := func(old, replacement string) func() {
		return func() { m.configureMesh(t, replaced(t, providers, old, replacement)) }
	}
	filter := func(document string) func() { return func() { m.applyText(t, document) } }
	for _, row := range []struct {
		name string
		make func()
		want []string // beside meshtest.MeshWarnings
	}{
		{"failOpen", provider("failOpen: false", "failOpen: true"), []string{"error fail-open"}},
		{"no statusOnError", provider("    statusOnError: \"503\"\n", ""), []string{"warning status-on-error"}},
		{"Istio's own timeout", provider("    timeout: 1s\n", ""), []string{"warning timeout"}},
		{"a body that does not fit", provider("    failOpen: false\n", "    failOpen: false\n    includeRequestBodyInCheck: {maxRequestBytes: 67108864}\n"), []string{"error message"}},
		{"a policy that names paths", filter(strings.ReplaceAll(policy, "rules: [{}]", `rules: [{to: [{operation: {paths: ["/api/*"]}}]}]`)), []string{"error conditional"}},
		{"a policy that names hosts", filter(strings.ReplaceAll(policy, "rules: [{}]", `rules: [{to: [{operation: {hosts: ["echo.demo.svc.cluster.local"]}}]}]`)), []string{"error conditional"}},
		{"headers hidden", filter(merging("allowed_headers: {patterns: [{exact: cookie}]}")), []string{"error hidden"}},
		{"a share of the requests", filter(merging("filter_enabled: {default_value: {numerator: 50}}")), []string{"error sampled"}},
		{"the route chosen again", filter(merging("clear_route_cache: true")), []string{"warning route-cache"}},
		{"off for a route", filter(routePatch), []string{"error disabled"}},
		{"the filter removed", filter(strings.Replace(extAuthzPatch, "PATCH", "{operation: REMOVE}", 1)), []string{"error missing"}},
		{"no policy", func() { m.kubectl(t, "delete", "authorizationpolicy", "gatehouse", "--namespace", "demo") }, []string{"error missing"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.make()
			want := slices.Sorted(slices.Values(append(slices.Clone(meshtest.MeshWarnings), row.want...)))
			if slices.Equal(row.want, []string{"error missing"}) {
				want = row.want // there is no filter whose surroundings could be wrong
			}
			m.diagnosed(t, want)
			m.kubectl(t, "delete", "envoyfilter", "fault", "--namespace", "demo", "--ignore-not-found")
			m.configureMesh(t, providers)
			m.apply(t, filepath.Join(istioFolder, "authorization-policy.yaml"))
			m.diagnosed(t, meshtest.MeshWarnings)
		})
	}
}

// diagnosed waits until the doctor finds what it should in what the sidecar was told.
func (m *mesh) diagnosed(t *testing.T, want []string) {
	t.Helper()
	var examined []byte
	var verdict error
	harness.Eventually(t, changeTimeout, func() error {
		dump := meshtest.Dump(t, m.echo.Admin())
		if bytes.Equal(dump, examined) {
			return verdict
		}
		examined, verdict = dump, nil
		checks, findings := meshtest.Examine(t, dump, filepath.Join(istioFolder, "gatehouse.yaml"))
		if !slices.Equal(checks, want) {
			verdict = fmt.Errorf("findings = %v, want %v: %+v", checks, want, findings)
		}
		return verdict
	})
}
