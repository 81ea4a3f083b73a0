package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// A tlsListener is one of the listeners, and a question that only it answers.
type tlsListener struct {
	name, address string
	ask           func(address string, config *tls.Config) error
}

// secureEverywhere runs gatehouse with the same TLS on all four listeners.
func secureEverywhere(t *testing.T, security string) (*harness.Gatehouse, []tlsListener) {
	t.Helper()
	secured := versioned("one")
	for _, name := range []string{"grpc", "ops"} {
		secured = strings.Replace(secured, name+`: {address: "127.0.0.1:0"}`, fmt.Sprintf(`%s: {address: "127.0.0.1:0", tls: %s}`, name, security), 1)
	}
	secured = strings.Replace(secured, "  ops:", fmt.Sprintf("  http: {address: \"127.0.0.1:0\", tls: %s}\n  admin: {address: \"127.0.0.1:0\", tls: %s}\n  ops:", security, security), 1)
	g := harness.StartGatehouse(t, secured, harness.Env("KEY="+batchKey))
	page := func(path string, statuses ...int) func(string, *tls.Config) error {
		return func(address string, config *tls.Config) error { return askPage(address, path, config, statuses) }
	}
	return g, []tlsListener{
		{"grpc", g.GRPC, askHealth},
		{"http", g.HTTP, page("/authorize", http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest)},
		{"admin", g.Admin, page("/nothing", http.StatusNotFound, http.StatusUnauthorized, http.StatusForbidden)},
		{"ops", g.Ops, page("/livez", http.StatusOK)},
	}
}

func askPage(address, path string, config *tls.Config, statuses []int) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("https://" + address + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, status := range statuses {
		if resp.StatusCode == status {
			return nil
		}
	}
	return fmt.Errorf("status %d, want %v", resp.StatusCode, statuses)
}

func askHealth(address string, config *tls.Config) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// TestTLSOnEveryListener: each listener speaks TLS 1.3, and 1.2 with whoever has no more,
// lets in only clients whose certificate has a listed name, and shows a new certificate
// of its own without refusing anybody meanwhile.
func TestTLSOnEveryListener(t *testing.T) {
	authority, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	const name, id, dns = "gatehouse.internal", "spiffe://example.com/envoy", "operator.internal"
	serverCert, serverKey := authority.Sign(t, name, "")
	pair := func(a *harness.Authority, name, uri string) []tls.Certificate {
		certificate, err := tls.LoadX509KeyPair(a.Sign(t, name, uri))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{certificate}
	}
	pem, err := os.ReadFile(authority.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	gatehouse, listeners := secureEverywhere(t, fmt.Sprintf(
		"{cert_file: %q, key_file: %q, client_ca_file: %q, client_names: [%q, %q]}", serverCert, serverKey, authority.CAFile, id, dns))

	good := pair(authority, "envoy", id)
	for _, row := range []struct {
		name         string
		certificates []tls.Certificate
		least, most  uint16
		speaks       uint16 // 0: refused
	}{
		{"a listed SPIFFE ID", good, 0, 0, tls.VersionTLS13},
		{"a listed DNS name", pair(authority, dns, ""), 0, 0, tls.VersionTLS13},
		{"TLS 1.2", good, 0, tls.VersionTLS12, tls.VersionTLS12},
		{"TLS 1.1", good, tls.VersionTLS10, tls.VersionTLS11, 0},
		{"no certificate", nil, 0, 0, 0},
		{"another SPIFFE ID", pair(authority, "other", "spiffe://example.com/other"), 0, 0, 0},
		{"a listed SPIFFE ID by another authority", pair(stranger, "envoy", id), 0, 0, 0},
		{"a listed name that is none but the subject's", pair(authority, "x", id+"/x"), 0, 0, 0},
	} {
		for _, l := range listeners {
			config := &tls.Config{RootCAs: roots, ServerName: name, Certificates: row.certificates, MinVersion: row.least, MaxVersion: row.most}
			err := l.ask(l.address, config.Clone())
			if (err == nil) != (row.speaks != 0) {
				t.Errorf("%s: %s: %v, want an answer: %v", l.name, row.name, err, row.speaks != 0)
			}
			if row.speaks == 0 {
				continue
			}
			conn, err := tls.Dial("tcp", l.address, config)
			if err != nil {
				t.Errorf("%s: %s: %v", l.name, row.name, err)
				continue
			}
			if got := conn.ConnectionState().Version; got != row.speaks {
				t.Errorf("%s: %s: speaks %s, want %s", l.name, row.name, tls.VersionName(got), tls.VersionName(row.speaks))
			}
			conn.Close()
		}
	}
	for _, l := range listeners {
		if answer := sendPlain(t, l.address); strings.Contains(answer, " 200 ") {
			t.Errorf("%s answers without TLS: %q", l.name, answer)
		}
	}

	// New certificates while new connections come all the time.
	config := &tls.Config{RootCAs: roots, ServerName: name, Certificates: good}
	stop := make(chan struct{})
	failed := make(chan error, len(listeners))
	var asked atomic.Int64
	for _, l := range listeners {
		go func() {
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				if err := l.ask(l.address, config.Clone()); err != nil {
					failed <- fmt.Errorf("%s: %w", l.name, err)
					return
				}
				asked.Add(1)
			}
		}()
	}
	for range 3 {
		before := serialOf(t, listeners[0].address, good[0])
		authority.Sign(t, name, "")
		harness.Eventually(t, settle, func() error {
			for _, l := range listeners {
				if serialOf(t, l.address, good[0]) == before {
					return fmt.Errorf("%s shows the old certificate", l.name)
				}
			}
			return nil
		})
	}
	close(stop)
	for range listeners {
		if err := <-failed; err != nil {
			t.Errorf("while certificates were replaced: %v", err)
		}
	}
	t.Logf("three new certificates, %d handshakes meanwhile", asked.Load())
	for line := range strings.Lines(gatehouse.Output()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("the log has a line that is no JSON: %s", line)
		}
	}
}

