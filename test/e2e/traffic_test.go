package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// pace is the pause of one client of the traffic between two requests.
const pace = 10 * time.Millisecond

// A question is a request whose right answer is known.
type question struct {
	name    string
	request string
	header  func() string // "name: value", as of now
	status  int           // when all is well
}

// traffic asks every question at every front, over and over, and keeps what was answered.
type traffic struct {
	stop    chan struct{}
	clients sync.WaitGroup

	mu    sync.Mutex
	lanes []*lane
	stood time.Duration // the longest time that the machine did nothing for us
}

// A lane is one question at one front.
type lane struct {
	question
	front, address string

	counts map[string]int // by status, or by what went wrong
	worst  time.Duration
	streak int       // right answers in a row, so far
	bad    time.Time // when the last wrong answer came
}

// startTraffic begins to ask, until the test ends or end is called, and waits until all
// answers are right.
func startTraffic(t *testing.T, envoy *harness.Envoy, fronts []string, questions []question) *traffic {
	t.Helper()
	f := &traffic{stop: make(chan struct{})}
	t.Cleanup(f.end)
	f.clients.Go(f.watchClock)
	f.add(t, envoy, fronts, questions)
	return f
}

// watchClock notices when the machine stands still, which says nothing of gatehouse.
func (f *traffic) watchClock() {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		f.mu.Lock()
		f.stood = max(f.stood, now.Sub(last))
		f.mu.Unlock()
		last = now
	}
}

// stoodStill is for how long the machine did nothing for us, at most, since begin.
func (f *traffic) stoodStill() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stood
}

// add begins to ask further questions, and waits until all answers are right.
func (f *traffic) add(t *testing.T, envoy *harness.Envoy, fronts []string, questions []question) {
	t.Helper()
	began := time.Now()
	f.mu.Lock()
	for _, front := range fronts {
		for _, q := range questions {
			l := &lane{question: q, front: front, address: envoy.Address(t, front), counts: map[string]int{}}
			f.lanes = append(f.lanes, l)
			f.clients.Go(func() { f.ask(l) })
		}
	}
	f.mu.Unlock()
	f.wellAgain(t, began)
}

func (f *traffic) end() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.clients.Wait()
}

func (f *traffic) ask(l *lane) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		began := time.Now()
		answer, err := harness.TrySend(l.address, l.request, l.header())
		ended := time.Now()
		what := fmt.Sprint(answer.Status)
		if err != nil {
			what = "no answer"
		}
		f.mu.Lock()
		l.counts[what]++
		l.worst = max(l.worst, ended.Sub(began))
		if err == nil && answer.Status == l.status {
			l.streak++
		} else {
			l.streak, l.bad = 0, ended
		}
		f.mu.Unlock()
	}
}

// begin forgets what was answered so far.
func (f *traffic) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stood = 0
	for _, l := range f.lanes {
		clear(l.counts)
		l.worst, l.streak, l.bad = 0, 0, time.Time{}
	}
}

// wellAgain waits until every lane has had right answers only for a while, and gives how
// long after since the last wrong one came.
func (f *traffic) wellAgain(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	const enough = 10
	f.mu.Lock()
	for _, l := range f.lanes {
		l.streak = 0
	}
	f.mu.Unlock()
	var last time.Duration
	harness.Eventually(t, time.Minute, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		last = 0
		for _, l := range f.lanes {
			if l.streak < enough {
				return fmt.Errorf("%s at %s: %v", l.name, l.front, l.counts)
			}
			if l.bad.After(since) {
				last = max(last, l.bad.Sub(since))
			}
		}
		return nil
	})
	return last
}

// report is one line for each front and question.
func (f *traffic) report() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, l := range f.lanes {
		fmt.Fprintf(&b, "%-10s %-22s", l.front, l.name)
		for _, status := range slices.Sorted(maps.Keys(l.counts)) {
			fmt.Fprintf(&b, " %s: %d", status, l.counts[status])
		}
		fmt.Fprintf(&b, ", at most %v\n", l.worst.Round(time.Millisecond))
	}
	return b.String()
}

// saw gives the statuses of a lane.
func (f *traffic) saw(front, name string) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if l.front == front && l.name == name {
			return maps.Clone(l.counts)
		}
	}
	return nil
}

// slowest is the longest time that any answer took.
func (f *traffic) slowest() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var worst time.Duration
	for _, l := range f.lanes {
		worst = max(worst, l.worst)
	}
	return worst
}

// neverAllowed fails the test if what must be refused ever passed at the front.
func (f *traffic) neverAllowed(t *testing.T, front string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if passed := l.counts[fmt.Sprint(http.StatusOK)]; l.front == front && l.status != http.StatusOK && passed > 0 {
			t.Errorf("%s at %s passed %d times", l.name, front, passed)
		}
	}
}
