package extauthz

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// slotPatience is the longest that a call waits for a slot. One whose caller says how long
// it waits itself, as Envoy does, is told after a quarter of that: a refusal that comes in
// time, rather than an answer that comes too late, and the slot goes to a call that
// can still be answered. What it waits here is part of what all its waits may take.
const slotPatience = 5 * time.Second

// An admission bounds how many calls are worked on at once and how many wait for that.
// Whoever comes when the queue is full is told so at once: an answer in time, if a
// refusing one, is worth more to Envoy than a good one after its timeout.
type admission struct {
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newAdmission(concurrent, queue int) *admission {
	return &admission{slots: make(chan struct{}, concurrent), queue: int64(queue)}
}

// enter waits for a slot. It tells whether there is one, which the caller must then
// leave; a caller whose context ends while it waits, or whose patience does, has none.
func (a *admission) enter(ctx context.Context) bool {
	select {
	case a.slots <- struct{}{}:
		return true
	default:
	}
	defer a.waiting.Add(-1)
	if a.waiting.Add(1) > a.queue {
		return false
	}
	patience.Ahead(ctx)
	wait := time.NewTimer(patienceOf(ctx, time.Now()))
	defer wait.Stop()
	select {
	case a.slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-wait.C:
	}
	return false
}

func patienceOf(ctx context.Context, now time.Time) time.Duration {
	wait := slotPatience
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, deadline.Sub(now)/4)
	}
	if until, ok := patience.Until(ctx); ok {
		wait = min(wait, until.Sub(now))
	}
	return wait
}

func (a *admission) leave() { <-a.slots }

// staleAfter is when a call is not worth beginning any more, because a quarter of its
// caller's time went by before its message was there; zero: always worth it. Under
// overload messages wait in the windows of their connections, each as long as the
// others, and all would be answered just too late.
//
// A transport may know how long a message lay unread before there was a context. Then one
// without a deadline is not worth it after slotPatience.
func staleAfter(ctx context.Context) time.Time {
	deadline, limited := ctx.Deadline()
	arrival := patience.Arrival(ctx)
	switch {
	case !arrival.IsZero() && limited:
		return arrival.Add(deadline.Sub(arrival) / 4)
	case !arrival.IsZero():
		return arrival.Add(slotPatience)
	case limited:
		return deadline.Add(-3 * time.Until(deadline) / 4)
	}
	return time.Time{}
}
