package patience

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestForEndsInTime(t *testing.T) {
	for _, row := range []struct {
		name            string
		timeout, within time.Duration
	}{
		{"Envoy's default", 200 * time.Millisecond, 90 * time.Millisecond},
		{"the shipped configuration", 2 * time.Second, 900 * time.Millisecond},
		{"Istio's default", 600 * time.Second, 270 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), row.timeout)
			defer cancel()
			patient, done := For(ctx)
			defer done()
			<-patient.Done()
			if got := time.Since(began); got != row.within || ctx.Err() != nil {
				t.Errorf("%s: waited %v of %v, want %v", row.name, got, row.timeout, row.within)
			}
		})
	}
}

func TestForWithoutDeadline(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	patient, done := For(ctx)
	defer done()
	if patient.Err() != nil {
		t.Error("ends at once")
	}
	if cancel(); patient.Err() == nil {
		t.Error("does not end with its parent")
	}
}

func TestForIsOver(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	patient, done := For(ctx)
	defer done()
	if patient.Err() == nil {
		t.Error("waits although the time is over")
	}
}

// TestBeginSharesOneBudget: the second wait of a call has what the first has left.
func TestBeginSharesOneBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		ctx = Begin(ctx)
		<-time.After(300 * time.Millisecond)
		for range 3 {
			patient, done := For(ctx)
			defer done()
			again, done := For(patient) // a wait within a wait
			defer done()
			<-again.Done()
			<-patient.Done()
		}
		if got := time.Since(began); got != 900*time.Millisecond || ctx.Err() != nil {
			t.Errorf("waited %v of 2s, want 900ms", got)
		}
	})
}

func TestBeginWithoutDeadline(t *testing.T) {
	ctx := t.Context()
	if Begin(ctx) != ctx {
		t.Error("a call without deadline has a budget")
	}
	if until, ok := Until(ctx); ok {
		t.Errorf("a call without deadline is to end at %v", until)
	}
}

// TestDetachHasItsOwnTime: what others wait for too does not end with the first of them.
func TestDetachHasItsOwnTime(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "kept"), 200*time.Millisecond)
		free := Detach(Begin(ctx))
		cancel()
		if _, ok := free.Deadline(); ok || free.Err() != nil || free.Value(key{}) != "kept" {
			t.Errorf("the context is not free: %v, %v", free.Err(), free.Value(key{}))
		}
		own, cancel := context.WithTimeout(free, 10*time.Second)
		defer cancel()
		began := time.Now()
		patient, done := For(own)
		defer done()
		<-patient.Done()
		if got := time.Since(began); got != 4500*time.Millisecond {
			t.Errorf("waited %v of its own 10s, want 4.5s", got)
		}
	})
}
