package extauthz

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// onEveryTransport runs a test of what none of them may do differently.
func onEveryTransport(t *testing.T, test func(*testing.T, Transport)) {
	for i, name := range Transports {
		t.Run(name, func(t *testing.T) { test(t, Transport(i)) })
	}
}

// An authenticator for what real ones do only by accident.
type authenticator func(ctx context.Context, in *authn.Input) authn.Result

func (a authenticator) Authenticate(ctx context.Context, in *authn.Input) authn.Result {
	return a(ctx, in)
}

// with makes a configuration of one authenticator for bearer tokens.
func with(t testing.TB, a authenticator) func(*Config) {
	return func(c *Config) {
		c.Set = must(authn.NewSet([]authn.Entry{{
			Name: "corp", Realm: "corp", Kind: authn.KindLookup, Authenticator: a,
			Places: []authn.Place{{Kind: authn.InHeader, Name: "authorization", Scheme: "Bearer"}},
		}}, authn.Options{}))
		for i := range c.Routes {
			c.Routes[i].Policy.Accept = nil
		}
	}
}

func TestPanicIsUnavailable(t *testing.T) {
	w := newWorld(t, with(t, func(context.Context, *authn.Input) authn.Result { panic("a fault of ours") }))
	var told []Record
	var mu sync.Mutex
	w.gate.options.Observe = func(r *Record) { mu.Lock(); told = append(told, *r); mu.Unlock() }
	ask := w.asker(t)
	got := ask(req{path: "/me/"}.withBearer("x"))
	if got.status != 503 || got.metadata["reason"] != "internal" {
		t.Errorf("a panic is answered with %d %v, want 503 internal", got.status, got.metadata["reason"])
	}
	if w.gate.Panics() != int64(len(doors)) || len(told) != len(doors) || told[0].Panic == nil || len(told[0].Stack) == 0 {
		t.Errorf("%d panics are counted and %d told, want %d with their stacks", w.gate.Panics(), len(told), len(doors))
	}
	if got := ask(req{path: "/"}); got.status != 200 {
		t.Errorf("after a panic: %d, want 200", got.status)
	}
}

func TestPanicOfTheObserverChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.gate.options.Observe = func(*Record) { panic("a fault of the observer") }
	ask := w.asker(t)
	if got := ask(req{path: "/"}); got.status != 200 {
		t.Errorf("allowed: %d, want 200", got.status)
	}
	if got := ask(req{path: "/nowhere"}); got.status != 403 {
		t.Errorf("refused: %d, want 403", got.status)
	}
}

// A fault while the reply is written is a refusal too.
func TestPanicOfTheEncoderRefuses(t *testing.T) {
	w := newWorld(t)
	server := must(NewServer(w.gate, ServerOptions{}))
	c := &check{}
	server.serve(context.Background(), c, func(any) error {
		c.message = must(proto.Marshal(req{path: "/"}.message()))
		return nil
	})
	c.answer.upstream = &upstream{} // without its removal
	func() {
		defer server.recovered(c)
		c.encode(false)
	}()
	var response authv3.CheckResponse
	if err := proto.Unmarshal(c.reply, &response); err != nil {
		t.Fatal(err)
	}
	if response.GetStatus().GetCode() == 0 || response.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("the reply is %v, want 503", &response)
	}
}

func TestRefusalsThatAreNotOurs(t *testing.T) {
	for _, row := range []struct {
		name   string
		result authn.Result
		status int
		reason string
	}{
		{"an outage is 503", authn.Result{Reason: policy.ReasonProviderUnavailable, RetryAfter: 90 * time.Second, Detail: errors.New("down")}, 503, "provider_unavailable"},
		{"a refused origin is 403", authn.Refuse(policy.ReasonOriginRefused, nil), 403, "origin_refused"},
		{"an empty result refuses", authn.Result{}, 503, "internal"},
		{"a result that allows without anybody refuses", authn.Result{Reason: policy.ReasonMet}, 503, "internal"},
	} {
		w := newWorld(t, with(t, func(context.Context, *authn.Input) authn.Result { return row.result }))
		got := w.asker(t)(req{path: "/me/"}.withBearer("x"))
		if got.status != row.status || got.metadata["reason"] != row.reason {
			t.Errorf("%s: %d %v, want %d %s", row.name, got.status, got.metadata["reason"], row.status, row.reason)
		}
		if row.result.RetryAfter != 0 && got.client["retry-after"] != "90" {
			t.Errorf("%s: Retry-After is %q, want 90", row.name, got.client["retry-after"])
		}
	}
}

