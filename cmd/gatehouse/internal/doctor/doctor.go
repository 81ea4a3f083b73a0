// Package doctor reads an Envoy configuration and says whether gatehouse really guards
// what it is meant to guard. It looks at what Envoy was told, not at what it does: a
// bootstrap file, the answer of /config_dump, or one listener as a control plane sent it.
//
// Start reading at [Examine].
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Finding is one thing that is wrong, or doubtful, in an Envoy configuration.
type Finding struct {
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Path     string `json:"path"` // where in the configuration
	Check    string `json:"check"`
	Severity string `json:"severity"` // "error": requests pass that should be asked about; or "warning"
	Message  string `json:"message"`
	Remedy   string `json:"remedy"`
}

// Needs is what a configuration of gatehouse expects of Envoy. Its zero value expects
// only what every configuration does.
type Needs struct {
	Identity []string // headers that come from gatehouse alone, and that no client may send for another reason
	Headers  []string // request headers that gatehouse must see
	Sources  bool     // where a connection comes from decides
	Body     bool     // signatures cover the body
	Message  int      // largest Check message in bytes; 0: not known
}

// Report is what an examination came to.
type Report struct {
	Findings []Finding `json:"findings"`
	Guarded  []string  `json:"guarded"` // listeners that ask
	Skipped  []string  `json:"skipped"` // outbound listeners of a mesh, which do not
	Own      []string  `json:"own"`     // listeners of the proxy's own metrics and readiness
}

// Errors counts the findings that let requests pass.
func (r *Report) Errors() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == "error" {
			n++
		}
	}
	return n
}

// Examine reads a configuration in JSON or YAML. An error means that it is none.
func Examine(text []byte, needs Needs) (*Report, error) {
	root, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the Envoy configuration: %w", err)
	}
	x := &examination{needs: needs, report: &Report{}}
	x.collect(root)
	if len(x.listeners) == 0 {
		return nil, fmt.Errorf("reading the Envoy configuration: it has no listener; a dump of listeners fetched by xDS needs `/config_dump?include_eds`, or `istioctl proxy-config all -o json`")
	}
	for _, l := range x.listeners {
		x.listener(l)
	}
	x.askedClusters()
	slices.SortStableFunc(x.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return x.report, nil
}

// An examination collects while it walks.
type examination struct {
	needs     Needs
	report    *Report
	listeners []node
	routes    map[string]node // route configurations by name, for listeners that fetch theirs
	clusters  map[string]node
	asked     map[string]node // clusters that ext_authz filters ask, and the filter
}

func (x *examination) find(at node, severity, check, message, remedy string) {
	f := Finding{Path: at.path, Check: check, Severity: severity, Message: message, Remedy: remedy}
	if at.value != nil {
		f.Line, f.Column = at.value.Line, at.value.Column
	}
	x.report.Findings = append(x.report.Findings, f)
}

// wrong is a finding that lets requests pass; doubt is one that does not.
func (x *examination) wrong(at node, check, message, remedy string) {
	x.find(at, "error", check, message, remedy)
}

func (x *examination) doubt(at node, check, message, remedy string) {
	x.find(at, "warning", check, message, remedy)
}

// collect finds listeners, route configurations and clusters wherever they are: in
// static_resources, in the sections of a config dump, or at the top.
//
// A dump tells of static resources twice, in the bootstrap and in the section of their
// kind; and it tells of what Envoy refused and of listeners that only finish what they have
// begun. None of these is looked at.
func (x *examination) collect(root node) {
	x.routes, x.clusters, x.asked = map[string]node{}, map[string]node{}, map[string]node{}
	sections := false
	for _, section := range root.field("configs").items() {
		sections = sections || section.isType("ListenersConfigDump")
	}
	root.walk(func(n node) bool {
		switch {
		case sections && n.isType("BootstrapConfigDump"), n.isField("draining_state"), n.isField("error_state"):
			return false
		case n.field("filter_chains").present() || n.field("default_filter_chain").present() || n.isType("Listener"):
			x.listeners = append(x.listeners, n)
			return false
		case n.isType("RouteConfiguration") || n.field("virtual_hosts").present() && n.field("name").present():
			x.routes[n.field("name").text()] = n
			return false
		case n.isType("Cluster") || n.field("connect_timeout").present() && n.field("name").present():
			x.clusters[n.field("name").text()] = n
			return false
		}
		return true
	})
}

