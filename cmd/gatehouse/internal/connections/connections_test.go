package connections

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// wait is how long anything may take on a busy machine.
const wait = 10 * time.Second

// A refusals keeps why connections were refused.
type refusals struct {
	mu   sync.Mutex
	list []Reason
}

func (r *refusals) add(reason Reason, _ net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, reason)
}

func (r *refusals) all() []Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// A lane is a listener whose connections come from where a test says.
type lane struct{ conns chan net.Conn }

func newLane() *lane { return &lane{conns: make(chan net.Conn)} }

func (l *lane) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *lane) Close() error   { close(l.conns); return nil }
func (l *lane) Addr() net.Addr { return &net.TCPAddr{} }

// A sourced connection claims to come from somewhere.
type sourced struct {
	net.Conn
	from net.Addr
}

func (s sourced) RemoteAddr() net.Addr { return s.from }

// from makes a connection from an address, and gives the end that is not the listener's.
func (l *lane) from(t *testing.T, address string) net.Conn {
	t.Helper()
	var remote net.Addr = &net.UnixAddr{Net: "unix"}
	if address != "" {
		remote = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	}
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	l.conns <- sourced{server, remote}
	return client
}

// isClosed tells whether the other end closed the connection; nothing is ever sent on it.
func isClosed(t *testing.T, conn net.Conn) bool {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // fails for one that is closed
	_, err := conn.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// acceptAll accepts until the listener is closed.
func acceptAll(t *testing.T, l *Listener) <-chan net.Conn {
	t.Helper()
	accepted := make(chan net.Conn, 1000)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return accepted
}

func TestPlacesBySource(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		from   []string
		open   int
		closed []Reason
	}{
		{
			"as many as there are places", Limits{3, 3},
			[]string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"}, 3, []Reason{Full},
		},
		{
			"one source leaves places for others", Limits{4, 2},
			[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"}, 3, []Reason{SourceFull},
		},
		{
			"a /64 is one source", Limits{4, 2},
			[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8:0:1::1]:1"}, 3, []Reason{SourceFull},
		},
		{
			"an IPv4 address is itself, however it is written", Limits{4, 2},
			[]string{"[::ffff:192.0.2.1]:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:3", "[::ffff:192.0.2.2]:3"}, 3, []Reason{SourceFull},
		},
		{
			"loopback is nobody in particular", Limits{4, 1},
			[]string{"127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "127.0.0.2:2", "127.0.0.1:3"}, 4, []Reason{Full},
		},
		{"nor is a Unix socket", Limits{2, 1}, []string{"", "", ""}, 2, []Reason{Full}},
		{"no limit for a source", Limits{2, 0}, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"}, 2, []Reason{Full}},
	} {
		t.Run(row.name, func(t *testing.T) {
			lane, refused := newLane(), &refusals{}
			l := Bound(lane, row.limits, refused.add)
			accepted := acceptAll(t, l)
			var clients []net.Conn
			for _, address := range row.from {
				clients = append(clients, lane.from(t, address))
			}
			eventually(t, func() bool { return len(accepted)+len(refused.all()) == len(row.from) })
			if got := refused.all(); l.Open() != row.open || len(accepted) != row.open || !slices.Equal(got, row.closed) {
				t.Errorf("%d open, %d accepted, closed for %v; want %d open, closed for %v", l.Open(), len(accepted), got, row.open, row.closed)
			}
			closed := 0
			for _, client := range clients {
				if isClosed(t, client) {
					closed++
				}
			}
			if closed != len(row.closed) {
				t.Errorf("%d clients see that they are closed, want %d", closed, len(row.closed))
			}
			for range row.open {
				conn := <-accepted
				_ = conn.Close()
				_ = conn.Close() // gives back one place, not two
			}
			if l.Open() != 0 || len(l.sources) != 0 || l.strangers.Len() != 0 {
				t.Errorf("%d open, %d sources, %d strangers after all are closed", l.Open(), len(l.sources), l.strangers.Len())
			}
		})
	}
}

// TestStrangersMakeRoom: on a full listener the oldest of those who have not said hello
// goes, once it had time for that. Who has said hello stays.
func TestStrangersMakeRoom(t *testing.T) {
	refused := &refusals{}
	l := Bound(newLane(), Limits{2, 0}, refused.add)
	from := func(now time.Time) (*Conn, *Conn, Reason) {
		client, server := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		return l.admit(sourced{server, &net.UnixAddr{}}, now)
	}
	began := time.Now()
	first, _, _ := from(began)
	second, _, _ := from(began.Add(100 * time.Millisecond))
	if c, _, reason := from(began.Add(grace - 1)); c != nil || reason != Full {
		t.Errorf("before its time the first goes: %v", reason)
	}
	third, displaced, _ := from(began.Add(grace))
	if third == nil || displaced != first {
		t.Fatalf("the first does not make room: %v", displaced)
	}
	if err := second.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	fourth, displaced, _ := from(began.Add(3 * grace))
	if fourth == nil || displaced != third {
		t.Errorf("the third does not make room for the fourth: %v", displaced)
	}
	State(fourth, http.StateNew)
	State(tls.Server(fourth, &tls.Config{MinVersion: tls.VersionTLS12}), http.StateActive)
	if c, _, reason := from(began.Add(time.Hour)); c != nil || reason != Full {
		t.Errorf("somebody known made room: %v", reason)
	}
	_ = first.Close() // its place was given away already
	if l.Open() != 2 {
		t.Errorf("%d are open, want 2", l.Open())
	}
}

// TestAcceptAndCloseAtOnce: places are counted right whoever comes and goes at the same time.
func TestAcceptAndCloseAtOnce(t *testing.T) {
	const clients, each, most = 8, 50, 5
	refused := &refusals{}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Bound(inner, Limits{Total: most}, refused.add)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if open := l.Open(); open > most {
				t.Errorf("%d are open, want at most %d", open, most)
			}
			served.Go(func() {
				_, _ = conn.Read(make([]byte, 1)) // until the client goes
				_ = conn.Close()
			})
		}
	})
	var tasks sync.WaitGroup
	for range clients {
		tasks.Go(func() {
			for range each {
				conn, err := net.Dial("tcp", inner.Addr().String())
				if err == nil { // else it was closed at once
					_ = conn.Close()
				}
			}
		})
	}
	tasks.Wait()
	eventually(t, func() bool { return l.Open() == 0 })
	_ = l.Close()
	served.Wait()
}

