package mesh

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

const (
	istioFolder   = "../../envoy/istio"
	gatewayFolder = "../../envoy/gateway"
	chartFolder   = "../../envoy/kubernetes/chart"
)

func istioDefinitions(t *testing.T) []string {
	return definitions(t, istioAPI, "kubernetes/customresourcedefinitions.gen.yaml")
}

func gatewayDefinitions(t *testing.T) []string {
	const folder = "charts/gateway-helm/charts/crds/crds/"
	return definitions(t, envoyGateway, folder+"gatewayapi-crds.yaml",
		folder+"generated/gateway.envoyproxy.io_securitypolicies.yaml",
		folder+"generated/gateway.envoyproxy.io_clienttrafficpolicies.yaml")
}

// TestManifestsMeetTheirDefinitions holds what users apply against the definitions that an
// API server would check it with.
func TestManifestsMeetTheirDefinitions(t *testing.T) {
	for _, row := range []struct {
		folder      string
		definitions []string
		files       []string
	}{
		{istioFolder, istioDefinitions(t), []string{"authorization-policy.yaml", "destination-rule.yaml", "envoy-filter.yaml"}},
		{gatewayFolder, gatewayDefinitions(t), []string{"security-policy.yaml", "client-traffic-policy.yaml"}},
	} {
		for _, file := range row.files {
			if _, wrong := manifest(t, append(row.definitions, filepath.Join(row.folder, file))...); wrong != "" {
				t.Errorf("%s: %s", file, wrong)
			}
		}
	}
}

// TestBrokenManifestsAreFound proves that the test above can fail.
func TestBrokenManifestsAreFound(t *testing.T) {
	for _, row := range []struct {
		name, folder, file string
		definitions        []string
		old, new, want     string
	}{
		{"an unknown field", istioFolder, "authorization-policy.yaml", istioDefinitions(t), "provider: {name: gatehouse}", "providers: {name: gatehouse}", "providers: unknown field"},
		{"an unknown action", istioFolder, "authorization-policy.yaml", istioDefinitions(t), "action: CUSTOM", "action: ASK", "action"},
		{"a status as text", gatewayFolder, "security-policy.yaml", gatewayDefinitions(t), "statusOnError: 503", `statusOnError: "503"`, "statusOnError"},
		{"a field of another level", gatewayFolder, "security-policy.yaml", gatewayDefinitions(t), "    timeout: 1s\n", "    timeout: 1s\n    retry: {numRetries: 1}\n", "retry: unknown field"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(row.folder, row.file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), row.old) {
				t.Fatalf("%s has no %q", row.file, row.old)
			}
			broken := filepath.Join(t.TempDir(), row.file)
			if err := os.WriteFile(broken, []byte(strings.ReplaceAll(string(text), row.old, row.new)), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, wrong := manifest(t, append(row.definitions, broken)...); !strings.Contains(wrong, row.want) {
				t.Errorf("found %q, want something about %q", wrong, row.want)
			}
		})
	}
}

// TestConfigurationsLoad has gatehouse read what users copy.
func TestConfigurationsLoad(t *testing.T) {
	for _, folder := range []string{istioFolder, gatewayFolder} {
		validate(t, filepath.Join(folder, "gatehouse.yaml"))
	}
}

func validate(t *testing.T, file string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), harness.Binary(t), "validate", file).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}

