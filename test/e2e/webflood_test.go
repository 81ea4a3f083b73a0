package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// webFlood is how long a flood of a listener of net/http lasts.
const webFlood = 300 * time.Millisecond

// webAttacks are those of HTTP/1, and what HTTP/2 knows besides: calls and messages are
// gRPC's only.
func webAttacks() []attack {
	list := []attack{
		{"headers of HTTP/1 without end", func(a *attacker) error {
			return a.text("GET %s HTTP/1.1\r\nHost: gatehouse\r\n", a.path)
		}, func(a *attacker) error {
			return a.text("X-Large: %s\r\n", strings.Repeat("~", 4<<10))
		}, "cut", true},
		{"requests that follow each other unasked", nil, func(a *attacker) error {
			return a.text("GET %s HTTP/1.1\r\nHost: gatehouse\r\n\r\n", a.path)
		}, "", true},
		{"bodies without end", func(a *attacker) error {
			return a.text("POST %s HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", a.path)
		}, func(a *attacker) error {
			return a.text("1000\r\n%s\r\n", strings.Repeat(" ", 0x1000))
		}, "", true},
		{"bodies with more said about chunks than is in them", func(a *attacker) error {
			return a.text("POST %s HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", a.path)
		}, func(a *attacker) error {
			return a.text("1;%s\r\n \r\n", strings.Repeat("x=y;", 500))
		}, "cut", true},
		{"bodies that are announced and never come", nil, func(a *attacker) error {
			return a.text("POST %s HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n", a.path)
		}, "", true},
		{"two lengths", nil, func(a *attacker) error {
			return a.text("POST %s HTTP/1.1\r\nHost: gatehouse\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", a.path)
		}, "", true},
		{"bytes that are no request", nil, func(a *attacker) error {
			return a.text("%s", strings.Repeat("\x16\x03\x01\x00", 64))
		}, "", true},
	}
	const grpcOnly = "checks that are reset at once, checks whose answers nobody takes, messages that are announced and never come, messages that are too long"
	ends := map[string]string{"headers without end": "PROTOCOL_ERROR", "bytes that are no frames": "FRAME_SIZE_ERROR"}
	for _, attack := range attacks {
		if strings.Contains(grpcOnly, attack.name) {
			continue
		}
		attack.ends = ends[attack.name] // net/http bears pings that it can answer
		list = append(list, attack)
	}
	return list
}

// text says something of HTTP/1.
func (a *attacker) text(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// TestFloodsOfHTTP: what is done to the gRPC listener in TestFloods, and what HTTP/1 has
// besides, does no more to the other three, all at once.
func TestFloodsOfHTTP(t *testing.T) {
	authority := harness.NewAuthority(t)
	const name = "gatehouse.internal"
	cert, key := authority.Sign(t, name, "")
	pem, err := os.ReadFile(authority.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	socket := filepath.Join(shortDir(t), "admin.sock")
	f := setup{
		options: []harness.Option{harness.Env(fmt.Sprintf("GOMEMLIMIT=%d", floodMemory))},
		opsTLS:  &tls.Config{RootCAs: roots, ServerName: name},
		change: func(_ *testing.T, _ *faulty, config string) string {
			secured := fmt.Sprintf("tls: {cert_file: %q, key_file: %q}", cert, key)
			return strings.Replace(config, `  ops: {address: "127.0.0.1:0"}`, fmt.Sprintf(
				"  http: {address: \"127.0.0.1:0\", %s}\n  admin: {address: \"unix://%s\"}\n  ops: {address: \"127.0.0.1:0\", %s}", secured, socket, secured), 1)
		},
	}.start(t)
	overTLS := func(address string) func(string) (net.Conn, error) {
		return func(protocol string) (net.Conn, error) {
			dialer := &net.Dialer{Timeout: 5 * time.Second}
			return tls.DialWithDialer(dialer, "tcp", address, &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{protocol}})
		}
	}
	targets := []target{
		{"http", overTLS(f.gatehouse.HTTP), http.MethodGet, "/authorize"},
		{"admin", func(string) (net.Conn, error) { return net.Dial("unix", socket) }, http.MethodPost, "/gatehouse.admin.v1.Service/Status"},
		{"ops", overTLS(f.gatehouse.Ops), http.MethodGet, "/livez"},
	}
	lasting := webFlood
	if acceptance() {
		lasting = longFlood
	}
	for _, attack := range webAttacks() {
		calm := resourcesOf(t, f.gatehouse)
		var storms []*storm
		for _, target := range targets {
			storms = append(storms, &storm{attack: attack, target: target, attackers: 2, ends: map[string]int{}})
		}
		watch := watchResources(f.gatehouse)
		f.duringFor(t, attack.name, lasting, func() {
			for _, s := range storms {
				s.begin()
			}
		}, func() {
			for _, s := range storms {
				s.awaitEnd()
				s.end()
			}
		})
		peak := watch.end()
		f.nearlyAsEver(t)
		for _, s := range storms {
			t.Logf("%s: %s: %d blows over %d connections, ended by %v", attack.name, s.target.name, s.blows.Load(), s.connections, s.ends)
			if attack.ends != "" && s.endedAsMeant() == 0 {
				t.Errorf("%s: %s: connections ended by %v, want %s", attack.name, s.target.name, s.ends, attack.ends)
			}
			if s.blows.Load() == 0 {
				t.Errorf("%s: %s: nothing was sent: %v", attack.name, s.target.name, s.ends)
			}
		}
		t.Logf("%s: %v before, at most %v", attack.name, calm, peak)
		if peak.memory > mostMemory || peak.goroutines > attackers*mostStreams {
			t.Errorf("%s: %v in use", attack.name, peak)
		}
		harness.Eventually(t, settle, func() error {
			if now := resourcesOf(t, f.gatehouse); now.goroutines > calm.goroutines+moreGoroutines || now.descriptors > calm.descriptors+moreDescriptors {
				return fmt.Errorf("%s: %v left over of %v", attack.name, now, peak)
			}
			return nil
		})
	}
	if lines := strings.Count(f.gatehouse.Output(), "TLS handshake error"); lines > 40 {
		t.Errorf("the log has %d lines about handshakes", lines)
	}
}
