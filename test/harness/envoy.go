package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-authz/gatehouse/envoy"
)

// envoyTimeout is how long Envoy may take to start on a busy machine; usually it is 0.2 s.
const envoyTimeout = 30 * time.Second

// Front is one listener of an Envoy under test. It is the one in envoy/envoy.yaml with
// other addresses and the changes that the test names.
type Front struct {
	Name      string
	Gatehouse []string // addresses of the replicas that it asks
	Changes   []Change
}

// Change makes a Front differ from the shipped configuration.
type Change func(Parts)

// Parts are the places of a listener's configuration that changes touch.
type Parts struct {
	Listener    map[string]any
	Connection  map[string]any // the HTTP connection manager
	VirtualHost map[string]any
	ExtAuthz    map[string]any
	Cluster     map[string]any // of gatehouse
	Further     *[]any         // clusters
}

// Unhardened takes away all that envoy.yaml does to requests before gatehouse sees them:
// paths arrive raw, headers may have underscores, forged identity headers are not
// stripped. gatehouse must be as safe behind it.
func Unhardened(p Parts) {
	for _, field := range []string{
		"normalize_path", "merge_slashes", "path_with_escaped_slashes_action",
		"strip_matching_host_port", "strip_trailing_host_dot", "early_header_mutation_extensions",
	} {
		delete(p.Connection, field)
	}
	delete(p.Connection["common_http_protocol_options"].(map[string]any), "headers_with_underscores_action")
}

// Port makes the front listen where a later Envoy can listen again.
func Port(port int) Change {
	return func(p Parts) {
		p.Listener["address"] = map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}}
	}
}

// Traced makes Envoy trace what its clients sample, and all else, under the name of a
// service, and tell a collector at host:port (OTLP/HTTP).
func Traced(service, collector string) Change {
	host, port, _ := strings.Cut(collector, ":")
	return func(p Parts) {
		p.Connection["tracing"] = map[string]any{"provider": map[string]any{
			"name": "envoy.tracers.opentelemetry",
			"typed_config": map[string]any{
				"@type":        "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
				"service_name": service,
				"http_service": map[string]any{"http_uri": map[string]any{
					"uri": "http://" + collector + "/v1/traces", "cluster": "collector", "timeout": "5s",
				}},
			},
		}}
		*p.Further = append(*p.Further, map[string]any{
			"name": "collector", "connect_timeout": "1s",
			"load_assignment": map[string]any{"cluster_name": "collector", "endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
				"endpoint": map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": port}}},
			}}}}},
		})
	}
}

// RawHeaders makes Envoy send headers in header_map, byte for byte, and leave the other
// field empty.
func RawHeaders(p Parts) { p.ExtAuthz["encode_raw_headers"] = true }

// FailOpen lets requests pass when gatehouse answers with an error or not at all.
func FailOpen(p Parts) {
	p.ExtAuthz["failure_mode_allow"] = true
	delete(p.ExtAuthz, "status_on_error")
}

// ContextExtensions are sent with each check.
func ContextExtensions(extensions map[string]string) Change {
	return func(p Parts) {
		perRoute := p.VirtualHost["typed_per_filter_config"].(map[string]any)["envoy.filters.http.ext_authz"].(map[string]any)
		perRoute["check_settings"] = map[string]any{"context_extensions": extensions}
	}
}

// Socket makes Envoy ask gatehouse at a Unix socket.
func Socket(path string) Change {
	return func(p Parts) {
		p.Cluster["load_assignment"] = map[string]any{
			"cluster_name": "gatehouse",
			"endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{
				"endpoint": map[string]any{"address": map[string]any{"pipe": map[string]any{"path": path}}},
			}}}},
		}
	}
}

// MutualTLS makes Envoy ask gatehouse by TLS, with a certificate of its own; files are PEM.
// The name must be in gatehouse's certificate. An empty certFile shows none.
func MutualTLS(name, caFile, certFile, keyFile string) Change {
	return func(p Parts) {
		context := map[string]any{"validation_context": map[string]any{
			"trusted_ca": map[string]any{"filename": caFile},
			"match_typed_subject_alt_names": []any{map[string]any{
				"san_type": "DNS", "matcher": map[string]any{"exact": name},
			}},
		}}
		if certFile != "" {
			context["tls_certificates"] = []any{map[string]any{
				"certificate_chain": map[string]any{"filename": certFile},
				"private_key":       map[string]any{"filename": keyFile},
			}}
		}
		p.Cluster["transport_socket"] = map[string]any{
			"name": "envoy.transport_sockets.tls",
			"typed_config": map[string]any{
				"@type":              "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"sni":                name,
				"common_tls_context": context,
			},
		}
	}
}

// HTTP2 changes how Envoy speaks to gatehouse: options of an Http2ProtocolOptions.
func HTTP2(options map[string]any) Change {
	return func(p Parts) {
		p.Cluster["typed_extension_protocol_options"] = map[string]any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": map[string]any{
				"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"explicit_http_config": map[string]any{"http2_protocol_options": options},
			},
		}
	}
}

// TCP asks gatehouse about the connection, without an HTTP part, and then hands the bytes
// to the upstream.
func TCP(p Parts) {
	p.Listener["filter_chains"] = []any{map[string]any{"filters": []any{
		map[string]any{"name": "envoy.filters.network.ext_authz", "typed_config": map[string]any{
			"@type":                 "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
			"stat_prefix":           "tcp",
			"transport_api_version": "V3",
			"grpc_service":          p.ExtAuthz["grpc_service"],
		}},
		map[string]any{"name": "envoy.filters.network.tcp_proxy", "typed_config": map[string]any{
			"@type":       "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
			"stat_prefix": "tcp",
			"cluster":     "upstream",
		}},
	}}}
}

