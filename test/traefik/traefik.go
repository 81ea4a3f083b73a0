// Package traefik runs the real Traefik with the configuration that this repository ships.
// Start reading at [Start].
//
// It is built from source like the control planes of test/mesh, which takes minutes once,
// so that the test is part of "make acceptance"; without ACCEPTANCE in the environment
// there is none. Without it, envoy/forwarders_test.go reads the same files.
package traefik

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// Start runs Traefik with the two files of a folder until the test ends, and returns the
// address of its entry point. In the files, 127.0.0.1:10000 is where it listens,
// 127.0.0.1:9180 is gatehouse and 127.0.0.1:8080 the upstream; these are replaced, and
// nothing else.
func Start(t testing.TB, folder, gatehouse, upstream string) string {
	t.Helper()
	binary, err := programs.Traefik.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	address, dir := forwarding.FreeAddress(t), t.TempDir()
	for _, file := range []string{"traefik.yaml", "dynamic.yaml"} {
		forwarding.Render(t, filepath.Join(folder, file), filepath.Join(dir, file),
			"127.0.0.1:10000", address, "127.0.0.1:9180", gatehouse, "127.0.0.1:8080", upstream)
	}
	cmd := exec.Command(binary, "--configFile=traefik.yaml")
	cmd.Dir = dir
	forwarding.Wait(t, harness.Start(t, "traefik", cmd), address)
	return address
}
