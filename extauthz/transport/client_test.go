package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

var unaries = []string{inlineEcho, plainEcho}

// TestUnary: what the usual client sees of unary calls.
func TestUnary(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-asked", "one", "x-asked", "two", "x-bytes-bin", "\x00\xff\x80")
	for _, method := range unaries {
		for _, row := range []struct {
			name, text, want string
			code             codes.Code
			message          string
		}{
			{"an answer", "hello", "hello", codes.OK, ""},
			{"an empty message", "", "", codes.OK, ""},
			{"an error", "fail it's 100 % \n wrong: ä€", "", codes.FailedPrecondition, "it's 100 % \n wrong: ä€"},
			{"an error without a code", "error broken", "", codes.Unknown, "broken"},
			{"metadata", "metadata x-asked", "one,two", codes.OK, ""},
			{"metadata that are bytes", "metadata x-bytes-bin", "\x00\xff\x80", codes.OK, ""},
			{"the authority", "metadata :authority", r.address, codes.OK, ""},
			{"a message of several frames", strings.Repeat("x", 50_000), strings.Repeat("x", 50_000), codes.OK, ""},
			{"a message larger than the window", strings.Repeat("x", 900_000), strings.Repeat("x", 900_000), codes.OK, ""},
			{"a large answer", "large 700000ns", strings.Repeat("\x00", 700_000), codes.OK, ""},
			{"a message too long", strings.Repeat("x", 1<<20), "", codes.ResourceExhausted, "the message has 1048580 bytes, more than 1048576"},
		} {
			got, err := ask(ctx, conn, method, row.text)
			if got != row.want || status.Code(err) != row.code || row.message != "" && status.Convert(err).Message() != row.message {
				t.Errorf("%s: %s: %.60q, %v; want %.60q, %v %q", method, row.name, got, err, row.want, row.code, row.message)
			}
		}
	}
	for _, method := range []string{"/" + serviceName + "/None", "/none.Service/None", "/", "/" + serviceName} {
		if _, err := ask(ctx, conn, method, ""); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want Unimplemented", method, err)
		}
	}
	for _, method := range unaries {
		if _, err := ask(ctx, conn, method, strings.Repeat("x", 1000), grpc.UseCompressor(gzip.Name)); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: compressed: %v, want Unimplemented", method, err)
		}
	}
	r.idle(t)
}

// TestStatusTextIsBounded: what a handler says is no way to break the framing.
func TestStatusTextIsBounded(t *testing.T) {
	r := start(t)
	_, err := ask(t.Context(), r.dial(t), inlineEcho, "fail "+strings.Repeat("€", 60))
	if got := status.Convert(err); got.Code() != codes.FailedPrecondition || !strings.HasPrefix(got.Message(), strings.Repeat("€", 50)) {
		t.Errorf("%v", err)
	}
	long := appendStatus(nil, codes.Internal, strings.Repeat("\n", 100_000))
	if len(long) > ourFrameSize {
		t.Errorf("a status has %d bytes", len(long))
	}
	for _, row := range []struct {
		text string
		n    int
		want string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abc", 2, "ab"}, {"ab€", 5, "ab€"}, {"ab€", 4, "ab"}, {"ab€", 3, "ab"}, {"€", 2, ""},
		{"\xff", 3, "\uFFFD"}, {"\xff\xff", 5, "\uFFFD"}, {"a\xe2\x82", 9, "a\uFFFD\uFFFD"}, {"€€€€€€€€", 7, "€€"},
	} {
		if got := cut(row.text, row.n); got != row.want {
			t.Errorf("cut(%q, %d) = %q, want %q", row.text, row.n, got, row.want)
		}
	}
}

