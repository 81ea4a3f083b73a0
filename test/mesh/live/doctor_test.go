package live

import (
	"path/filepath"
	"slices"
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
