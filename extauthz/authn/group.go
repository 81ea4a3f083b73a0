package authn

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// askGroup asks all opaque members of spot with prefix. What one of them knows already
// decides. Else those that only compute are asked, then the password lists, then
// whoever is elsewhere, each kind at once. So a password that is ours is not shown to
// anybody.
func (w *walk) askGroup(spot *spot, prefix string) Answer {
	var members []*Entry
	for _, m := range spot.members {
		e := &w.accept.entries[m]
		if e.Kind.takesOpaque() && e.Prefix == prefix && !w.outOfRealm(e.Entry) {
			members = append(members, e.Entry)
		}
	}
	if len(members) > 1 && !w.in.Local {
		if answer := w.atHand(members); answer.Identity != nil {
			return answer
		}
	}
	var refusals []Answer
	for c := cheap; c <= remote; c++ {
		var some []*Entry
		for _, e := range members {
			if e.Kind.cost() == c {
				some = append(some, e)
			}
		}
		if len(some) == 0 {
			continue
		}
		if refusals != nil && w.ctx.Err() != nil {
			break // nobody waits, so nobody else has to see it
		}
		answer, more := w.atOnce(some)
		if answer.Identity != nil {
			return answer
		}
		refusals = append(refusals, more...)
	}
	for _, r := range refusals {
		r.guess.count(w.in.Now)
	}
	return w.refusal(refusals)
}

// atHand gives what the members know of the credential without asking or hashing.
func (w *walk) atHand(members []*Entry) Answer {
	w.in.Local = true
	defer func() { w.in.Local = false }()
	for _, e := range members {
		if answer := verifySafely(w.ctx, e, w.in); answer.Identity != nil {
			return answer
		}
	}
	return Answer{}
}

// refusal gives the one that stands for all: an outage before anything else, then
// that of the entry that comes first. What the others say is in its detail.
func (w *walk) refusal(all []Answer) Answer {
	if len(all) < 2 {
		return all[0]
	}
	slices.SortFunc(all, func(a, b Answer) int { return w.order(a.Entry) - w.order(b.Entry) })
	stands := all[0]
	details := make([]error, len(all))
	for i, r := range all {
		if outage(r.Reason) && !outage(stands.Reason) {
			stands = r
		}
		details[i] = fmt.Errorf("%s: %v", r.Entry.Name, r.Reason)
		if r.Detail != nil {
			details[i] = fmt.Errorf("%w: %w", details[i], r.Detail)
		}
	}
	stands.Detail = errors.Join(details...)
	return stands
}

func (w *walk) order(e *Entry) int {
	for i := range w.accept.entries {
		if w.accept.entries[i].Entry == e {
			return i
		}
	}
	return len(w.accept.entries)
}

// atOnce asks members concurrently and takes the first success. Without one it gives
// the refusals.
func (w *walk) atOnce(members []*Entry) (Answer, []Answer) {
	if len(members) == 1 {
		answer := verifySafely(w.ctx, members[0], w.in)
		return answer, []Answer{answer}
	}
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	w.in.keep(KeptRequest)
	answers := make(chan Answer, len(members)) // nobody waits for those that come late
	for _, e := range members {
		in := *w.in
		go func() { answers <- verifySafely(ctx, e, &in) }()
	}
	var won Answer
	var refusals []Answer
	for won.Identity == nil && len(refusals) < len(members) {
		select {
		case answer := <-answers:
			if answer.Identity == nil {
				refusals = append(refusals, answer)
				continue
			}
			won = answer
		case <-ctx.Done():
			late := fmt.Errorf("waiting for %d of %d: %w", len(members)-len(refusals), len(members), ctx.Err())
			return Answer{}, []Answer{{Result: Refuse(policy.ReasonProviderUnavailable, late), Entry: members[0]}}
		}
	}
	for won.Identity != nil { // of several in hand, the earliest
		select {
		case other := <-answers:
			if other.Identity != nil && w.order(other.Entry) < w.order(won.Entry) {
				won = other
			}
		default:
			return won, nil
		}
	}
	return Answer{}, refusals
}

// verifySafely is verify, with a panic as a refusal: one member's fault is not the
// others', and in a goroutine nobody else would catch it.
func verifySafely(ctx context.Context, e *Entry, in *Input) (answer Answer) {
	defer func() {
		if p := recover(); p != nil {
			answer = Answer{Result: Refuse(policy.ReasonInternal, fmt.Errorf("authenticating by %q: panic: %v\n%s", e.Name, p, debug.Stack())), Entry: e}
		}
	}()
	return verify(ctx, e, in)
}
