package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// soakTime is how long TestSoak takes unless DURATION says otherwise.
const soakTime = 8 * time.Second

// What the process may have more of at the end of a soak than half way, when caches are
// full or nearly so: that of verified tokens holds 131,072, which takes 24 minutes; ten
// more minutes of it are some 60 MB.
const (
	moreGoroutines  = 50
	moreDescriptors = 50
	moreHeap        = 192 << 20 // bytes that the heap may grow by, garbage included
)

// An oracle knows the right answers. While it changes there is none.
type oracle struct {
	mu       sync.Mutex
	changing bool
	epoch    int
	open     bool      // GET /elsewhere is public
	revoked  bool      // the key batch-next is gone
	stale    string    // a token whose key was withdrawn
	made     madeToken // a token of the store that is good
	gone     madeToken // one that was revoked
}

// A judged question is one request and what the oracle says of it.
type judged struct {
	name    string
	request string
	header  func(*oracle) string
	status  func(*oracle) int
}

// ask sends the question. It gives false if the oracle changed meanwhile.
func (o *oracle) ask(front string, q judged) (bool, error) {
	o.mu.Lock()
	epoch, changing, header, want := o.epoch, o.changing, q.header(o), q.status(o)
	o.mu.Unlock()
	answer, err := harness.TrySend(front, q.request, header)
	o.mu.Lock()
	defer o.mu.Unlock()
	if changing || epoch != o.epoch {
		return false, nil
	}
	if err == nil && answer.Status == http.StatusGatewayTimeout {
		return false, nil // of Envoy about the upstream, which is in this process: the machine stood still
	}
	if err == nil && answer.Status != want {
		err = fmt.Errorf("status %d, want %d: %s", answer.Status, want, answer.Body)
	}
	return true, err
}

// change makes a change, which takes effect in the world by make, and in the oracle by note.
func (o *oracle) change(make func(), note func()) {
	o.mu.Lock()
	o.changing = true
	o.epoch++
	o.mu.Unlock()
	make()
	o.mu.Lock()
	note()
	o.changing = false
	o.epoch++
	o.mu.Unlock()
}

func always(status int) func(*oracle) int { return func(*oracle) int { return status } }

// madeUp is how many tokens that never were a soak presents, in turns. What is known not to
// exist is remembered; with new ones each time the memory for that would grow to its bound
// while one looks.
const madeUp = 1000

