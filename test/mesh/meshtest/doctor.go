package meshtest

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// Finding is one of "gatehouse doctor --output json".
type Finding struct {
	Line     int    `json:"line"`
	Path     string `json:"path"`
	Check    string `json:"check"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Remedy   string `json:"remedy"`
}

// Dump asks the admin endpoint of a running Envoy for its configuration.
func Dump(t testing.TB, admin string) []byte {
	t.Helper()
	response, err := http.Get("http://" + admin + "/config_dump?include_eds")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("config_dump: status %d, %v", response.StatusCode, err)
	}
	return text
}

// Examine runs the doctor on a dump, with the configuration that gatehouse has, and returns
// its findings as "severity check", each once. A finding has a place and a remedy.
func Examine(t testing.TB, dump []byte, config string) ([]string, []Finding) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(file, dump, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.CommandContext(t.Context(), harness.Binary(t), "doctor", "--envoy-config", file, "--config", config, "--output", "json").Output() // exits with 1 if it finds something
	var report struct {
		Findings []Finding `json:"findings"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var checks []string
	for _, f := range report.Findings {
		if f.Line == 0 || f.Path == "" || f.Remedy == "" {
			t.Errorf("a finding without a place or a remedy: %+v", f)
		}
		checks = append(checks, f.Severity+" "+f.Check)
	}
	slices.Sort(checks)
	return slices.Compact(checks), report.Findings
}

// MeshWarnings are what every listener of Istio's deserves: see envoy/istio/README.md.
var MeshWarnings = []string{"warning identity", "warning path", "warning underscores"}
