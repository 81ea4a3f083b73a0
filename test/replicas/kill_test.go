package replicas

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// said is the last that the service said of a token.
type said string

const (
	created  said = "created"
	revoking said = "revoking" // it was asked to revoke it, and has not answered
	revoked  said = "revoked"
)

// A ledger has what clients were told, in the order in which they were told it.
type ledger struct {
	mu      sync.Mutex
	entries []*entry
	failed  int // attempts to create a token of which nobody was told anything

	// outage is when the store was last out of order, or had just been: a replica that
	// cannot ask it serves what it knows for 30 seconds.
	outage time.Time
}

type entry struct {
	made
	said said
	at   time.Time
}

func (l *ledger) say(e *entry, what said) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.said == "" {
		l.entries = append(l.entries, e)
	}
	e.said, e.at = what, time.Now()
}

func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

func (l *ledger) out() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outage = time.Now()
}

// pick gives any entry, as it was said of it, and when.
func (l *ledger) pick() (*entry, said, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.entries) == 0 {
		return nil, "", time.Time{}
	}
	e := l.entries[rand.IntN(len(l.entries))]
	return e, e.said, e.at
}

// write makes tokens at a replica and revokes every other one until ctx ends.
func (l *ledger) write(ctx context.Context, r *replica) {
	for i := 0; ctx.Err() == nil; i++ {
		token, err := r.create("alice", "acme")
		if err != nil {
			l.mu.Lock()
			l.failed++
			l.mu.Unlock()
			select { // it is being started again
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		e := &entry{made: token}
		l.say(e, created)
		if i%2 == 0 {
			continue
		}
		l.say(e, revoking)
		if _, err := r.call("Tokens/Revoke", object{"id": token.id}); err == nil {
			l.say(e, revoked)
		}
	}
}

// read asks about tokens at every door until ctx ends: a good one is never unknown or
// revoked, a revoked one is never good a second later.
func (l *ledger) read(ctx context.Context, t *testing.T, c *cluster, asked *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		e, before, at := l.pick()
		if e == nil {
			continue
		}
		began, door := time.Now(), doors[i%len(doors)]
		status := c.status(t, door, "/x", e.text)
		l.mu.Lock()
		after, outage := e.said, l.outage
		l.mu.Unlock()
		asked.Add(1)
		settled := at
		if outage.After(settled) {
			settled = outage
		}
		switch {
		case status == 200 && before == revoked && began.Sub(settled) > promised:
			t.Errorf("token %s is good at %q %v after it was revoked", e.id, door, began.Sub(at))
		case status == 401 && after == created:
			t.Errorf("token %s is lost at %q", e.id, door)
		case status != 200 && status != 401 && status != 503:
			t.Errorf("token %s at %q: %d", e.id, door, status)
		}
	}
}

// TestKills kills replicas with SIGKILL and the database as a crash does, while clients
// create, revoke and use tokens at both replicas: no token that somebody was given is lost,
// none that was revoked is good, and none is there that nobody asked for.
func TestKills(t *testing.T) {
	kills, killsPerRestart := 2, 2
	if acceptance() {
		kills, killsPerRestart = 20, 4
	}
	c := start(t)
	l := &ledger{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var working sync.WaitGroup
	var asked atomic.Int64
	for _, r := range c.replicas {
		working.Go(func() { l.write(ctx, r) })
		working.Go(func() { l.read(ctx, t, c, &asked) })
	}
	goesOn := func() {
		t.Helper()
		before := l.size()
		harness.Eventually(t, 30*time.Second, func() error {
			if n := l.size(); n < before+10 {
				return fmt.Errorf("%d tokens more", n-before)
			}
			return nil
		})
	}
	goesOn()
	restarts := 0
	for kill := range kills {
		r := c.replicas[kill%len(c.replicas)]
		r.Kill()
		goesOn() // at the other
		r.start(t)
		r.waitReady(t)
		goesOn()
		if (kill+1)%killsPerRestart != 0 {
			continue
		}
		restarts++
		l.out()
		if err := c.postgres.Down(); err != nil {
			t.Fatal(err)
		}
		if err := c.postgres.Up(); err != nil {
			t.Fatal(err)
		}
		l.out()
		for _, r := range c.replicas {
			r.waitHeard(t)
		}
		l.out()
		goesOn()
	}
	stop()
	working.Wait()
	c.prove(t, l)
	t.Logf("%d tokens over %d kills of a replica and %d of the database, %d uses meanwhile; %d attempts failed",
		l.size(), kills, restarts, asked.Load(), l.failed)
}

// waitHeard waits until the replica has heard of the store again.
func (r *replica) waitHeard(t *testing.T) {
	t.Helper()
	asked := time.Now()
	harness.Eventually(t, 30*time.Second, func() error {
		answer, err := r.call("Service/Status", object{})
		if err != nil {
			return err
		}
		store, _ := answer["store"].(map[string]any)
		age, err := time.ParseDuration(fmt.Sprint(store["age"]))
		if err == nil && (store["ready"] != true || time.Now().Add(-age).Before(asked)) {
			err = fmt.Errorf("the store is %v", store)
		}
		return err
	})
}

// prove holds what was said against what is.
func (c *cluster) prove(t *testing.T, l *ledger) {
	t.Helper()
	counts := map[said]int{}
	<-time.After(promised) // the last revocation counts by now
	for _, e := range l.entries {
		counts[e.said]++
		here, there := c.status(t, "here", "/x", e.text), c.status(t, "there", "/x", e.text)
		switch {
		case here != there:
			t.Errorf("token %s: %d here, %d there", e.id, here, there)
		case e.said == created && here != 200, e.said == revoked && here != 401, here != 200 && here != 401:
			t.Errorf("token %s, of which was said %q last: %d", e.id, e.said, here)
		}
	}
	if counts[created] == 0 || counts[revoked] == 0 {
		t.Errorf("said last: %v, want both kinds", counts)
	}
	records, entries := c.count(t, "Tokens/List", "tokens", nil), c.count(t, "Service/Audit", "entries", func(e map[string]any) bool { return e["action"] == "create" })
	if records != entries {
		t.Errorf("%d records, and %d entries of their creation in the audit log", records, entries)
	}
	if given := len(l.entries); records < given || records > given+l.failed {
		t.Errorf("%d records, of which clients were given %d and may have been made %d more", records, given, l.failed)
	}
}

// count counts the items of a list of the admin API, over all pages.
func (c *cluster) count(t *testing.T, method, list string, wanted func(map[string]any) bool) (n int) {
	t.Helper()
	request := object{"page_size": 1000}
	for {
		answer := c.replicas[0].must(t, method, request)
		items, _ := answer[list].([]any)
		for _, item := range items {
			if wanted == nil || wanted(item.(map[string]any)) {
				n++
			}
		}
		next, _ := answer["next_page_token"].(string)
		if next == "" {
			return n
		}
		request["page_token"] = next
	}
}
