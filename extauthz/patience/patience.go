// Package patience makes waits for others end in time. There is one function: [For].
package patience

import (
	"context"
	"time"
)

// share of the time that is left, in percent, is what a wait may take. Less than half, as
// Envoy may cut an attempt at half of the time that it tells us (envoy/envoy.yaml does, to
// ask another replica then), and the answer has to get back before that.
const share = 45

// For is ctx, but ends well before its deadline, if it has one. Whatever waits for a
// provider or a store waits with it: Envoy takes silence as permission under
// failure_mode_allow, so that a refusal has to arrive before its patience ends.
//
// The caller calls the function when it waits no more.
func For(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)*share/100)
}
