package serve

import (
	"os"
	"path/filepath"
	"testing"
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
	for _, row := range []struct {
		name string
		live uint64
		want int
	}{
		{"before the first collection", 0, 400},
		{"next to nothing", 2 << 20, 400},
		{"ten routes", 5 << 20, 240},
		{"a thousand routes and tokens", 8 << 20, 150},
		{"the smallest heap with as much garbage", 12 << 20, 100},
		{"the largest one", 64 << 20, 100},
		{"a hundred thousand routes", 98 << 20, 60},
		{"and as many tokens", 185 << 20, 30},
		{"more than anybody has", 4 << 30, 30},
	} {
		if got := percentFor(row.live); got != row.want {
			t.Errorf("%s: %d%%, want %d%%", row.name, got, row.want)
		}
	}
}
