package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// TestGracefulStop: the calls that there are end well, no more begin, and it returns when
// they have.
func TestGracefulStop(t *testing.T) {
	for _, method := range unaries {
		r := start(t)
		r.tester.waiting = make(chan context.Context, 1)
		conn := r.dial(t)
		_, answered := r.oneWaits(t, conn, method)
		stopped := make(chan struct{})
		go func() { r.GracefulStop(); close(stopped) }()
		eventually(t, func() string { // a client that is told goes elsewhere, where nobody is
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := ask(ctx, conn, method, "hello"); err == nil {
				return "calls still begin"
			}
			return ""
		})
		select {
		case <-stopped:
			t.Errorf("%s: stopped before the call was answered", method)
		case err := <-answered:
			t.Errorf("%s: the call ended early: %v", method, err)
		default:
		}
		close(r.tester.release)
		if err := <-answered; err != nil {
			t.Errorf("%s: the call that there was: %v", method, err)
		}
		<-stopped
	}
}

// TestStop cuts everything, and the contexts of calls end.
func TestStop(t *testing.T) {
	for _, method := range unaries {
		r := start(t)
		r.tester.waiting = make(chan context.Context, 1)
		conn := r.dial(t)
		at, answered := r.oneWaits(t, conn, method)
		r.Stop()
		<-at.Done()
		if err := <-answered; status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want Unavailable", method, err)
		}
	}
}

// TestStopBeforeServe: nothing is served any more.
func TestStopBeforeServe(t *testing.T) {
	server, err := New(usual())
	if err != nil {
		t.Fatal(err)
	}
	server.GracefulStop()
	server.Stop()
	if err := server.Serve(nowhere{}); !errors.Is(err, grpc.ErrServerStopped) {
		t.Errorf("Serve: %v, want %v", err, grpc.ErrServerStopped)
	}
}

// TestConnectionsEnd by age and by idleness, and no call is lost.
func TestConnectionsEnd(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*Options)
		pause  time.Duration
	}{
		{"by age", func(o *Options) { o.MaxAge = 50 * time.Millisecond }, 0},
		{"by idleness", func(o *Options) { o.IdleTimeout = 50 * time.Millisecond }, 100 * time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			o := usual()
			row.change(&o)
			server, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			server.tick = 10 * time.Millisecond
			service := &tester{}
			server.RegisterService(service.desc(), service)
			r := serve(t, server)
			conn := r.dial(t)
			addresses := map[string]bool{}
			for began := time.Now(); len(addresses) < 4 && time.Since(began) < 10*time.Second; time.Sleep(row.pause) {
				var p peer.Peer
				if got, err := ask(t.Context(), conn, inlineEcho, "hello", grpc.Peer(&p)); got != "hello" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
				addresses[p.LocalAddr.String()] = true
			}
			if len(addresses) < 4 {
				t.Errorf("there were only %d connections", len(addresses))
			}
			eventually(t, func() string {
				if n := len(r.connections()); n > 1 {
					return "connections are left"
				}
				return ""
			})
		})
	}
}

func TestJitter(t *testing.T) {
	if jittered(0) != 0 {
		t.Error("no limit becomes one")
	}
	for range 1000 {
		if age := jittered(time.Hour); age < 54*time.Minute || age > 66*time.Minute {
			t.Fatalf("an hour becomes %v, want a tenth more or less at most", age)
		}
	}
}

// TestTLS: the handler learns who the client is; a client without a certificate, or without
// HTTP/2, gets no connection.
func TestTLS(t *testing.T) {
	certificate, pool := certificate(t)
	server := &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"h2"}}
	names := make(chan string, 1)
	r := start(t, func(o *Options) {
		o.Credentials = credentials.NewTLS(server)
		o.Unary = func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if patience.Arrival(ctx).IsZero() {
				t.Error("nobody knows when the call came")
			}
			p, _ := peer.FromContext(ctx)
			info, ok := p.AuthInfo.(credentials.TLSInfo)
			if !ok || len(info.State.PeerCertificates) != 1 {
				t.Errorf("the peer is %v", p)
			} else {
				names <- info.State.PeerCertificates[0].Subject.CommonName
			}
			return next(ctx, in)
		}
	})
	client := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	with := client.Clone()
	with.Certificates = []tls.Certificate{certificate}
	if got, err := ask(t.Context(), r.dial(t, withTLS(with)), inlineEcho, "hello"); got != "hello" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if name := <-names; name != "localhost" {
		t.Errorf("the handler sees %q", name)
	}
	for name, conn := range map[string]*grpc.ClientConn{"without a certificate": r.dial(t, withTLS(client)), "without TLS": r.dial(t)} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := ask(ctx, conn, inlineEcho, "hello"); err == nil {
			t.Errorf("%s: answered", name)
		}
		cancel()
	}
	old := with.Clone()
	old.NextProtos = []string{"http/1.1"}
	if conn, err := tls.Dial("tcp", r.address, old); err == nil {
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a client without HTTP/2 is served")
		}
		conn.Close()
	}
}

// certificate is one for localhost that is its own authority.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestNew refuses options that bound nothing.
func TestNew(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no codec":         func(o *Options) { o.Codec = nil },
		"no message bytes": func(o *Options) { o.MessageBytes = 0 },
		"no streams":       func(o *Options) { o.Streams = 0 },
		"no header bytes":  func(o *Options) { o.HeaderBytes = 0 },
		"no time":          func(o *Options) { o.ConnectTimeout = 0 },
		"a small window":   func(o *Options) { o.Window = 1000 },
		"a large window":   func(o *Options) { o.Window = 1 << 31 },
	} {
		o := usual()
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