// TestServersSayWhoIsKnown: what this package takes for a hello is what the servers do.
func TestServersSayWhoIsKnown(t *testing.T) {
	unix, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	certificate := httptest.NewTLSServer(nil)
	defer certificate.Close()
	security := certificate.TLS.Clone()
	security.NextProtos = []string{"h2", "http/1.1"}
	secured := func(l net.Listener) net.Listener { return tls.NewListener(l, security) }
	plain := func(l net.Listener) net.Listener { return l }
	dial := func(l *Listener) (net.Conn, error) { return net.Dial(l.Addr().Network(), l.Addr().String()) }
	dialTLS := func(l *Listener, protocol string) (net.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // nothing is kept secret
	}
	hello := http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // and empty settings
	for _, row := range []struct {
		name    string
		inner   net.Listener
		wrap    func(net.Listener) net.Listener
		serve   func(net.Listener) (stop func())
		dial    func(*Listener) (net.Conn, error)
		little  string // not enough
		greeted string // enough
	}{
		{"grpc-go", tcp(t), plain, serveGRPC, dial, hello[:20], hello[20:]},
		{"grpc-go on a socket", unix, plain, serveGRPC, dial, "", hello},
		{"net/http", tcp(t), plain, serveHTTP, dial, "GET / HTTP/1.1\r\nHost:", " x\r\n\r\n"},
		{"net/http with TLS", tcp(t), secured, serveHTTP, func(l *Listener) (net.Conn, error) { return dialTLS(l, "http/1.1") }, "GET /", " HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"net/http with HTTP/2", tcp(t), secured, serveHTTP, func(l *Listener) (net.Conn, error) { return dialTLS(l, "h2") }, hello[:20], hello[20:]},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := Bound(row.inner, Limits{Total: 10}, func(Reason, net.Addr) {})
			stop := row.serve(row.wrap(l))
			defer stop()
			conn, err := row.dial(l)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			say := func(text string) {
				if _, err := io.WriteString(conn, text); err != nil {
					t.Fatal(err)
				}
			}
			strangers := func() int {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.strangers.Len()
			}
			say(row.little)
			eventually(t, func() bool { return l.Open() == 1 })
			<-time.After(20 * time.Millisecond) // there is nothing to be seen of what does not happen
			if strangers() != 1 {
				t.Fatalf("after %q it is known", row.little)
			}
			say(row.greeted)
			eventually(t, func() bool { return strangers() == 0 })
			_ = conn.Close()
			eventually(t, func() bool { return l.Open() == 0 })
		})
	}
}

func tcp(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func serveGRPC(l net.Listener) func() {
	server := grpc.NewServer()
	go func() { _ = server.Serve(l) }() // ends with the server
	return server.Stop
}

func serveHTTP(l net.Listener) func() {
	server := &http.Server{Handler: http.NotFoundHandler(), ConnState: State, ReadHeaderTimeout: wait}
	go func() { _ = server.Serve(l) }() // ends with the server
	return func() { _ = server.Close() }
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(wait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not in time")
		}
	}
}