// sendPlain sends a request without TLS, and gives whatever comes back.
func sendPlain(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"); err != nil {
		return ""
	}
	var answer bytes.Buffer
	_, _ = io.Copy(&answer, io.LimitReader(conn, 4096)) // an error is an answer, too
	return answer.String()
}

// TestListenersAreSeparate: what is for operators is on their listener only, and profiles
// only where they are asked for.
func TestListenersAreSeparate(t *testing.T) {
	for _, profiles := range []bool{false, true} {
		t.Run(fmt.Sprintf("pprof=%v", profiles), func(t *testing.T) { listenersAreSeparate(t, profiles) })
	}
}

func listenersAreSeparate(t *testing.T, profiles bool) {
	admin := filepath.Join(shortDir(t), "admin.sock")
	config := strings.Replace(versioned("one"), "  ops:", fmt.Sprintf("  http: {address: \"127.0.0.1:0\"}\n  admin: {address: \"unix://%s\"}\n  ops:", admin), 1)
	const ops = `ops: {address: "127.0.0.1:0"`
	gatehouse := harness.StartGatehouse(t, strings.Replace(config, ops, fmt.Sprintf("%s, pprof: %v", ops, profiles), 1), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	if info, err := os.Lstat(admin); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the admin socket's mode is %v, %v; want %v", info.Mode(), err, fs.ModeSocket|0o600)
	}
	clients := map[string]*http.Client{
		"http://" + gatehouse.HTTP: http.DefaultClient,
		"http://" + gatehouse.GRPC: http.DefaultClient,
		"http://admin": {Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", admin)
		}}},
	}
	for _, page := range []string{"/metrics", "/livez", "/readyz", "/debug/pprof/", "/debug/pprof/heap"} {
		for base, client := range clients {
			resp, err := client.Get(base + page)
			if err != nil {
				continue // the gRPC listener knows no HTTP/1
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				t.Errorf("GET %s%s: status 200", base, page)
			}
		}
		want := http.StatusOK
		if strings.HasPrefix(page, "/debug") && !profiles {
			want = http.StatusNotFound
		}
		resp, err := http.Get("http://" + gatehouse.Ops + page)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s of ops: status %d, want %d", page, resp.StatusCode, want)
		}
	}
	// Nor do the others speak gRPC, but for the admin API its own.
	for _, address := range []string{gatehouse.HTTP, gatehouse.Ops} {
		conn := harness.Dial(t, address)
		if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err == nil {
			t.Errorf("%s speaks gRPC", address)
		}
	}
}
