package serve

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestMemoryLimit(t *testing.T) {
	for _, row := range []struct {
		name, content string
		want          int64
	}{
		{"a limit of a container", "1000000000\n", 900000000},
		{"no limit, version 2", "max\n", 0},
		{"no limit, version 1", "9223372036854771712\n", 0},
		{"nonsense", "lots", 0},
		{"zero", "0", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "memory.max")
			if err := os.WriteFile(path, []byte(row.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := memoryLimit([]string{path + ".missing", path}); got != row.want {
				t.Errorf("memoryLimit(%q) = %d, want %d", row.content, got, row.want)
			}
		})
	}
}

func TestGCPercent(t *testing.T) {
	const seen, fresh = 20e6, 130e6 // bytes a second
	for _, row := range []struct {
		name string
		live uint64
		rate float64
		want int
	}{
		{"before the first collection", 0, fresh, 400},
		{"next to nothing", 1 << 19, 0, 400},
		{"ten routes at rest", 5 << 20, 0, 60},
		{"a thousand routes and tokens at rest", 8 << 20, 0, 30},
		{"a thousand, in use", 8 << 20, seen, 30},
		{"a thousand, and tokens never seen", 8 << 20, fresh, 100},
		{"the smallest heap with as much garbage", 12 << 20, fresh, 100},
		{"the largest one", 64 << 20, fresh, 100},
		{"a hundred thousand routes", 98 << 20, seen, 30},
		{"the same, and tokens never seen", 98 << 20, fresh, 60},
		{"and as many tokens", 185 << 20, seen, 30},
		{"more than anybody has", 4 << 30, fresh, 30},
	} {
		if got := percentFor(row.live, row.rate); got != row.want {
			t.Errorf("%s: %d%%, want %d%%", row.name, got, row.want)
		}
	}
}

func TestGarbageRate(t *testing.T) {
	var c garbageCollector
	began := time.Unix(1_800_000_000, 0)
	for _, look := range []struct {
		after     time.Duration
		allocated uint64
		want      float64
	}{
		{0, 900 << 20, 0}, // whatever the start took
		{time.Second, 920 << 20, 20 << 20},
		{time.Second + time.Microsecond, 990 << 20, 20 << 20}, // too soon to tell
		{3 * time.Second, 920 << 20, 0},
	} {
		c.measure(look.allocated, began.Add(look.after))
		if c.rate != look.want {
			t.Errorf("after %v: %v bytes a second, want %v", look.after, c.rate, look.want)
		}
	}
}

// TestGarbageWatch: every collection is looked at, until the end.
func TestGarbageWatch(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	c := newGarbageCollector(func(string) (string, bool) { return "", false })
	looked := func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.looked
	}
	done := make(chan struct{})
	c.watch(done)
	var last time.Time
	for n := 0; n < 3; {
		runtime.GC()
		time.Sleep(2 * time.Millisecond) // finalizers have a goroutine of their own
		if now := looked(); now.After(last) {
			last = now
			n++
		}
	}
	close(done)
	runtime.GC()
	time.Sleep(50 * time.Millisecond)
	last = looked()
	for range 3 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
	if looked().After(last) {
		t.Error("the heap is looked at when all is over")
	}
}
