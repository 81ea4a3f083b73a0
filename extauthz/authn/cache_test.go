package authn

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestCacheKeys(t *testing.T) {
	a, b := NewCacheKeys(), NewCacheKeys()
	if a.Key("token") != a.Key("token") {
		t.Error("one credential has two keys")
	}
	if a.Key("token") == a.Key("tokem") || a.Key("") == a.Key("\x00") {
		t.Error("two credentials have one key")
	}
	if a.Key("token") == b.Key("token") {
		t.Error("two processes have the same keys")
	}
	if n := testing.AllocsPerRun(1000, func() { a.Key("token") }); n != 0 {
		t.Errorf("%v allocations for a key, want none", n)
	}
	long := string(make([]byte, MaxTokenBytes))
	if a.Key(long) != a.Key(long) {
		t.Error("one long credential has two keys")
	}
}

// numbered gives keys of one shard, so that tests fill it exactly.
func numbered(n int) CacheKey {
	var key CacheKey
	binary.BigEndian.PutUint64(key[8:], uint64(n))
	return key
}

func TestCacheExpires(t *testing.T) {
	c := NewCache[string](64)
	now := time.Unix(1000, 0)
	c.Put(numbered(1), "a", now.Add(time.Second), now)
	c.Put(numbered(2), "b", now, now) // never good
	for _, row := range []struct {
		key  int
		at   time.Time
		want bool
	}{
		{1, now, true},
		{1, now.Add(time.Second - 1), true},
		{1, now.Add(time.Second), false},
		{2, now, false},
		{3, now, false},
	} {
		if _, got := c.Get(numbered(row.key), row.at); got != row.want {
			t.Errorf("Get(%d) at %v = %v, want %v", row.key, row.at.Sub(now), got, row.want)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	for _, max := range []int{0, 1, 63, 64, 65, 1000, 10_000} {
		c := NewCache[int](max)
		keys := NewCacheKeys()
		now := time.Now()
		for i := range 3 * (max + 100) {
			c.Put(keys.Key(fmt.Sprint(i)), i, now.Add(time.Hour), now)
		}
		if n := c.Len(); n > max+cacheShards {
			t.Errorf("a cache for %d holds %d", max, n)
		}
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := NewCache[int](4 * cacheShards) // four in the one shard
	now := time.Now()
	later := now.Add(time.Hour)
	for i := range 4 {
		c.Put(numbered(i), i, later, now)
	}
	for i := 100; i < 200; i++ { // a hundred that nobody asks for again
		if v, ok := c.Get(numbered(2), now); !ok || v != 2 {
			t.Fatalf("what is used was pushed out by number %d", i)
		}
		c.Put(numbered(i), i, later, now)
	}
	if _, ok := c.Get(numbered(0), now); ok {
		t.Error("what is not used stayed")
	}
}

func TestCacheReplacesAndDeletes(t *testing.T) {
	c := NewCache[int](4 * cacheShards)
	now := time.Now()
	later := now.Add(time.Hour)
	for i := range 4 {
		c.Put(numbered(i), i, later, now)
	}
	c.Put(numbered(1), 11, later, now)
	if v, _ := c.Get(numbered(1), now); v != 11 || c.Len() != 4 {
		t.Errorf("Get = %d of %d, want the new value in the old one's place", v, c.Len())
	}
	c.Delete(numbered(0))
	c.Delete(numbered(0))
	c.Delete(numbered(2))
	for i, want := range []bool{false, true, false, true} {
		if _, got := c.Get(numbered(i), now); got != want {
			t.Errorf("Get(%d) = %v after deleting 0 and 2, want %v", i, got, want)
		}
	}
	for i := 10; i < 30; i++ { // room again, and the clock still goes round
		c.Put(numbered(i), i, later, now)
	}
	if c.Len() != 4 {
		t.Errorf("Len = %d, want 4", c.Len())
	}
}

// Keys that are found in the same place are still two keys.
func TestCacheTellsKeysWithOneShortFormApart(t *testing.T) {
	c := NewCache[string](4 * cacheShards)
	now := time.Now()
	one, other := numbered(1), numbered(1)
	other[31] = 1
	c.Put(one, "one", now.Add(time.Hour), now)
	if v, ok := c.Get(other, now); ok {
		t.Fatalf("Get(other) = %q, which is another key's", v)
	}
	c.Delete(other)
	if v, ok := c.Get(one, now); !ok || v != "one" {
		t.Fatalf("Get(one) = %q, %v after another key was deleted", v, ok)
	}
	c.Put(other, "other", now.Add(time.Hour), now)
	if v, ok := c.Get(other, now); !ok || v != "other" {
		t.Errorf("Get(other) = %q, %v", v, ok)
	}
	if v, ok := c.Get(one, now); ok {
		t.Errorf("Get(one) = %q, want it pushed out", v)
	}
	if n := c.Len(); n != 1 {
		t.Errorf("Len = %d, want 1", n)
	}
}

func TestCacheConcurrently(t *testing.T) {
	c := NewCache[int](256)
	keys := NewCacheKeys()
	now := time.Now()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := range 5000 {
				key := keys.Key(fmt.Sprint((i*7 + worker) % 600))
				if i%50 == 0 {
					c.Delete(key)
				}
				if v, ok := c.Get(key, now); ok && v < 0 {
					t.Errorf("Get = %d, which nobody put", v)
				}
				c.Put(key, i, now.Add(time.Hour), now)
			}
		})
	}
	all.Wait()
	if n := c.Len(); n > 256+cacheShards {
		t.Errorf("Len = %d, want at most about 256", n)
	}
}

func TestFlightsGiveTheZeroValueAfterAPanic(t *testing.T) {
	var f flights[int]
	entered, leave := make(chan struct{}), make(chan struct{})
	joined := make(chan int, 1)
	go func() {
		defer func() { _ = recover() }()
		f.do(numbered(1), func() int { close(entered); <-leave; panic("x") })
	}()
	<-entered
	go func() { joined <- f.do(numbered(1), func() int { return 5 }) }()
	close(leave)
	if v := <-joined; v != 0 && v != 5 { // 5 if it came too late to join
		t.Errorf("do = %d, want 0 or its own 5", v)
	}
	if v := f.do(numbered(1), func() int { return 7 }); v != 7 {
		t.Errorf("do = %d after a panic, want 7", v)
	}
}
