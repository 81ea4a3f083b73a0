package authn

import (
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience/patiencetest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestLongWorkLetsOthersBeRead: a password passes the reading on before it is hashed; a
// signature that takes microseconds is checked where it was read, even when all cores are
// taken, and waits for one elsewhere.
func TestLongWorkLetsOthersBeRead(t *testing.T) {
	pool := NewCorePool(0)
	tokens := testJWT(t, "corp", "https://corp")
	tokens.cores = pool
	reading := &patiencetest.Turn{Context: t.Context()}
	for range cap(pool.cores) {
		pool.cores <- struct{}{}
		pool.waiting <- struct{}{}
	}
	eve := &Input{Value: sign(t, "https://corp", "eve"), Now: testNow}
	if r := tokens.Authenticate(reading, eve); r.Identity == nil || reading.Passed != 0 {
		t.Errorf("short work of who reads: %v, %v, passed %d times", r.Reason, r.Detail, reading.Passed)
	}
	pat := &Input{Value: sign(t, "https://corp", "pat"), Now: testNow}
	if r := tokens.Authenticate(t.Context(), pat); r.Reason != policy.ReasonOverloaded {
		t.Errorf("short work of who does not read: %v, want none beyond the cores", r.Reason)
	}
	for range cap(pool.cores) {
		<-pool.cores
		<-pool.waiting
	}
	passed := 0
	if err := pool.run(reading, func() { passed = reading.Passed }); err != nil || passed != 1 {
		t.Errorf("long work: %v, passed %d times before it, want once", err, passed)
	}
}
