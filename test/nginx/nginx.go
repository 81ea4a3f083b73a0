// Package nginx runs the real nginx of the machine with the configurations that this
// repository ships. Start reading at [Start].
package nginx

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// startTimeout is how long nginx may take on a busy machine; usually it is 50 ms.
const startTimeout = 30 * time.Second

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
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	prefix := t.TempDir()
	// The worker of a master that runs as root gives its rights away and still must
	// reach the folder.
	if err := os.Chmod(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	rendered := strings.NewReplacer(
		"127.0.0.1:10000", address, "127.0.0.1:9180", gatehouse, "127.0.0.1:8080", upstream,
		"/tmp/nginx", filepath.Join(prefix, "nginx")).Replace(string(text))
	path := filepath.Join(prefix, "nginx.conf")
	if err := os.WriteFile(path, []byte(rendered), 0o644); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, "nginx", exec.Command(binary, "-p", prefix, "-c", path, "-e", "stderr",
		"-g", "daemon off; master_process off;"))
	harness.Eventually(t, startTimeout, func() error {
		select {
		case <-p.Done():
			t.Fatalf("nginx ended:\n%s", p.Output())
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

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
