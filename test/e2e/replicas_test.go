package e2e

import (
	"fmt"
	"strings"
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

// rolls is how often TestRollingRestart replaces both replicas, and how often it does for
// acceptance.
const rolls, acceptanceRolls = 1, 5

// TestRollingRestart replaces two replicas one after the other under load, as a rollout
// does: each drains, ends, and is started again. No request may fail.
func TestRollingRestart(t *testing.T) {
	upstream := startEcho(t)
	var configs []string
	var replicas []*harness.Gatehouse
	var addresses []string
	startReplica := func(config string) *harness.Gatehouse {
		// Longer than Envoy takes to see that it drains: it asks once a second.
		g := startGatehouse(t, config, "http://127.0.0.1:1", harness.Flag("--drain-delay=2500ms"))
		g.WaitServing(t)
		return g
	}
	for range 2 {
		address := fmt.Sprintf("127.0.0.1:%d", idp.FreePort(t))
		configs = append(configs, strings.Replace(config, `grpc: {address: "127.0.0.1:0"}`, fmt.Sprintf("grpc: {address: %q}", address), 1))
		replicas = append(replicas, startReplica(configs[len(configs)-1]))
		addresses = append(addresses, address)
	}
	envoy := harness.StartEnvoy(t, upstream.Address(), harness.Front{Name: "hardened", Gatehouse: addresses})
	load := startLoad(t, "http://"+envoy.Address(t, "hardened")+"/me", "x-api-key", batchKey)
	load.more(t, 200)
	total := rolls
	if acceptance() {
		total = acceptanceRolls
	}
	for range total {
		for i, replica := range replicas {
			replica.Signal(syscall.SIGTERM)
			select {
			case <-replica.Done():
			case <-time.After(30 * time.Second):
				t.Fatal("the replica is still there after 30 s")
			}
			if code := replica.ExitCode(); code != 0 {
				t.Errorf("drained with status %d, want 0", code)
			}
			replicas[i] = startReplica(configs[i])
			// A rollout goes on once the new one has traffic.
			harness.Eventually(t, settle, func() error {
				asked, err := metric(replicas[i], `grpc_server_handled_total{grpc_code="OK",grpc_method="Check",grpc_service="envoy.service.auth.v3.Authorization",grpc_type="unary"}`)
				if err == nil && asked < 10 {
					err = fmt.Errorf("%v checks", asked)
				}
				return err
			})
		}
	}
	load.end(t)
}
