package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// The methods of the service that tests serve. Each is a little of what a handler can do.
const (
	serviceName = "gatehouse.test.Service"
	inlineEcho  = "/" + serviceName + "/Inline" // answers with what it got, or as the message says
	plainEcho   = "/" + serviceName + "/Plain"  // the same in a goroutine of its own
	bothWays    = "/" + serviceName + "/Bidi"   // answers each message
	upload      = "/" + serviceName + "/Upload" // answers with the length of all messages
	download    = "/" + serviceName + "/Download"
)

// A tester is that service.
type tester struct {
	waiting chan context.Context // told of each call that waits; nil: nobody looks
	release chan struct{}        // lets those go on
}

// echo does what the message says, or else answers with it.
func (s *tester) echo(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	verb, rest, _ := strings.Cut(string(in.GetValue()[:min(len(in.GetValue()), 200)]), " ")
	switch verb {
	case "fail":
		return nil, status.Error(codes.FailedPrecondition, rest)
	case "error":
		return nil, errors.New(rest)
	case "metadata":
		md, _ := metadata.FromIncomingContext(ctx)
		return &wrapperspb.BytesValue{Value: []byte(strings.Join(md.Get(rest), ","))}, nil
	case "header":
		err := grpc.SetHeader(ctx, metadata.Pairs("x-set", "one", "x-set-bin", "\x00"))
		if err == nil {
			err = grpc.SetTrailer(ctx, metadata.Pairs("x-end", "two"))
		}
		if method, ok := grpc.Method(ctx); !ok || !strings.HasPrefix(method, "/"+serviceName) {
			err = fmt.Errorf("the method is %q", method)
		}
		return in, err
	case "everything":
		md, _ := metadata.FromIncomingContext(ctx)
		return &wrapperspb.BytesValue{Value: fmt.Append(nil, md)}, nil
	case "late":
		return nil, fmt.Errorf("waiting: %w", context.DeadlineExceeded)
	case "gone":
		return nil, context.Canceled
	case "details":
		st, err := status.New(codes.Aborted, "with more").WithDetails(wrapperspb.String(rest))
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	case "large":
		n, err := time.ParseDuration(rest) // any number will do
		return &wrapperspb.BytesValue{Value: make([]byte, min(max(n, 0), 1<<20))}, err
	case "stay": // until it is released, whether or not anybody waits
		patience.Ahead(ctx)
		s.waiting <- ctx
		<-s.release
	case "wait", "block":
		if verb == "wait" {
			patience.Ahead(ctx)
		}
		if s.waiting != nil {
			s.waiting <- ctx
		}
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	return in, nil
}

func (s *tester) unary(name string) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		in := &wrapperspb.BytesValue{}
		if err := decode(in); err != nil {
			return nil, err
		}
		handler := func(ctx context.Context, in any) (any, error) { return s.echo(ctx, in.(*wrapperspb.BytesValue)) }
		if interceptor == nil {
			return handler(ctx, in)
		}
		return interceptor(ctx, in, &grpc.UnaryServerInfo{FullMethod: "/" + serviceName + "/" + name}, handler)
	}}
}

func (s *tester) bidi(_ any, stream grpc.ServerStream) error {
	if md, _ := metadata.FromIncomingContext(stream.Context()); len(md.Get("want-header")) > 0 {
		if err := stream.SetHeader(metadata.Pairs("x-header", "one")); err != nil {
			return err
		}
		if err := stream.SendHeader(metadata.Pairs("x-header", "two", "x-data-bin", "\x00\xff")); err != nil {
			return err
		}
		stream.SetTrailer(metadata.Pairs("x-trailer", "end"))
	}
	for {
		in := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		out, err := s.echo(stream.Context(), in)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(out); err != nil {
			return err
		}
	}
}

func (s *tester) upload(_ any, stream grpc.ServerStream) error {
	n := 0
	for {
		in := &wrapperspb.BytesValue{}
		if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
			return stream.SendMsg(&wrapperspb.UInt64Value{Value: uint64(n)})
		} else if err != nil {
			return err
		}
		n += len(in.GetValue())
	}
}

// download sends a hundred messages as large as the one it got.
func (s *tester) download(_ any, stream grpc.ServerStream) error {
	in := &wrapperspb.BytesValue{}
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	for range 100 {
		if err := stream.SendMsg(in); err != nil {
			return err
		}
	}
	return nil
}

