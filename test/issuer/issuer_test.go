// Package issuer drives a live token issuer through rotation, withdrawal and faults
// while requests run against the real binary.
package issuer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
authenticators:
- name: corp
  jwt:
    issuer: %s
    audiences: [orders]
    keys: {refresh: 1s, unknown_kid_interval: 50ms, timeout: 300ms, stale_for: %s}
    principal: {subject: {claim: sub}}
routes:
- match: ["/"]
  allow: [{authenticated: true}]
forward:
  headers: {x-user: "{subject}"}
`

// patience is how long a change of the issuer may take to be seen: a refresh and a
// busy machine.
const patience = 20 * time.Second

// A bench is an issuer, and gatehouse that trusts it.
type bench struct {
	issuer    *authntest.Issuer
	gatehouse *harness.Gatehouse
	client    authv3.AuthorizationClient
	forger    *authntest.Key
	asked     atomic.Int64
}

func newBench(t *testing.T, fault authntest.Fault, staleFor string) *bench {
	t.Helper()
	b := &bench{}
	var err error
	if b.issuer, err = authntest.Start(authntest.Options{Path: "/realms/corp"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.issuer.Close)
	b.issuer.Break(fault, authntest.Everywhere)
	if b.forger, err = authntest.NewKey(b.issuer.Current().ID, "ES256"); err != nil {
		t.Fatal(err)
	}
	b.gatehouse = harness.StartGatehouse(t, fmt.Sprintf(config, b.issuer.URL(), staleFor))
	b.client = authv3.NewAuthorizationClient(harness.Dial(t, b.gatehouse.GRPC))
	b.gatehouse.WaitServing(t)
	return b
}

// ask gives the status that a request with token is answered: 200 if it is let
// through, and then for alice.
func (b *bench) ask(token string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	response, err := b.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/", Host: "orders.example", Headers: map[string]string{"authorization": "Bearer " + token},
		}},
	}})
	if err != nil {
		return 0, err
	}
	if response.GetStatus().GetCode() != 0 {
		return int(response.GetDeniedResponse().GetStatus().GetCode()), nil
	}
	for _, header := range response.GetOkResponse().GetHeaders() {
		if header.GetHeader().GetKey() == "x-user" && header.GetHeader().GetValue() == "alice" {
			return 200, nil
		}
	}
	return 0, fmt.Errorf("let through, but not as alice: %v", response)
}

func (b *bench) want(t *testing.T, what, token string, want int) {
	t.Helper()
	if got, err := b.ask(token); got != want {
		t.Errorf("%s is answered %d (%v), want %d", what, got, err, want)
	}
}

func (b *bench) eventually(t *testing.T, what, token string, want int) {
	t.Helper()
	harness.Eventually(t, patience, func() error {
		if got, err := b.ask(token); got != want {
			return fmt.Errorf("%s is answered %d (%w), want %d", what, got, err, want)
		}
		return nil
	})
}

// run asks about fresh good and forged tokens until the test's part ends: the good are
// let through, the forged are not.
func (b *bench) run(t *testing.T) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var asking sync.WaitGroup
	for worker := range 3 {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				id := map[string]any{"jti": fmt.Sprintf("%d-%d", worker, n)}
				if got, err := b.ask(b.issuer.Token(id)); got != 200 {
					t.Errorf("a good token is answered %d (%v), want 200", got, err)
					return
				}
				if got, err := b.ask(b.forger.Token(b.issuer.Claims(id))); got != 401 {
					t.Errorf("a forged token is answered %d (%v), want 401", got, err)
					return
				}
				b.asked.Add(1)
			}
		})
	}
	return func() {
		close(done)
		asking.Wait()
		if b.asked.Load() < 20 && !t.Failed() {
			t.Errorf("only %d rounds were asked", b.asked.Load())
		}
	}
}

// fetches waits for n more requests to the key set.
func (b *bench) fetches(t *testing.T, n int) {
	t.Helper()
	discovery, keys := b.issuer.Requests()
	harness.Eventually(t, patience, func() error {
		d, k := b.issuer.Requests()
		if (d-discovery)+(k-keys) < n {
			return fmt.Errorf("%d requests to the issuer, want %d more", d+k-discovery-keys, n)
		}
		return nil
	})
}

func (b *bench) ops(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get("http://" + b.gatehouse.Ops + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestRotationAndFaultsRefuseNoGoodToken(t *testing.T) {
	t.Parallel()
	b := newBench(t, authntest.NoFault, "1h")
	stop := b.run(t)
	for range 3 {
		if _, err := b.issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		b.want(t, "the first token of a new key", b.issuer.Token(nil), 200)
		b.fetches(t, 2) // a refresh, so that the next new key may cause a fetch again
	}
	for _, fault := range []authntest.Fault{
		authntest.Status500, authntest.Garbage, authntest.Hang, authntest.RedirectAway, authntest.Truncated, authntest.Drip, authntest.OtherIssuer,
	} {
		b.issuer.Break(fault, authntest.Everywhere)
		b.fetches(t, 1)
		b.issuer.Break(authntest.NoFault, authntest.Everywhere)
		b.fetches(t, 2)
	}
	stop()
}

func TestWithdrawnKeyStopsCountingWithItsCachedTokens(t *testing.T) {
	t.Parallel()
	b := newBench(t, authntest.NoFault, "1h")
	old := b.issuer.Current()
	token := b.issuer.Token(nil)
	b.want(t, "a token", token, 200)
	if _, err := b.issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	fresh := b.issuer.Token(nil)
	b.want(t, "a token of the new key", fresh, 200)
	b.want(t, "a token of the old key", token, 200)
	b.issuer.Withdraw(old.ID)
	b.eventually(t, "a token of the withdrawn key", token, 401)
	b.want(t, "a token of the new key", fresh, 200)
}

func TestIssuerDownAtStartThenBack(t *testing.T) {
	t.Parallel()
	for _, fault := range []authntest.Fault{authntest.Status500, authntest.Hang, authntest.OtherIssuer, authntest.RedirectAway} {
		t.Run(fmt.Sprint(fault), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, fault, "1h")
			token := b.issuer.Token(nil)
			b.want(t, "a good token of an issuer that is down", token, 503)
			if ready := b.ops(t, "/readyz?verbose"); !strings.Contains(ready, "corp") || !strings.Contains(ready, "503") {
				t.Errorf("/readyz?verbose does not show the issuer's outage:\n%s", ready)
			}
			if metrics := b.ops(t, "/metrics"); !strings.Contains(metrics, `gatehouse_keyset_ready{authenticator="corp"} 0`) {
				t.Errorf("/metrics do not show the issuer's outage:\n%s", metrics)
			}
			b.issuer.Break(authntest.NoFault, authntest.Everywhere)
			b.eventually(t, "a good token of an issuer that is back", token, 200)
		})
	}
}

func TestOutageBeyondStaleForIs503(t *testing.T) {
	t.Parallel()
	b := newBench(t, authntest.NoFault, "2s")
	token := b.issuer.Token(nil)
	b.want(t, "a token", token, 200)
	b.issuer.Break(authntest.Status500, authntest.Everywhere)
	b.eventually(t, "a token, once the last good set is too old", token, 503)
	b.issuer.Break(authntest.NoFault, authntest.Everywhere)
	b.eventually(t, "a token, once the issuer is back", token, 200)
}

func TestUnknownKidFloodIsOneFetch(t *testing.T) {
	t.Parallel()
	b := newBench(t, authntest.NoFault, "1h")
	stranger := *b.forger
	const flood = 300
	_, before := b.issuer.Requests()
	begun := time.Now()
	var all sync.WaitGroup
	for n := range flood {
		key := stranger
		key.ID = fmt.Sprint("stranger-", n)
		token := key.Token(b.issuer.Claims(nil))
		all.Go(func() { b.want(t, "a token of an unknown key", token, 401) })
	}
	all.Wait()
	_, after := b.issuer.Requests()
	// One for each interval that the flood took, and the background's own.
	allowed := 2 + int(time.Since(begun)/(50*time.Millisecond)) + int(time.Since(begun)/time.Second)
	if after-before > allowed {
		t.Errorf("%d unknown keys caused %d fetches in %v, want at most %d", flood, after-before, time.Since(begun), allowed)
	}
	b.want(t, "a good token after the flood", b.issuer.Token(nil), 200)
}
