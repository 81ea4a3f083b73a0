package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository.
const root = "../../../.."

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// needs are those of a configuration with everything that a check looks at.
var needs = Needs{
	Identity: []string{"x-tenant-id", "x-tenants", "x-user", "x-roles"},
	Headers:  []string{"authorization", "x-api-key"},
	Sources:  true,
	Message:  4 << 20,
}

func findings(t *testing.T, text string, needs Needs) []string {
	t.Helper()
	report, err := Examine([]byte(text), needs)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range report.Findings {
		if f.Line == 0 || f.Path == "" || f.Remedy == "" {
			t.Errorf("finding without a place or a remedy: %+v", f)
		}
		out = append(out, f.Severity+" "+f.Check)
	}
	return out
}

func TestShippedConfigurationsAreInOrder(t *testing.T) {
	if got := findings(t, read(t, "envoy/envoy.yaml"), needs); got != nil {
		t.Errorf("envoy/envoy.yaml: %v", got)
	}
}

// Each row plants one fault into the shipped configuration.
func TestPlantedFaultsAreFound(t *testing.T) {
	shipped := read(t, "envoy/envoy.yaml")
	const filter = "          - name: envoy.filters.http.ext_authz\n"
	const perRoute = "                  check_settings: {context_extensions: {listener: front}}"
	for _, row := range []struct {
		name     string
		old, new string
		want     []string
	}{
		{"no filter", `"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz` + "\n", `"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault` + "\n", []string{"error missing"}},
		{"the filter after the router", filter, "          - name: first\n            typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}\n" + filter, []string{"error order"}},
		{"fail open", "failure_mode_allow: false", "failure_mode_allow: true", []string{"error fail-open"}},
		{"403 for an outage", "status_on_error: {code: ServiceUnavailable}", "stat_prefix: x", []string{"warning status-on-error"}},
		{"off for a virtual host", perRoute, "                  disabled: true", []string{"error disabled"}},
		{"off for a route", "                route: {cluster: upstream}", "                route: {cluster: upstream}\n                typed_per_filter_config: {envoy.filters.http.ext_authz: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true}}", []string{"error disabled"}},
		{"off by default is no fault where the virtual host switches it on", filter, filter + "            disabled: true\n", nil},
		{"a share of the requests", "failure_mode_allow: false", "failure_mode_allow: false\n              filter_enabled: {default_value: {numerator: 50}}", []string{"error sampled"}},
		{"only where metadata says so", "failure_mode_allow: false", "failure_mode_allow: false\n              filter_enabled_metadata: {filter: x, path: [{key: y}], value: {present_match: true}}", []string{"error conditional"}},
		{"no timeout", "                timeout: 2s\n", "", []string{"warning timeout"}},
		{"a timeout of 50 ms", "                timeout: 2s\n", "                timeout: 0.05s\n", []string{"warning timeout"}},
		{"Istio's timeout", "                timeout: 2s\n", "                timeout: 600s\n", []string{"warning timeout"}},
		{"attempts that are cut short", "max_interval: 1s", "max_interval: 0.25s", []string{"warning attempt"}},
		{"a header that is needed is hidden", "failure_mode_allow: false", "failure_mode_allow: false\n              allowed_headers: {patterns: [{exact: authorization}]}", []string{"error hidden"}},
		{"a header that is needed is taken out", "failure_mode_allow: false", "failure_mode_allow: false\n              disallowed_headers: {patterns: [{prefix: x-api}]}", []string{"error hidden"}},
		{"raw paths", "normalize_path: true", "normalize_path: false", []string{"warning path"}},
		{"double slashes", "merge_slashes: true", "merge_slashes: false", []string{"warning path"}},
		{"escaped slashes", "path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD", []string{"warning path"}},
		{"underscores", "headers_with_underscores_action: REJECT_REQUEST", "headers_with_underscores_action: ALLOW", []string{"warning underscores"}},
		{"an identity header is left", "              - remove: x-roles\n", "", []string{"warning identity"}},
		{"addresses that clients write", "use_remote_address: true", "use_remote_address: false", []string{"error addresses"}},
		{"another protocol version", "transport_api_version: V3", "transport_api_version: V2", []string{"error version"}},
		{"the route chosen again", "failure_mode_allow: false", "failure_mode_allow: false\n              clear_route_cache: true", []string{"warning route-cache"}},
		{"a body that does not fit", "failure_mode_allow: false", "failure_mode_allow: false\n              with_request_body: {max_request_bytes: 8388608}", []string{"error message"}},
		{"no health checks", "    health_checks:\n", "    outlier_checks:\n", []string{"warning health"}},
		{"HTTP/1 to gatehouse", "explicit_http_config: {http2_protocol_options: {}}", "explicit_http_config: {http_protocol_options: {}}", []string{"error http2"}},
		{"retries where they do nothing", "                envoy_grpc: {cluster_name: gatehouse}", "                envoy_grpc: {cluster_name: gatehouse, retry_policy: {num_retries: 2}}", []string{"warning retry"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if strings.Count(shipped, row.old) != 1 {
				t.Fatalf("envoy.yaml holds %q %d times", row.old, strings.Count(shipped, row.old))
			}
			if got := findings(t, strings.Replace(shipped, row.old, row.new, 1), needs); !slices.Equal(got, row.want) {
				t.Errorf("findings = %v, want %v", got, row.want)
			}
		})
	}
}

