package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// shownRoutes is how many routes have series of their own; more share one.
const shownRoutes = 1000

// TestManyRoutesAreQuickToWatch: with more routes than are counted apart, each of them used,
// and with paths of clients' own making, the pages for operators stay small and quick.
func TestManyRoutesAreQuickToWatch(t *testing.T) {
	const more, strange = 50, 500
	var routes strings.Builder
	for i := range shownRoutes + more {
		fmt.Fprintf(&routes, "- {match: [\"GET /things/%d/{id}\"], name: thing-%d, public: true}\n", i, i)
	}
	config := strings.Replace(versioned("one"), "routes:\n", "routes:\n"+routes.String(), 1)
	gatehouse := harness.StartGatehouse(t, config, harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	client := authv3.NewAuthorizationClient(harness.Dial(t, gatehouse.GRPC))
	ask := func(path string) int32 {
		answer, err := client.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "example.com", Path: path}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetStatus().GetCode()
	}
	for i := range shownRoutes + more {
		if code := ask(fmt.Sprintf("/things/%d/x", i)); code != 0 {
			t.Fatalf("route %d: code %d", i, code)
		}
	}
	for i := range strange {
		if code := ask(fmt.Sprintf("/strange-%d", i)); code == 0 {
			t.Fatal("what no route covers passes")
		}
	}
	// A scrape has ten seconds, usually; half of one is more than enough for two.
	const quick = 500 * time.Millisecond
	for _, page := range []string{"/metrics", "/readyz?verbose"} {
		best := time.Hour
		var body []byte
		for range 5 {
			began := time.Now()
			resp, err := http.Get("http://" + gatehouse.Ops + page)
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("GET %s: status %d, %v", page, resp.StatusCode, err)
			}
			resp.Body.Close()
			best = min(best, time.Since(began))
		}
		t.Logf("GET %s: %d bytes in %v", page, len(body), best)
		if best > quick {
			t.Errorf("GET %s takes %v, want less than %v", page, best, quick)
		}
	}
	page, err := metrics(gatehouse)
	if err != nil {
		t.Fatal(err)
	}
	// Of the routes that are counted apart one is the route of the configuration itself.
	if got, most := strings.Count(string(page), "\ngatehouse_decisions_total{"), shownRoutes+2; got > most || got < shownRoutes {
		t.Errorf("%d series of decisions, want at most %d", got, most)
	}
	for series, want := range map[string]float64{
		`gatehouse_decisions_total{outcome="allowed",reason="public",route="thing-7"}`:    1,
		`gatehouse_decisions_total{outcome="allowed",reason="public",route="(other)"}`:    more,
		`gatehouse_decisions_total{outcome="forbidden",reason="no_route",route="(none)"}`: strange,
	} {
		if got, err := page.value(series); err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", series, got, err, want)
		}
	}
}

const (
	// checksPerSecond is the load of TestReloadsUnderChecks.
	checksPerSecond = 5000

	// askers share it: connections, and calls at a time on each.
	askerConnections, askersEach = 4, 8
)

// TestReloadsUnderChecks: the reloads of TestReloadsLoseNothing without Envoy in between,
// under all the Checks that the promise speaks of. Every one is answered, and by one
// configuration.
func TestReloadsUnderChecks(t *testing.T) {
	total := reloads / 2
	if acceptance() {
		total = acceptanceReloads
	}
	gatehouse := harness.StartGatehouse(t, versioned("one"), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	request := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Host: "example.com", Path: "/me", Headers: map[string]string{"x-api-key": batchKey},
		}},
	}}
	var sent, ones, twos atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range askerConnections {
		client := authv3.NewAuthorizationClient(harness.Dial(t, gatehouse.GRPC))
		for range askersEach {
			clients.Go(func() {
				tick := time.NewTicker(askerConnections * askersEach * time.Second / checksPerSecond)
				defer tick.Stop()
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					version, err := decidedBy(client, request)
					if err != nil {
						t.Errorf("Check %d: %v", sent.Load(), err)
						return
					}
					sent.Add(1)
					if version == "one" {
						ones.Add(1)
					} else {
						twos.Add(1)
					}
				}
			})
		}
	}
	const done = `gatehouse_reloads_total{result="ok"}`
	before, err := metric(gatehouse, done)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range total {
		gatehouse.Configure(t, versioned([]string{"two", "one"}[i%2]))
		gatehouse.Signal(syscall.SIGHUP)
		harness.Eventually(t, settle, func() error {
			now, err := metric(gatehouse, done)
			if err == nil && now <= before {
				err = fmt.Errorf("%v reloads, want more than %v", now, before)
			}
			before = now
			return err
		})
	}
	took := time.Since(began)
	close(stop)
	clients.Wait()
	if failed, err := metric(gatehouse, `gatehouse_reloads_total{result="failed"}`); err != nil || failed != 0 {
		t.Errorf("%v reloads failed, %v", failed, err)
	}
	if ones.Load() == 0 || twos.Load() == 0 {
		t.Errorf("%d decisions of one configuration and %d of the other", ones.Load(), twos.Load())
	}
	t.Logf("%d reloads in %v, %d Checks (%.0f/s), all allowed, %d and %d by either configuration",
		total, took.Round(time.Millisecond), sent.Load(), float64(sent.Load())/took.Seconds(), ones.Load(), twos.Load())
}

// decidedBy asks, and gives the version that decided. More than one is an error.
func decidedBy(client authv3.AuthorizationClient, request *authv3.CheckRequest) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := client.Check(ctx, proto.CloneOf(request))
	if err != nil {
		return "", err
	}
	if answer.GetStatus().GetCode() != 0 {
		return "", fmt.Errorf("refused: %v", answer)
	}
	told := map[string]string{}
	for _, option := range answer.GetOkResponse().GetHeaders() {
		told[option.GetHeader().GetKey()] = option.GetHeader().GetValue()
	}
	if told["x-tenant-id"] == "" || told["x-tenant-id"] != told["x-version"] {
		return "", fmt.Errorf("%w: %v", errMixed, told)
	}
	return told["x-version"], nil
}
