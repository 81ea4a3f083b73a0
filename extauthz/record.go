package extauthz

import (
	"context"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Record is everything there is to tell about one decision. It is valid only
// during the call of the observer that gets it: what is kept must be copied.
type Record struct {
	ID       string // the decision's id: in the answer, in Envoy's metadata, in the log
	Time     time.Time
	Latency  time.Duration
	Door     Door
	Snapshot *Snapshot // nil before the first configuration

	Decision policy.Decision
	Call     *Call           // as it came
	Request  *policy.Request // in its canonical reading; of a malformed one only the method
	Detail   error           // the cause, for operators; never holds a credential

	// Context is the one that [Options.Trace] gave; nil if that is not so.
	Context context.Context

	Authenticator string // that answered, for good or bad; "" if none did
	Status        int    // HTTP status of the answer; 200 when allowed
	Redirect      bool   // the client was sent to sign in

	// Ignored is why a credential on a public route counted as none; ReasonNone if
	// there was none or it was good.
	Ignored policy.Reason

	// Shadow is what the table with its shadow routes would have decided, where one
	// of those covers the request; nil otherwise. With --shadow-all it is the refusal
	// that was let pass.
	Shadow *policy.Decision

	Panic any    // what a fault of ours panicked with; nil almost always
	Stack []byte // of that panic
}

// A Door is where a request came in.
type Door uint8

const (
	GRPC        Door = iota // Envoy's Check
	Forwarded               // HTTP forward-auth
	Evaluations             // AuthZEN
	AdminAPI                // our own admin API
)

var doorNames = [...]string{"grpc", "forward_auth", "authzen", "admin"}

func (d Door) String() string { return doorNames[d] }
