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

	"go.uber.org/zap"
)

const (
	// maxGCPercent is for heaps so small that collecting them more often is not worth
	// what it saves. GOGC overrides this and what follows.
	maxGCPercent = 400

	// leastGarbage may always lie about before it is collected, and mostGarbage at most;
	// between them it is as much as lives. Measured with 1,000 routes and 1,000 tokens,
	// of which some 7 MiB live: with a percentage of 400, 200, 150 and 100, 62, 43, 40 and
	// 36 MiB are resident, and a Check costs 0.79, 0.78, 0.88 and 0.81 of what the
	// do-nothing server takes: the differences are smaller than those between rounds.
	leastGarbage = 12 << 20
	mostGarbage  = 64 << 20

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
}

func newGarbageCollector(env func(string) (string, bool)) *garbageCollector {
	_, fixed := env("GOGC")
	return &garbageCollector{fixed: fixed}
}

// adjust looks at the heap that the last collection left.
func (c *garbageCollector) adjust() {
	if c.fixed {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	c.mu.Lock()
	defer c.mu.Unlock()
	if percent := percentFor(live[0].Value.Uint64()); percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor is the percentage that lets as much garbage lie about as lives, within
// bounds; in steps of ten: setting it stops the world for a moment.
func percentFor(live uint64) int {
	if live == 0 {
		return maxGCPercent
	}
	garbage := min(max(live, leastGarbage), mostGarbage)
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
