package e2e

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load sends one request after the other over several connections until it is stopped.
type load struct {
	sent  atomic.Int64
	bad   sync.Map // what went wrong -> how often (*atomic.Int64)
	stop  chan struct{}
	tasks sync.WaitGroup
}

// startLoad begins to send GET url with the header line name: value, and expects 200.
func startLoad(t *testing.T, url, name, value string) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for range 4 {
		l.tasks.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				if err := get(client, url, name, value); err != nil {
					count, _ := l.bad.LoadOrStore(err.Error(), new(atomic.Int64))
					count.(*atomic.Int64).Add(1)
				}
				l.sent.Add(1)
			}
		})
	}
	return l
}

func get(client *http.Client, url, name, value string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set(name, value)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// more waits until n more requests have been answered.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	goal := l.sent.Load() + n
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.sent.Load() < goal {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the load stands still: %d requests, %v", l.sent.Load(), l.failures())
		}
	}
}

// end stops the load and fails the test if any request was not answered with 200.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.tasks.Wait()
	if failures := l.failures(); len(failures) > 0 {
		t.Errorf("of %d requests failed: %v", l.sent.Load(), failures)
	}
	t.Logf("%d requests", l.sent.Load())
}

func (l *load) failures() map[string]int64 {
	failures := map[string]int64{}
	l.bad.Range(func(what, count any) bool {
		failures[what.(string)] = count.(*atomic.Int64).Load()
		return true
	})
	return failures
}
