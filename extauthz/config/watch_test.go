package config

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// awaitChange fails the test if no notice comes in time.
func awaitChange(t *testing.T, w *Watcher, what string) {
	t.Helper()
	select {
	case <-w.Changes():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no notice", what)
	}
}

func TestWatcherSeesHowFilesAreReplaced(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	path := write(t, dir, "config.yaml", "version: 1\n")
	key := write(t, elsewhere, "key", "a\n")
	w, err := NewWatcher(t.Context(), []string{path, key})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "config.yaml", "version: 1 # written in place\n")
	awaitChange(t, w, "written in place")

	if err := os.Rename(write(t, dir, "config.yaml.new", "version: 1 # renamed\n"), path); err != nil {
		t.Fatal(err)
	}
	awaitChange(t, w, "replaced by another file")

	write(t, elsewhere, "key", "b\n")
	awaitChange(t, w, "a secret in another folder")
}

// TestWatcherSeesKubernetesSwap: a mounted ConfigMap is a link to `..data/NAME`, and
// `..data` is a link to a folder that is swapped.
func TestWatcherSeesKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"..1", "..2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version), "config.yaml", "version: 1 # "+version+"\n")
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/config.yaml", "config.yaml")
	w, err := NewWatcher(t.Context(), []string{filepath.Join(dir, "config.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	link("..2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	awaitChange(t, w, "swapped")

	w.Watch([]string{filepath.Join(dir, "config.yaml")})
	write(t, filepath.Join(dir, "..2"), "config.yaml", "version: 1 # again\n")
	awaitChange(t, w, "what the new link leads to")
}

func TestWatcherLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "config.yaml", "version: 1\n")
	w, err := NewWatcher(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "gatehouse.db", "busy\n")
	select {
	case <-w.Changes():
		t.Error("a file that is none of ours counts")
	case <-time.After(3 * settle):
	}
}
