package extauthz

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience/patiencetest"
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

// TestStaleAfter: what a transport knows of the time before there was a context counts.
func TestStaleAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		limited, cancel := context.WithDeadline(t.Context(), now.Add(150*time.Millisecond))
		defer cancel()
		for _, row := range []struct {
			name string
			ctx  context.Context
			want time.Time
		}{
			{"a quarter of what is left", limited, now.Add(37500 * time.Microsecond)},
			{"a quarter of what there was", &patiencetest.Turn{Context: limited, Came: now.Add(-50 * time.Millisecond)}, now},
			{"without a deadline it is not known", t.Context(), time.Time{}},
			{"unless the arrival is", &patiencetest.Turn{Context: t.Context(), Came: now.Add(-time.Second)}, now.Add(slotPatience - time.Second)},
		} {
			if got := staleAfter(row.ctx); !got.Equal(row.want) {
				t.Errorf("%s: %v, want %v", row.name, got, row.want)
			}
		}
	})
}

// TestWhoWaitsLetsOthersBeRead: a call that has to wait for a slot passes the reading on; one
// that finds a slot goes on at once.
func TestWhoWaitsLetsOthersBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 1)
		first := &patiencetest.Turn{Context: t.Context()}
		if !a.enter(first) || first.Passed != 0 {
			t.Errorf("who found a slot passed the reading on %d times", first.Passed)
		}
		second := &patiencetest.Turn{Context: t.Context()}
		if a.enter(second) || second.Passed != 1 {
			t.Errorf("who waited in vain passed the reading on %d times, want once", second.Passed)
		}
	})
}