func (x *examination) listener(l node) {
	name := l.field("name").text()
	var managers []node
	l.walk(func(n node) bool {
		if n.isType("HttpConnectionManager") {
			managers = append(managers, n)
			return false
		}
		return true
	})
	outbound := l.field("traffic_direction").text() == "OUTBOUND"
	guarded, own := x.connections(l), 0
	for _, m := range managers {
		if x.own(m) {
			own++
			continue
		}
		filters := x.filters(m, outbound)
		if len(filters) > 0 {
			guarded = true
			x.manager(m, filters)
		}
	}
	switch {
	case guarded:
		x.report.Guarded = append(x.report.Guarded, name)
	case own > 0 && own == len(managers):
		x.report.Own = append(x.report.Own, name)
	case outbound && len(managers) > 0:
		x.report.Skipped = append(x.report.Skipped, name)
	}
}

// own says whether a connection manager serves metrics and readiness of the proxy itself, as
// Istio's and Envoy Gateway's do: nothing is reached by it but the loopback interface, under
// the names that they give.
func (x *examination) own(m node) bool {
	routes := 0
	for _, host := range m.at("route_config", "virtual_hosts").items() {
		for _, route := range host.field("routes").items() {
			// Envoy Gateway's readiness: a status that Envoy itself answers with, and no more.
			if answer := route.field("direct_response"); answer.present() && !answer.field("body").present() {
				routes++
				continue
			}
			cluster := route.at("route", "cluster").text()
			if cluster != "prometheus_stats" && cluster != "agent" || !loopback(x.clusters[cluster]) {
				return false
			}
			routes++
		}
	}
	return routes > 0
}

// loopback says whether a cluster has endpoints, all of them on this machine.
func loopback(cluster node) bool {
	here, elsewhere := 0, 0
	cluster.field("load_assignment").walk(func(n node) bool {
		switch address := n.at("socket_address", "address").text(); {
		case address == "127.0.0.1" || address == "::1" || n.at("pipe", "path").present():
			here++
		case address != "":
			elsewhere++
		}
		return true
	})
	return here > 0 && elsewhere == 0
}

// connections checks the network filters that ask about connections. It says whether there
// is one.
func (x *examination) connections(l node) bool {
	found := false
	l.walk(func(chain node) bool {
		filters := chain.field("filters").items()
		for _, f := range filters {
			config := f.field("typed_config")
			if !config.isType("ExtAuthz") || !strings.Contains(config.field("@type").text(), ".network.") {
				continue
			}
			found = true
			if open := config.field("failure_mode_allow"); open.isTrue() {
				x.wrong(open, "fail-open", "connections pass when gatehouse cannot be asked", "set failure_mode_allow: false (failOpen: false)")
			}
			x.timeout(config)
			if metadata := config.field("filter_enabled_metadata"); metadata.present() {
				x.conditions(filters, metadata)
			}
		}
		return len(filters) == 0
	})
	return found
}

// filters finds the ext_authz filters of a connection manager, before its router. Envoy
// Gateway writes one for each policy, and has routes choose.
func (x *examination) filters(m node, outbound bool) []node {
	var found []node
	routed := false
	for _, f := range m.field("http_filters").items() {
		config := f.field("typed_config")
		if config.isType("Router") {
			routed = true
			continue
		}
		if !config.isType("ExtAuthz") {
			continue
		}
		if routed {
			x.wrong(f, "order", "the ext_authz filter comes after the router, which ends the chain", "move it before envoy.filters.http.router")
			return nil
		}
		found = append(found, f)
	}
	if len(found) == 0 && !outbound {
		at := m.field("http_filters")
		if !at.present() {
			at = m
		}
		x.wrong(at, "missing", "there is no ext_authz filter: nobody is asked about requests here", "add envoy.filters.http.ext_authz before the router, as in envoy/envoy.yaml; in a mesh or a gateway, a policy that selects this workload")
	}
	return found
}

// manager checks one connection manager that asks.
func (x *examination) manager(m node, filters []node) {
	for _, filter := range filters {
		x.asks(m, filter)
	}
	x.paths(m)
	x.identity(m)
	x.addresses(m)
	x.perRoute(m, filters)
}

// asks checks one ext_authz filter.
func (x *examination) asks(m, filter node) {
	config := filter.field("typed_config")
	x.failure(config)
	x.enabled(m, filter)
	x.timeout(config)
	x.headers(config)
	x.body(config)
	cluster := config.at("grpc_service", "envoy_grpc", "cluster_name")
	if cluster.present() {
		x.asked[cluster.text()] = cluster
	}
	if config.at("grpc_service", "envoy_grpc", "retry_policy").present() {
		x.doubt(config.at("grpc_service", "envoy_grpc", "retry_policy"), "retry", "retry_policy under envoy_grpc does nothing", "move it up, to grpc_service")
	} else if cluster.present() && !config.at("grpc_service", "retry_policy").present() && !istio(cluster.text()) {
		x.doubt(config.field("grpc_service"), "retry", "a replica of gatehouse that goes away costs requests", "add grpc_service.retry_policy, as in envoy/envoy.yaml")
	}
	if version := config.field("transport_api_version"); version.text() != "V3" {
		at := version
		if !at.present() {
			at = config
		}
		x.wrong(at, "version", "without transport_api_version V3 Envoy does not ask the service that gatehouse is", "set transport_api_version: V3")
	}
	if config.field("clear_route_cache").isTrue() {
		x.doubt(config.field("clear_route_cache"), "route-cache", "the route is chosen again after gatehouse has decided about the first choice", "remove clear_route_cache, unless routes match on identity headers")
	}
}