// TestDeadlines: a call ends at its deadline, for the client and for the handler; then
// nothing is left of it.
func TestDeadlines(t *testing.T) {
	r := start(t)
	r.tester.waiting = make(chan context.Context, 1)
	conn := r.dial(t)
	for _, method := range unaries {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := ask(ctx, conn, method, "wait"); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("%s: %v, want DeadlineExceeded", method, err)
		}
		at := <-r.tester.waiting
		deadline, ok := at.Deadline()
		if left := time.Until(deadline); !ok || left > time.Second || left < -10*time.Second {
			t.Errorf("%s: the handler's deadline is %v (%v)", method, deadline, ok)
		}
		<-at.Done()
		if err := at.Err(); err != context.DeadlineExceeded && err != context.Canceled {
			t.Errorf("%s: the handler's context ends with %v", method, err)
		}
	}
	r.idle(t)
}

// TestCancel: a client that goes takes its calls along: one by a reset, all by their
// connection.
func TestCancel(t *testing.T) {
	r := start(t)
	r.tester.waiting = make(chan context.Context, 1)
	for _, method := range unaries {
		conn := r.dial(t)
		for _, how := range []string{"call", "connection"} {
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := ask(ctx, conn, method, "wait")
				failed <- err
			}()
			at := <-r.tester.waiting
			child, stop := context.WithTimeout(at, time.Hour)
			defer stop()
			if how == "call" {
				cancel()
			} else {
				conn.Close()
			}
			if err := <-failed; err == nil {
				t.Errorf("%s: %s: answered", method, how)
			}
			<-child.Done()
			if at.Err() != context.Canceled || child.Err() != context.Canceled {
				t.Errorf("%s: %s: the context ends with %v, its child with %v", method, how, at.Err(), child.Err())
			}
			cancel()
		}
	}
	r.idle(t)
}

// TestOthersAreReadWhileSomeWait: calls that say that they wait keep nobody, however many.
func TestOthersAreReadWhileSomeWait(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	const many = 100
	var waiting sync.WaitGroup
	var answered atomic.Int64
	for range many {
		waiting.Go(func() {
			if got, err := ask(t.Context(), conn, inlineEcho, "wait"); got != "wait" || err != nil {
				t.Errorf("one that waited: %q, %v", got, err)
			}
			answered.Add(1)
		})
	}
	for i := range 200 {
		want := fmt.Sprint("number ", i)
		if got, err := ask(t.Context(), conn, inlineEcho, want); got != want || err != nil {
			t.Errorf("beside those that wait: %q, %v", got, err)
		}
	}
	if answered.Load() != 0 {
		t.Error("they did not wait")
	}
	close(r.tester.release)
	waiting.Wait()
	r.idle(t)
}

// TestManyCalls: all answers are those of their calls.
func TestManyCalls(t *testing.T) {
	r := start(t)
	close(r.tester.release)
	var all sync.WaitGroup
	for c := range 4 {
		conn := r.dial(t)
		for g := range 25 {
			all.Go(func() {
				for i := range 40 {
					text := fmt.Sprintf("%s %d.%d.%d %s", []string{"", "wait", "block"}[i%3], c, g, i, strings.Repeat("x", 37*i))
					if got, err := ask(t.Context(), conn, unaries[i%2], text); got != text || err != nil {
						t.Errorf("%.40q is answered with %.40q, %v", text, got, err)
					}
				}
			})
		}
	}
	all.Wait()
	r.idle(t)
}

