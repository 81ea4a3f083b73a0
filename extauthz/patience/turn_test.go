package patience_test

import (
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/extauthz/patience/patiencetest"
)

// TestWhoeverWaitsPassesTheReadingOn, except where it goes on for itself.
func TestWhoeverWaitsPassesTheReadingOn(t *testing.T) {
	call := &patiencetest.Turn{Context: t.Context(), Came: time.Unix(1, 0)}
	ctx := patience.Begin(call)
	if !patience.Reading(ctx) || !patience.Arrival(ctx).Equal(time.Unix(1, 0)) {
		t.Error("the turn of the call is not found")
	}
	detached, cancel := patience.For(patience.Detach(ctx))
	defer cancel()
	if call.Passed != 0 || patience.Reading(detached) || !patience.Arrival(detached).IsZero() {
		t.Error("what goes on for itself has the turn of its call")
	}
	patient, cancel := patience.For(ctx)
	defer cancel()
	if call.Passed != 1 || patience.Reading(patient) {
		t.Errorf("the reading was passed on %d times, want once", call.Passed)
	}
	if patience.Reading(t.Context()) || !patience.Arrival(t.Context()).IsZero() {
		t.Error("a call has a turn that nobody gave it")
	}
	patience.Ahead(t.Context())
}
