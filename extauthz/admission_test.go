package extauthz

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestNobodyWaitsTooLong: a refusal must reach the caller while it still listens, so a
// call waits a quarter of its caller's time, and some seconds where that is unknown.
func TestNobodyWaitsTooLong(t *testing.T) {
	for _, row := range []struct {
		name     string
		deadline time.Duration // 0: none
		want     time.Duration
	}{
		{"Envoy's default", 200 * time.Millisecond, 50 * time.Millisecond},
		{"a patient caller", time.Minute, slotPatience},
		{"a caller that does not say", 0, slotPatience},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAdmission(1, 1)
				if !a.enter(t.Context()) {
					t.Fatal("the only slot is not free")
				}
				ctx := t.Context()
				if row.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, row.deadline)
					defer cancel()
				}
				began := time.Now()
				if a.enter(ctx) {
					t.Fatal("a slot that is taken is given away")
				}
				if waited := time.Since(began); waited != row.want {
					t.Errorf("waited %v, want %v", waited, row.want)
				}
				if a.waiting.Load() != 0 {
					t.Error("whoever gave up still counts as waiting")
				}
			})
		})
	}
}

func TestASlotThatComesFreeIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 1)
		a.enter(t.Context())
		time.AfterFunc(10*time.Millisecond, a.leave)
		if !a.enter(t.Context()) {
			t.Error("the slot was not taken when it came free")
		}
	})
}
