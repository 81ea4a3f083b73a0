// Package caddy runs the real Caddy of the machine with the configuration that this
// repository ships. Start reading at [Start].
package caddy

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// Start runs Caddy with a configuration file until the test ends, and returns the address
// of its server. In the file, :10000 is where it listens, 127.0.0.1:9180 is gatehouse and
// 127.0.0.1:8080 the upstream; these are replaced, and nothing else.
func Start(t testing.TB, config, gatehouse, upstream string) string {
	t.Helper()
	address := forwarding.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	forwarding.Render(t, config, path, ":10000", ":"+port, "127.0.0.1:9180", gatehouse, "127.0.0.1:8080", upstream)
	cmd := exec.Command("caddy", "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	forwarding.Wait(t, harness.Start(t, "caddy", cmd), address)
	return address
}
