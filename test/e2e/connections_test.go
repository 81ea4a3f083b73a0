package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

const (
	// fewConnections is max_connections of the gRPC and HTTP listeners in these tests, and
	// crowdSize how many clients want one.
	fewConnections, crowdSize = 300, 1000

	// comeAgain is how long after it was cut off a client comes again. Were it much less the
	// test would measure who gets the processors.
	comeAgain = 400 * time.Millisecond

	// tooLong is how soon a client that does not say hello is gone: after 10 s, and what a
	// busy machine takes.
	tooLong = 15 * time.Second
)

// A crowd is many clients that connect again whenever they are cut off.
type crowd struct {
	address string
	hello   string // said at once

	stop    chan struct{}
	clients sync.WaitGroup
	began   atomic.Int64 // connections that came about
	closed  atomic.Int64 // and were closed by the other side
}

func (c *crowd) begin(size int) {
	c.stop = make(chan struct{})
	for range size {
		c.clients.Go(func() {
			for {
				c.connect()
				select {
				case <-c.stop:
					return
				case <-time.After(comeAgain):
				}
			}
		})
	}
}

// connect holds one connection until either side has enough.
func (c *crowd) connect() {
	conn, err := net.DialTimeout("tcp", c.address, time.Second)
	if err != nil {
		return
	}
	defer conn.Close()
	c.began.Add(1)
	if _, err := io.WriteString(conn, c.hello); err != nil {
		return
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, conn) // until either side ends
	}()
	select {
	case <-c.stop:
		_ = conn.Close()
	case <-over:
		c.closed.Add(1)
	}
	<-over
}

func (c *crowd) end() {
	close(c.stop)
	c.clients.Wait()
}

// hello is what every HTTP/2 client says first: the preface, and empty settings.
const hello = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// TestFaultConnections: many more clients want connections than there may be, to every
// listener at once, silent ones and such that say hello. Envoy's go on, operators see what
// happens, and when the crowd is gone so is what it cost.
func TestFaultConnections(t *testing.T) {
	f := setup{change: func(_ *testing.T, _ *faulty, config string) string {
		config = strings.Replace(config, "  ops:", "  http: {address: \"127.0.0.1:0\", max_connections: 300}\n  ops:", 1)
		return strings.Replace(config, "grpc: {", fmt.Sprintf("grpc: {max_connections: %d, ", fewConnections), 1)
	}}.start(t)
	for _, kind := range []struct{ name, hello, ops string }{
		{"silent", "", ""},
		{"polite", hello, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		calm := resourcesOf(t, f.gatehouse)
		crowds := []*crowd{
			{address: f.gatehouse.GRPC, hello: kind.hello},
			{address: f.gatehouse.HTTP, hello: kind.ops},
			{address: f.gatehouse.Ops, hello: ""}, // who asks something there is an operator
		}
		f.during(t, kind.name+" crowd", func() {
			for i, size := range []int{crowdSize, crowdSize, 200} {
				crowds[i].begin(size)
			}
			f.holdsItsLimits(t)
		}, func() {
			if kind.hello != "" {
				f.saysThatItIsFull(t)
			}
			for i, c := range crowds { // on a busy machine the last ones come late
				harness.Eventually(t, settle, func() error {
					if c.closed.Load() == 0 {
						return fmt.Errorf("%s crowd: no connection of crowd %d was closed", kind.name, i)
					}
					return nil
				})
			}
			for _, c := range crowds {
				c.end()
			}
		})
		f.nearlyAsEver(t)
		began := time.Now()
		harness.Eventually(t, settle, func() error {
			if now := resourcesOf(t, f.gatehouse); now.goroutines > calm.goroutines+moreGoroutines || now.descriptors > calm.descriptors+moreDescriptors {
				return fmt.Errorf("%v left over", now)
			}
			return nil
		})
		t.Logf("%s crowd: %d connections to grpc, %d closed; all given back %v after the end", kind.name,
			crowds[0].began.Load(), crowds[0].closed.Load(), time.Since(began).Round(time.Millisecond))
	}
	if lines := strings.Count(f.gatehouse.Output(), "connections are refused"); lines == 0 || lines > 12 {
		t.Errorf("the log says %d times that connections are refused", lines)
	}
}

// holdsItsLimits waits until the listeners are full, and looks that they are no more than
// that. That the metrics can be read is part of it.
func (f *faulty) holdsItsLimits(t *testing.T) {
	t.Helper()
	harness.Eventually(t, settle, func() error {
		page, err := metrics(f.gatehouse)
		if err != nil {
			return err // taken for one of the silent, until these have had their second
		}
		for listener, most := range map[string]float64{"grpc": fewConnections, "http": 300, "ops": 64} {
			open, err := page.value(fmt.Sprintf("gatehouse_connections{listener=%q}", listener))
			limit, missing := page.value(fmt.Sprintf("gatehouse_connections_limit{listener=%q}", listener))
			if err := errors.Join(err, missing); err != nil {
				return err
			}
			if open > most || limit != most {
				t.Errorf("%s: %v of %v connections are open, want at most %v", listener, open, limit, most)
			}
			if listener != "ops" && open < most {
				return fmt.Errorf("%s: %v of %v connections are open", listener, open, most)
			}
		}
		for _, listener := range []string{"grpc", "http", "ops"} {
			refused := 0.0
			for _, reason := range []string{"full", "displaced", "source_full"} {
				n, err := page.value(fmt.Sprintf("gatehouse_connections_refused_total{listener=%q,reason=%q}", listener, reason))
				if err != nil {
					return err
				}
				refused += n
			}
			if refused == 0 {
				return fmt.Errorf("%s: no connection was refused", listener)
			}
		}
		return nil
	})
}

// saysThatItIsFull looks for the lines of /readyz?verbose.
func (f *faulty) saysThatItIsFull(t *testing.T) {
	t.Helper()
	harness.Eventually(t, settle, func() error {
		resp, err := http.Get("http://" + f.gatehouse.Ops + "/readyz?verbose")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "[!]connections of grpc")) {
			err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
		}
		return err
	})
}