// TestSoak: steady load while keys rotate, the configuration is reloaded, a key is taken
// away and given back, and tokens of the store are made and revoked. Not one answer may be
// wrong, and the process may not grow.
func TestSoak(t *testing.T) {
	total := soakTime
	if text := os.Getenv("DURATION"); text != "" {
		var err error
		if total, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	dir := shortDir(t)
	admin := "unix://" + filepath.Join(dir, "admin.sock")
	f := setup{change: func(_ *testing.T, _ *faulty, config string) string {
		config = strings.Replace(config, "  ops:", fmt.Sprintf("  admin: {address: %q}\n  ops:", admin), 1)
		return storedConfig(config, fmt.Sprintf("{sqlite: {path: %q}}", filepath.Join(dir, "gatehouse.db")))
	}}.start(t)
	where := "--admin=" + admin
	front := f.envoy.Address(t, "hardened")
	f.traffic.end() // its answers are not the oracle's

	bearer := func(token string) string { return "authorization: Bearer " + token }
	o := &oracle{stale: newForger(t, f.issuer).Token(f.issuer.Claims(nil)), made: makeToken(t, where), gone: makeToken(t, where)}
	tokens(t, where, "revoke", o.gone.ID)
	nobodys := make([]string, madeUp)
	for i := range nobodys {
		nobodys[i] = bearer(unknownToken())
	}
	asked := 0
	forger := newForger(t, f.issuer)
	questions := []judged{
		{"a key", "GET /me", func(*oracle) string { return "x-api-key: " + batchKey }, always(http.StatusOK)},
		{"a fresh token", "GET /me", func(*oracle) string { return bearer(f.issuer.Token(map[string]any{"jti": time.Now().String()})) }, always(http.StatusOK)},
		{"a forged token", "GET /me", func(*oracle) string { return bearer(forger.Token(f.issuer.Claims(nil))) }, always(http.StatusUnauthorized)},
		{"a token of a withdrawn key", "GET /me", func(o *oracle) string { return bearer(o.stale) }, always(http.StatusUnauthorized)},
		{"a forbidden path", "GET /internal/x", func(*oracle) string { return "x-api-key: " + batchKey }, always(http.StatusForbidden)},
		{"a key that comes and goes", "GET /me", func(*oracle) string { return "x-api-key: " + batchKeyNext }, func(o *oracle) int {
			if o.revoked {
				return http.StatusUnauthorized
			}
			return http.StatusOK
		}},
		{"a token of the store", "GET /me", func(o *oracle) string { return o.made.header() }, always(http.StatusOK)},
		{"a revoked token", "GET /me", func(o *oracle) string { return o.gone.header() }, always(http.StatusUnauthorized)},
		{"a made-up token", "GET /me", func(*oracle) string { asked++; return nobodys[asked%madeUp] }, always(http.StatusUnauthorized)},
		{"a route that comes and goes", "GET /elsewhere", func(*oracle) string { return "x-nothing: 1" }, func(o *oracle) int {
			if o.open {
				return http.StatusOK
			}
			return http.StatusForbidden
		}},
	}

	stop := make(chan struct{})
	var clients sync.WaitGroup
	counts := make([]struct{ judged, between int }, len(questions))
	for i, q := range questions {
		clients.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				judged, err := o.ask(front, q)
				if err != nil {
					t.Errorf("%s: %v", q.name, err)
					return
				}
				if judged {
					counts[i].judged++
				} else {
					counts[i].between++
				}
			}
		})
	}

	began := time.Now()
	var quarters []resources // at their ends
	changes := 0
	for ; time.Since(began) < total && !t.Failed(); changes++ {
		if n := len(quarters) + 1; n < 4 && time.Since(began) > total*time.Duration(n)/4 {
			quarters = append(quarters, resourcesOf(t, f.gatehouse))
			t.Logf("after %v: %v", time.Since(began).Round(time.Second), quarters[n-1])
		}
		switch changes % 4 {
		case 0:
			o.change(func() { f.reload(t, !o.open, o.revoked) }, func() { o.open = !o.open })
		case 1:
			o.change(func() { f.reload(t, o.open, !o.revoked) }, func() { o.revoked = !o.revoked })
		case 2:
			old := f.issuer.Current()
			token := f.issuer.Token(nil)
			o.change(func() {
				if _, err := f.issuer.Rotate("ES256"); err != nil {
					t.Error(err)
					return
				}
				f.issuer.Withdraw(old.ID)
				harness.Eventually(t, settle, func() error {
					return errors.Join(wantStatus(front, token, http.StatusUnauthorized), wantStatus(front, f.issuer.Token(nil), http.StatusOK))
				})
			}, func() { o.stale = token })
		case 3:
			old, fresh := o.made, makeToken(t, where)
			o.change(func() {
				tokens(t, where, "revoke", old.ID)
				harness.Eventually(t, settle, func() error {
					return errors.Join(wantStatus(front, old.Token, http.StatusUnauthorized), wantStatus(front, fresh.Token, http.StatusOK))
				})
			}, func() { o.made, o.gone = fresh, old })
		}
		<-time.After(min(time.Second, total/20))
	}
	end := resourcesOf(t, f.gatehouse)
	close(stop)
	clients.Wait()
	for i, q := range questions {
		t.Logf("%-28s %d right, %d while things changed", q.name, counts[i].judged, counts[i].between)
		if counts[i].judged == 0 {
			t.Errorf("%s was never judged", q.name)
		}
	}
	for len(quarters) < 2 { // changes took longer than that
		quarters = append(quarters, end)
	}
	half := quarters[1]
	t.Logf("after %v and %d changes: %v", time.Since(began).Round(time.Second), changes, end)
	if end.goroutines > half.goroutines+moreGoroutines || end.descriptors > half.descriptors+moreDescriptors || end.heap > half.heap+moreHeap {
		t.Errorf("the process grows: %v after half of the time, %v at the end", half, end)
	}
}

// reload writes the configuration with a route and a key, or without, and waits until it
// is in use.
func (f *faulty) reload(t *testing.T, open, revoked bool) {
	t.Helper()
	content := f.config
	if open {
		content = strings.Replace(content, "- match: [\"/internal/\"]", "- match: [\"GET /elsewhere\"]\n  public: true\n- match: [\"/internal/\"]", 1)
	}
	if revoked {
		content = strings.Replace(content, "{id: batch-next, secret: {env: BATCH_KEY_NEXT}", "{id: batch-next, secret: {env: NOBODY_HAS_THIS, optional: true}", 1)
	}
	const series = `gatehouse_reloads_total{result="ok"}`
	before, err := metric(f.gatehouse, series)
	if err != nil {
		t.Fatal(err)
	}
	f.gatehouse.Configure(t, content)
	f.gatehouse.Signal(syscall.SIGHUP)
	harness.Eventually(t, settle, func() error {
		now, err := metric(f.gatehouse, series)
		if err == nil && now <= before {
			err = errors.New("not reloaded")
		}
		return err
	})
}

// resources are what a process may leak.
type resources struct{ goroutines, descriptors, memory, heap float64 }

func (r resources) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.0f MiB (the heap may grow to %.0f)", r.goroutines, r.descriptors, r.memory/(1<<20), r.heap/(1<<20))
}

func resourcesOf(t *testing.T, g *harness.Gatehouse) resources {
	t.Helper()
	r, err := readResources(g)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readResources(g *harness.Gatehouse) (r resources, err error) {
	page, err := metrics(g)
	if err != nil {
		return r, err
	}
	for series, value := range map[string]*float64{
		"go_goroutines": &r.goroutines, "process_open_fds": &r.descriptors, "process_resident_memory_bytes": &r.memory,
		"go_memstats_next_gc_bytes": &r.heap,
	} {
		if *value, err = page.value(series); err != nil {
			return r, err
		}
	}
	return r, nil
}
