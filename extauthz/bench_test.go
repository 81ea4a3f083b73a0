package extauthz

import (
	"context"
	"fmt"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// browserHeaders are what a usual request has besides its credential.
var browserHeaders = map[string]string{
	"user-agent":        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
	"accept":            "application/json",
	"accept-language":   "en-GB,en;q=0.5",
	"accept-encoding":   "gzip, deflate, br, zstd",
	"content-type":      "application/json",
	"x-forwarded-for":   "192.0.2.7",
	"x-forwarded-proto": "https",
	"sec-fetch-dest":    "empty",
	"sec-fetch-mode":    "cors",
	"sec-fetch-site":    "same-origin",
	"referer":           "https://app.example.com/orders",
	"origin":            "https://app.example.com",
}

// handled sends one message through everything but the network.
func (s *Server) handled(message []byte) error {
	c := s.checks.Get().(*check)
	s.serve(context.Background(), c, func(any) error { c.message = append(c.message, message...); return nil })
	s.release(c)
	return nil
}

type benchCase struct {
	name string
	req  func(*world) req
	code int32
}

var benchCases = []benchCase{
	{"jwt=cached", func(w *world) req { return req{path: "/tenants/acme/orders/7"}.withBearer(w.token(nil)) }, 0},
	{"apikey", func(w *world) req { return req{path: "/me/", source: "10.0.0.1"}.with("x-api-key", "the-key-of-ci") }, 0},
	{"public", func(*world) req { return req{path: "/"} }, 0},
	{"denied", func(w *world) req { return req{path: "/admin/"}.withBearer(w.token(nil)) }, 7},
	{"none", func(*world) req { return req{path: "/me/"} }, 16},
}

func (c benchCase) message(t testing.TB, w *world) []byte {
	r := c.req(w)
	for k, v := range browserHeaders {
		r = r.with(k, v)
	}
	return must(proto.Marshal(r.message()))
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range benchCases {
		for _, d := range doors {
			b.Run(fmt.Sprintf("%s/door=%s", c.name, d.name), func(b *testing.B) {
				w := newWorld(b)
				server := must(NewServer(w.gate, d.options))
				message := c.message(b, w)
				b.ReportAllocs()
				for b.Loop() {
					_ = server.handled(message)
				}
			})
		}
	}
	b.Run("jwt=new", func(b *testing.B) { // by a secret, as signatures are measured elsewhere
		w := newWorld(b, func(c *Config) { c.Set = newSet(b, 64) })
		server := must(NewServer(w.gate, ServerOptions{}))
		messages := make([][]byte, 4096)
		for i := range messages {
			token := w.token(map[string]any{"sub": fmt.Sprintf("user-%d", i), "jti": fmt.Sprintf("token-%d", i)})
			messages[i] = benchCase{req: func(*world) req { return req{path: "/tenants/acme/orders/7"}.withBearer(token) }}.message(b, w)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_ = server.handled(messages[i%len(messages)])
		}
	})
	for _, routes := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			w := newWorld(b, func(c *Config) { addRoutes(b, c, routes) })
			server := must(NewServer(w.gate, ServerOptions{}))
			message := benchCases[0].message(b, w)
			b.ReportAllocs()
			for b.Loop() {
				_ = server.handled(message)
			}
		})
	}
}

func addRoutes(t testing.TB, c *Config, n int) {
	for i := range n {
		name := fmt.Sprintf("GET /services/s%d/{id}", i)
		c.Routes = append(c.Routes, Route{Forward: c.Forward, Policy: &policy.Route{
			Name: name, Index: len(c.Routes), Patterns: patterns(t, name),
			Allow: []policy.Requirement{{Roles: &policy.Sets{Any: []string{"reader"}}}},
		}})
	}
}

// BenchmarkServer is the whole way over HTTP/2, in memory.
func BenchmarkServer(b *testing.B) {
	for _, d := range doors {
		b.Run("door="+d.name, func(b *testing.B) {
			w := newWorld(b)
			client, _, _ := w.dial(b, d.options)
			var request authv3.CheckRequest
			if err := proto.Unmarshal(benchCases[0].message(b, w), &request); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.Check(context.Background(), &request); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// TestNoAllocs guards the hot path: what was seen before is decided and answered
// without an allocation, from the bytes that came to the bytes that go.
func TestNoAllocs(t *testing.T) {
	for _, c := range benchCases {
		if c.name == "none" || c.name == "denied" {
			continue // a refusal writes a body with the decision's id
		}
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			server := must(NewServer(w.gate, ServerOptions{}))
			message := c.message(t, w)
			check := &check{}
			once := func() {
				check.reset()
				server.serve(context.Background(), check, func(any) error { check.message = append(check.message, message...); return nil })
			}
			once()
			var response authv3.CheckResponse
			if err := proto.Unmarshal(check.reply, &response); err != nil || response.GetStatus().GetCode() != c.code {
				t.Fatalf("Check = %v, %v, want code %d", &response, err, c.code)
			}
			if n := testing.AllocsPerRun(200, once); n != 0 {
				t.Errorf("a hot Check allocates %v times", n)
			}
		})
	}
}
