// Package live proves envoy/istio, envoy/gateway and envoy/kubernetes with the control planes
// themselves: a real API server takes the manifests that users apply and the chart that they
// install, a real istiod and a real Envoy Gateway make of them what an Envoy gets, and the
// real gatehouse answers.
//
// There is no kubelet: the programs are started by the tests, and where they are is told to
// the API server as a kubelet and its controllers would. The Envoys are the upstream build.
// Start reading at istio_test.go.
//
// The tests are part of "make acceptance", because the control planes take minutes to build;
// without ACCEPTANCE in the environment there are none. They have a network of their own
// (network_linux_test.go), so that every address can be what a file says.
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/envoy"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

func TestMain(m *testing.M) {
	if os.Getenv("ACCEPTANCE") == "" {
		fmt.Println("The live control planes are part of make acceptance.")
		return
	}
	if isolated() {
		os.Exit(harness.Main(m))
	}
	if err := fetch(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status, err := isolate()
	if err != nil {
		fmt.Fprintln(os.Stderr, "running the tests in a network of their own:", err)
	}
	os.Exit(status)
}

// fetch gets all that needs the network of the machine.
func fetch(ctx context.Context) error {
	_, err := envoy.Find(ctx, os.Stderr)
	for _, program := range programs.All {
		_, failed := program.Install(ctx)
		err = errors.Join(err, failed)
	}
	for _, d := range definitions {
		_, failed := d.path(ctx)
		err = errors.Join(err, failed)
	}
	return err
}
