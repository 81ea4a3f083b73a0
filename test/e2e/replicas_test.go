package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// TestReplicaGoesAway takes one of two replicas away under load: no request may fail,
// whether it drains or is killed.
func TestReplicaGoesAway(t *testing.T) {
	provider := idp.Start(t)
	for name, signal := range map[string]syscall.Signal{"SIGTERM drains": syscall.SIGTERM, "SIGKILL": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			upstream := startEcho(t)
			leaving := startGatehouse(t, config, provider.Issuer, harness.Flag("--drain-delay=1500ms"))
			staying := startGatehouse(t, config, provider.Issuer)
			leaving.WaitServing(t)
			staying.WaitServing(t)
			envoy := harness.StartEnvoy(t, upstream.Address(),
				harness.Front{Name: "hardened", Gatehouse: []string{leaving.GRPC, staying.GRPC}})

			load := startLoad(t, "http://"+envoy.Address(t, "hardened")+"/me", "x-api-key", batchKey)
			load.more(t, 200)
			leaving.Signal(signal)
			select {
			case <-leaving.Done():
			case <-time.After(30 * time.Second):
				t.Error("the replica is still there after 30 s")
			}
			load.more(t, 400)
			load.end(t)
			if code := leaving.ExitCode(); signal == syscall.SIGTERM && code != 0 {
				t.Errorf("drained with status %d, want 0", code)
			}
		})
	}
}
