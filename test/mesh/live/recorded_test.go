package live

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// update has the tests write what istiod generated to test/mesh/generated, where the tests
// of every run read it, instead of comparing it.
var update = flag.Bool("update", false, "write what istiod generated to test/mesh/generated")

const recordings = "../generated"

// The resources that are recorded, by their names.
const (
	sidecarListener = "10.99.0.11_19443"
	tcpListener     = "10.99.0.11_19444"
	gatewayListener = "10.99.0.13_18000"
	providerCluster = "outbound|9191||gatehouse.gatehouse.svc.cluster.local"
)

// recorded is about the shipped manifests.
func (m *mesh) recorded(t *testing.T) {
	record(t, m.echo, sidecarListener, "sidecar-listener.json")
	record(t, m.echo, tcpListener, "tcp-listener.json")
	record(t, m.gateway, gatewayListener, "gateway-listener.json")
	record(t, m.echo, providerCluster, "provider-cluster.json")
}

// record compares a resource, as a proxy got it from istiod, with the recording of it.
func record(t *testing.T, proxy *harness.Envoy, name, file string) {
	t.Helper()
	var generated object
	harness.Eventually(t, changeTimeout, func() error { // while a listener drains there are two
		var err error
		generated, err = resource(meshtest.Dump(t, proxy.Admin()), name)
		return err
	})
	path := filepath.Join(recordings, file)
	if *update {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(generated); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want object
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(generated, want) {
		got, err := json.MarshalIndent(generated, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("istiod generates something else than %s (make recordings writes it anew):\n%s", file, got)
	}
}

// resource is the listener or the cluster of that name in a config dump.
func resource(dump []byte, name string) (object, error) {
	var whole struct {
		Configs []struct {
			Listeners []struct {
				Active struct{ Listener object } `json:"active_state"`
				Drains any                       `json:"draining_state"`
			} `json:"dynamic_listeners"`
			Clusters []struct{ Cluster object } `json:"dynamic_active_clusters"`
		}
	}
	if err := json.Unmarshal(dump, &whole); err != nil {
		return nil, err
	}
	for _, config := range whole.Configs {
		for _, l := range config.Listeners {
			if l.Active.Listener["name"] == name && l.Drains == nil {
				return l.Active.Listener, nil
			}
		}
		for _, c := range config.Clusters {
			if c.Cluster["name"] == name {
				return c.Cluster, nil
			}
		}
	}
	return nil, fmt.Errorf("the dump has no %s", name)
}
