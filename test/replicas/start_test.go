package replicas

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestStoreDownAtStart starts a replica while its database is down: it is not ready and
// answers 503 to every credential that the store has a say in; it is well by itself once
// the database is.
func TestStoreDownAtStart(t *testing.T) {
	c := start(t)
	token, err := c.replicas[0].create("alice", "acme")
	if err != nil {
		t.Fatal(err)
	}
	jwt := jwtOf(t, "alice", "acme", "j")
	r := c.replicas[0]
	r.Kill()
	if err := c.postgres.Down(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	for name, text := range map[string]string{"a token": token.text, "a JWT": jwt} {
		harness.Eventually(t, 30*time.Second, func() error { // Envoy looks for the new process
			answer, err := c.ask(t, "here", "/x", text)
			if err == nil && (answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "") {
				err = fmt.Errorf("%s: %d %v, want 503 with Retry-After", name, answer.Status, answer.Header)
			}
			return err
		})
	}
	// A mistyped token needs no store.
	harness.Eventually(t, 30*time.Second, func() error {
		if got := c.status(t, "here", "/x", token.text[:len(token.text)-1]+"-"); got != http.StatusUnauthorized {
			return fmt.Errorf("a mistyped token: %d, want 401", got)
		}
		return nil
	})
	if code, body, err := r.readiness(); err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "store") {
		t.Errorf("readyz: %d %q, %v, want 503 and the store", code, body, err)
	}
	if _, err := r.call("Tokens/Create", object{"owner": object{"issuer": issuer, "subject": "bob"}}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("creating a token: %v, want 503", err)
	}
	if err := c.postgres.Up(); err != nil {
		t.Fatal(err)
	}
	r.waitReady(t)
	c.reaches(t, "here", token.text, "alice", "ours")
	c.reaches(t, "here", jwt, "alice", "corp")
}

// TestOneAnswerManyReasons: whoever presents a token that is not good learns nothing of
// why: the answers are one, byte for byte. The log tells the operator.
func TestOneAnswerManyReasons(t *testing.T) {
	c := start(t)
	r := c.replicas[0]
	good, err := r.create("alice", "acme")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := r.create("alice", "acme")
	if err != nil {
		t.Fatal(err)
	}
	r.must(t, "Tokens/Revoke", object{"id": gone.id})
	short := r.must(t, "Tokens/Create", object{"owner": object{"issuer": issuer, "subject": "alice"}, "ttl": "0.001s"})["token"].(string)
	rotated, err := r.create("alice", "acme")
	if err != nil {
		t.Fatal(err)
	}
	r.must(t, "Tokens/Rotate", object{"id": rotated.id})
	key := r.must(t, "Tokens/Create", object{"kind": "KIND_API_KEY", "owner": object{"issuer": issuer, "subject": "alice"}})["token"].(string)
	last := good.text[len(good.text)-1]
	<-time.After(10 * time.Millisecond) // the short-lived one has expired
	var first string
	for _, row := range []struct{ name, token, reason string }{
		{"mistyped", good.text[:len(good.text)-1] + string(last^1), "token_malformed"},
		{"cut short", good.text[:40], "token_malformed"},
		{"made up", "gh_PUT5dtbfFLbeN58i_HeY6vEqYW567baQotM6TJZPm8rN1VQjlDCoWJmJcgUO41U3vD", "token_unknown"},
		{"an old secret", rotated.text, "token_unknown"},
		{"an API key", key, "token_unknown"},
		{"revoked", gone.text, "token_revoked"},
		{"expired", short, "expired"},
	} {
		answer, err := c.ask(t, "here", "/x", row.token)
		if err != nil {
			t.Fatal(err)
		}
		answer.Header.Del("Date")
		// The id of the decision is all that may tell one answer from another.
		text := strings.ReplaceAll(fmt.Sprintf("%d %v %s", answer.Status, answer.Header, answer.Body), answer.Header.Get("X-Gatehouse-Decision-Id"), "ID")
		if first == "" {
			first = text
			t.Logf("the answer: %s", text)
		}
		if text != first || answer.Status != http.StatusUnauthorized {
			t.Errorf("%s: the answer is\n%s\nwhich differs from that to a mistyped one:\n%s", row.name, text, first)
		}
		harness.Eventually(t, 5*time.Second, func() error {
			decisions := r.Decisions()
			if n := len(decisions); n == 0 || decisions[n-1]["reason"] != row.reason {
				return fmt.Errorf("%s: logged %v, want reason %s", row.name, decisions[max(0, n-1):], row.reason)
			}
			return nil
		})
	}
}
