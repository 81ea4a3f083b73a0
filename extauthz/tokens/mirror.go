package tokens

import (
	"context"
	"sync"

	"github.com/maypok86/otter/v2"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// A mirror holds the records of one table that are in use, bounded in number. What
// it holds is what the store held at the last turn of the change feed, because the
// feed tells it of every record that is new or changed.
type mirror[K comparable, V any] struct {
	load    func(context.Context, K) (*V, error) // from the store; ErrNotFound if there is none
	version func(*V) int64

	// held has a nil record for what is known not to exist.
	held *otter.Cache[K, *V]

	mu    sync.Mutex // guards pairs of steps on held and loads; never held during I/O
	loads map[K]*loading[V]
}

// loading is one read of the store that is under way.
type loading[V any] struct {
	done  chan struct{}
	newer *V // what the feed brought meanwhile: the read may have missed it
	stale bool
	rec   *V
	err   error
}

func newMirror[K comparable, V any](size int, load func(context.Context, K) (*V, error), version func(*V) int64) *mirror[K, V] {
	return &mirror[K, V]{
		load:    load,
		version: version,
		held:    otter.Must(&otter.Options[K, *V]{MaximumSize: size}),
		loads:   map[K]*loading[V]{},
	}
}

// peek gives what is held, without I/O. A nil record with true is known not to exist.
func (m *mirror[K, V]) peek(key K) (*V, bool) { return m.held.GetIfPresent(key) }

// get gives a record, nil if it does not exist. Equal keys share one read.
func (m *mirror[K, V]) get(ctx context.Context, key K) (*V, error) {
	if rec, ok := m.held.GetIfPresent(key); ok {
		return rec, nil
	}
	m.mu.Lock()
	if rec, ok := m.held.GetIfPresent(key); ok {
		m.mu.Unlock()
		return rec, nil
	}
	one := m.loads[key]
	if one == nil {
		one = &loading[V]{done: make(chan struct{})}
		m.loads[key] = one
		// The read belongs to all who wait for it: it outlives the first.
		go m.read(patience.Detach(ctx), key, one)
	}
	m.mu.Unlock()
	ctx, cancel := patience.For(ctx)
	defer cancel()
	select {
	case <-one.done:
		return one.rec, one.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *mirror[K, V]) read(ctx context.Context, key K, one *loading[V]) {
	rec, err := m.load(ctx, key)
	if isNotFound(err) {
		rec, err = nil, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		if one.newer != nil && (rec == nil || m.version(one.newer) > m.version(rec)) {
			rec = one.newer
		}
		if !one.stale {
			m.held.Set(key, rec)
		}
	}
	one.rec, one.err = rec, err
	delete(m.loads, key)
	close(one.done)
}

// apply takes a record from the change feed.
func (m *mirror[K, V]) apply(key K, rec *V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if one := m.loads[key]; one != nil {
		one.newer = rec
	}
	if held, ok := m.held.GetIfPresent(key); ok && (held == nil || m.version(rec) > m.version(held)) {
		m.held.Set(key, rec)
	}
}

// clear forgets everything, and what is being read as well.
func (m *mirror[K, V]) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.loads {
		one.stale = true
	}
	m.held.InvalidateAll()
}
