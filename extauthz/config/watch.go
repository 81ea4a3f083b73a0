package config

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long the files must be quiet before a change counts: editors and
// Kubernetes write in several steps.
const settle = 200 * time.Millisecond

// recheck is how often the files are looked at without a notice: network file
// systems send none.
const recheck = time.Minute

// A Watcher tells when a file that a configuration was made of may have changed. It
// watches folders, and those that links lead through: Kubernetes swaps a link beside
// the file, and editors put a new file in its place.
type Watcher struct {
	notify  *fsnotify.Watcher
	changes chan struct{}

	mu      sync.Mutex
	folders map[string]bool
	files   map[string]bool
}

// NewWatcher watches files, which are those of [Loaded.Files], until ctx ends.
func NewWatcher(ctx context.Context, files []string) (*Watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching the configuration: %w", err)
	}
	w := &Watcher{
		notify: notify, changes: make(chan struct{}, 1),
		folders: map[string]bool{}, files: map[string]bool{},
	}
	w.Watch(files)
	if len(w.folders) == 0 {
		_ = notify.Close()
		return nil, fmt.Errorf("watching the configuration: no folder of %v can be watched", files)
	}
	go w.loop(ctx)
	return w, nil
}

// Changes receives after the files were written to and then left alone. Whether
// anything is different is for [Load] to say.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Watch replaces the files, after a reload. Folders that are no longer needed stay
// until the end: a change there costs a look.
func (w *Watcher) Watch(files []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.files)
	for _, file := range files {
		for _, path := range links(file) {
			w.files[path] = true
			folder := filepath.Dir(path)
			if !w.folders[folder] && w.notify.Add(folder) == nil {
				w.folders[folder] = true
			}
		}
	}
}

// links are the path itself and what it leads to.
func links(path string) []string {
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	all := []string{path}
	if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
		all = append(all, target)
	}
	return all
}

// concerns says whether a change at path may be one of the files: itself, or a link
// beside one, such as Kubernetes' `..data`.
func (w *Watcher) concerns(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.files[path] || filepath.Base(path) == "..data" {
		return true
	}
	return slices.ContainsFunc(links(path), func(p string) bool { return w.files[p] })
}

func (w *Watcher) loop(ctx context.Context) {
	defer w.notify.Close()
	quiet := time.NewTimer(settle)
	quiet.Stop()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, ok := <-w.notify.Events:
			if !ok {
				return
			}
			if event.Op != fsnotify.Chmod && w.concerns(event.Name) {
				quiet.Reset(settle)
			}
		case _, ok := <-w.notify.Errors: // too many events at once: something changed
			if !ok {
				return
			}
			quiet.Reset(settle)
		case <-again.C:
			w.tell()
		case <-quiet.C:
			w.tell()
		}
	}
}

// tell makes sure that one notice waits.
func (w *Watcher) tell() {
	select {
	case w.changes <- struct{}{}:
	default:
	}
}
