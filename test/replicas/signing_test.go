package replicas

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/mint/verify"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestIdentityTokensOfEitherReplica: the store keeps the signing key, so that what one
// replica signs is verified with what the other publishes, also after both were started
// anew.
func TestIdentityTokensOfEitherReplica(t *testing.T) {
	c := start(t)
	bearer := jwtOf(t, "alice", "acme", "j1")
	identity := func(door string) string {
		t.Helper()
		answer, err := c.ask(t, door, "/things", bearer)
		if err != nil || answer.Status != http.StatusOK || answer.Upstream == nil {
			t.Fatalf("through %s: %+v, %v", door, answer, err)
		}
		return strings.TrimPrefix(strings.Join(harness.Folded(answer.Upstream, "x-identity"), ","), "x-identity: ")
	}
	keys := func(r *replica) string {
		t.Helper()
		status, body, err := get("http://" + r.HTTP + "/.well-known/jwks.json")
		var set struct{ Keys []struct{ Kid string } }
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &set) != nil || len(set.Keys) != 1 {
			t.Fatalf("JWKS = %d %s, %v; want one key", status, body, err)
		}
		return body
	}
	verified := func(minted, by string) {
		t.Helper()
		v, err := verify.New(t.Context(), "http://"+by+"/.well-known/jwks.json", "https://gatehouse.example.com", "things")
		if err != nil {
			t.Fatal(err)
		}
		if id, err := v.Token(minted); err != nil || id.Subject != "corp:alice" {
			t.Errorf("%s with the keys of the other replica: %+v, %v", minted, id, err)
		}
	}
	here, there := c.replicas[0], c.replicas[1]
	before := keys(here)
	if other := keys(there); other != before {
		t.Fatalf("the replicas publish\n%s\n%s", before, other)
	}
	old := identity("here")
	verified(old, there.HTTP)
	verified(identity("there"), here.HTTP)
	for _, r := range c.replicas {
		r.Stop()
		r.start(t)
		r.waitReady(t)
	}
	if after := keys(there); after != before {
		t.Errorf("after a restart the keys are\n%s, want\n%s", after, before)
	}
	verified(old, here.HTTP)
	harness.Eventually(t, 30*time.Second, func() error { // until Envoy has noticed
		answer, err := c.ask(t, "here", "/things", bearer)
		if err == nil && answer.Status != http.StatusOK {
			err = fmt.Errorf("status %d", answer.Status)
		}
		return err
	})
	verified(identity("here"), there.HTTP)
}
