package serve

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

const (
	// gcPercent trades memory for CPU: a Check leaves little behind and the live heap is
	// small, so that Go's default of 100 collects far more often than memory needs.
	// GOGC overrides it.
	gcPercent = 400

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
