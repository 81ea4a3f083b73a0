package authn

import (
	"context"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// A turn is the context of a call that is answered where it is read.
type turn struct {
	context.Context
	passed int
}

func (t *turn) Value(key any) any {
	if key == (patience.TurnKey{}) {
		return t
	}
	return t.Context.Value(key)
}

func (t *turn) Pass()              { t.passed++ }
func (t *turn) Mine() bool         { return t.passed == 0 }
func (t *turn) Arrived() time.Time { return time.Time{} }

// TestLongWorkLetsOthersBeRead: a password passes the reading on before it is hashed; a
// signature that takes microseconds is checked where it was read, even when all cores are
// taken, and waits for one elsewhere.
func TestLongWorkLetsOthersBeRead(t *testing.T) {
	pool := NewCorePool(0)
	reading := &turn{Context: t.Context()}
	done := 0
	for range cap(pool.cores) {
		pool.cores <- struct{}{}
		pool.waiting <- struct{}{}
	}
	if err := pool.soon(reading, func() { done++ }); err != nil || done != 1 || reading.passed != 0 {
		t.Errorf("short work of who reads: %v, done %d times, passed %d times", err, done, reading.passed)
	}
	if err := pool.soon(t.Context(), func() { done++ }); err == nil || done != 1 {
		t.Errorf("short work of who does not read: %v, done %d times, want none beyond the cores", err, done)
	}
	for range cap(pool.cores) {
		<-pool.cores
		<-pool.waiting
	}
	if err := pool.run(reading, func() { done += reading.passed }); err != nil || done != 2 {
		t.Errorf("long work: %v, passed %d times before it, want once", err, done-1)
	}
}
