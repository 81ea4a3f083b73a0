package authn

import (
	"net/netip"
	"sync"
	"time"
)

// What guessing costs: some failures are free, as people mistype; after that each one
// closes the door for a while that doubles.
const (
	freeFailures     = 5
	minFailurePause  = time.Second
	maxFailurePause  = time.Minute
	failuresFor      = 10 * time.Minute // after the last one they are forgotten
	failuresRecorded = 1 << 14          // names and sources; the least interesting go first
)

// failures limits guessing, by name and source: nobody can lock out somebody who
// comes from elsewhere, and there is no limit on all together that one could exhaust.
type failures struct {
	keys     *CacheKeys
	recorded *Cache[*failureCount]
}

type failureCount struct {
	mu     sync.Mutex
	n      int
	closed time.Time // until then
}

func newFailures(keys *CacheKeys) *failures {
	return &failures{keys: keys, recorded: NewCache[*failureCount](failuresRecorded)}
}

func (f *failures) key(name string, source netip.Addr) CacheKey {
	return f.keys.Key("failures\x00" + name + "\x00" + source.Unmap().WithZone("").String())
}

// closed tells whether the door is closed at now.
func (f *failures) closed(key CacheKey, now time.Time) bool {
	count, ok := f.recorded.Get(key, now)
	if !ok {
		return false
	}
	count.mu.Lock()
	defer count.mu.Unlock()
	return now.Before(count.closed)
}

// failed records a failure at now.
func (f *failures) failed(key CacheKey, now time.Time) {
	count, ok := f.recorded.Get(key, now)
	if !ok {
		count = &failureCount{}
	}
	count.mu.Lock()
	count.n++
	if over := count.n - freeFailures; over >= 0 {
		count.closed = now.Add(min(minFailurePause<<min(over, 16), maxFailurePause))
	}
	count.mu.Unlock()
	f.recorded.Put(key, count, now.Add(failuresFor), now)
}

// A guess is a failure that counts unless the credential turns out to be good for
// somebody else who looks at the same place. The zero guess is none.
type guess struct {
	failures *failures
	key      CacheKey
}

func (g guess) count(now time.Time) {
	if g.failures != nil {
		g.failures.failed(g.key, now)
	}
}

// succeeded forgets the failures.
func (f *failures) succeeded(key CacheKey) { f.recorded.Delete(key) }
