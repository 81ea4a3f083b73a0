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
		{"ten routes", 4 << 20, 400},
		{"the largest heap with all of it", 32 << 20, 400},
		{"a hundred thousand routes", 90 << 20, 140},
		{"more than anybody has", 4 << 30, 50},
	} {
		if got := percentFor(row.live); got != row.want {
			t.Errorf("%s: %d%%, want %d%%", row.name, got, row.want)
		}
	}
}
