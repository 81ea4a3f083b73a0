// Package patience makes waits for others end in time. Start reading at [Begin].
package patience

import (
	"context"
	"time"
)

// share of the time that is left, in percent, is what waits may take. Less than half, as
// Envoy may cut an attempt at half of the time that it tells us (envoy/envoy.yaml does, to
// ask another replica then), and the answer has to get back before that.
const share = 45

// A budget is the context of a call, and until when its waits may last, however many.
type budget struct {
	context.Context
	until time.Time
}

type budgetKey struct{}

// Value implements [context.Context].
func (b *budget) Value(key any) any {
	if key == (budgetKey{}) {
		return b
	}
	return b.Context.Value(key)
}

// Begin is the context of a call that has just come: all its waits together take no longer
// than one alone may. Without a deadline it is ctx.
func Begin(ctx context.Context) context.Context {
	until, ok := shareOf(ctx)
	if !ok {
		return ctx
	}
	return &budget{ctx, until}
}

// For is ctx, but ends well before its deadline, if it has one. Whatever waits for a
// provider or a store waits with it: Envoy takes silence as permission under
// failure_mode_allow, so that a refusal has to arrive before its patience ends.
//
// The caller calls the function when it waits no more.
func For(ctx context.Context) (context.Context, context.CancelFunc) {
	Ahead(ctx)
	until, ok := Until(ctx)
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, until)
}

// Until is when what waits with ctx should give up; false: it may wait for as long as it likes.
func Until(ctx context.Context) (time.Time, bool) {
	if b, ok := ctx.Value(budgetKey{}).(*budget); ok {
		return b.until, true
	}
	return shareOf(ctx)
}

func shareOf(ctx context.Context) (time.Time, bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Time{}, false
	}
	now := time.Now()
	return now.Add(deadline.Sub(now) * share / 100), true
}

// Detach is ctx without its end, for what goes on when its call is over: others wait for
// it, too, whose time is another.
func Detach(ctx context.Context) context.Context {
	return detached{context.WithoutCancel(ctx)}
}

type detached struct{ context.Context }

// Value implements [context.Context].
func (d detached) Value(key any) any {
	switch key {
	case budgetKey{}, TurnKey{}:
		return nil
	}
	return d.Context.Value(key)
}

// TurnKey is under which the context of a call that is answered where it is read has its
// [Turn].
type TurnKey struct{}

// A Turn is that of the goroutine that reads calls and answers them.
type Turn interface {
	// Pass lets another goroutine read on, if that has not been done.
	Pass()

	// Mine tells whether no other goroutine reads on.
	Mine() bool

	// Arrived is the time before which the call was not there, and since when it may have
	// waited to be read.
	Arrived() time.Time
}

// Ahead lets others be read ahead. It is called before a call waits for anything or
// computes for long; [For] does it.
func Ahead(ctx context.Context) {
	if t, ok := ctx.Value(TurnKey{}).(Turn); ok {
		t.Pass()
	}
}

// Reading tells whether the goroutine that answers the call of ctx is the one that reads
// the next.
func Reading(ctx context.Context) bool {
	t, ok := ctx.Value(TurnKey{}).(Turn)
	return ok && t.Mine()
}

// Arrival is when a call came; zero: nobody knows.
func Arrival(ctx context.Context) time.Time {
	if t, ok := ctx.Value(TurnKey{}).(Turn); ok {
		return t.Arrived()
	}
	return time.Time{}
}
