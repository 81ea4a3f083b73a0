package extauthz

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// Options are what a Gate is told when the process starts.
type Options struct {
	// ShadowAll lets what is forbidden or unauthenticated pass, without identity and
	// with every credential removed. Malformed stays 400, unavailable 503.
	ShadowAll bool

	// Observe is told every decision, before it is answered. It must not keep the
	// record, nor texts of it; nil: nobody is told.
	Observe func(*Record)

	// Trace is told of each call once it has been read. If it gives true the decision is
	// made, and recorded, in the context that it gives; nil: nobody is told.
	Trace func(context.Context, *Call) (context.Context, bool)

	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// A Gate decides requests by the snapshot of the moment. It is safe for concurrent use.
type Gate struct {
	options  Options
	snapshot atomic.Pointer[Snapshot]
	empty    *Snapshot // answers while there is none
	panics   atomic.Int64
}

// NewGate makes a gate without a snapshot: until [Gate.Swap] it answers 503.
func NewGate(options Options) *Gate {
	if options.Now == nil {
		options.Now = time.Now
	}
	empty, err := NewSnapshot(&Config{})
	if err != nil {
		panic(err) // nothing to be wrong
	}
	return &Gate{options: options, empty: empty}
}

// Swap makes s decide from now on, and gives the snapshot that did before, if any.
// Requests that are being decided end with the one they began with.
func (g *Gate) Swap(s *Snapshot) *Snapshot { return g.snapshot.Swap(s) }

// Snapshot is the one that decides; nil before the first.
func (g *Gate) Snapshot() *Snapshot { return g.snapshot.Load() }

// Panics counts the faults of ours that were answered with 503.
func (g *Gate) Panics() int64 { return g.panics.Load() }

// ShadowAll tells whether refusals pass.
func (g *Gate) ShadowAll() bool { return g.options.ShadowAll }

// Check decides one call. It always gives an answer, and one that refuses if anything
// is in doubt. ctx ends when the caller gives up.
func (g *Gate) Check(ctx context.Context, c *Call) *Answer {
	x := &exchange{call: *c}
	g.run(ctx, x, nil)
	return &x.answer
}

// An exchange is one question and its answer, and the memory for both. Its Answer and
// Record point into it.
type exchange struct {
	call    Call
	request policy.Request
	input   authn.Input
	answer  Answer
	record  Record
	id      [idLength]byte

	asked   policy.Request  // of a preflight: the request that it asks for
	shadow  policy.Decision // where record.Shadow points
	refused authn.Answer    // to the credential that was refused

	kept authn.Kept // what of it somebody may still look at when it is answered
}

// keep says that k of x must not be used for another call.
func (x *exchange) keep(k authn.Kept) { x.kept = max(x.kept, k) }

// run decides x.call, which read fills in first; nil: it is there already.
func (g *Gate) run(ctx context.Context, x *exchange, read func()) {
	s, now := g.begin(x)
	g.decide(ctx, s, x, now, read)
	g.observe(x, now)
}

// refuse answers a call that is not looked at.
func (g *Gate) refuse(x *exchange, reason policy.Reason) {
	_, now := g.begin(x)
	x.answer.Decision = verdict(reason)
	g.empty.writeRefusal(x, nil)
	g.observe(x, now)
}

func (g *Gate) begin(x *exchange) (*Snapshot, time.Time) {
	s, now := g.snapshot.Load(), g.options.Now()
	newID(&x.id)
	x.answer.ID = view(x.id[:])
	x.record = Record{ID: x.answer.ID, Time: now, Door: x.call.Door, Snapshot: s}
	return s, now
}

// decide never panics: a fault of ours is an answer too, and one that refuses.
func (g *Gate) decide(ctx context.Context, s *Snapshot, x *exchange, now time.Time, read func()) {
	defer func() {
		if fault := recover(); fault != nil {
			g.fault(x, fault, debug.Stack())
		}
	}()
	if read != nil {
		read()
	}
	if g.options.Trace != nil {
		if traced, ok := g.options.Trace(ctx, &x.call); ok {
			ctx, x.record.Context = traced, traced
			x.keep(authn.KeptTexts) // by the spans, until they have been sent
		}
	}
	if s == nil {
		x.request.Method = x.call.Method
		x.answer.Decision = verdict(policy.ReasonNotReady)
		g.empty.writeRefusal(x, nil)
		return
	}
	s.check(ctx, x, now, g.options.ShadowAll)
}

// fault makes the answer a refusal for a fault of ours, and counts it.
func (g *Gate) fault(x *exchange, fault any, stack []byte) {
	g.panics.Add(1)
	x.keep(authn.KeptRequest) // whatever was at work then
	x.record.Panic, x.record.Stack = fault, stack
	x.request.Method = x.call.Method
	x.answer = Answer{ID: x.answer.ID, Decision: verdict(policy.ReasonInternal)}
	g.empty.writeRefusal(x, nil)
}

// observe tells the observer. If that panics, the answer stands.
func (g *Gate) observe(x *exchange, began time.Time) {
	if g.options.Observe == nil {
		return
	}
	defer func() {
		if recover() != nil {
			g.panics.Add(1)
			x.keep(authn.KeptRequest)
		}
	}()
	r := &x.record
	r.Latency = g.options.Now().Sub(began)
	r.Decision = x.answer.Decision
	r.Call, r.Request = &x.call, &x.request
	r.Status = x.answer.Status
	r.Redirect = !x.answer.Allowed() && isRedirect(x.answer.Status)
	g.options.Observe(r)
}

// verdict is the decision that a reason alone makes.
func verdict(reason policy.Reason) policy.Decision {
	return policy.Decision{Outcome: reason.Outcome(), Reason: reason, Requirement: -1}
}

// idLength is the length of a decision's id: 128 random bits in base 32.
const idLength = 26

func isRedirect(status int) bool { return status >= 300 && status < 400 }
