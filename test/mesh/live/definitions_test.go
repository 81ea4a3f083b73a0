package live

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// definition is a file or a folder of custom resource definitions in a module.
type definition struct {
	program programs.Program // whose go.mod pins the module
	module  string
	name    string // below the module
}

// The custom resources that the manifests are made of, from the very sources of the
// programs that read them.
var (
	istioCRDs    = definition{programs.Istiod, "istio.io/istio", "manifests/charts/base/files/crd-all.gen.yaml"}
	routingCRDs  = definition{programs.EnvoyGateway, "github.com/envoyproxy/gateway", "charts/gateway-helm/charts/crds/crds/gatewayapi-crds.yaml"}
	gatewayCRDs  = definition{programs.EnvoyGateway, "github.com/envoyproxy/gateway", "charts/gateway-helm/charts/crds/crds/generated"}
	operatorCRDs = definition{programs.Helm, "github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"}

	definitions = []definition{istioCRDs, routingCRDs, gatewayCRDs, operatorCRDs}
)

// path is where the definitions are on this machine.
func (d definition) path(ctx context.Context) (string, error) {
	folder, err := d.program.Source(ctx, d.module)
	return filepath.Join(folder, d.name), err
}

// define gives the API server custom resources, and waits until it serves them.
func (c *cluster) define(t *testing.T, d definition) {
	t.Helper()
	path, err := d.path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Not client-side: some are too big for the annotation that it leaves.
	c.kubectl(t, "apply", "--server-side", "--filename", path)
	c.kubectl(t, "wait", "--for=condition=established", "--timeout=60s", "--filename", path)
}