// istio says whether a cluster has a name as Istio gives them; its control plane decides
// about retries and health checks.
func istio(cluster string) bool { return strings.Contains(cluster, "|") }

func (x *examination) failure(config node) {
	if f := config.field("failure_mode_allow"); f.isTrue() {
		x.wrong(f, "fail-open", "requests pass when gatehouse cannot be asked", "set failure_mode_allow: false (failOpen: false)")
	}
	if !config.field("status_on_error").present() {
		x.doubt(config, "status-on-error", "clients get 403 when gatehouse cannot be asked, as if they were not allowed", "set status_on_error: {code: ServiceUnavailable} (statusOnError)")
	}
}

// Bounds of a sane timeout: a key that has to be fetched first takes longer than the first,
// and a client should not wait longer than the second for a gatehouse that hangs.
const (
	shortest = 250 * time.Millisecond
	longest  = 15 * time.Second
)

func (x *examination) timeout(config node) {
	service := config.field("grpc_service")
	if !service.present() {
		service = config.at("http_service", "server_uri")
	}
	value := service.field("timeout")
	if !value.present() {
		x.doubt(service, "timeout", "without a timeout Envoy waits 200 ms, which is too short for a token whose key has to be fetched first", "set timeout: 1s")
		return
	}
	d, err := time.ParseDuration(value.text())
	switch {
	case err != nil:
	case d < shortest:
		x.doubt(value, "timeout", fmt.Sprintf("%v is too short for a token whose key has to be fetched first", d), "set timeout: 1s")
	case d > longest:
		x.doubt(value, "timeout", fmt.Sprintf("a gatehouse that hangs holds each request for %v", d), "set timeout: 1s")
	}
	// What Envoy calls the longest pause between attempts bounds the attempts as well.
	attempt := service.at("retry_policy", "retry_back_off", "max_interval")
	if cut, wrong := time.ParseDuration(attempt.text()); err == nil && wrong == nil && d <= longest && cut < d/2 {
		x.doubt(attempt, "attempt", fmt.Sprintf("Envoy gives up each attempt after %v, also while gatehouse waits for an issuer", cut), fmt.Sprintf("set max_interval: %gs, half of the timeout", (d/2).Seconds()))
	}
}

// headers checks what Envoy shows of a request.
func (x *examination) headers(config node) {
	allowed := config.field("allowed_headers")
	if allowed.present() {
		hidden := slices.DeleteFunc(slices.Clone(x.needs.Headers), func(h string) bool { return matched(allowed, h) })
		switch {
		case len(hidden) > 0:
			x.wrong(allowed, "hidden", fmt.Sprintf("gatehouse needs headers that it is not shown: %s", strings.Join(hidden, ", ")), "add them, or remove allowed_headers")
		case len(x.needs.Headers) == 0:
			x.doubt(allowed, "hidden", "gatehouse cannot see every header, and removes only those spellings that it sees", "remove allowed_headers")
		}
	}
	if hiding := config.field("disallowed_headers"); hiding.present() {
		hidden := slices.DeleteFunc(slices.Clone(x.needs.Headers), func(h string) bool { return !matched(hiding, h) })
		if len(hidden) > 0 {
			x.wrong(hiding, "hidden", fmt.Sprintf("gatehouse needs headers that it is not shown: %s", strings.Join(hidden, ", ")), "take them out of disallowed_headers")
		}
	}
}

// matched says whether a ListStringMatcher names a header exactly or by a prefix.
func matched(list node, header string) bool {
	for _, p := range list.field("patterns").items() {
		if p.field("exact").text() == header {
			return true
		}
		if prefix := p.field("prefix").text(); prefix != "" && strings.HasPrefix(header, prefix) {
			return true
		}
	}
	return false
}

