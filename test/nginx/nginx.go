// Package nginx runs the real nginx of the machine with the configurations that this
// repository ships. Start reading at [Start].
package nginx

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// Start runs nginx with a configuration file until the test ends, and returns the address
// of its server. In the file, 127.0.0.1:10000 is where it listens, 127.0.0.1:9180 is
// gatehouse, 127.0.0.1:8080 the upstream and /tmp/nginx where it writes; these are
// replaced, and nothing else.
func Start(t testing.TB, config, gatehouse, upstream string) string {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx" // not in PATH for ordinary users
	}
	address := forwarding.FreeAddress(t)
	prefix := t.TempDir()
	// The worker of a master that runs as root gives its rights away and still must
	// reach the folder.
	if err := os.Chmod(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(prefix, "nginx.conf")
	forwarding.Render(t, config, path,
		"127.0.0.1:10000", address, "127.0.0.1:9180", gatehouse, "127.0.0.1:8080", upstream,
		"/tmp/nginx", filepath.Join(prefix, "nginx"))
	forwarding.Wait(t, harness.Start(t, "nginx", exec.Command(binary, "-p", prefix, "-c", path, "-e", "stderr",
		"-g", "daemon off; master_process off;")), address)
	return address
}
