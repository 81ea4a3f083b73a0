package authn

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// A CacheKey stands for one credential in a cache. It says nothing about the
// credential to whoever reads memory or a profile.
type CacheKey [sha256.Size]byte

// CacheKeys makes cache keys: SHA-256 over a random secret of this process and the
// credential. It is safe for concurrent use. One serves all authenticators, so that
// a credential is hashed once per request.
type CacheKeys struct {
	secret  [32]byte
	buffers sync.Pool // of *[]byte, so that a key costs no allocation
}

// NewCacheKeys draws a fresh secret.
func NewCacheKeys() *CacheKeys {
	c := &CacheKeys{}
	rand.Read(c.secret[:]) // never fails: crypto/rand ends the process instead
	c.buffers.New = func() any {
		b := make([]byte, 0, 4<<10)
		return &b
	}
	return c
}

// Key is the key of credential.
func (c *CacheKeys) Key(credential string) CacheKey {
	buffer := c.buffers.Get().(*[]byte)
	b := append((*buffer)[:0], c.secret[:]...)
	b = append(b, credential...)
	key := CacheKey(sha256.Sum256(b))
	clear(b) // the credential does not stay behind
	*buffer = b
	c.buffers.Put(buffer)
	return key
}

// cacheShards is how many locks share the load. Keys are uniform, so their first
// byte chooses.
const cacheShards = 64

// A Cache holds at most a fixed number of values, each until its time. It is safe
// for concurrent use; a hit allocates nothing and takes a read lock of one shard.
//
// A full shard makes room by the clock (second chance): what was not asked for since
// the hand last passed goes first, so a burst of values that nobody asks for again
// pushes out at most what has not been used for a whole round.
type Cache[V any] struct {
	shards [cacheShards]cacheShard[V]
	max    int // per shard
}

type cacheShard[V any] struct {
	mu      sync.RWMutex
	entries map[uint64]*cacheEntry[V] // by the short form of their keys
	ring    []*cacheEntry[V]          // the same entries, in the order of the clock
	hand    int
}

type cacheEntry[V any] struct {
	key     CacheKey
	value   V
	expires time.Time
	used    atomic.Bool
	index   int32 // in ring
}

// short is what entries are found by: a map of whole keys would take three times the
// memory. Two keys in one place of it, which nobody can bring about, push each other out.
func (k *CacheKey) short() uint64 { return binary.LittleEndian.Uint64(k[8:]) }

// NewCache makes a cache for about max values, at least one per shard.
func NewCache[V any](max int) *Cache[V] {
	c := &Cache[V]{max: 1}
	if share := (max + cacheShards - 1) / cacheShards; share > 1 {
		c.max = share
	}
	for i := range c.shards {
		c.shards[i].entries = make(map[uint64]*cacheEntry[V])
	}
	return c
}

// Get gives the value kept under key, if now is before its time.
func (c *Cache[V]) Get(key CacheKey, now time.Time) (V, bool) {
	s := &c.shards[key[0]%cacheShards]
	s.mu.RLock()
	e, ok := s.entries[key.short()]
	s.mu.RUnlock()
	if !ok || e.key != key || !now.Before(e.expires) {
		var none V
		return none, false
	}
	if !e.used.Load() { // a store only when it changes something: hot lines stay shared
		e.used.Store(true)
	}
	return e.value, true
}

// Put keeps value under key until expires, in place of what was there.
func (c *Cache[V]) Put(key CacheKey, value V, expires, now time.Time) {
	if !now.Before(expires) {
		return
	}
	e := &cacheEntry[V]{key: key, value: value, expires: expires}
	s := &c.shards[key[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.entries[key.short()]; ok {
		s.place(e, int(old.index))
		return
	}
	if len(s.ring) < c.max {
		s.ring = append(s.ring, nil)
		s.place(e, len(s.ring)-1)
		return
	}
	for { // ends within two rounds: the first clears every mark
		victim := s.ring[s.hand]
		if now.Before(victim.expires) && victim.used.Swap(false) {
			s.hand = (s.hand + 1) % len(s.ring)
			continue
		}
		delete(s.entries, victim.key.short())
		s.place(e, s.hand)
		s.hand = (s.hand + 1) % len(s.ring)
		return
	}
}

// place puts e at index of the ring. The lock is held.
func (s *cacheShard[V]) place(e *cacheEntry[V], index int) {
	e.index = int32(index)
	s.ring[index] = e
	s.entries[e.key.short()] = e
}

// Delete forgets key.
func (c *Cache[V]) Delete(key CacheKey) {
	s := &c.shards[key[0]%cacheShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[key.short()]; ok && e.key == key {
		s.remove(e)
	}
}

// remove takes e out; the last of the ring fills its place. The lock is held.
func (s *cacheShard[V]) remove(e *cacheEntry[V]) {
	last := len(s.ring) - 1
	moved := s.ring[last]
	moved.index = e.index
	s.ring[e.index] = moved
	s.ring[last] = nil
	s.ring = s.ring[:last]
	delete(s.entries, e.key.short())
	if s.hand >= len(s.ring) {
		s.hand = 0
	}
}

// Len is how many values are held, past their time or not.
func (c *Cache[V]) Len() int {
	n := 0
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.RLock()
		n += len(s.ring)
		s.mu.RUnlock()
	}
	return n
}

// flights lets equal work that is asked for at the same time be done once.
type flights[V any] struct {
	mu sync.Mutex
	m  map[CacheKey]*flight[V]
}

type flight[V any] struct {
	done  chan struct{} // nil while nobody has joined
	value V
}

// do runs work for key, or waits for the run that is under way and takes its value.
// Work must be brief and must not wait for anything: those who join cannot give up.
// Should it panic, those who joined get the zero value.
func (f *flights[V]) do(key CacheKey, work func() V) V {
	f.mu.Lock()
	if running, ok := f.m[key]; ok {
		if running.done == nil {
			running.done = make(chan struct{})
		}
		f.mu.Unlock()
		<-running.done
		return running.value
	}
	own := &flight[V]{}
	if f.m == nil {
		f.m = make(map[CacheKey]*flight[V])
	}
	f.m[key] = own
	f.mu.Unlock()

	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.m, key)
		if own.done != nil {
			close(own.done)
		}
	}()
	own.value = work()
	return own.value
}