// TestFullReplicaIsPassedOver: a replica that has all its connections closes Envoy's at
// once, and Envoy asks the other.
func TestFullReplicaIsPassedOver(t *testing.T) {
	full := harness.StartGatehouse(t, strings.Replace(versioned("one"), `grpc: {`, `grpc: {max_connections: 1, `, 1), harness.Env("KEY="+batchKey))
	other := harness.StartGatehouse(t, versioned("one"), harness.Env("KEY="+batchKey))
	full.WaitServing(t)
	other.WaitServing(t)
	guest := &crowd{address: full.GRPC, hello: hello}
	guest.begin(1)
	defer guest.end()
	isTaken := func() error { // by the guest: WaitServing has closed its connection
		conn, err := net.Dial("tcp", full.GRPC)
		if err != nil {
			return nil //nolint:nilerr // closed already
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
			return errors.New("there is a place")
		}
		return nil
	}
	harness.Eventually(t, settle, isTaken)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{Name: "both", Gatehouse: []string{full.GRPC, other.GRPC}})
	front := envoy.Address(t, "both")
	slowest := time.Duration(0)
	for range 100 {
		began := time.Now()
		if err := keyStatus(front, http.StatusOK); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
	}
	if err := isTaken(); err != nil {
		t.Errorf("the guest lost its place: %v", err)
	}
	t.Logf("the slowest of 100 answers took %v", slowest.Round(time.Millisecond))
}

