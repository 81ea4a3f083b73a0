package tools

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func cacheFor(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", home) // Linux
	t.Setenv("HOME", home)           // macOS
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(cache, "gatehouse")
}

// TestInstallTogether has several installations of one tool run at once, as packages under
// test do: all succeed with a whole tool, and nothing else is left.
func TestInstallTogether(t *testing.T) {
	cache := cacheFor(t)
	var filling, done sync.WaitGroup
	filling.Add(4)
	for range 4 {
		done.Go(func() {
			dir, err := install("tool", func(tmp string) error {
				filling.Done()
				filling.Wait() // nobody is done before all have begun
				return os.WriteFile(filepath.Join(tmp, "program"), []byte("x"), 0o755)
			})
			if err != nil {
				t.Errorf("install: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "program")); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v; want the tool only", entries, err)
	}
}

// TestInstallFails proves that a tool is there whole or not at all.
func TestInstallFails(t *testing.T) {
	cache := cacheFor(t)
	broken := errors.New("broken")
	if _, err := install("tool", func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("install = %v, want %v", err, broken)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 0 {
		t.Errorf("the cache holds %v, %v; want nothing", entries, err)
	}
}
