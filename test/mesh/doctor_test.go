package mesh

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// TestDoctorReadsARunningEnvoy dumps the shipped configuration from the Envoy that runs it.
func TestDoctorReadsARunningEnvoy(t *testing.T) {
	config := filepath.Join(t.TempDir(), "gatehouse.yaml")
	const needs = "version: 1\nauthenticators:\n- {name: corp, jwt: {issuer: https://idp.example.com, audiences: [orders]}}\nroutes:\n- match: [/]\n  allow: [{authenticated: true}]\nforward:\n  headers: {x-user: \"{username}\", x-roles: \"{roles}\"}\n"
	if err := os.WriteFile(config, []byte(needs), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := []string{"127.0.0.1:1"}
	e := harness.StartEnvoy(t, "127.0.0.1:1",
		harness.Front{Name: "front", Gatehouse: nobody})
	if checks, findings := meshtest.Examine(t, meshtest.Dump(t, e.Admin()), config); len(checks) > 0 {
		t.Errorf("the shipped configuration: %+v", findings)
	}
	e = harness.StartEnvoy(t, "127.0.0.1:1",
		harness.Front{Name: "front", Gatehouse: nobody},
		harness.Front{Name: "open", Gatehouse: nobody, Changes: []harness.Change{harness.Unhardened, harness.FailOpen}})
	checks, findings := meshtest.Examine(t, meshtest.Dump(t, e.Admin()), config)
	if want := []string{"error fail-open", "warning identity", "warning path", "warning status-on-error", "warning underscores"}; !slices.Equal(checks, want) {
		t.Errorf("findings = %v, want %v", checks, want)
	}
	for i, f := range findings {
		if strings.Contains(f.Path, "[front]") {
			t.Errorf("found in the listener without a fault: %+v", f)
		}
		for _, other := range findings[:i] {
			if f.Check == other.Check && f.Message == other.Message {
				t.Errorf("found twice: %+v and %+v", other, f)
			}
		}
	}
}

// edit gives a copy of a configuration with changes.
func edit(t *testing.T, text []byte, changes ...func(object)) []byte {
	t.Helper()
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(o)
	}
	changed, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// typed applies a change to every message of a type, whatever its version.
func typed(name string, change func(message object)) func(object) {
	return func(whole object) {
		each(whole, func(o object) {
			if strings.HasSuffix(text(o["@type"]), name) {
				change(o)
			}
		})
	}
}

// extAuthz changes the filter, perRoute the first route of each virtual host.
func extAuthz(change func(filter object)) func(object) {
	return typed(".http.ext_authz.v3.ExtAuthz", change)
}

func perRoute(change func(route object)) func(object) {
	return func(whole object) {
		each(whole, func(o object) {
			for _, name := range []string{"virtual_hosts", "virtualHosts"} {
				if hosts, ok := o[name].([]any); ok {
					for _, host := range hosts {
						change(host.(object)["routes"].([]any)[0].(object))
					}
				}
			}
		})
	}
}

// without takes HTTP filters of a type away.
func without(kind string) func(object) {
	return func(whole object) {
		each(whole, func(o object) {
			if filters, ok := o["http_filters"].([]any); ok {
				o["http_filters"] = slices.DeleteFunc(filters, func(f any) bool {
					return strings.HasSuffix(text(at(f, "typed_config", "@type")), kind)
				})
			}
		})
	}
}

// set changes one field of the filter.
func set(field string, value any) func(object) {
	return extAuthz(func(filter object) { filter[field] = value })
}

// perRouteOff is a configuration of the filter that switches it off.
var perRouteOff = object{"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": true}

// TestDoctorReadsIstio plants faults in what Istio generated, as a running Envoy dumps it.
func TestDoctorReadsIstio(t *testing.T) {
	running := meshtest.Dump(t, start(t, setup{}).envoy.Admin())
	type changes = []func(object)
	for _, row := range []struct {
		name    string
		changes changes
		want    []string // beside meshtest.MeshWarnings
	}{
		{"the policy in envoy/istio", nil, nil},
		{"a policy for some addresses", changes{typed(".rbac.v3.RBAC", func(f object) {
			for _, policy := range at(f, "shadow_rules", "policies").(object) {
				policy.(object)["principals"] = []any{object{"direct_remote_ip": object{"address_prefix": "10.0.0.0", "prefix_len": 8}}}
			}
		})}, []string{"error conditional"}},
		{"a condition that other rules set", changes{extAuthz(func(f object) {
			at(f, "filter_enabled_metadata", "value", "string_match").(object)["prefix"] = "istio-ext-authz-other"
		})}, []string{"error conditional"}},
		{"a condition that no rules set", changes{without(".http.rbac.v3.RBAC")}, []string{"error conditional"}},
		{"failOpen", changes{set("failure_mode_allow", true)}, []string{"error fail-open"}},
		{"failOpen for connections", changes{typed(".network.ext_authz.v3.ExtAuthz", func(f object) { f["failure_mode_allow"] = true })}, []string{"error fail-open"}},
		{"no statusOnError", changes{extAuthz(func(f object) { delete(f, "status_on_error") })}, []string{"warning status-on-error"}},
		{"Istio's own timeout", changes{extAuthz(func(f object) { f["grpc_service"].(object)["timeout"] = "600s" })}, []string{"warning timeout"}},
		{"a timeout that is too short", changes{extAuthz(func(f object) { f["grpc_service"].(object)["timeout"] = "0.010s" })}, []string{"warning timeout"}},
		{"off for a route", changes{perRoute(func(r object) {
			r["typed_per_filter_config"] = object{"envoy.filters.http.ext_authz": perRouteOff}
		})}, []string{"error disabled"}},
		{"headers hidden by an EnvoyFilter", changes{set("allowed_headers", object{"patterns": []any{object{"exact": "x-request-id"}}})}, []string{"error hidden"}},
		{"a share of the requests", changes{set("filter_enabled", object{"default_value": object{"numerator": 50}})}, []string{"error sampled"}},
		{"the route chosen again", changes{set("clear_route_cache", true)}, []string{"warning route-cache"}},
		{"a body that does not fit", changes{set("with_request_body", object{"max_request_bytes": 64 << 20})}, []string{"error message"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := append(slices.Clone(meshtest.MeshWarnings), row.want...)
			slices.Sort(want)
			if checks, findings := meshtest.Examine(t, edit(t, running, row.changes...), filepath.Join(istioFolder, "gatehouse.yaml")); !slices.Equal(checks, want) {
				t.Errorf("findings = %v, want %v: %+v", checks, want, findings)
			}
		})
	}
	t.Run("a policy that names paths", func(t *testing.T) {
		named := meshtest.Dump(t, start(t, setup{variant: "named-paths-"}).envoy.Admin())
		want := append([]string{"error conditional"}, meshtest.MeshWarnings...)
		if checks, findings := meshtest.Examine(t, named, filepath.Join(istioFolder, "gatehouse.yaml")); !slices.Equal(checks, want) {
			t.Errorf("findings = %v, want %v: %+v", checks, want, findings)
		}
	})
	t.Run("the filter in envoy/istio", func(t *testing.T) {
		filtered := meshtest.Dump(t, start(t, setup{variant: "envoy-filter-"}).envoy.Admin())
		if _, findings := meshtest.Examine(t, filtered, filepath.Join(istioFolder, "gatehouse.yaml")); len(findings) != 0 {
			t.Errorf("findings = %+v, want none", findings)
		}
	})
	t.Run("no policy", func(t *testing.T) {
		checks, findings := meshtest.Examine(t, edit(t, running, without(".http.ext_authz.v3.ExtAuthz")), filepath.Join(istioFolder, "gatehouse.yaml"))
		if want := []string{"error missing"}; !slices.Equal(checks, want) {
			t.Errorf("findings = %v, want %v: %+v", checks, want, findings)
		}
	})
}

// gatewayGolden is what Envoy Gateway's translator makes of two SecurityPolicies, from its own
// golden files.
func gatewayGolden(t *testing.T) []byte {
	t.Helper()
	folder := filepath.Join(moduleFolder(t, envoyGateway), "internal/xds/translator/testdata/out/xds-ir")
	whole := object{}
	for _, kind := range []string{"listeners", "routes", "clusters"} {
		content, err := os.ReadFile(filepath.Join(folder, "ext-auth-retry."+kind+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var resources []any
		if err := yaml.Unmarshal(content, &resources); err != nil {
			t.Fatal(err)
		}
		whole[kind] = resources
	}
	content, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// asShipped gives the golden configuration the settings of envoy/gateway, and one policy for
// all routes.
func asShipped(whole object) {
	const policy = "envoy.filters.http.ext_authz/securitypolicy/default/policy-for-http-route-1"
	each(whole, func(o object) {
		if filters, ok := o["httpFilters"].([]any); ok {
			o["httpFilters"] = slices.DeleteFunc(filters, func(f any) bool { return strings.HasSuffix(text(at(f, "name")), "policy-for-gateway-1") })
			o["pathWithEscapedSlashesAction"] = "REJECT_REQUEST"
			var remove []any
			for _, header := range []string{"x-tenant-id", "x-tenants", "x-user", "x-roles"} {
				remove = append(remove, object{"remove": header})
			}
			o["earlyHeaderMutationExtensions"] = []any{object{"name": "early", "typedConfig": object{"mutations": remove}}}
		}
		if routes, ok := o["routes"].([]any); ok {
			for _, route := range routes {
				if r, ok := route.(object); ok && r["match"] != nil {
					r["typedPerFilterConfig"] = object{policy: object{
						"@type":         "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
						"checkSettings": object{"contextExtensions": object{"listener": "front"}},
					}}
				}
			}
		}
		if strings.HasSuffix(text(o["name"]), "policy-for-http-route-1/default/grpc-backend") && o["type"] != nil {
			o["healthChecks"] = []any{object{"grpcHealthCheck": object{"serviceName": "envoy.service.auth.v3.Authorization"}}}
		}
	})
	extAuthz(func(f object) {
		delete(f, "allowedHeaders")
		f["statusOnError"] = object{"code": "ServiceUnavailable"}
		f["grpcService"].(object)["timeout"] = "1s"
	})(whole)
}

// TestDoctorReadsEnvoyGateway plants faults in what Envoy Gateway generates.
func TestDoctorReadsEnvoyGateway(t *testing.T) {
	golden := gatewayGolden(t)
	manager := func(field string, value any) func(object) {
		return typed(".HttpConnectionManager", func(m object) { m[field] = value })
	}
	type changes = []func(object)
	for _, row := range []struct {
		name    string
		changes changes
		want    []string
	}{
		// failOpen, headersToExtAuth and the pause between attempts are what these policies say.
		{"two policies as they are", nil, []string{"error fail-open", "error hidden", "warning attempt", "warning health", "warning identity", "warning status-on-error"}},
		{"the policy in envoy/gateway", changes{asShipped}, nil},
		{"a route without the policy", changes{asShipped, perRoute(func(r object) { delete(r, "typedPerFilterConfig") })}, []string{"error disabled"}},
		{"a route that switches it off", changes{asShipped, perRoute(func(r object) {
			for name := range r["typedPerFilterConfig"].(object) {
				r["typedPerFilterConfig"].(object)[name] = perRouteOff
			}
		})}, []string{"error disabled"}},
		{"failOpen", changes{asShipped, set("failureModeAllow", true)}, []string{"error fail-open"}},
		{"no statusOnError", changes{asShipped, extAuthz(func(f object) { delete(f, "statusOnError") })}, []string{"warning status-on-error"}},
		{"a timeout of a minute", changes{asShipped, extAuthz(func(f object) { f["grpcService"].(object)["timeout"] = "60s" })}, []string{"warning timeout"}},
		{"no retries", changes{asShipped, extAuthz(func(f object) { delete(f["grpcService"].(object), "retryPolicy") })}, []string{"warning retry"}},
		{"headersToExtAuth", changes{asShipped, set("allowedHeaders", object{"patterns": []any{object{"exact": "cookie", "ignoreCase": true}}})}, []string{"error hidden"}},
		{"recomputeRoute", changes{asShipped, set("clearRouteCache", true)}, []string{"warning route-cache"}},
		{"a body that does not fit", changes{asShipped, set("withRequestBody", object{"maxRequestBytes": 64 << 20})}, []string{"error message"}},
		{"identity headers left", changes{asShipped, manager("earlyHeaderMutationExtensions", []any{})}, []string{"warning identity"}},
		{"slashes unescaped", changes{asShipped, manager("pathWithEscapedSlashesAction", "UNESCAPE_AND_FORWARD")}, []string{"warning path"}},
		{"slashes not merged", changes{asShipped, manager("mergeSlashes", false)}, []string{"warning path"}},
		{"underscores allowed", changes{asShipped, manager("commonHttpProtocolOptions", object{"headersWithUnderscoresAction": "ALLOW"})}, []string{"warning underscores"}},
		{"no health checks", changes{asShipped, func(whole object) {
			each(whole, func(o object) { delete(o, "healthChecks") })
		}}, []string{"warning health"}},
		{"routes that are not in the dump", changes{asShipped, func(whole object) { delete(whole, "routes") }}, []string{"warning routes"}},
		{"no policy", changes{asShipped, func(whole object) {
			each(whole, func(o object) {
				if filters, ok := o["httpFilters"].([]any); ok {
					o["httpFilters"] = filters[len(filters)-1:]
				}
			})
		}}, []string{"error missing"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if checks, findings := meshtest.Examine(t, edit(t, golden, row.changes...), filepath.Join(gatewayFolder, "gatehouse.yaml")); !slices.Equal(checks, row.want) {
				t.Errorf("findings = %v, want %v: %+v", checks, row.want, findings)
			}
		})
	}
}

// text is a string, or nothing.
func text(value any) string {
	s, _ := value.(string)
	return s
}
