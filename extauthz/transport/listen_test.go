package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/test/bufconn"
)

// TestLastWordsTLS: a connection that ends says so below HTTP/2, too, so that nobody can
// have cut it; and what its client still sends takes nothing back.
func TestLastWordsTLS(t *testing.T) {
	t.Parallel()
	certificate, pool := certificate(t)
	r := start(t, func(o *Options) {
		o.Credentials = credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	})
	line, err := tls.Dial("tcp", r.address, &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	c := rawOver(t, line, http2.ClientPreface)
	_ = c.WriteSettings()
	c.call(1, "large 50000ns")
	c.settle()
	for _, conn := range r.connections() {
		if _, ok := conn.nc.(interface{ CloseWrite() error }); !ok {
			t.Errorf("a %T cannot say good-bye", conn.nc)
		}
	}
	stopped := make(chan struct{})
	go func() { r.GracefulStop(); close(stopped) }()
	c.listen(func(f http2.Frame) bool { _, ok := f.(*http2.PingFrame); return ok })
	c.atOnce(func() {
		_ = c.WritePing(true, drainPing)
		for range 100 {
			_ = c.WriteRawFrame(0x77, 0, 0, make([]byte, 1000))
		}
	})
	for {
		if _, err := c.ReadFrame(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("it ends with %v, want %v", err, io.EOF)
			}
			break
		}
	}
	line.Close()
	<-stopped
	if !slices.Contains(c.events, "1: grpc 0") {
		t.Errorf("%q comes", c.events)
	}
}

// TestStopWaitsForNoClient: neither one that has not said hello, with or without TLS, nor
// one that reads nothing keeps a server from stopping, however it stops.
func TestStopWaitsForNoClient(t *testing.T) {
	t.Parallel()
	certificate, _ := certificate(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}}
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		for how, stop := range map[string]func(*Server){"Stop": (*Server).Stop, "GracefulStop": (*Server).GracefulStop} {
			r := start(t, func(o *Options) {
				if o.ConnectTimeout = time.Hour; secure {
					o.Credentials = credentials.NewTLS(config)
				}
			})
			rawDial(t, r.address, "")
			rawDial(t, r.address, http2.ClientPreface[:5])
			if secure {
				line, err := tls.Dial("tcp", r.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
				if err != nil {
					t.Fatal(err)
				}
				defer line.Close()
				_, _ = io.WriteString(line, http2.ClientPreface[:5])
			}
			eventually(t, func() string {
				if len(r.connections()) < 2 {
					return "they do not connect"
				}
				return ""
			})
			began := time.Now()
			stop(r.Server)
			r.running.Wait()
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("%s, %s: it took %v", name, how, took)
			}
		}
	}
}

// TestReflection: what grpcurl asks.
func TestReflection(t *testing.T) {
	t.Parallel()
	server, err := New(usual())
	if err != nil {
		t.Fatal(err)
	}
	reflection.Register(server)
	stream, err := reflectionv1.NewServerReflectionClient(serve(t, server).dial(t)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || len(got.GetListServicesResponse().GetService()) != 2 {
		t.Errorf("the services are %v, %v", got, err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("it ends with %v", err)
	}
}

// TestInMemory: a connection that has no two halves ends well, too.
func TestInMemory(t *testing.T) {
	t.Parallel()
	server, err := New(usual())
	if err != nil {
		t.Fatal(err)
	}
	service := &tester{release: make(chan struct{})}
	server.RegisterService(service.desc(), service)
	l := bufconn.Listen(1 << 10)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	r := &rig{address: "memory"}
	conn := r.dial(t, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	text := string(make([]byte, 200_000))
	for _, method := range unaries {
		if got, err := ask(t.Context(), conn, method, text); got != text || err != nil {
			t.Errorf("%s: %d bytes, %v", method, len(got), err)
		}
	}
	server.GracefulStop()
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A flaky listener gives its outcomes, one after the other.
type flaky struct {
	nowhere
	outcomes []error
}

func (f *flaky) Accept() (net.Conn, error) {
	err := f.outcomes[0]
	f.outcomes = f.outcomes[1:]
	return nil, err
}

type passing struct{ error }

func (passing) Temporary() bool { return true }

// TestAccept: what passes is waited for, longer each time; what does not is an end.
func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := New(usual())
		if err != nil {
			t.Fatal(err)
		}
		defer server.Stop()
		end := errors.New("no more")
		outcomes := slices.Repeat([]error{passing{errors.New("too many files")}}, 10)
		began := time.Now()
		if err := server.Serve(&flaky{outcomes: append(outcomes, end)}); !errors.Is(err, end) {
			t.Errorf("Serve: %v, want %v", err, end)
		}
		// 5 ms, and twice as long each time, up to a second.
		if took, want := time.Since(began), 1275*time.Millisecond+2*acceptRetry; took != want {
			t.Errorf("it waited for %v, want %v", took, want)
		}
	})
}

// A stretch is a line on which something comes after a while.
type stretch struct {
	net.Conn
	waits []time.Duration
	fill  []int
}

func (s *stretch) Read(p []byte) (int, error) {
	time.Sleep(s.waits[0])
	n := min(s.fill[0], len(p))
	s.waits, s.fill = s.waits[1:], s.fill[1:]
	return n, nil
}

// TestArrival: a call was not there before the time of its arrival, and may have waited
// since: while what came before was worked on, but not while its reader waited for it.
func TestArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := &clock{drained: true, read: began, Conn: &stretch{
			waits: []time.Duration{time.Second, 0, 0, 0, 5 * time.Second},
			fill:  []int{10, 100, 100, 10, 10},
		}}
		for i, want := range []time.Duration{
			time.Second,      // it was waited for
			time.Second,      // it may have come as soon as the last was read, and fills the buffer
			time.Second,      // so that this may have been behind it all the time
			time.Second,      // and this
			12 * time.Second, // waited for until 14 s, after work of 2 s in which it may have come
		} {
			if _, err := c.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if got := c.arrived.Sub(began); got != want {
				t.Errorf("read %d: it arrived after %v, want %v", i, got, want)
			}
			time.Sleep(2 * time.Second) // the work
		}
	})
}
