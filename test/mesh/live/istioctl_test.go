package live

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
)

// everyEnvoyFilter is what istioctl says about each, whatever is in it.
const everyEnvoyFilter = "EnvoyFilter exposes internal implementation details"

// TestIstioctl has Istio's own linter read what users apply.
func TestIstioctl(t *testing.T) {
	istioctl := program(t, programs.Istioctl)
	var validate, files []string
	for _, name := range []string{"authorization-policy.yaml", "destination-rule.yaml", "envoy-filter.yaml"} {
		path := filepath.Join(istioFolder, name)
		validate, files = append(validate, "--filename", path), append(files, path)
	}
	analyze := []string{"analyze", "--use-kube=false", "--all-namespaces", "--meshConfigFile", filepath.Join(istioFolder, "meshconfig.yaml"), "manifests/mesh.yaml"}
	for _, args := range [][]string{append([]string{"validate"}, validate...), append(analyze, files...)} {
		out := run(t, exec.CommandContext(t.Context(), istioctl, args...))
		for line := range strings.Lines(out) {
			complaint := strings.HasPrefix(line, "\t*") || strings.HasPrefix(line, "Error") || strings.HasPrefix(line, "Warning") || strings.HasPrefix(line, "Info")
			if complaint && !strings.Contains(line, everyEnvoyFilter) {
				t.Errorf("istioctl %s: %s", args[0], line)
			}
		}
	}

	policy := shipped(t, istioFolder, "authorization-policy.yaml")
	for _, row := range []struct {
		name, old, new string
		want           string // "" if istioctl does not notice, as README.md says
	}{
		{"an unknown field", "provider: {name: gatehouse}", "providers: {name: gatehouse}", "providers"},
		{"a rule about principals", "rules: [{}]", `rules: [{from: [{source: {principals: ["*"]}}]}]`, "Principals"},
		{"an unknown provider", "provider: {name: gatehouse}", "provider: {name: gatehuose}", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.yaml")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(policy, row.old, row.new)), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), istioctl, "validate", "--filename", file).CombinedOutput()
			if (err != nil) != (row.want != "") || !strings.Contains(string(out), row.want) {
				t.Errorf("istioctl validate: %v: %s; want something about %q", err, out, row.want)
			}
			if row.want == "" {
				if out, err := exec.CommandContext(t.Context(), istioctl, append(analyze, file)...).CombinedOutput(); err != nil || strings.Contains(string(out), "gatehuose") {
					t.Errorf("istioctl analyze: %v: %s", err, out)
				}
			}
		})
	}
}
