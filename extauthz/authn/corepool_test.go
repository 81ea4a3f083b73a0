package authn

import (
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience/patiencetest"
)

// TestLongWorkLetsOthersBeRead: a password passes the reading on before it is hashed; a
// signature that takes microseconds is checked where it was read, even when all cores are
// taken, and waits for one elsewhere.
func TestLongWorkLetsOthersBeRead(t *testing.T) {
	pool := NewCorePool(0)
	reading := &patiencetest.Turn{Context: t.Context()}
	done := 0
	for range cap(pool.cores) {
		pool.cores <- struct{}{}
		pool.waiting <- struct{}{}
	}
	if err := pool.soon(reading, func() { done++ }); err != nil || done != 1 || reading.Passed != 0 {
		t.Errorf("short work of who reads: %v, done %d times, passed %d times", err, done, reading.Passed)
	}
	if err := pool.soon(t.Context(), func() { done++ }); err == nil || done != 1 {
		t.Errorf("short work of who does not read: %v, done %d times, want none beyond the cores", err, done)
	}
	for range cap(pool.cores) {
		<-pool.cores
		<-pool.waiting
	}
	if err := pool.run(reading, func() { done += reading.Passed }); err != nil || done != 2 {
		t.Errorf("long work: %v, passed %d times before it, want once", err, done-1)
	}
}