// The filter is off on the listener, as Envoy Gateway writes it, and one of two routes
// switches it on.
func TestRoutesThatDoNotSwitchTheFilterOn(t *testing.T) {
	const perRoute = `{envoy.filters.http.ext_authz/pdp: {"@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, check_settings: {context_extensions: {a: b}}}}`
	text := fmt.Sprintf(`
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: http
filter_chains:
- filters:
  - name: hcm
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      normalize_path: true
      merge_slashes: true
      path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT
      common_http_protocol_options: {headers_with_underscores_action: REJECT_REQUEST}
      route_config:
        virtual_hosts:
        - name: shop
          routes:
          - {name: guarded, route: {cluster: a}, typed_per_filter_config: %s}
          - {name: forgotten, route: {cluster: a}}
      http_filters:
      - name: envoy.filters.http.ext_authz/pdp
        disabled: true
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
          transport_api_version: V3
          status_on_error: {code: ServiceUnavailable}
          grpc_service: {envoy_grpc: {cluster_name: pdp}, timeout: 1s, retry_policy: {num_retries: 1}}
      - {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
`, perRoute)
	report, err := Examine([]byte(text), Needs{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].Check != "disabled" || !strings.HasSuffix(report.Findings[0].Path, "routes[forgotten]") {
		t.Errorf("findings = %+v, want the forgotten route", report.Findings)
	}
}

// What Istio's control plane generated, for policies that name paths and for one that does not.
func TestIstioPathRulesAreFound(t *testing.T) {
	for _, file := range []string{"sidecar-listener", "gateway-listener"} {
		for _, row := range []struct {
			variant string
			want    bool
		}{
			{"named-paths-", true},
			{"", false},
		} {
			name := "test/mesh/generated/" + row.variant + file + ".json"
			report, err := Examine([]byte(read(t, name)), Needs{})
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Check == "conditional" })
			if found != row.want {
				t.Errorf("%s: found rules that leave requests out: %t, want %t: %+v", name, found, row.want, report.Findings)
			}
		}
	}
}