func TestOverload(t *testing.T) {
	onEveryTransport(t, func(t *testing.T, transport Transport) {
		entered, release := make(chan struct{}), make(chan struct{})
		w := newWorld(t, with(t, func(ctx context.Context, _ *authn.Input) authn.Result {
			patience.Ahead(ctx)
			entered <- struct{}{}
			<-release
			return authn.Refuse(policy.ReasonTokenUnknown, nil)
		}))
		client, server, _ := w.dial(t, ServerOptions{Transport: transport, Limits: Limits{Concurrent: 1, Queue: 1}})
		message := req{path: "/me/"}.withBearer("x").message()
		codes := make(chan int, 2)
		ask := func(ctx context.Context) {
			codes <- int(must(client.Check(ctx, message)).GetDeniedResponse().GetStatus().GetCode())
		}

		go ask(context.Background())
		<-entered // one is worked on
		go ask(context.Background())
		for deadline := time.Now().Add(10 * time.Second); server.admission.waiting.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the second call never waits")
			}
		}
		response := must(client.Check(context.Background(), message))
		checkSound(t, response)
		if s := envoy(message, response); s.status != 503 || s.metadata["reason"] != "overloaded" || s.client["retry-after"] == "" {
			t.Errorf("beyond the queue: %d %v %v, want 503 overloaded with Retry-After", s.status, s.metadata["reason"], s.client)
		}
		close(release)
		<-entered // the one that waited
		for range 2 {
			if code := <-codes; code != 401 {
				t.Errorf("one that had a place = %d, want 401", code)
			}
		}
	})
}

func TestNobodyWaitsAnyMore(t *testing.T) {
	w := newWorld(t, with(t, func(context.Context, *authn.Input) authn.Result { panic("not worked on") }))
	told := 0
	w.gate.options.Observe = func(*Record) { told++ }
	server := must(NewServer(w.gate, ServerOptions{}))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &check{}
	server.serve(ctx, c, func(any) error { return ctx.Err() })
	if w.gate.Panics() != 0 || told != 0 {
		t.Errorf("of a call whose caller went before it had asked %d decisions are told", told)
	}
	server.serve(ctx, c, func(any) error { return nil })
	if w.gate.Panics() != 0 || told != 1 || c.answer.Decision.Reason != policy.ReasonOverloaded {
		t.Errorf("a call whose caller has gone is worked on: %v", c.answer.Decision.Reason)
	}
}

// A message that took a quarter of its caller's time to arrive is refused while somebody
// still listens, and not worked on.
func TestStaleMessagesAreRefused(t *testing.T) {
	w := newWorld(t, with(t, func(context.Context, *authn.Input) authn.Result { panic("not worked on") }))
	server := must(NewServer(w.gate, ServerOptions{}))
	message := must(proto.Marshal(req{path: "/me/"}.withBearer("x").message()))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		c := &check{}
		server.serve(ctx, c, func(any) error {
			c.message = append(c.message, message...)
			time.Sleep(101 * time.Millisecond)
			return nil
		})
		if w.gate.Panics() != 0 || c.answer.Decision.Reason != policy.ReasonOverloaded {
			t.Errorf("a stale message: %v, %d panics; want it refused as overloaded", c.answer.Decision.Reason, w.gate.Panics())
		}
	})
}

