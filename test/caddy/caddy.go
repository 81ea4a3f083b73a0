// Package caddy runs the real Caddy of the machine with the configuration that this
// repository ships. Start reading at [Start].
package caddy

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// startTimeout is how long Caddy may take on a busy machine; usually it is 200 ms.
const startTimeout = 30 * time.Second

// Start runs Caddy with a configuration file until the test ends, and returns the address
// of its server. In the file, :10000 is where it listens, 127.0.0.1:9180 is gatehouse and
// 127.0.0.1:8080 the upstream; these are replaced, and nothing else.
func Start(t testing.TB, config, gatehouse, upstream string) string {
	t.Helper()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "Caddyfile")
	rendered := strings.NewReplacer(":10000", ":"+port, "127.0.0.1:9180", gatehouse, "127.0.0.1:8080", upstream).Replace(string(text))
	if err := os.WriteFile(path, []byte(rendered), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("caddy", "run", "--config", path, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir)
	p := harness.Start(t, "caddy", cmd)
	address := net.JoinHostPort("127.0.0.1", port)
	harness.Eventually(t, startTimeout, func() error {
		select {
		case <-p.Done():
			t.Fatalf("Caddy ended:\n%s", p.Output())
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return address
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
