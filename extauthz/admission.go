package extauthz

import (
	"context"
	"sync/atomic"
)

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
// leave; a caller whose context ends while it waits has none.
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
	select {
	case a.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *admission) leave() { <-a.slots }
