package extauthz

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// ask has c answer message, as a transport does before it gives c back.
func (s *Server) ask(c *check, message []byte) *authv3.CheckResponse {
	s.serve(context.Background(), c, func(any) error { c.message = append(c.message, message...); return nil })
	response := &authv3.CheckResponse{}
	if err := proto.Unmarshal(c.reply, response); err != nil {
		panic(err)
	}
	return response
}

// TestMemoryOfTheMessage: it is overwritten once the call is answered, and used for the
// next, unless an authenticator or a trace may still look at its texts.
func TestMemoryOfTheMessage(t *testing.T) {
	var held string
	holds := func(_ context.Context, in *authn.Input) authn.Result {
		held = in.Value
		return authn.Refuse(policy.ReasonTokenUnknown, nil)
	}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		options Options
		req     func(*world) req
		kept    authn.Kept
	}{
		{name: "public", req: func(*world) req { return req{path: "/"} }},
		{name: "no credential", req: func(*world) req { return req{path: "/me/"} }},
		{name: "token", req: func(w *world) req { return req{path: "/me/"}.withBearer(w.token(nil)) }},
		{name: "bad token", req: func(*world) req { return req{path: "/me/"}.withBearer("e30.e30.eA") }},
		{name: "wrong role", req: func(w *world) req { return req{path: "/admin/"}.withBearer(w.token(nil)) }},
		{name: "kept credential", req: func(w *world) req { return req{path: "/keep/"}.withBearer(w.token(nil)) }},
		{name: "key, for a user", req: func(*world) req {
			return req{path: "/me/", source: "10.0.0.1"}.with("x-api-key", apiKeyText).with("x-select-user", "zoe").with("x-select-tenant", "acme")
		}},
		{name: "undecodable", req: func(*world) req { return req{path: "/me/", body: "\xff"} }},
		{
			name: "an authenticator that is not known to forget", change: with(t, holds),
			req: func(*world) req { return req{path: "/me/"}.withBearer("held") }, kept: authn.KeptTexts,
		},
		{
			name: "an authenticator that panics", change: with(t, func(context.Context, *authn.Input) authn.Result { panic("at work") }),
			req: func(*world) req { return req{path: "/me/"}.withBearer("held") }, kept: authn.KeptRequest,
		},
		{
			name: "traced", options: Options{Trace: func(ctx context.Context, _ *Call) (context.Context, bool) { return ctx, true }},
			req: func(*world) req { return req{path: "/"} }, kept: authn.KeptTexts,
		},
		{
			name: "an observer that panics", options: Options{Observe: func(*Record) { panic("at work") }},
			req: func(*world) req { return req{path: "/"} }, kept: authn.KeptRequest,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.change != nil {
				w = newWorld(t, c.change)
			}
			gate := NewGate(c.options)
			gate.Swap(w.gate.Snapshot())
			server := must(NewServer(gate, ServerOptions{}))
			defer server.Stop()
			r := c.req(w).message()
			raw := r.GetAttributes().GetRequest().GetHttp().GetBody()
			r.Attributes.Request.Http.Body = ""
			message := append(must(proto.Marshal(r)), raw...) // what is not UTF-8 cannot be marshalled
			used := &check{}
			for range 2 { // never seen, and seen
				server.ask(used, message)
				if used.kept != c.kept {
					t.Fatalf("kept %v, want %v", used.kept, c.kept)
				}
				came := used.message
				server.release(used)
				switch {
				case c.kept == authn.KeptNothing:
					if cap(used.message) == 0 || &used.message[:1][0] != &came[0] {
						t.Error("the memory of the message is not used again")
					}
					if !bytes.Equal(came, make([]byte, len(came))) {
						t.Error("the message was left behind")
					}
				case c.kept == authn.KeptRequest && (used.message == nil || used.record.ID == ""):
					t.Error("what somebody may still look at was made ready for another call")
				case !bytes.Equal(came, message):
					t.Error("the message was overwritten though somebody may still look at it")
				}
				used = &check{}
			}
			if held != "" && held != "held" {
				t.Errorf("the text that the authenticator kept became %q", held)
			}
		})
	}
}

// TestNothingOfAnotherCall: what is remembered of callers is their own, although their
// messages came in the same memory one after the other.
func TestNothingOfAnotherCall(t *testing.T) {
	w := newWorld(t)
	server := must(NewServer(w.gate, ServerOptions{}))
	defer server.Stop()
	oracle := newWorld(t)
	plain := must(NewServer(oracle.gate, ServerOptions{Plain: true, Transport: GRPCGo}))
	defer plain.Stop()
	var requests []*authv3.CheckRequest
	for i := range 60 {
		token := w.token(map[string]any{
			"sub": fmt.Sprintf("u%d", i), "email": fmt.Sprintf("user-%d@example.com", i*i*i), "tenant": fmt.Sprintf("acme:%d", i%7),
			"groups": []string{"reader", fmt.Sprintf("g%d", i%5)}, "department": fmt.Sprintf("department-%d", i), "jti": fmt.Sprintf("token-%d", i),
		})
		paths := []string{"/me/", "/keep/", "/order/" + fmt.Sprint(i), "/tenants/acme:3/orders/", "/admin/", "/minted/"}
		r := req{path: paths[i%len(paths)], host: fmt.Sprintf("h%d.example.com", i%3)}
		switch i % 3 {
		case 0:
			r = r.withBearer(token)
		case 1:
			r = r.with("cookie", "a=b; access_token="+token)
		default:
			r.path += "?x=y&access_token=" + token
		}
		requests = append(requests, r.message())
	}
	used := &check{}
	for round := range 3 {
		for i, request := range requests {
			message := must(proto.Marshal(request))
			answers := [2]seen{envoy(request, server.ask(used, message)), envoy(request, plain.ask(&check{}, message))}
			server.release(used)
			for n := range answers {
				id, _ := answers[n].metadata["decision_id"].(string)
				answers[n] = answers[n].anonymous(id)
			}
			if diff := cmp.Diff(answers[1], answers[0], cmp.AllowUnexported(seen{})); diff != "" {
				t.Fatalf("round %d, call %d (-want +got):\n%s", round, i, diff)
			}
		}
	}
}

// TestCrowd: many callers at once, of whom most were seen before, and who share the memory
// of their messages, are each told of themselves.
func TestCrowd(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Set = newSet(t, 128) }) // forgets some all the time
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			client, _, _ := w.dial(t, d.options)
			var crowd sync.WaitGroup
			for range 8 {
				crowd.Go(func() {
					for range 150 {
						user := fmt.Sprintf("user-%d@example.com", rand.IntN(200))
						r := req{path: "/me/"}.withBearer(w.token(map[string]any{"email": user, "sub": user, "department": user})).message()
						response, err := client.Check(context.Background(), r)
						if err != nil {
							t.Error(err)
							return
						}
						headers := envoy(r, response).upstream
						if !slices.Equal(headers["x-user"], []string{user}) || !slices.Equal(headers["x-department"], []string{user}) {
							t.Errorf("%s is %q of %q", user, headers["x-user"], headers["x-department"])
						}
					}
				})
			}
			crowd.Wait()
		})
	}
}
