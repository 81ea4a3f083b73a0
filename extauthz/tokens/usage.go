package tokens

import (
	"context"
	"maps"
	"sync"
	"time"
)

const (
	// flushEvery is how often uses and sightings are written.
	flushEvery = time.Second

	// coarse is how exact they are: one in this time is enough.
	coarse = time.Minute

	// maxPending bounds what waits to be written, each; more is dropped.
	maxPending = 100_000
)

// usage gathers when tokens were used, so that no request waits for a write.
type usage struct {
	mu      sync.Mutex
	pending map[string]time.Time // by token id
}

// note remembers a use, unless one of the last minute is remembered already.
func (u *usage) note(t *Token, now time.Time) {
	last := t.noted.Load()
	if now.UnixNano()-max(last, t.LastUsed.UnixNano()) < int64(coarse) || !t.noted.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending == nil {
		u.pending = map[string]time.Time{}
	}
	if len(u.pending) < maxPending {
		u.pending[t.ID] = now
	}
}

func (u *usage) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	pending := u.pending
	u.pending = nil
	return pending
}

// putBack returns what could not be written. What came meanwhile is newer.
func (u *usage) putBack(pending map[string]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(pending, u.pending)
	u.pending = pending
}

// Flush writes uses and sightings that are pending. Run does so every second.
func (v *View) Flush(ctx context.Context) error {
	if used := v.used.take(); len(used) > 0 {
		if err := v.store.touch(ctx, used); err != nil {
			v.used.putBack(used)
			return err
		}
	}
	if seen := v.seen.take(time.Now()); len(seen) > 0 {
		if err := v.store.see(ctx, seen); err != nil {
			v.seen.putBack(seen)
			return err
		}
	}
	return nil
}