func TestOutboundListenersOfAMeshAreNotLookedAt(t *testing.T) {
	report, err := Examine([]byte(`{"listeners": [{"name": "out", "traffic_direction": "OUTBOUND", "filter_chains": [{"filters": [{"typed_config": {"@type": "x.HttpConnectionManager", "http_filters": []}}]}]}]}`), Needs{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 0 || !slices.Equal(report.Skipped, []string{"out"}) {
		t.Errorf("report = %+v", report)
	}
}

// Envoy Gateway writes one filter for each policy, all off, and routes choose.
func TestOneOfSeveralFiltersGuardsARoute(t *testing.T) {
	const hcm = `{"listeners": [{"name": "http", "default_filter_chain": {"filters": [{"typed_config": {"@type": "x.HttpConnectionManager",
		"route_config": {"virtual_hosts": [{"name": "h", "routes": [
			{"name": "one", "route": {}, "typed_per_filter_config": {"a": {}}},
			{"name": "other", "route": {}, "typed_per_filter_config": {"b": {}}},
			{"name": "moved", "redirect": {}},
			{"name": "both off", "route": {}, "typed_per_filter_config": {"a": {"@type": "x.FilterConfig", "disabled": true}}}%s]}]},
		"http_filters": [{"name": "a", "disabled": true, "typed_config": {"@type": "x.ExtAuthz"}}, {"name": "b", "disabled": true, "typed_config": {"@type": "x.ExtAuthz"}}, {"typed_config": {"@type": "x.Router"}}]}}]}}]}`
	for _, row := range []struct {
		name, route string
		want        []string // ends of paths
	}{
		{"a route that switches all off", "", []string{"routes[both off].typed_per_filter_config[a]"}},
		{"a route that switches none on", `, {"name": "forgotten", "route": {}}`, []string{"routes[both off].typed_per_filter_config[a]", "routes[forgotten]"}},
		{"a share of a route", `, {"name": "split", "route": {"weighted_clusters": {"clusters": [{"name": "x", "typed_per_filter_config": {"a": {}}}, {"name": "y"}]}}}`, []string{"routes[both off].typed_per_filter_config[a]", "weighted_clusters.clusters[y]"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			report, err := Examine(fmt.Appendf(nil, hcm, row.route), Needs{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range report.Findings {
				if f.Check == "disabled" {
					got = append(got, f.Path)
				}
			}
			if !slices.EqualFunc(got, row.want, strings.HasSuffix) {
				t.Errorf("found %q, want %q", got, row.want)
			}
		})
	}
}

// A listener that answers with a status and no more, as Envoy Gateway's readiness does, has
// nothing behind it; one that answers with a text may.
func TestListenersWithNothingBehindThem(t *testing.T) {
	const text = `{"listeners": [{"name": "ready", "filterChains": [{"filters": [{"typedConfig": {"@type": "x.HttpConnectionManager",
		"routeConfig": {"virtualHosts": [{"routes": [{"match": {"prefix": "/"}, "directResponse": {"status": 500%s}}%s]}]},
		"httpFilters": [{"typedConfig": {"@type": "x.HealthCheck"}}, {"typedConfig": {"@type": "x.Router"}}]}}]}]}]}`
	for _, row := range []struct {
		name, body, more string
		want             []string
	}{
		{"a status", "", "", nil},
		{"a text", `, "body": {"inlineString": "secret"}`, "", []string{"error missing"}},
		{"an application as well", "", `, {"match": {"prefix": "/a"}, "route": {"cluster": "a"}}`, []string{"error missing"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := findings(t, fmt.Sprintf(text, row.body, row.more), Needs{}); !slices.Equal(got, row.want) {
				t.Errorf("findings = %v, want %v", got, row.want)
			}
		})
	}
}

// Metrics and readiness of the proxy itself, as Istio's and Envoy Gateway's bootstrap have
// them, are nobody's to ask about; a cluster of that name elsewhere is.
func TestListenersOfTheProxyItself(t *testing.T) {
	const text = `{"static_resources": {
		"listeners": [{"name": "stats", "filter_chains": [{"filters": [{"typed_config": {"@type": "x.HttpConnectionManager",
			"route_config": {"virtual_hosts": [{"routes": [{"match": {"prefix": "/stats"}, "route": {"cluster": "prometheus_stats"}}]}]},
			"http_filters": [{"typed_config": {"@type": "x.Router"}}]}}]}]}],
		"clusters": [{"name": "prometheus_stats", "connect_timeout": "1s", "load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "%s", "port_value": 15000}}}}]}]}}]}}`
	report, err := Examine(fmt.Appendf(nil, text, "127.0.0.1"), Needs{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 0 || !slices.Equal(report.Own, []string{"stats"}) {
		t.Errorf("report = %+v", report)
	}
	if got := findings(t, fmt.Sprintf(text, "10.0.0.1"), Needs{}); !slices.Equal(got, []string{"error missing"}) {
		t.Errorf("findings = %v, want the missing filter", got)
	}
}

// A dump holds what Envoy was told before, what it refused and, once more, its bootstrap.
func TestDumpsAreReadOnce(t *testing.T) {
	const listener = `{"name": "l", "filter_chains": [{"filters": [{"typed_config": {"@type": "x.HttpConnectionManager", "http_filters": []}}]}]}`
	text := strings.ReplaceAll(`{"configs": [
		{"@type": "x.BootstrapConfigDump", "bootstrap": {"static_resources": {"listeners": [L]}}},
		{"@type": "x.ListenersConfigDump", "static_listeners": [{"listener": L}],
		 "dynamic_listeners": [{"name": "d", "active_state": {"listener": L}, "draining_state": {"listener": L}, "error_state": {"failed_configuration": L}}]}]}`, "L]", listener+"]")
	text = strings.ReplaceAll(text, ": L", ": "+listener)
	if got := findings(t, text, Needs{}); !slices.Equal(got, []string{"error missing", "error missing"}) {
		t.Errorf("findings = %v, want the static and the active listener", got)
	}
}

func TestNotAConfiguration(t *testing.T) {
	for _, text := range []string{"", "[]", "hello", "{}", "a: 1", "{", "\x00"} {
		if report, err := Examine([]byte(text), Needs{}); err == nil {
			t.Errorf("Examine(%q) = %+v, want an error", text, report)
		}
	}
}

func FuzzExamine(f *testing.F) {
	f.Add(read(f, "envoy/envoy.yaml"))
	f.Add(read(f, "test/mesh/generated/gateway-listener.json"))
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		report, err := Examine([]byte(text), needs)
		if err == nil && len(report.Guarded) == 0 && len(report.Findings) == 0 && len(report.Skipped) == 0 {
			return // listeners without HTTP
		}
	})
}