func (x *examination) body(config node) {
	body := config.field("with_request_body")
	if x.needs.Body {
		switch {
		case !body.present():
			x.wrong(config, "body", "signatures of peers cover the body, which gatehouse is not shown", "set with_request_body: {max_request_bytes: 1048576}")
		case body.field("allow_partial_message").isTrue():
			x.doubt(body.field("allow_partial_message"), "body", "gatehouse refuses signed requests of whose body it sees only a part", "set allow_partial_message: false, so that larger ones are refused with 413")
		}
	}
	limit := body.field("max_request_bytes")
	var bytes int
	if _, err := fmt.Sscan(limit.text(), &bytes); err == nil && x.needs.Message > 0 && bytes+headerBytes > x.needs.Message {
		x.wrong(limit, "message", fmt.Sprintf("a body of %d bytes and its headers exceed limits.message_bytes of %d: such checks fail as RPC errors", bytes, x.needs.Message), "raise limits.message_bytes in gatehouse, or lower max_request_bytes")
	}
}

// headerBytes is Envoy's default limit of a request's headers.
const headerBytes = 60 << 10

func (x *examination) paths(m node) {
	for _, want := range []struct{ field, value, message string }{
		{"normalize_path", "true", "/a/../b reaches gatehouse as it came, and is refused"},
		{"merge_slashes", "true", "/a//b reaches gatehouse as it came, and is refused"},
	} {
		if f := m.field(want.field); f.text() != want.value {
			x.doubt(orSelf(f, m), "path", want.message, fmt.Sprintf("set %s: %s", want.field, want.value))
		}
	}
	if f := m.field("path_with_escaped_slashes_action"); f.text() != "REJECT_REQUEST" && f.text() != "UNESCAPE_AND_REDIRECT" {
		at := orSelf(f, m)
		if f.text() == "UNESCAPE_AND_FORWARD" {
			x.doubt(at, "path", "%2F becomes a slash after routes were written for a path without it", "set path_with_escaped_slashes_action: REJECT_REQUEST")
		} else {
			x.doubt(at, "path", "%2F reaches gatehouse as it came, and is refused", "set path_with_escaped_slashes_action: REJECT_REQUEST")
		}
	}
	if f := m.at("common_http_protocol_options", "headers_with_underscores_action"); f.text() != "REJECT_REQUEST" && f.text() != "DROP_HEADER" {
		x.doubt(orSelf(f, m), "underscores", "x_user reaches upstreams that take it for x-user; gatehouse removes those spellings that it knows", "set common_http_protocol_options.headers_with_underscores_action: REJECT_REQUEST")
	}
}

func orSelf(n, self node) node {
	if n.present() {
		return n
	}
	return self
}

// identity checks that identity headers are removed before anything else looks at them.
func (x *examination) identity(m node) {
	if len(x.needs.Identity) == 0 {
		return
	}
	removed := map[string]bool{}
	var prefixes []string
	extensions := m.field("early_header_mutation_extensions")
	extensions.walk(func(n node) bool {
		if r := n.field("remove"); r.text() != "" {
			removed[strings.ToLower(r.text())] = true
		}
		if p := n.at("remove_on_match", "key_matcher", "prefix"); p.text() != "" {
			prefixes = append(prefixes, strings.ToLower(p.text()))
		}
		return true
	})
	left := slices.DeleteFunc(slices.Clone(x.needs.Identity), func(h string) bool {
		return removed[h] || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(h, p) })
	})
	if len(left) > 0 {
		x.doubt(orSelf(extensions, m), "identity", "identity headers of clients are not removed before the filters run: "+strings.Join(left, ", "), "remove them in early_header_mutation_extensions, as in envoy/envoy.yaml; gatehouse removes them too, but a filter before it may believe them")
	}
}

func (x *examination) addresses(m node) {
	if f := m.field("use_remote_address"); x.needs.Sources && !f.isTrue() {
		x.wrong(orSelf(f, m), "addresses", "the source that gatehouse compares comes from x-forwarded-for, which clients write", "set use_remote_address: true, with xff_num_trusted_hops behind other proxies")
	}
}

// askedClusters checks the clusters by which gatehouse is reached.
func (x *examination) askedClusters() {
	for name, at := range x.asked {
		cluster, known := x.clusters[name]
		if !known || istio(name) {
			continue // of a control plane, or not in this file
		}
		if !cluster.field("health_checks").present() {
			x.doubt(cluster, "health", "a replica of gatehouse that drains or hangs still gets checks", "add a grpc_health_check for envoy.service.auth.v3.Authorization")
		}
		if !http2(cluster) {
			x.wrong(orSelf(cluster, at), "http2", "gRPC needs HTTP/2, which this cluster does not speak", "set explicit_http_config: {http2_protocol_options: {}}")
		}
	}
}

func http2(cluster node) bool {
	if cluster.field("http2_protocol_options").present() {
		return true
	}
	found := false
	cluster.field("typed_extension_protocol_options").walk(func(n node) bool {
		found = found || n.field("http2_protocol_options").present()
		return true
	})
	return found
}