// Calls that are begun and never ended take no place from those that are.
// TestWaitsShareOneBudget: whatever a Check waits for, and however often, Envoy hears of it
// before it gives up half of its time, which is one attempt of the shipped configuration.
func TestWaitsShareOneBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 700 * time.Millisecond // one wait is in time, two are not
		w := newWorld(t, with(t, func(ctx context.Context, _ *authn.Input) authn.Result {
			for range 2 {
				ctx, cancel := patience.For(ctx)
				defer cancel()
				select {
				case <-time.After(slow):
				case <-ctx.Done():
					return authn.Refuse(policy.ReasonStoreUnavailable, ctx.Err())
				}
			}
			return authn.Refuse(policy.ReasonTokenUnknown, nil)
		}))
		server := must(NewServer(w.gate, ServerOptions{}))
		defer server.Stop()
		message := must(proto.Marshal(req{path: "/me/"}.withBearer("x").message()))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		reply, err := server.handle(nil, ctx, func(v any) error { c := v.(*check); c.message = append(c.message, message...); return nil }, nil)
		if waited := time.Since(began); err != nil || waited != 900*time.Millisecond {
			t.Errorf("answered after %v, %v; want 900ms of 2s", waited, err)
		}
		var response authv3.CheckResponse
		if err := proto.Unmarshal(reply.(*check).reply, &response); err != nil || response.GetDeniedResponse().GetStatus().GetCode() != 503 {
			t.Errorf("answered %v, %v; want 503", &response, err)
		}
	})
}

func TestUnfinishedCallsTakeNoPlace(t *testing.T) {
	onEveryTransport(t, func(t *testing.T, transport Transport) {
		w := newWorld(t)
		client, _, conn := w.dial(t, ServerOptions{Transport: transport, Limits: Limits{Concurrent: 1, Queue: 1}})
		for range 8 {
			if _, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/"+ServiceName+"/Check"); err != nil {
				t.Fatal(err)
			}
		}
		// Streams of a connection begin in order: when this one is answered the others have begun.
		for range 3 {
			if code := must(client.Check(t.Context(), req{path: "/"}.message())).GetStatus().GetCode(); code != 0 {
				t.Errorf("beside unfinished calls a Check is answered with code %d, want 0", code)
			}
		}
	})
}

func TestHealthAndReflection(t *testing.T) {
	onEveryTransport(t, func(t *testing.T, transport Transport) {
		w := newWorld(t)
		_, server, conn := w.dial(t, ServerOptions{Transport: transport})
		client := healthv1.NewHealthClient(conn)
		status := func() (all []healthv1.HealthCheckResponse_ServingStatus) {
			for _, service := range []string{"", ServiceName} {
				all = append(all, must(client.Check(context.Background(), &healthv1.HealthCheckRequest{Service: service})).GetStatus())
			}
			return all
		}
		expect := func(when string, want healthv1.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if got := status(); got[0] != want || got[1] != want {
				t.Errorf("%s: health is %v, want %v", when, got, want)
			}
		}
		expect("at first", healthv1.HealthCheckResponse_NOT_SERVING)
		server.SetServing(true)
		expect("with a configuration", healthv1.HealthCheckResponse_SERVING)
		server.Drain()
		expect("while draining", healthv1.HealthCheckResponse_NOT_SERVING)

		stream := must(reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(context.Background()))
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: ServiceName}}); err != nil {
			t.Fatal(err)
		}
		if got := must(stream.Recv()).GetFileDescriptorResponse(); len(got.GetFileDescriptorProto()) == 0 {
			t.Error("reflection does not know the service")
		}
	})
}

func TestInterceptorsSeeChecks(t *testing.T) {
	onEveryTransport(t, func(t *testing.T, transport Transport) {
		w := newWorld(t)
		method := ""
		client, _, _ := w.dial(t, ServerOptions{
			Transport: transport,
			Unary: func(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				method = info.FullMethod
				return next(ctx, in)
			},
		})
		if code := must(client.Check(context.Background(), req{path: "/"}.message())).GetStatus().GetCode(); code != 0 || method != "/envoy.service.auth.v3.Authorization/Check" {
			t.Errorf("through an interceptor: code %d, method %q", code, method)
		}
	})
}

