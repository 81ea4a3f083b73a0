package e2e

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// keyStatus sends GET /me with the key.
func keyStatus(front string, want int) error {
	answer, err := harness.TrySend(front, "GET /me", "x-api-key: "+batchKey)
	if err == nil && answer.Status != want {
		err = fmt.Errorf("status %d, want %d: %s", answer.Status, want, answer.Body)
	}
	return err
}

// TestMutualTLS: Envoy asks by TLS with its own certificate. Who has none, or one of
// another name, or of another authority, gets no answer, and so no client gets through;
// a new certificate of gatehouse is used without a restart.
func TestMutualTLS(t *testing.T) {
	authority, stranger := harness.NewAuthority(t), harness.NewAuthority(t)
	const name, envoyID = "gatehouse.internal", "spiffe://example.com/envoy"
	serverCert, serverKey := authority.Sign(t, name, "")
	envoyCert, envoyKey := authority.Sign(t, "envoy", envoyID)
	otherCert, otherKey := authority.Sign(t, "other", "spiffe://example.com/other")
	forgedCert, forgedKey := stranger.Sign(t, "envoy", envoyID)

	secured := strings.Replace(versioned("one"), `grpc: {address: "127.0.0.1:0"}`, fmt.Sprintf(
		`grpc: {address: "127.0.0.1:0", tls: {cert_file: %q, key_file: %q, client_ca_file: %q, client_names: [%q]}}`,
		serverCert, serverKey, authority.CAFile, envoyID), 1)
	gatehouse := harness.StartGatehouse(t, secured, harness.Env("KEY="+batchKey))
	replicas := []string{gatehouse.GRPC}
	front := func(name string, change harness.Change) harness.Front {
		return harness.Front{Name: name, Gatehouse: replicas, Changes: []harness.Change{change}}
	}
	envoy := harness.StartEnvoy(t, startEcho(t).Address(),
		front("good", harness.MutualTLS(name, authority.CAFile, envoyCert, envoyKey)),
		front("none", harness.MutualTLS(name, authority.CAFile, "", "")),
		front("other", harness.MutualTLS(name, authority.CAFile, otherCert, otherKey)),
		front("forged", harness.MutualTLS(name, authority.CAFile, forgedCert, forgedKey)),
		front("wrong server", harness.MutualTLS("elsewhere.internal", authority.CAFile, envoyCert, envoyKey)),
		front("plain", func(harness.Parts) {}),
	)
	harness.Eventually(t, settle, func() error { return keyStatus(envoy.Address(t, "good"), http.StatusOK) })
	for _, name := range []string{"none", "other", "forged", "wrong server", "plain"} {
		if err := keyStatus(envoy.Address(t, name), http.StatusServiceUnavailable); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	pair, err := tls.LoadX509KeyPair(envoyCert, envoyKey)
	if err != nil {
		t.Fatal(err)
	}
	before := serialOf(t, gatehouse.GRPC, pair)
	authority.Sign(t, name, "")
	harness.Eventually(t, settle, func() error {
		if serialOf(t, gatehouse.GRPC, pair) == before {
			return fmt.Errorf("the old certificate is shown")
		}
		return nil
	})
	if err := keyStatus(envoy.Address(t, "good"), http.StatusOK); err != nil {
		t.Errorf("after the certificate was replaced: %v", err)
	}
}

// serialOf is the serial number of the certificate that a server shows.
func serialOf(t *testing.T, address string, pair tls.Certificate) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, // the serial number is all that is looked at
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestUnixSocket: Envoy asks at a socket that only its own user may open.
func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "gh") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "check.sock")
	config := strings.Replace(versioned("one"), `grpc: {address: "127.0.0.1:0"}`, fmt.Sprintf(`grpc: {address: "unix://%s", mode: "0600"}`, path), 1)
	gatehouse := harness.StartGatehouse(t, config, harness.Env("KEY="+batchKey))
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket's mode is %v, want %v", info.Mode(), fs.ModeSocket|0o600)
	}
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{
		Name: "socket", Gatehouse: []string{"127.0.0.1:1"}, Changes: []harness.Change{harness.Socket(path)},
	})
	harness.Eventually(t, settle, func() error { return keyStatus(envoy.Address(t, "socket"), http.StatusOK) })
	gatehouse.Stop()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there after the end")
	}
}

// TestConnectionAge: connections end after a while, so that Envoy spreads over replicas
// that came later; no request notices.
func TestConnectionAge(t *testing.T) {
	config := strings.Replace(versioned("one"), `grpc: {address: "127.0.0.1:0"}`, `grpc: {address: "127.0.0.1:0", max_connection_age: 1s}`, 1)
	gatehouse := harness.StartGatehouse(t, config, harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{Name: "hardened", Gatehouse: []string{gatehouse.GRPC}})
	front := envoy.Address(t, "hardened")
	load := startLoad(t, "http://"+front+"/me", "x-api-key", batchKey)
	harness.Eventually(t, settle, func() error {
		closed, err := envoy.Stat("cluster.gatehouse-hardened.upstream_cx_destroy")
		if err == nil && closed < 3 {
			err = fmt.Errorf("%d connections ended", closed)
		}
		return err
	})
	load.end(t)
}

// TestTransports: whatever carries Envoy's calls, they are answered alike, also while
// the configuration changes.
func TestTransports(t *testing.T) {
	for _, transport := range []string{"direct", "grpc-go"} {
		t.Run(transport, func(t *testing.T) {
			f := startFaulty(t, harness.Flag("--transport="+transport))
			f.during(t, "a reload", func() { f.configureAnew(t) }, func() {})
			f.asEver(t)
		})
	}
}

// TestHTTP2OfEnvoy: however Envoy is told to speak HTTP/2, its Checks are answered: without
// a table for header fields, with windows as small as they may be, with pings that look
// whether gatehouse is there, and a call at a time.
func TestHTTP2OfEnvoy(t *testing.T) {
	gatehouse := harness.StartGatehouse(t, versioned("one"), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	rows := []struct {
		name    string
		options map[string]any
	}{
		{"no table", map[string]any{"hpack_table_size": 0}},
		{"small windows", map[string]any{"initial_stream_window_size": 65535, "initial_connection_window_size": 65535}},
		{"pings", map[string]any{"connection_keepalive": map[string]any{"interval": "0.02s", "timeout": "5s"}}},
		{"a call at a time", map[string]any{"max_concurrent_streams": 1}},
	}
	var fronts []harness.Front
	for _, row := range rows {
		fronts = append(fronts, harness.Front{Name: row.name, Gatehouse: []string{gatehouse.GRPC}, Changes: []harness.Change{harness.HTTP2(row.options)}})
	}
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), fronts...)
	for _, row := range rows {
		harness.Eventually(t, settle, func() error { return keyStatus(envoy.Address(t, row.name), http.StatusOK) })
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					if err := keyStatus(envoy.Address(t, row.name), http.StatusOK); err != nil {
						t.Errorf("%s: %v", row.name, err)
						return
					}
				}
			})
		}
		all.Wait()
	}
}
