// Package patiencetest has the context of a call that is answered where it is read, for
// tests of what such a call waits for.
package patiencetest

import (
	"context"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
)

// A Turn is that context, as a transport makes it.
type Turn struct {
	context.Context
	Came   time.Time // when the call arrived
	Passed int       // how often the reading was passed on
}

var _ patience.Turn = (*Turn)(nil)

// Value implements [context.Context].
func (t *Turn) Value(key any) any {
	if key == (patience.TurnKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// Pass implements [patience.Turn].
func (t *Turn) Pass() { t.Passed++ }

// Mine implements [patience.Turn].
func (t *Turn) Mine() bool { return t.Passed == 0 }

// Arrived implements [patience.Turn].
func (t *Turn) Arrived() time.Time { return t.Came }