func TestSwapUnderLoad(t *testing.T) {
	onEveryTransport(t, func(t *testing.T, transport Transport) {
		w := newWorld(t)
		client, _, _ := w.dial(t, ServerOptions{Transport: transport})
		a, b := w.gate.Snapshot(), must(NewSnapshot(w.config))
		message := req{path: "/me/"}.withBearer(w.token(nil)).message()
		stop := make(chan struct{})
		var swapper sync.WaitGroup
		swapper.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.gate.Swap(b)
					w.gate.Swap(a)
				}
			}
		})
		for range 300 {
			response := must(client.Check(context.Background(), message))
			if s := envoy(message, response); s.status != 200 || s.got("x-user") != "eve@example.com" {
				t.Fatalf("while configurations change: %v", s)
			}
		}
		close(stop)
		swapper.Wait()
	})
}

// TestDirectRefusesWhatLayUnread: a Check that waited for a quarter of its caller's time
// until the ones before it were answered is refused while somebody still listens.
func TestDirectRefusesWhatLayUnread(t *testing.T) {
	const timeout = 2 * time.Second
	entered, release := make(chan struct{}, 2), make(chan struct{})
	w := newWorld(t, with(t, func(context.Context, *authn.Input) authn.Result {
		entered <- struct{}{}
		<-release // without telling that it waits
		return authn.Refuse(policy.ReasonTokenUnknown, nil)
	}))
	client, _, _ := w.dial(t, ServerOptions{Transport: Direct})
	message := req{path: "/me/"}.withBearer("x").message()
	first, second := make(chan *authv3.CheckResponse, 1), make(chan *authv3.CheckResponse, 1)
	ask := func(answers chan<- *authv3.CheckResponse) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		response, err := client.Check(ctx, message)
		if err != nil {
			t.Error(err)
		}
		answers <- response
	}
	go ask(first)
	<-entered
	go ask(second)
	time.AfterFunc(timeout/4+timeout/8, func() { close(release) })
	if code := (<-first).GetDeniedResponse().GetStatus().GetCode(); code != 401 {
		t.Errorf("the one that was worked on: %d, want 401", code)
	}
	response := <-second
	if s := envoy(message, response); s.status != 503 || s.metadata["reason"] != "overloaded" || s.client["retry-after"] == "" {
		t.Errorf("the one that lay unread: %d %v %v, want 503 overloaded with Retry-After", s.status, s.metadata["reason"], s.client)
	}
	if len(entered) != 0 {
		t.Error("it was worked on")
	}
}

// TestDirectReadsOnWhileOneWaits: a Check that waits for a provider does not keep the others
// of its connection.
func TestDirectReadsOnWhileOneWaits(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	w := newWorld(t, with(t, func(ctx context.Context, _ *authn.Input) authn.Result {
		ctx, cancel := patience.For(ctx)
		defer cancel()
		entered <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return authn.Refuse(policy.ReasonTokenUnknown, nil)
	}))
	client, _, _ := w.dial(t, ServerOptions{Transport: Direct})
	codes := make(chan int)
	for range 3 {
		go func() {
			response, err := client.Check(context.Background(), req{path: "/me/"}.withBearer("x").message())
			if err != nil {
				t.Error(err)
			}
			codes <- int(response.GetDeniedResponse().GetStatus().GetCode())
		}()
		<-entered
	}
	if code := must(client.Check(context.Background(), req{path: "/"}.message())).GetStatus().GetCode(); code != 0 {
		t.Errorf("beside three that wait, one that need not is answered with code %d", code)
	}
	close(release)
	for range 3 {
		if code := <-codes; code != 401 {
			t.Errorf("one that waited is answered with %d, want 401", code)
		}
	}
}
