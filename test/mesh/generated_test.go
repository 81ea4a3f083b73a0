package mesh

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// object is a JSON object.
type object = map[string]any

// generated reads what a control plane generated.
func generated(t testing.TB, file string) object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("generated", file))
	if err != nil {
		t.Fatal(err)
	}
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return o
}

// each visits every object below v, and v itself.
func each(v any, visit func(object)) {
	switch v := v.(type) {
	case object:
		visit(v)
		for _, member := range v {
			each(member, visit)
		}
	case []any:
		for _, item := range v {
			each(item, visit)
		}
	}
}

// adaptListener makes a generated listener one that a machine without a cluster can serve.
// It changes where the listener is and where it gets secrets and routes from; filters, their
// order and all that they were told stay as they were generated.
func adaptListener(listener object, name string) object {
	delete(listener, "@type")
	listener["name"] = name
	listener["address"] = socketAddress("127.0.0.1", 0)
	each(listener, func(o object) {
		if match, ok := o["filter_chain_match"].(object); ok {
			delete(match, "destination_port") // the port is the kernel's choice
		}
		delete(o, "filter_disabled") // names the port as well
		delete(o, "sds_config")      // secrets come from the bootstrap, under the same names
		if _, ok := o["rds"]; ok {
			delete(o, "rds")
			o["route_config"] = object{"name": "http", "virtual_hosts": []any{object{
				"name": "echo", "domains": []any{"*"},
				"routes": []any{object{"name": "echo-route", "match": object{"prefix": "/"}, "route": object{"cluster": "outbound"}}},
			}}}
		}
	})
	return listener
}

// adaptCluster gives a generated cluster one endpoint instead of a discovery service.
func adaptCluster(t testing.TB, cluster object, address string) object {
	t.Helper()
	delete(cluster, "@type")
	delete(cluster, "eds_cluster_config")
	each(cluster, func(o object) { delete(o, "sds_config") })
	cluster["type"] = "STATIC"
	cluster["load_assignment"] = endpoint(t, cluster["name"].(string), address)
	return cluster
}

// plainCluster is a cluster of ours, for the application behind Envoy.
func plainCluster(t testing.TB, name, address string) object {
	t.Helper()
	return object{"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": endpoint(t, name, address)}
}

func endpoint(t testing.TB, cluster, address string) object {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return object{"cluster_name": cluster, "endpoints": []any{object{"lb_endpoints": []any{
		object{"endpoint": object{"address": socketAddress(host, number)}},
	}}}}
}

func socketAddress(host string, port int) object {
	return object{"socket_address": object{"address": host, "port_value": port}}
}

// secrets are what istio-agent serves over SDS: the workload's certificate and the roots.
func secrets(t testing.TB, ca *meshtest.Authority, id string) []any {
	t.Helper()
	chain, key := meshtest.PEM(t, ca.Workload(t, id))
	text := func(s string) object { return object{"inline_string": s} }
	return []any{
		object{"name": "default", "tls_certificate": object{"certificate_chain": text(chain), "private_key": text(key)}},
		object{"name": "ROOTCA", "validation_context": object{"trusted_ca": text(ca.Root())}},
	}
}
