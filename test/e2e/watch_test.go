package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// mountedVersion writes a file as version name of a mounted ConfigMap: into a folder of
// its own, which the link ..data then leads to.
func mountedVersion(t *testing.T, mount, name, file, content string) {
	t.Helper()
	if err := errors.Join(
		os.Mkdir(filepath.Join(mount, name), 0o755),
		os.WriteFile(filepath.Join(mount, name, file), []byte(content), 0o600),
		os.Symlink(name, filepath.Join(mount, "..data_tmp")),
		os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")),
	); err != nil {
		t.Fatal(err)
	}
}

// TestConfigMapIsSwapped: what Kubernetes does to a mounted ConfigMap is all that a reload
// takes.
func TestConfigMapIsSwapped(t *testing.T) {
	mount := t.TempDir()
	path := filepath.Join(mount, "gatehouse.yaml")
	mountedVersion(t, mount, "..v1", "gatehouse.yaml", versioned("one"))
	if err := os.Symlink("..data/gatehouse.yaml", path); err != nil {
		t.Fatal(err)
	}
	gatehouse := harness.StartGatehouse(t, "", harness.ConfigFile(path), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{Name: "hardened", Gatehouse: []string{gatehouse.GRPC}})
	for i, version := range []string{"two", "one", "two"} {
		mountedVersion(t, mount, fmt.Sprintf("..v%d", i+2), "gatehouse.yaml", versioned(version))
		harness.Eventually(t, settle, func() error {
			got, err := versionOf(envoy.Address(t, "hardened"))
			if err == nil && got != version {
				err = fmt.Errorf("version %s decides, want %s", got, version)
			}
			return err
		})
	}
}

// versioned is a configuration whose parts carry the name of the version: what the
// authenticator gives, what the route asks for, and what is forwarded. Parts of two
// versions refuse, or show.
func versioned(version string) string {
	return strings.ReplaceAll(`version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
authenticators:
- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys: [{id: batch, secret: {env: KEY}, principal: {tenant: VERSION, username: batch, roles: [VERSION]}}]
routes:
- match: ["GET /me"]
  allow: [{tenant: VERSION, roles: {all: [VERSION]}}]
forward:
  headers: {x-tenant-id: "{tenant}", x-version: "VERSION"}
`, "VERSION", version)
}

// versionOf asks with the key, and gives the version that decided. More than one is an error.
func versionOf(front string) (string, error) {
	answer, err := harness.TrySend(front, "GET /me", "x-api-key: "+batchKey)
	if err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK || answer.Upstream == nil {
		return "", fmt.Errorf("status %d: %s", answer.Status, answer.Body)
	}
	tenant, version := harness.Folded(answer.Upstream, "x-tenant-id"), harness.Folded(answer.Upstream, "x-version")
	if len(tenant) != 1 || len(version) != 1 {
		return "", fmt.Errorf("the upstream saw %q and %q", tenant, version)
	}
	_, name, _ := strings.Cut(version[0], ": ")
	if tenant[0] != "x-tenant-id: "+name {
		return "", fmt.Errorf("%w: the upstream saw %q and %q", errMixed, tenant, version)
	}
	return name, nil
}

var errMixed = errors.New("two configurations in one decision")

// reloads is how many TestReloadsLoseNothing makes, and how many it makes for acceptance.
const reloads, acceptanceReloads = 200, 1000

// TestReloadsLoseNothing: under load, one reload after the other. No request is refused or
// lost, and none is decided by two configurations.
func TestReloadsLoseNothing(t *testing.T) {
	total := reloads
	if acceptance() {
		total = acceptanceReloads
	}
	gatehouse := harness.StartGatehouse(t, versioned("one"), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{Name: "hardened", Gatehouse: []string{gatehouse.GRPC}})
	front := envoy.Address(t, "hardened")

	var sent, ones, twos atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				version, err := versionOf(front)
				if err != nil {
					t.Errorf("request %d: %v", sent.Load(), err)
					return
				}
				sent.Add(1)
				if version == "one" {
					ones.Add(1)
				} else {
					twos.Add(1)
				}
			}
		})
	}
	began := time.Now()
	done, err := metric(gatehouse, `gatehouse_reloads_total{result="ok"}`)
	if err != nil {
		t.Fatal(err)
	}
	for i := range total {
		gatehouse.Configure(t, versioned([]string{"two", "one"}[i%2]))
		gatehouse.Signal(syscall.SIGHUP)
		before := sent.Load()
		harness.Eventually(t, settle, func() error {
			now, err := metric(gatehouse, `gatehouse_reloads_total{result="ok"}`)
			if err == nil && now <= done {
				err = fmt.Errorf("%v reloads, want more than %v", now, done)
			}
			done = now
			return err
		})
		// Each configuration decides something, else nothing was shown.
		harness.Eventually(t, settle, func() error {
			if sent.Load() < before+4 && !t.Failed() {
				return fmt.Errorf("the load stands still at %d requests", sent.Load())
			}
			return nil
		})
	}
	took := time.Since(began)
	close(stop)
	clients.Wait()
	if failed, err := metric(gatehouse, `gatehouse_reloads_total{result="failed"}`); err != nil || failed != 0 {
		t.Errorf("%v reloads failed, %v", failed, err)
	}
	if ones.Load() == 0 || twos.Load() == 0 {
		t.Errorf("%d decisions of one configuration and %d of the other", ones.Load(), twos.Load())
	}
	t.Logf("%d reloads in %v, %d requests (%.0f/s), all allowed, %d and %d by either configuration",
		total, took.Round(time.Millisecond), sent.Load(), float64(sent.Load())/took.Seconds(), ones.Load(), twos.Load())
}

// metric reads one series of gatehouse's metrics; series is its name and labels.
func metric(g *harness.Gatehouse, series string) (float64, error) {
	page, err := metrics(g)
	if err != nil {
		return 0, err
	}
	return page.value(series)
}

// metricsPage is what Prometheus reads, as text.
type metricsPage string

func metrics(g *harness.Gatehouse) (metricsPage, error) {
	client, scheme := http.DefaultClient, "http://"
	if g.OpsTLS != nil {
		client, scheme = &http.Client{Transport: &http.Transport{TLSClientConfig: g.OpsTLS, DisableKeepAlives: true}}, "https://"
	}
	resp, err := client.Get(scheme + g.Ops + "/metrics")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	return metricsPage(page), err
}

func (p metricsPage) value(series string) (float64, error) {
	for line := range strings.Lines(string(p)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no series %s", series)
}
