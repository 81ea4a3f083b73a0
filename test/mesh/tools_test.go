package mesh

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The modules whose custom resource definitions the manifests are held against: no code of
// them is built.
const (
	istioAPI           = "istio.io/api@v1.31.0-rc.0.0.20260824154656-b943409680a7"
	envoyGateway       = "github.com/envoyproxy/gateway@v1.9.1"
	prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// moduleFolder fetches a module and returns where it is.
func moduleFolder(t *testing.T, module string) string {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	download.Dir = t.TempDir() // outside of our own module
	out, err := download.Output()
	if err != nil {
		t.Fatalf("downloading %s: %v: %s", module, err, out)
	}
	var answer struct{ Dir string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Dir == "" {
		t.Fatalf("downloading %s: %v: %s", module, err, out)
	}
	return answer.Dir
}

// definitions are flags that name the custom resource definitions of a module.
func definitions(t *testing.T, module string, files ...string) []string {
	t.Helper()
	folder := moduleFolder(t, module)
	var flags []string
	for _, file := range files {
		flags = append(flags, "-crds="+filepath.Join(folder, file))
	}
	return flags
}

var manifestTool = sync.OnceValues(func() (string, error) {
	path, err := filepath.Abs(filepath.Join("manifest", "bin", "manifest"))
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = "manifest"
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// manifest runs the program in the folder of that name, and returns what it printed and
// what it found wrong.
func manifest(t *testing.T, args ...string) (documents, wrong string) {
	t.Helper()
	tool, err := manifestTool()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	check := exec.CommandContext(t.Context(), tool, args...)
	check.Stderr = &complaints
	out, err := check.Output()
	if (err != nil) != (complaints.Len() > 0) {
		t.Fatalf("manifest: %v: %s", err, &complaints)
	}
	return string(out), complaints.String()
}
