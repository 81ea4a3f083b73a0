package harness

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// gatehouseTimeout is how long gatehouse may take to listen on a busy machine.
const gatehouseTimeout = 30 * time.Second

// Gatehouse is a running "gatehouse serve".
type Gatehouse struct {
	*Process
	GRPC  string // host:port of Check and gRPC health
	HTTP  string // of forward-auth; empty unless the configuration has that listener
	Ops   string // of /metrics and /readyz
	Admin string // of the admin API; empty unless the configuration has that listener at a port

	OpsTLS *tls.Config // for Ops, set by a test whose configuration wants it; nil: plain text

	configPath string
}

// Option changes how gatehouse is started.
type Option func(*exec.Cmd)

// Flag adds an argument behind "serve --config FILE".
func Flag(flag string) Option { return func(c *exec.Cmd) { c.Args = append(c.Args, flag) } }

// Env sets a variable of the environment: "NAME=value".
func Env(assignment string) Option { return func(c *exec.Cmd) { c.Env = append(c.Env, assignment) } }

// ConfigFile makes gatehouse read a file of the test's own. The configuration that
// [StartGatehouse] is given counts for nothing then.
func ConfigFile(path string) Option {
	return func(c *exec.Cmd) { c.Args[slices.Index(c.Args, "--config")+1] = path }
}

// Descriptors bounds how many files and connections gatehouse may have open.
func Descriptors(most int) Option {
	return func(c *exec.Cmd) {
		script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, most)
		c.Args = append([]string{"sh", "-c", script}, c.Args...)
		c.Path = "/bin/sh"
	}
}

// Mounts gives gatehouse a view of its own of the file system: script, for sh, mounts what
// it likes over it first. That takes root, or a kernel that lets users make namespaces.
func Mounts(script string) Option {
	return func(c *exec.Cmd) {
		unshare := []string{"unshare", "--mount"}
		if os.Getuid() != 0 {
			unshare = append(unshare, "--user", "--map-root-user")
		}
		c.Args = append(append(unshare, "sh", "-c", script+` && exec "$0" "$@"`), c.Args...)
		c.Path, c.Err = exec.LookPath(unshare[0])
	}
}

// Program runs another binary than [Binary].
func Program(path string) Option {
	return func(c *exec.Cmd) { c.Path, c.Args[0] = path, path }
}

// StartGatehouse runs the binary with a configuration, in which every listener has port 0,
// until the test ends. It returns when gatehouse listens, ready or not.
func StartGatehouse(t testing.TB, config string, options ...Option) *Gatehouse {
	t.Helper()
	g := &Gatehouse{configPath: filepath.Join(t.TempDir(), "gatehouse.yaml")}
	g.Configure(t, config)
	// Nothing is gained by draining slowly; a test that wants to see it says so with Flag.
	cmd := exec.Command(Binary(t), "serve", "--config", g.configPath, "--drain-delay=0s")
	cmd.Env = os.Environ()
	if transport := os.Getenv("TRANSPORT"); transport != "" {
		cmd.Args = append(cmd.Args, "--transport", transport)
	}
	for _, option := range options {
		option(cmd)
	}
	hasHTTP, hasAdmin := strings.Contains(config, "http: {address"), strings.Contains(config, `admin: {address: "127.0.0.1:0"`)
	g.Process = Start(t, "gatehouse", cmd)
	if races() {
		t.Cleanup(func() {
			if _, report, found := strings.Cut(g.Output(), "WARNING: DATA RACE"); found {
				t.Errorf("a data race: %.4000s", report)
			}
		})
	}
	g.WaitFor(t, "its addresses", gatehouseTimeout, func(output string) bool {
		for line := range strings.Lines(output) {
			g.listening(line)
		}
		return g.GRPC != "" && g.Ops != "" && (g.HTTP != "" || !hasHTTP) && (g.Admin != "" || !hasAdmin)
	})
	return g
}

// listening reads the addresses from a line of the log.
func (g *Gatehouse) listening(line string) {
	var said struct{ Msg, Listener, Address string }
	if json.Unmarshal([]byte(line), &said) != nil || said.Msg != "listening" {
		return
	}
	switch said.Listener {
	case "grpc":
		g.GRPC = said.Address
	case "http":
		g.HTTP = said.Address
	case "ops":
		g.Ops = said.Address
	case "admin":
		g.Admin = said.Address
	}
}

// WaitServing waits until gRPC health says SERVING.
func (g *Gatehouse) WaitServing(t testing.TB) {
	t.Helper()
	conn := Dial(t, g.GRPC)
	defer conn.Close()
	Eventually(t, gatehouseTimeout, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		if err == nil && answer.Status != healthpb.HealthCheckResponse_SERVING {
			err = errNotServing
		}
		return err
	})
}

// Configure writes the configuration file anew, whole, and reloads nothing.
func (g *Gatehouse) Configure(t testing.TB, config string) {
	t.Helper()
	tmp := g.configPath + ".tmp"
	if err := os.WriteFile(tmp, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, g.configPath); err != nil {
		t.Fatal(err)
	}
}

// Reload sends SIGHUP and waits until the log says msg about it.
func (g *Gatehouse) Reload(t testing.TB, msg string) {
	t.Helper()
	before := len(g.Output())
	g.Signal(syscall.SIGHUP)
	g.WaitFor(t, "line about the reload: "+msg, gatehouseTimeout, func(output string) bool {
		return strings.Contains(output[before:], msg)
	})
}

// Decisions are the lines of the log that tell about decisions, oldest first.
func (g *Gatehouse) Decisions() []map[string]any {
	var lines []map[string]any
	for line := range strings.Lines(g.Output()) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "decision" {
			lines = append(lines, entry)
		}
	}
	return lines
}

// Dial opens a gRPC connection without TLS that ends with the test.
func Dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// RunGatehouse runs "gatehouse serve" with a configuration that it must not accept, and
// returns when it has ended.
func RunGatehouse(t testing.TB, config string, options ...Option) *Process {
	t.Helper()
	g := &Gatehouse{configPath: filepath.Join(t.TempDir(), "gatehouse.yaml")}
	g.Configure(t, config)
	// Nothing is gained by draining slowly; a test that wants to see it says so with Flag.
	cmd := exec.Command(Binary(t), "serve", "--config", g.configPath, "--drain-delay=0s")
	cmd.Env = os.Environ()
	for _, option := range options {
		option(cmd)
	}
	p := Start(t, "gatehouse", cmd)
	select {
	case <-p.Done():
	case <-time.After(gatehouseTimeout):
		t.Fatalf("gatehouse still runs:\n%s", p.Output())
	}
	return p
}
