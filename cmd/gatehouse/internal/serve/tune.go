package serve

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// maxGCPercent is for heaps so small that collecting them more often is not worth
	// what it saves. GOGC overrides this and what follows.
	maxGCPercent = 400

	// leastGarbage may always lie about before it is collected. Where so much comes that
	// collecting would take more than some hundredths of a core, it may be usualGarbage, or
	// as much as lives if that is more, and mostGarbage at most.
	leastGarbage = 3 << 20
	usualGarbage = 8 << 20
	mostGarbage  = 64 << 20

	// collectEvery is the time between collections for each MiB that lives, as it takes
	// half a millisecond to look at one. Thirty thousand Checks a second by callers who
	// were seen before leave some 20 MiB; by callers never seen a Check alone leaves ten
	// KiB, which would come to forty collections a second with leastGarbage.
	collectEvery = 20 * time.Millisecond

	// rateOver is the least time over which it is found out how much garbage comes.
	rateOver = time.Millisecond

	// leastGCPercent keeps the collector from working all the time.
	leastGCPercent = 30

	// memoryShare of a container's memory is what the heap may grow to before the
	// collector works harder; the rest is for what Go does not count. GOMEMLIMIT
	// overrides it.
	memoryShare = 0.9
)

// cgroupLimits are where Linux says how much memory the container has, version 2 first.
var cgroupLimits = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// tune sets what Go's runtime does not find out by itself. The number of processors
// follows the container's CPU quota without us. Where nobody can ask for a heap profile
// none is kept: taking Go's samples is a hundredth of a Check.
func tune(env func(string) (string, bool), pprof bool) []zap.Field {
	if !pprof {
		runtime.MemProfileRate = 0
	}
	fields := []zap.Field{zap.Int("gomaxprocs", runtime.GOMAXPROCS(0))}
	if _, set := env("GOMEMLIMIT"); !set {
		if limit := memoryLimit(cgroupLimits); limit > 0 {
			debug.SetMemoryLimit(limit)
			fields = append(fields, zap.Int64("memory_limit_bytes", limit))
		}
	}
	return fields
}

// A garbageCollector keeps Go's garbage collector at what fits the heap, which grows with
// the routes and with the tokens that are remembered. It is safe for concurrent use.
type garbageCollector struct {
	fixed bool // by GOGC

	mu      sync.Mutex
	percent int // 0: Go's own

	allocated uint64    // when that was looked at, since the start
	looked    time.Time // zero: never
	rate      float64   // bytes a second since the look before
}

func newGarbageCollector(env func(string) (string, bool)) *garbageCollector {
	_, fixed := env("GOGC")
	return &garbageCollector{fixed: fixed}
}

// watch adjusts c after every collection until done: a load that begins is noticed with the
// first of them. Once it has ended there are none, so that somebody has to call adjust.
func (c *garbageCollector) watch(done <-chan struct{}) {
	type collected struct{ _ *byte } // with a pointer it shares no block with others
	var again func(*collected)
	again = func(object *collected) {
		select {
		case <-done:
		default:
			c.adjust()
			runtime.SetFinalizer(object, again)
		}
	}
	runtime.SetFinalizer(&collected{}, again)
}

// adjust looks at the heap that the last collection left.
func (c *garbageCollector) adjust() {
	if c.fixed {
		return
	}
	now := time.Now()
	heap := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(heap)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.measure(heap[1].Value.Uint64(), now)
	if percent := percentFor(heap[0].Value.Uint64(), c.rate); percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// measure finds the rate. c.mu is held.
func (c *garbageCollector) measure(allocated uint64, now time.Time) {
	since := now.Sub(c.looked)
	if since < rateOver {
		return
	}
	if !c.looked.IsZero() {
		c.rate = float64(allocated-c.allocated) / since.Seconds()
	}
	c.allocated, c.looked = allocated, now
}

// percentFor is the percentage that lets as much garbage lie about as comes together until
// collecting is due, at rate bytes a second, or as much as lives where that is less, within
// bounds; in steps of ten: setting it stops the world for a moment.
func percentFor(live uint64, rate float64) int {
	if live == 0 {
		return maxGCPercent
	}
	due := rate * collectEvery.Seconds() * float64(live>>20)
	garbage := min(max(live, usualGarbage), mostGarbage, max(leastGarbage, uint64(due)))
	percent := int(min(maxGCPercent, garbage*100/live))
	return max(leastGCPercent, percent/10*10)
}

// memoryLimit is memoryShare of the first limit that one of the files tells; 0 for none.
func memoryLimit(files []string) int64 {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		// Version 1 writes a number near the largest for "no limit", version 2 "max".
		if err != nil || limit <= 0 || limit > math.MaxInt64/2 {
			continue
		}
		return int64(float64(limit) * memoryShare)
	}
	return 0
}