// Envoy is a running Envoy.
type Envoy struct {
	*Process
	running envoy.Running
}

// StartEnvoy runs one Envoy with a listener for each front, all in front of upstream.
func StartEnvoy(t testing.TB, upstream string, fronts ...Front) *Envoy {
	t.Helper()
	return StartEnvoyConfig(t, envoyConfig(t, upstream, fronts))
}

// StartEnvoyFile runs Envoy with a configuration file that was made from the shipped one:
// each of its listeners on a free port, asking gatehouse, in front of upstream.
func StartEnvoyFile(t testing.TB, path, gatehouse, upstream string) *Envoy {
	t.Helper()
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config, err = envoy.RenderConfig(config, envoy.Addresses{
		Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Gatehouse: []string{gatehouse}, Upstream: upstream,
	})
	if err != nil {
		t.Fatal(err)
	}
	return StartEnvoyConfig(t, config)
}

// StartEnvoyConfig runs Envoy with a bootstrap configuration as it is, whose admin endpoint
// and listeners should have port 0, and with further arguments. It returns when all
// listeners serve.
func StartEnvoyConfig(t testing.TB, config []byte, args ...string) *Envoy {
	t.Helper()
	binary, err := envoy.Find(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	configPath, adminPath := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		t.Fatal(err)
	}
	e := &Envoy{Process: Start(t, "envoy", exec.Command(binary, append(envoy.Args(configPath, adminPath), args...)...))}
	ctx, cancel := context.WithTimeout(t.Context(), envoyTimeout)
	defer cancel()
	go func() {
		select {
		case <-e.Done(): // no use in waiting for one that has ended
			cancel()
		case <-ctx.Done():
		}
	}()
	if e.running, err = envoy.WaitReady(ctx, adminPath); err != nil {
		t.Fatalf("%v\n%s", err, e.Output())
	}
	return e
}

// Address is where a front listens.
func (e *Envoy) Address(t testing.TB, front string) string {
	t.Helper()
	address, ok := e.running.Listeners[front]
	if !ok {
		t.Fatalf("Envoy has no listener %q, only %v", front, slices.Sorted(maps.Keys(e.running.Listeners)))
	}
	return address
}

// Admin is the host:port of the admin endpoint.
func (e *Envoy) Admin() string { return e.running.Admin }

// Stat is one of Envoy's counters or gauges.
func (e *Envoy) Stat(name string) (int64, error) {
	resp, err := http.Get("http://" + e.running.Admin + "/stats")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+": "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, errors.Join(lines.Err(), fmt.Errorf("Envoy has no stat %q", name))
}

// AccessLog is what Envoy has logged, one line per request, as envoy.yaml says. Lines
// appear up to 50 ms after the answer.
func (e *Envoy) AccessLog() []map[string]any {
	var entries []map[string]any
	for line := range strings.Lines(e.Output()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil {
			entries = append(entries, entry)
		}
	}
	return entries
}

// envoyConfig multiplies the listener and the cluster of the shipped configuration.
func envoyConfig(t testing.TB, upstream string, fronts []Front) []byte {
	t.Helper()
	var whole map[string]any
	var listeners, clusters []any
	for _, front := range fronts {
		rendered, err := envoy.Render(envoy.Addresses{
			Admin: "127.0.0.1:0", Listen: "127.0.0.1:0", Gatehouse: front.Gatehouse, Upstream: upstream,
		})
		if err != nil {
			t.Fatal(err)
		}
		// Each front has clusters of its own, with one name everywhere.
		cluster := "gatehouse-" + front.Name
		rendered = bytes.ReplaceAll(rendered, []byte("cluster_name: gatehouse"), []byte("cluster_name: "+cluster))
		whole = nil
		if err := yaml.Unmarshal(rendered, &whole); err != nil {
			t.Fatal(err)
		}
		resources := whole["static_resources"].(map[string]any)
		listener := named(t, resources["listeners"], "front")
		listener["name"] = front.Name
		parts := partsOf(t, listener)
		parts.Cluster, parts.Further = named(t, resources["clusters"], "gatehouse"), &clusters
		for _, change := range front.Changes {
			change(parts)
		}
		listeners = append(listeners, listener)
		parts.Cluster["name"] = cluster
		clusters = append(clusters, parts.Cluster)
		if len(fronts) == len(listeners) {
			resources["listeners"] = listeners
			resources["clusters"] = append(clusters, named(t, resources["clusters"], "upstream"))
		}
	}
	config, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func partsOf(t testing.TB, listener map[string]any) Parts {
	t.Helper()
	chain := listener["filter_chains"].([]any)[0].(map[string]any)
	connection := named(t, chain["filters"], "envoy.filters.network.http_connection_manager")["typed_config"].(map[string]any)
	routes := connection["route_config"].(map[string]any)
	return Parts{
		Listener:    listener,
		Connection:  connection,
		VirtualHost: named(t, routes["virtual_hosts"], "upstream"),
		ExtAuthz:    named(t, connection["http_filters"], "envoy.filters.http.ext_authz")["typed_config"].(map[string]any),
	}
}

// named is the item of a list that has the name.
func named(t testing.TB, list any, name string) map[string]any {
	t.Helper()
	for _, item := range list.([]any) {
		if m := item.(map[string]any); m["name"] == name {
			return m
		}
	}
	panic(fmt.Sprintf("envoy.yaml has no %q in %v", name, list))
}