// TestSlowHellos: who takes too long to say hello, by the handshake of TLS, the preface of
// HTTP/2 or the headers of HTTP/1, is cut off on every listener, and so is who has nothing
// to say any more.
func TestSlowHellos(t *testing.T) {
	authority := harness.NewAuthority(t)
	const name = "gatehouse.internal"
	cert, key := authority.Sign(t, name, "")
	pem, err := os.ReadFile(authority.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	withIdle := func(config string) string {
		return strings.ReplaceAll(config, `{address: "127.0.0.1:0"`, `{address: "127.0.0.1:0", idle_timeout: 1s`)
	}
	_, secured := secureEverywhere(t, fmt.Sprintf("{cert_file: %q, key_file: %q, client_ca_file: %q}, idle_timeout: 1s", cert, key, authority.CAFile))
	plain := harness.StartGatehouse(t, withIdle(strings.Replace(versioned("one"), "  ops:", "  http: {address: \"127.0.0.1:0\"}\n  ops:", 1)), harness.Env("KEY="+batchKey))
	clientCert, clientKey := authority.Sign(t, "client.internal", "")
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	dial := func(address string) func() (net.Conn, error) {
		return func() (net.Conn, error) { return net.Dial("tcp", address) }
	}
	shakes := func(address, protocol string) func() (net.Conn, error) {
		return func() (net.Conn, error) {
			return tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{pair}, NextProtos: []string{protocol}})
		}
	}
	const get, headers = "GET /livez HTTP/1.1\r\nHost: x\r\n", "X-Slow: and steady\r\n"
	type client struct {
		name string
		dial func() (net.Conn, error)
		says string // at once
		adds string // a letter at a time, over and over
		idle bool   // all has been said
	}
	clients := []client{
		{"grpc: silent", dial(plain.GRPC), "", "", false},
		{"grpc: the preface, slowly", dial(plain.GRPC), "", http2.ClientPreface, false},
		{"grpc: no settings", dial(plain.GRPC), http2.ClientPreface, "", false},
		{"grpc: idle", dial(plain.GRPC), hello, "", true},
		{"http: silent", dial(plain.HTTP), "", "", false},
		{"http: headers, slowly", dial(plain.HTTP), get, headers, false},
		{"http: idle", dial(plain.HTTP), get + "\r\n", "", true},
		{"ops: silent", dial(plain.Ops), "", "", false},
		{"ops: headers, slowly", dial(plain.Ops), get, headers, false},
		{"ops: idle", dial(plain.Ops), get + "\r\n", "", true},
	}
	for _, l := range secured {
		clients = append(
			clients,
			client{l.name + ": no handshake", dial(l.address), "", "", false},
			client{l.name + ": a handshake, slowly", dial(l.address), "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00", false},
			client{l.name + ": silent after the handshake", shakes(l.address, "h2"), "", "", false},
			client{l.name + ": the preface after the handshake, slowly", shakes(l.address, "h2"), "", http2.ClientPreface, false},
			client{l.name + ": idle after the preface", shakes(l.address, "h2"), hello, "", true},
		)
		if l.name != "grpc" {
			clients = append(
				clients,
				client{l.name + ": headers after the handshake, slowly", shakes(l.address, "http/1.1"), get, headers, false},
				client{l.name + ": idle after the handshake", shakes(l.address, "http/1.1"), get + "\r\n", "", true},
			)
		}
	}
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			conn, err := c.dial()
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			took := dawdle(conn, c.says, c.adds)
			if took > tooLong || c.idle && took > tooLong/2 {
				t.Errorf("%s: cut off after %v", c.name, took)
			}
			t.Logf("%s: cut off after %v", c.name, took.Round(10*time.Millisecond))
		})
	}
	all.Wait()
}

// dawdle says something at once, and then more, a letter at a time, until the other side
// ends the connection. It tells how long that took.
func dawdle(conn net.Conn, says, adds string) time.Duration {
	defer conn.Close()
	began := time.Now()
	_ = conn.SetDeadline(began.Add(2 * tooLong))
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, conn) // until the other side ends
	}()
	_, _ = io.WriteString(conn, says) // where that fails it is over
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-over:
			return time.Since(began)
		case <-tick.C:
		}
		if adds != "" {
			_, _ = io.WriteString(conn, adds[i%len(adds):i%len(adds)+1])
		}
	}
}
