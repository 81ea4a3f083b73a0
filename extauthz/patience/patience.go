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
	if key == (budgetKey{}) {
		return nil
	}
	return d.Context.Value(key)
}