// chart renders the chart with values, checks every document, and returns them by kind and
// name.
func chart(t *testing.T, values object) (map[string]object, string) {
	t.Helper()
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	monitors := definitions(t, prometheusOperator, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml")
	out, wrong := manifest(t, append(monitors, "-chart="+chartFolder, "-values="+file)...)
	documents := map[string]object{}
	decoder := yaml.NewDecoder(strings.NewReader(out))
	for {
		var document object
		if decoder.Decode(&document) != nil || document == nil {
			return documents, wrong
		}
		documents[document["kind"].(string)+" "+at(document, "metadata", "name").(string)] = document
	}
}

// at follows names into nested objects; nil where there is nothing.
func at(value any, names ...string) any {
	for _, name := range names {
		o, _ := value.(object)
		value = o[name]
	}
	return value
}

func TestChartByDefault(t *testing.T) {
	documents, wrong := chart(t, object{})
	if wrong != "" {
		t.Fatal(wrong)
	}
	want := []string{
		"ConfigMap gatehouse", "Deployment gatehouse", "NetworkPolicy gatehouse", "PodDisruptionBudget gatehouse",
		"Service gatehouse", "Service gatehouse-ops", "ServiceAccount gatehouse",
	}
	if got := slices.Sorted(maps.Keys(documents)); !slices.Equal(got, want) {
		t.Errorf("documents = %q, want %q", got, want)
	}
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	config := at(documents["ConfigMap gatehouse"], "data", "gatehouse.yaml").(string)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	validate(t, file)

	pod := at(documents["Deployment gatehouse"], "spec", "template", "spec").(object)
	container := at(pod, "containers").([]any)[0].(object)
	for _, row := range []struct {
		name string
		got  any
		want any
	}{
		{"the pod is not root", at(pod, "securityContext", "runAsNonRoot"), true},
		{"the pod has a seccomp profile", at(pod, "securityContext", "seccompProfile", "type"), "RuntimeDefault"},
		{"the pod has no token of the cluster", at(pod, "automountServiceAccountToken"), false},
		{"the root file system is read-only", at(container, "securityContext", "readOnlyRootFilesystem"), true},
		{"nothing gains privileges", at(container, "securityContext", "allowPrivilegeEscalation"), false},
		{"readiness is Envoy's question", at(container, "readinessProbe", "grpc", "service"), "envoy.service.auth.v3.Authorization"},
	} {
		if row.got != row.want {
			t.Errorf("%s: %v, want %v", row.name, row.got, row.want)
		}
	}
	if drop, _ := at(container, "securityContext", "capabilities", "drop").([]any); !slices.Equal(drop, []any{"ALL"}) {
		t.Errorf("capabilities dropped: %v, want all", drop)
	}
	if spread, _ := at(pod, "topologySpreadConstraints").([]any); len(spread) != 2 {
		t.Errorf("%d topology spread constraints, want zone and host", len(spread))
	}
}

// TestChartKeepsOpsPrivate looks for ways to the port that asks for no credentials.
func TestChartKeepsOpsPrivate(t *testing.T) {
	documents, wrong := chart(t, object{"http": object{"enabled": true}})
	if wrong != "" {
		t.Fatal(wrong)
	}
	for _, port := range at(documents["Service gatehouse"], "spec", "ports").([]any) {
		if at(port, "targetPort") == "ops" {
			t.Error("the service that Envoys use leads to the ops port")
		}
	}
	for _, rule := range at(documents["NetworkPolicy gatehouse"], "spec", "ingress").([]any) {
		ports, err := json.Marshal(at(rule, "ports"))
		if err != nil {
			t.Fatal(err)
		}
		from := at(rule, "from").([]any)[0]
		if strings.Contains(string(ports), "ops") && at(from, "namespaceSelector", "matchLabels", "kubernetes.io/metadata.name") != "monitoring" {
			t.Errorf("the ops port is open to %v", from)
		}
	}
}

// TestChartWithEverything renders each template and each branch.
func TestChartWithEverything(t *testing.T) {
	documents, wrong := chart(t, object{
		"image":            object{"repository": "registry.example.com/gatehouse", "digest": "sha256:" + strings.Repeat("0", 64)},
		"imagePullSecrets": []any{object{"name": "pull"}},
		"secretFiles":      []any{object{"name": "orders", "secretName": "orders-keys"}},
		"env":              []any{object{"name": "ISSUER", "value": "https://idp.example.com"}},
		"envFrom":          []any{object{"secretRef": object{"name": "more"}}},
		"tls":              object{"secretName": "gatehouse-tls"},
		"http":             object{"enabled": true},
		"autoscaling":      object{"enabled": true},
		"service":          object{"annotations": object{"a": "b"}},
		"serviceAccount":   object{"annotations": object{"a": "b"}},
		"serviceMonitor":   object{"enabled": true, "labels": object{"release": "prometheus"}},
		"podAnnotations":   object{"a": "b"},
		"podLabels":        object{"sidecar.istio.io/inject": "false"},
		"nodeSelector":     object{"kubernetes.io/os": "linux"},
		"tolerations":      []any{object{"key": "edge", "operator": "Exists"}},
		"affinity":         object{"nodeAffinity": object{}},

		"priorityClassName": "system-cluster-critical",
	})
	if wrong != "" {
		t.Fatal(wrong)
	}
	for _, name := range []string{"ServiceMonitor gatehouse", "HorizontalPodAutoscaler gatehouse"} {
		if documents[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if replicas := at(documents["Deployment gatehouse"], "spec", "replicas"); replicas != nil {
		t.Errorf("replicas = %v beside an autoscaler, want none", replicas)
	}
	container := at(documents["Deployment gatehouse"], "spec", "template", "spec", "containers").([]any)[0]
	if at(container, "readinessProbe", "grpc") != nil {
		t.Error("the kubelet's gRPC probe asks a port that speaks TLS")
	}
	if image := at(container, "image").(string); !strings.HasPrefix(image, "registry.example.com/gatehouse@sha256:") {
		t.Errorf("image = %q, want the digest", image)
	}
}

// TestChartRefusesValues: what is misspelt or makes no sense is an error and not the default.
func TestChartRefusesValues(t *testing.T) {
	for _, row := range []struct {
		name   string
		values object
		want   string
	}{
		{"a misspelt value", object{"replicaCount": 3}, "replicaCount"},
		{"a misspelt value further down", object{"networkPolicy": object{"enable": false}}, "enable"},
		{"a text for a number", object{"replicas": "two"}, "replicas"},
		{"no replica", object{"replicas": 0}, "replicas"},
		{"an empty configuration", object{"config": ""}, "config"},
		{"nobody may ask", object{"networkPolicy": object{"clients": []any{}}}, "clients"},
		{"a digest that is none", object{"image": object{"digest": "latest"}}, "digest"},
		{"a grace period that ends before draining does", object{"drainDelaySeconds": 40}, "terminationGracePeriodSeconds"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if _, wrong := chart(t, row.values); !strings.Contains(wrong, row.want) {
				t.Errorf("found %q, want something about %q", wrong, row.want)
			}
		})
	}
}
