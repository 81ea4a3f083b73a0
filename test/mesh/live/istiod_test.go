package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// object is a JSON object.
type object = map[string]any

// Where istiod listens, all without TLS: proxies have the network to themselves.
const (
	istiodGRPC       = "127.0.0.1:15010"
	istiodHTTP       = "127.0.0.1:15080"
	istiodMonitoring = "127.0.0.1:15014"
)

// startIstiod runs Istio's control plane on a cluster.
func startIstiod(t *testing.T, c *cluster) *harness.Process {
	t.Helper()
	cmd := exec.Command(program(t, programs.Istiod), "discovery",
		"--registries=Kubernetes", "--kubeconfig", c.kubeconfig, "--meshConfig", filepath.Join(c.dir, "none"), "--networksConfig", "/dev/null",
		"--grpcAddr", istiodGRPC, "--httpAddr", istiodHTTP, "--monitoringAddr", istiodMonitoring, "--secureGRPCAddr", "", "--httpsAddr", "",
		"--ctrlz_address", "127.0.0.1", "--keepaliveMaxServerConnectionAge", "24h")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(),
		"POD_NAME=istiod-0", "POD_NAMESPACE=istio-system", "CLUSTER_ID=Kubernetes",
		// What needs a cluster that runs pods.
		"INJECT_ENABLED=false", "ENABLE_CA_SERVER=false", "PILOT_CERT_PROVIDER=none",
		"PILOT_ENABLE_GATEWAY_API=false", "PILOT_ENABLE_AMBIENT=false", "PILOT_ENABLE_CONFIG_DISTRIBUTION_TRACKING=false",
		// What the upstream build of Envoy does not have: istio.metadata_exchange and istio.alpn.
		"PILOT_ENABLE_METADATA_EXCHANGE=false", "PILOT_ENABLE_ALPN_FILTER=false", "PILOT_DISABLE_MX_ALPN=true",
	)
	p := harness.Start(t, "istiod", cmd)
	harness.Eventually(t, startTimeout, func() error {
		select {
		case <-p.Done():
			t.Fatal("istiod has ended")
		default:
		}
		return answersOK("http://" + istiodHTTP + "/ready")
	})
	return p
}

func answersOK(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// node is a proxy of the mesh.
type node struct {
	kind      string // sidecar or router
	name      string
	namespace string
	account   string
	address   string // of its pod
	labels    object
}

// startNode runs an Envoy that asks istiod for its configuration.
func startNode(t *testing.T, ca *meshtest.Authority, n node) *harness.Envoy {
	t.Helper()
	certificate := ca.Workload(t, "spiffe://cluster.local/ns/"+n.namespace+"/sa/"+n.account)
	cluster := func(name, address string) object {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		number, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return object{
			"name": name, "type": "STATIC", "connect_timeout": "1s",
			"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": object{"http2_protocol_options": object{}},
			}},
			"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{object{
				"endpoint": object{"address": object{"socket_address": object{"address": host, "port_value": number}}},
			}}}}},
		}
	}
	overADS := object{"ads": object{}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
	bootstrap, err := json.Marshal(object{
		"node": object{
			"id":      fmt.Sprintf("%s~%s~%s.%s~%[4]s.svc.cluster.local", n.kind, n.address, n.name, n.namespace),
			"cluster": n.name + "." + n.namespace,
			"metadata": object{
				"ISTIO_VERSION": "1.31.0", "CLUSTER_ID": "Kubernetes", "MESH_ID": "cluster.local",
				"NAME": n.name, "NAMESPACE": n.namespace, "SERVICE_ACCOUNT": n.account, "WORKLOAD_NAME": n.name,
				"INSTANCE_IPS": n.address, "INTERCEPTION_MODE": "NONE", "UNPRIVILEGED_POD": "false",
				"LABELS": n.labels, "PROXY_CONFIG": object{},
			},
		},
		"admin": object{"address": object{"socket_address": object{"address": "127.0.0.1", "port_value": 0}}},
		"dynamic_resources": object{
			"ads_config": object{
				"api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []any{object{"envoy_grpc": object{"cluster_name": "xds-grpc"}}},
			},
			"lds_config": overADS, "cds_config": overADS,
		},
		"static_resources": object{"clusters": []any{
			cluster("xds-grpc", istiodGRPC),
			cluster("sds-grpc", serveSecrets(t, ca, certificate)),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Istio's agent says 45 seconds, and immediately: connections that are open are closed as
	// soon as they are idle when their listener changes.
	return harness.StartEnvoyConfig(t, bootstrap, "--drain-time-s", "1", "--drain-strategy", "immediate")
}

// accepted fails the test if a proxy has refused anything that istiod sent.
func accepted(t testing.TB, e *harness.Envoy) {
	t.Helper()
	response, err := http.Get("http://" + e.Admin() + "/stats?filter=update_rejected&usedonly")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	if err := response.Write(&text); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if strings.Contains(line, "update_rejected") && !strings.HasSuffix(strings.TrimSpace(line), ": 0") {
			t.Errorf("Envoy has refused what istiod sent: %s", line)
		}
	}
}