func TestStreams(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	stream := func(ctx context.Context, method string) grpc.ClientStream {
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	receive := func(s grpc.ClientStream) (string, error) {
		out := &wrapperspb.BytesValue{}
		err := s.RecvMsg(out)
		return string(out.GetValue()), err
	}
	send := func(s grpc.ClientStream, text string) {
		if err := s.SendMsg(&wrapperspb.BytesValue{Value: []byte(text)}); err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	t.Run("both ways, with metadata", func(t *testing.T) {
		s := stream(metadata.AppendToOutgoingContext(t.Context(), "want-header", "yes"), bothWays)
		for i := range 100 {
			text := fmt.Sprint(i, strings.Repeat("x", i*100))
			send(s, text)
			if got, err := receive(s); got != text || err != nil {
				t.Fatalf("%.20q is answered with %.20q, %v", text, got, err)
			}
		}
		header, err := s.Header()
		if err != nil || strings.Join(header.Get("x-header"), ",") != "one,two" || strings.Join(header.Get("x-data-bin"), ",") != "\x00\xff" {
			t.Errorf("the header is %v, %v", header, err)
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		if _, err := receive(s); !errors.Is(err, io.EOF) || strings.Join(s.Trailer().Get("x-trailer"), ",") != "end" {
			t.Errorf("it ends with %v, trailer %v", err, s.Trailer())
		}
	})
	t.Run("an error in the middle", func(t *testing.T) {
		s := stream(t.Context(), bothWays)
		send(s, "fail now")
		if _, err := receive(s); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("it ends with %v", err)
		}
	})
	t.Run("many messages in", func(t *testing.T) {
		s := stream(t.Context(), upload)
		for range 200 {
			send(s, strings.Repeat("x", 10_000))
		}
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		out := &wrapperspb.UInt64Value{}
		if err := s.RecvMsg(out); err != nil || out.GetValue() != 2_000_000 {
			t.Errorf("%d bytes came, %v; want 2,000,000", out.GetValue(), err)
		}
	})
	t.Run("many messages out, to a slow reader", func(t *testing.T) {
		s := stream(t.Context(), download)
		send(s, strings.Repeat("x", 20_000))
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		n := 0
		for {
			got, err := receive(s)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || len(got) != 20_000 {
				t.Fatalf("message %d: %d bytes, %v", n, len(got), err)
			}
			n++
		}
		if n != 100 {
			t.Errorf("%d messages came, want 100", n)
		}
	})
	t.Run("a client that goes", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := stream(ctx, download)
		send(s, strings.Repeat("x", 20_000))
		if _, err := receive(s); err != nil {
			t.Error(err)
		}
		cancel()
	})
	r.idle(t)
}

// TestHealth: grpc-go's own services run here as they are.
func TestHealth(t *testing.T) {
	server, err := New(usual())
	if err != nil {
		t.Fatal(err)
	}
	checks := health.NewServer()
	healthv1.RegisterHealthServer(server, checks)
	r := serve(t, server)
	client := healthv1.NewHealthClient(r.dial(t))
	watch, err := client.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthv1.HealthCheckResponse_ServingStatus{healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING} {
		checks.SetServingStatus("", want)
		if got, err := watch.Recv(); err != nil || got.GetStatus() != want {
			t.Errorf("watching: %v, %v; want %v", got, err, want)
		}
		if got, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || got.GetStatus() != want {
			t.Errorf("asking: %v, %v; want %v", got, err, want)
		}
	}
}

func TestInterceptors(t *testing.T) {
	var seen []string
	var mu sync.Mutex
	note := func(ctx context.Context, method string) {
		p, ok := peer.FromContext(ctx)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(method, " ", ok && strings.HasPrefix(p.Addr.String(), "127.0.0.1:") && p.AuthInfo.AuthType() == "insecure"))
	}
	r := start(t, func(o *Options) {
		o.Unary = func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			note(ctx, info.FullMethod)
			return next(ctx, in)
		}
		o.Stream = func(service any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			note(s.Context(), info.FullMethod)
			return next(service, s)
		}
	})
	conn := r.dial(t)
	for _, method := range unaries {
		if got, err := ask(t.Context(), conn, method, "x"); got != "x" || err != nil {
			t.Errorf("%s: %q, %v", method, got, err)
		}
	}
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, upload)
	if err == nil {
		err = s.CloseSend()
	}
	if err == nil {
		err = s.RecvMsg(&wrapperspb.UInt64Value{})
	}
	want := []string{inlineEcho + " true", plainEcho + " true", upload + " true"}
	if err != nil || fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("seen were %q, %v; want %q", seen, err, want)
	}
}
