package replicas

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// somebody has a token of ours and one of their issuer.
type somebody struct {
	subject, tenant, jti string
	token                made
	jwt                  string
}

// A change takes something from somebody at one replica.
type change struct {
	name       string
	method     string
	request    func(somebody) object
	token, jwt int // the status of each once the change counts
}

var changes = []change{
	{"a token, by its id", "Tokens/Revoke", func(s somebody) object { return object{"id": s.token.id} }, 401, 200},
	{"everything of an owner", "Tokens/RevokeAll", func(s somebody) object { return object{"issuer": issuer, "subject": s.subject} }, 401, 401},
	{"everything of a tenant", "Tokens/RevokeAll", func(s somebody) object { return object{"tenant": s.tenant} }, 401, 401},
	{"a JWT, by its jti", "Tokens/RevokeAll", func(s somebody) object { return object{"issuer": issuer, "token_id": s.jti} }, 200, 401},
	{"what an owner was issued before", "Tokens/RevokeAll", func(s somebody) object {
		return object{"issuer": issuer, "subject": s.subject, "before": time.Now().UTC().Format(time.RFC3339Nano)}
	}, 401, 401},
	{"nothing, for what was issued before an hour ago", "Tokens/RevokeAll", func(s somebody) object {
		return object{"tenant": s.tenant, "before": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano)}
	}, 200, 200},
	{"a person, who is disabled", "Directory/Disable", func(s somebody) object { return object{"owner": object{"issuer": issuer, "subject": s.subject}} }, 403, 403},
}

// TestRevocationReachesTheOtherReplica takes tokens and people away at one replica while
// both are busy: the other refuses them within a second of the answer, and refuses nothing
// else. What is created at one is good at the other at once.
func TestRevocationReachesTheOtherReplica(t *testing.T) {
	c := start(t)
	trials := 2 * len(changes)
	if acceptance() {
		trials = 15 * len(changes)
	}
	stop := c.load(t)
	longest := map[string]time.Duration{}
	var worst time.Duration
	for i := range trials {
		change := changes[i%len(changes)]
		from, at := c.replicas[i%2], doors[1-i%2]
		who := somebody{subject: fmt.Sprintf("user-%d", i), tenant: fmt.Sprintf("tenant-%d", i), jti: fmt.Sprintf("jti-%d", i)}
		var err error
		if who.token, err = from.create(who.subject, who.tenant); err != nil {
			t.Fatal(err)
		}
		who.jwt = jwtOf(t, who.subject, who.tenant, who.jti)
		c.reaches(t, at, who.token.text, who.subject, "ours")
		c.reaches(t, at, who.jwt, who.subject, "corp")
		from.must(t, change.method, change.request(who))
		answered := time.Now()
		here := doors[i%2]
		if token, jwt := c.status(t, here, "/x", who.token.text), c.status(t, here, "/x", who.jwt); token != change.token || jwt != change.jwt {
			t.Errorf("%s: where it was done: token %d, JWT %d, want %d and %d at once", change.name, token, jwt, change.token, change.jwt)
		}
		for {
			token, jwt := c.status(t, at, "/x", who.token.text), c.status(t, at, "/x", who.jwt)
			took := time.Since(answered)
			if token == change.token && jwt == change.jwt {
				longest[change.name], worst = max(longest[change.name], took), max(worst, took)
				break
			}
			if took > promised {
				t.Fatalf("%s: %v after the answer: token %d, JWT %d, want %d and %d", change.name, took, token, jwt, change.token, change.jwt)
			}
		}
	}
	stop()
	for _, change := range changes {
		t.Logf("%-50s counted at the other replica within %v", change.name, longest[change.name].Round(100*time.Microsecond))
	}
	t.Logf("the longest of %d trials took %v", trials, worst.Round(100*time.Microsecond))
	for i, r := range c.replicas {
		if _, text, err := get("http://" + r.Ops + "/metrics"); err != nil || !strings.Contains(text, "\ngatehouse_revocation_lag_seconds_count ") ||
			strings.Contains(text, "\ngatehouse_revocation_lag_seconds_count 0\n") {
			t.Errorf("replica %d has measured no revocation: %v", i, err)
		}
	}
}

// load keeps both replicas and the store busy until the test ends or stop is called.
// Nothing that it asks may be refused.
func (c *cluster) load(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for i, r := range c.replicas {
		token, err := r.create("load", "load")
		if err != nil {
			t.Fatal(err)
		}
		working.Go(func() {
			for ctx.Err() == nil {
				if answer, err := c.ask(t, doors[2], "/load", token.text); err != nil || answer.Status != http.StatusOK {
					t.Errorf("the load was answered %d, %v: %s", answer.Status, err, answer.Body)
					return
				}
			}
		})
		working.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				created, err := r.create(fmt.Sprintf("load-%d-%d", i, n), "load")
				if err == nil {
					_, err = r.call("Tokens/Revoke", object{"id": created.id})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop = func() {
		cancel()
		working.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// TestGrantReachesTheOtherReplica: roles given and taken at one replica count at the
// other, for whoever the issuer speaks of.
func TestGrantReachesTheOtherReplica(t *testing.T) {
	c := start(t)
	token := jwtOf(t, "alice", "acme", "j")
	owner := object{"issuer": issuer, "subject": "alice"}
	for _, step := range []struct {
		request object
		want    int
	}{
		{nil, 403},
		{object{"owner": owner, "add": []string{"editor"}}, 200},
		{object{"owner": owner, "add": []string{"other"}}, 200},
		{object{"owner": owner, "remove": []string{"editor"}}, 403},
		{object{"owner": owner, "roles": []string{"editor"}}, 200},
		{object{"owner": owner}, 403},
	} {
		if step.request != nil {
			c.replicas[0].must(t, "Directory/Grant", step.request)
		}
		harness.Eventually(t, promised, func() error {
			if got := c.status(t, "there", "/editors/1", token); got != step.want {
				return fmt.Errorf("after %v: %d, want %d", step.request, got, step.want)
			}
			return nil
		})
	}
	if _, err := c.replicas[0].call("Directory/Grant", object{"owner": owner, "add": []string{"a"}, "roles": []string{"b"}}); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a whole list and an addition: %v, want a refusal", err)
	}
}
