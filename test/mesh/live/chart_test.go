package live

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// everything are values that use each template and each branch of the chart.
const everything = `
image: {repository: registry.example.com/gatehouse, digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000"}
imagePullSecrets: [{name: pull}]
secretFiles: [{name: orders, secretName: orders-keys}]
env: [{name: ISSUER, value: "https://idp.example.com"}]
envFrom: [{secretRef: {name: more}}]
tls: {secretName: gatehouse-tls}
http: {enabled: true}
autoscaling: {enabled: true}
podDisruptionBudget: {maxUnavailable: 25%}
service: {annotations: {a: b}}
serviceAccount: {annotations: {a: b}}
serviceMonitor: {enabled: true, labels: {release: prometheus}}
podAnnotations: {a: b}
podLabels: {sidecar.istio.io/inject: "false"}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: edge, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: system-cluster-critical
`

// TestAPIServer has a real API server take what users give it: the chart, installed and
// upgraded by Helm itself, and the manifests of envoy/istio and envoy/gateway.
func TestAPIServer(t *testing.T) {
	c := startCluster(t)
	c.define(t, istioCRDs)
	c.define(t, routingCRDs)
	c.define(t, gatewayCRDs)
	c.define(t, operatorCRDs)
	for _, namespace := range []string{"demo", "istio-system", "istio-ingress"} {
		c.kubectl(t, "create", "namespace", namespace)
	}
	t.Run("the chart", c.chart)
	t.Run("the manifests", c.manifests)
}

func (c *cluster) chart(t *testing.T) {
	// What each namespace of a careful cluster says: no pod but one of these passes.
	c.applyText(t, `
apiVersion: v1
kind: Namespace
metadata: {name: gatehouse, labels: {pod-security.kubernetes.io/enforce: restricted}}
`)
	values := c.write(t, "everything.yaml", everything)
	config := "config=" + filepath.Join(istioFolder, "gatehouse.yaml")
	install := []string{chartFolder, "--namespace", "gatehouse", "--create-namespace", "--set-file", config}

	run(t, c.client(t, programs.Helm, "lint", "--strict", chartFolder))
	c.helm(t, append([]string{"install", "gatehouse"}, install...)...)
	for _, object := range []string{
		"deployment/gatehouse", "service/gatehouse", "service/gatehouse-ops", "configmap/gatehouse",
		"serviceaccount/gatehouse", "networkpolicy/gatehouse", "poddisruptionbudget/gatehouse",
	} {
		c.kubectl(t, "get", "--namespace", "gatehouse", object)
	}
	c.startsPod(t)
	if got, want := c.kubectl(t, "get", "configmap/gatehouse", "--namespace", "gatehouse", "--output", `jsonpath={.data.gatehouse\.yaml}`), shipped(t, istioFolder, "gatehouse.yaml"); strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("the configuration that arrived differs from the file:\n%s", got)
	}

	c.helm(t, append([]string{"upgrade", "gatehouse", "--values", values}, install...)...)
	for _, object := range []string{"servicemonitor/gatehouse", "horizontalpodautoscaler/gatehouse"} {
		c.kubectl(t, "get", "--namespace", "gatehouse", object)
	}
	c.startsPod(t)

	out, err := c.client(t, programs.Helm, append([]string{"upgrade", "gatehouse", "--set", "replicaCount=3"}, install...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "replicaCount") {
		t.Errorf("helm upgrade with a misspelt value: %v: %s", err, out)
	}
	c.helm(t, "uninstall", "gatehouse", "--namespace", "gatehouse")
}

// startsPod creates the pod of the Deployment, as its controller would: the API server
// refuses one that is not restricted.
func (c *cluster) startsPod(t *testing.T) {
	t.Helper()
	var deployment struct {
		Spec struct {
			Template struct {
				Metadata object
				Spec     object
			}
		}
	}
	if err := json.Unmarshal([]byte(c.kubectl(t, "get", "deployment/gatehouse", "--namespace", "gatehouse", "--output", "json")), &deployment); err != nil {
		t.Fatal(err)
	}
	template := deployment.Spec.Template
	template.Metadata["name"], template.Metadata["namespace"] = "gatehouse", "gatehouse"
	create := func() (string, error) {
		pod, err := json.Marshal(object{"apiVersion": "v1", "kind": "Pod", "metadata": template.Metadata, "spec": template.Spec})
		if err != nil {
			t.Fatal(err)
		}
		cmd := c.client(t, programs.Kubectl, "create", "--validate=strict", "--dry-run=server", "--filename", "-")
		cmd.Stdin = strings.NewReader(string(pod))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := create(); err != nil {
		t.Errorf("the pod is refused: %s", out)
	}
	delete(template.Spec, "securityContext")
	if out, err := create(); err == nil || !strings.Contains(out, "restricted") {
		t.Errorf("a pod without a security context: %v: %s", err, out)
	}
}

// manifests applies every file, and some that are wrong.
func (c *cluster) manifests(t *testing.T) {
	for _, file := range []string{
		filepath.Join(istioFolder, "authorization-policy.yaml"), filepath.Join(istioFolder, "destination-rule.yaml"), filepath.Join(istioFolder, "envoy-filter.yaml"),
		filepath.Join(gatewayFolder, "security-policy.yaml"), filepath.Join(gatewayFolder, "client-traffic-policy.yaml"),
	} {
		c.apply(t, file)
		c.remove(t, file)
	}
	for _, row := range []struct{ name, folder, file, old, new, want string }{
		{"an unknown field", istioFolder, "authorization-policy.yaml", "provider: {name: gatehouse}", "providers: {name: gatehouse}", "unknown field"},
		{"an unknown action", istioFolder, "authorization-policy.yaml", "action: CUSTOM", "action: ASK", "Unsupported value"},
		{"a status as text", gatewayFolder, "security-policy.yaml", "statusOnError: 503", `statusOnError: "503"`, "statusOnError"},
		{"retries in another place", gatewayFolder, "security-policy.yaml", "    timeout: 1s\n", "    timeout: 1s\n    retry: {numRetries: 1}\n", "unknown field"},
		{"no service to ask", gatewayFolder, "security-policy.yaml", "      - {name: gatehouse, namespace: gatehouse, port: 9191}                 # CHANGE\n", "", "backendRef"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := shipped(t, row.folder, row.file)
			if !strings.Contains(text, row.old) {
				t.Fatalf("%s has no %q", row.file, row.old)
			}
			cmd := c.client(t, programs.Kubectl, "apply", "--validate=strict", "--dry-run=server", "--filename", "-")
			cmd.Stdin = strings.NewReader(strings.ReplaceAll(text, row.old, row.new))
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), row.want) {
				t.Errorf("the API server says %v: %s; want something about %q", err, out, row.want)
			}
		})
	}
}
