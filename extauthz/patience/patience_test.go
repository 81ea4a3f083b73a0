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
