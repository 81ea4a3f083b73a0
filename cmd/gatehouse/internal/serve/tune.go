package serve

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

const (
	// gcPercent trades memory for CPU: a Check leaves little behind and the live heap is
	// small, so that Go's default of 100 collects far more often than memory needs.
	// Measured, an empty call costs 24 us of CPU with 100, 18.5 with 400 and 17.5 with
	// 1600; resident are 63 MiB with 400 and 85 with 800. GOGC overrides it.
	gcPercent = 400

	// garbageBytes is how much may lie about before it is collected. A hundred thousand
	// routes are some 90 MiB; four times that of garbage would be memory for nothing.
	garbageBytes = 128 << 20

	// leastGCPercent keeps the collector from working all the time.
	leastGCPercent = 50

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
	if _, set := env("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
		fields = append(fields, zap.Int("gc_percent", gcPercent))
	}
	if _, set := env("GOMEMLIMIT"); !set {
		if limit := memoryLimit(cgroupLimits); limit > 0 {
			debug.SetMemoryLimit(limit)
			fields = append(fields, zap.Int64("memory_limit_bytes", limit))
		}
	}
	return fields
}

// A garbageCollector keeps Go's garbage collector at what fits the heap, which grows with the
// routes and with the tokens that are remembered.
type garbageCollector struct {
	fixed   bool // by GOGC
	percent int
}

func newGarbageCollector(env func(string) (string, bool)) *garbageCollector {
	_, fixed := env("GOGC")
	return &garbageCollector{fixed: fixed, percent: gcPercent}
}

// adjust looks at the heap that the last collection left.
func (c *garbageCollector) adjust() {
	if c.fixed {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if percent := percentFor(live[0].Value.Uint64()); percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor is gcPercent for a small heap, and what makes garbageBytes of a large one,
// in steps of ten: setting it stops the world for a moment.
func percentFor(live uint64) int {
	if live == 0 {
		return gcPercent
	}
	percent := int(min(gcPercent, garbageBytes*100/live))
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
