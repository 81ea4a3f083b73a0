package replicas

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
)

// signed sends a signed request to a door, as it is.
func (c *cluster) signed(t *testing.T, door string, r *http.Request) int {
	t.Helper()
	again := r.Clone(t.Context())
	again.Host, again.URL.Host = r.URL.Host, c.envoy.Address(t, door)
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(again)
	if err != nil {
		t.Error(err)
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestReplayAtTheOtherReplica: a signed request counts once at both replicas together,
// whichever sees it first, and however many come at once.
func TestReplayAtTheOtherReplica(t *testing.T) {
	c := start(t)
	message := func() *http.Request {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://peers.example/synchronize?since=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := (&peersign.Signer{KeyID: "cluster", Secret: []byte(peerSecret)}).Sign(r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i := range 4 {
		r, first, second := message(), doors[i%2], doors[1-i%2]
		if got := c.signed(t, first, r); got != http.StatusOK {
			t.Fatalf("at %q first: %d", first, got)
		}
		for _, door := range []string{second, first, second} {
			if got := c.signed(t, door, r); got != http.StatusUnauthorized {
				t.Errorf("again, at %q: %d, want 401", door, got)
			}
		}
	}
	for range 10 {
		r := message()
		var accepted atomic.Int64
		var sending sync.WaitGroup
		for i := range 8 {
			sending.Go(func() {
				if c.signed(t, doors[i%2], r) == http.StatusOK {
					accepted.Add(1)
				}
			})
		}
		sending.Wait()
		if n := accepted.Load(); n != 1 {
			t.Errorf("a message sent eight times at once counted %d times", n)
		}
	}
}