func (s *tester) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{s.unary("Inline"), s.unary("Plain")},
		Streams: []grpc.StreamDesc{
			{StreamName: "Bidi", Handler: s.bidi, ServerStreams: true, ClientStreams: true},
			{StreamName: "Upload", Handler: s.upload, ClientStreams: true},
			{StreamName: "Download", Handler: s.download, ServerStreams: true},
		},
	}
}

// protobufs is the codec.
type protobufs struct{}

func (protobufs) Unmarshal(message []byte, v any) error {
	return proto.Unmarshal(message, v.(proto.Message))
}

func (protobufs) Append(dst []byte, v any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, v.(proto.Message))
}

// usual are the options that tests change.
func usual() Options {
	return Options{
		Codec:          protobufs{},
		Inline:         func(method string) bool { return method == inlineEcho },
		MessageBytes:   1 << 20,
		Streams:        1000,
		HeaderBytes:    16 << 10,
		Window:         64 << 10,
		ConnectTimeout: 5 * time.Second,
	}
}

// A rig is a server on a port.
type rig struct {
	*Server
	tester  *tester
	address string
}

// start serves until the test ends. Then no connection and no goroutine may be left.
func start(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	return startWith(t, tick, writeTimeout, change...)
}

// impatient is start with waits of milliseconds instead of seconds.
func impatient(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := startWith(t, 10*time.Millisecond, 200*time.Millisecond, change...)
	r.tester.waiting = make(chan context.Context, 100)
	return r
}

// forgetless is start for a server that counts noise without forgetting it, for tests that
// make some on a machine that may be slow.
func forgetless(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	return startWith(t, time.Hour, time.Hour, change...)
}

func startWith(t testing.TB, tick, patience time.Duration, change ...func(*Options)) *rig {
	t.Helper()
	o := usual()
	for _, c := range change {
		c(&o)
	}
	server, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	server.tick, server.patience = tick, patience
	service := &tester{release: make(chan struct{})}
	server.RegisterService(service.desc(), service)
	r := serve(t, server)
	r.tester = service
	return r
}

// serve is start for a server of the test's own.
func serve(t testing.TB, server *Server) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		ended := make(chan struct{})
		go func() { server.running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("goroutines of connections are left")
		}
	})
	return &rig{Server: server, address: l.Addr().String()}
}

func (r *rig) dial(t testing.TB, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if !slices.ContainsFunc(options, func(o grpc.DialOption) bool { _, ok := o.(secured); return ok }) {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	conn, err := grpc.NewClient("passthrough:///"+r.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// secured marks the option that brings credentials.
type secured struct{ grpc.DialOption }

func withTLS(c *tls.Config) grpc.DialOption {
	return secured{grpc.WithTransportCredentials(credentials.NewTLS(c))}
}

func ask(ctx context.Context, conn *grpc.ClientConn, method, text string, options ...grpc.CallOption) (string, error) {
	out := &wrapperspb.BytesValue{}
	err := conn.Invoke(ctx, method, &wrapperspb.BytesValue{Value: []byte(text)}, out, options...)
	return string(out.GetValue()), err
}

// oneWaits makes a call that waits. It gives its context, and what becomes of it.
func (r *rig) oneWaits(t testing.TB, conn *grpc.ClientConn, method string) (at context.Context, answered <-chan error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		got, err := ask(t.Context(), conn, method, "wait")
		if err == nil && got != "wait" {
			t.Errorf("%s: answered with %q", method, got)
		}
		done <- err
	}()
	return <-r.tester.waiting, done
}

// unserved is a server that listens nowhere, for tests that open connections themselves.
// Nothing waits there.
func unserved(t testing.TB, o Options) *Server {
	t.Helper()
	server, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	service := &tester{release: make(chan struct{})}
	close(service.release)
	server.RegisterService(service.desc(), service)
	return server
}

// idle waits until no call and no byte is left of what was asked.
func (r *rig) idle(t testing.TB) {
	t.Helper()
	eventually(t, func() string {
		for _, c := range r.connections() {
			c.mu.Lock()
			left := len(c.streams) != 0 || c.handlers != 0 || c.held != 0 || len(c.blocked) != 0
			c.mu.Unlock()
			if left {
				return "a connection has streams, handlers or bytes left"
			}
		}
		return ""
	})
}

// eventually waits until check gives "".
func eventually(t testing.TB, check func() string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		wrong := check()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
	}
}

// nowhere is a listener to which nobody comes.
type nowhere struct{}

func (nowhere) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (nowhere) Close() error              { return nil }
func (nowhere) Addr() net.Addr            { return &net.TCPAddr{} }
