package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/envoy"
)

// Latency is what requests through Envoy took, one at a time: the median over the
// rounds of each quantile.
type Latency struct {
	Filter    string  `json:"filter"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	AddedP50  float64 `json:"added_p50_us"` // to those of an Envoy that asks nobody
	AddedP99  float64 `json:"added_p99_us"`
}

// requestsPerRound are few enough for a round to be over before the machine changes.
const requestsPerRound = 2000

// object is a piece of Envoy's configuration, which is JSON as well as YAML.
type object = map[string]any

// throughEnvoy measures what each way to ask adds to a request's latency. All are
// listeners of one Envoy, which answers itself what is allowed.
func (l *lab) throughEnvoy(ctx context.Context) ([]Latency, error) {
	binary, err := envoy.Find(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	servers, stop, err := l.askedServers()
	defer stop()
	if err != nil {
		return nil, err
	}
	jwks, err := os.ReadFile(filepath.Join(l.dir, "jwks.json"))
	if err != nil {
		return nil, err
	}
	names := []string{"nothing", "jwt_authn and rbac"}
	listeners := []any{listener("nothing"), listener("jwt_authn and rbac", envoyAlone(string(jwks))...)}
	var clusters []any
	for _, s := range servers {
		names = append(names, s.name)
		listeners = append(listeners, listener(s.name, asking(s.name)))
		clusters = append(clusters, grpcCluster(s.name, s.address))
	}
	config, err := json.Marshal(object{
		"admin":            object{"address": at("127.0.0.1:0")},
		"static_resources": object{"listeners": listeners, "clusters": clusters},
	})
	if err != nil {
		return nil, err
	}
	configPath, adminPath := filepath.Join(l.dir, "envoy.json"), filepath.Join(l.dir, "admin")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		return nil, err
	}
	process, err := start(l.dir, binary, nil, envoy.Args(configPath, adminPath)...)
	if err != nil {
		return nil, err
	}
	defer process.stop()
	patient, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	running, err := envoy.WaitReady(patient, adminPath)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, process.output())
	}
	token, err := l.token(0, "reader")
	if err != nil {
		return nil, err
	}
	p50, p99 := map[string][]float64{}, map[string][]float64{}
	for round := -1; round < l.opts.rounds; round++ { // the first warms up
		for _, name := range names {
			took, err := ask(ctx, running.Listeners[name], token, requestsPerRound)
			if err != nil {
				return nil, fmt.Errorf("through Envoy with %s: %w", name, err)
			}
			if round >= 0 {
				half, most := quantiles(took)
				p50[name], p99[name] = append(p50[name], half*1000), append(p99[name], most*1000)
			}
		}
	}
	var out []Latency
	for _, name := range names {
		out = append(out, Latency{
			Filter: name, P50Micros: median(p50[name]), P99Micros: median(p99[name]),
			AddedP50: median(p50[name]) - median(p50[names[0]]), AddedP99: median(p99[name]) - median(p99[names[0]]),
		})
	}
	return out, nil
}

// asked is a server that Envoy asks.
type asked struct{ name, address string }

// askedServers starts the do-nothing server and gatehouse, each over TCP and over a
// Unix socket. What was started is stopped by stop, also after an error.
func (l *lab) askedServers() (servers []asked, stop func(), err error) {
	var all []*process
	stop = func() {
		for _, p := range all {
			p.stop()
		}
	}
	run := func(name, address string, p *process, err error) error {
		if err == nil {
			all = append(all, p)
			servers = append(servers, asked{name, address})
		}
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, stop, err
	}
	socket := "unix://" + filepath.Join(l.dir, "floor.sock")
	floor, err := start(l.dir, self, nil, "floor", socket)
	if err := run("do-nothing over a Unix socket", socket, floor, err); err != nil {
		return nil, stop, err
	}
	servers = append(servers, asked{"do-nothing over TCP", l.listen})
	for i, name := range []string{"gatehouse over a Unix socket", "gatehouse over TCP"} {
		address := "unix://" + filepath.Join(l.dir, "gatehouse.sock")
		if i == 1 {
			if address, err = freeAddress(); err != nil {
				return nil, stop, err
			}
		}
		ops, err := freeAddress()
		if err != nil {
			return nil, stop, err
		}
		config, err := l.config(scenario{routes: 10}, address, ops)
		if err != nil {
			return nil, stop, err
		}
		own := filepath.Join(l.dir, "gatehouse-"+strconv.Itoa(i)+".yaml")
		if err := os.Rename(config, own); err != nil {
			return nil, stop, err
		}
		p, err := start(l.dir, l.binary, nil, l.serve(own)...)
		if err := run(name, address, p, err); err != nil {
			return nil, stop, err
		}
	}
	return servers, stop, nil
}

// listener answers 200 to what its filters let pass.
func listener(name string, filters ...any) object {
	filters = append(filters, filter("router", "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", object{}))
	return object{"name": name, "address": at("127.0.0.1:0"), "filter_chains": []any{object{"filters": []any{object{
		"name": "envoy.filters.network.http_connection_manager",
		"typed_config": object{
			"@type":        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"stat_prefix":  "front",
			"http_filters": filters,
			"route_config": object{"virtual_hosts": []any{object{
				"name": "all", "domains": []string{"*"},
				"routes": []any{object{"match": object{"prefix": "/"}, "direct_response": object{"status": 200}}},
			}}},
		},
	}}}}}
}

func filter(name, typ string, config object) object {
	config["@type"] = typ
	return object{"name": "envoy.filters.http." + name, "typed_config": config}
}

func asking(cluster string) object {
	return filter("ext_authz", "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", object{
		"transport_api_version": "V3",
		"grpc_service":          object{"envoy_grpc": object{"cluster_name": cluster}, "timeout": "1s"},
	})
}

// envoyAlone is the same rule by Envoy's own filters.
func envoyAlone(jwks string) []any {
	return []any{
		filter("jwt_authn", "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", object{
			"providers": object{"corp": object{
				"issuer": issuer, "audiences": []string{"orders"}, "local_jwks": object{"inline_string": jwks},
				"payload_in_metadata": "payload",
				"claim_to_headers":    []any{object{"header_name": "x-tenant-id", "claim_name": "tenant"}, object{"header_name": "x-user", "claim_name": "email"}},
			}},
			"rules": []any{object{"match": object{"prefix": "/"}, "requires": object{"provider_name": "corp"}}},
		}),
		filter("rbac", "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC", object{
			"rules": object{"policies": object{"readers": object{
				"permissions": []any{object{"any": true}},
				"principals": []any{object{"metadata": object{
					"filter": "envoy.filters.http.jwt_authn",
					"path":   []any{object{"key": "payload"}, object{"key": "roles"}},
					"value":  object{"list_match": object{"one_of": object{"string_match": object{"exact": "reader"}}}},
				}}},
			}}},
		}),
	}
}

func grpcCluster(name, address string) object {
	return object{
		"name": name, "connect_timeout": "1s",
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": object{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": object{"http2_protocol_options": object{}},
		}},
		"load_assignment": object{"cluster_name": name, "endpoints": []any{object{"lb_endpoints": []any{
			object{"endpoint": object{"address": at(address)}},
		}}}},
	}
}

// at is an address for Envoy.
func at(address string) object {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return object{"pipe": object{"path": path}}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		panic(err) // an address of ours
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		panic(err)
	}
	return object{"socket_address": object{"address": host, "port_value": number}}
}

// ask sends requests one at a time over one connection; each must be allowed.
func ask(ctx context.Context, address, token string, requests int) ([]time.Duration, error) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	took := make([]time.Duration, 0, requests)
	deadline := time.Now().Add(10 * time.Second) // for servers that are starting
	for len(took) < requests {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/tenants/acme/orders/4711", nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusOK:
			took = append(took, time.Since(began))
		case len(took) > 0 || time.Now().After(deadline):
			return nil, fmt.Errorf("status %d", resp.StatusCode)
		default:
			time.Sleep(20 * time.Millisecond)
		}
	}
	return took, nil
}
