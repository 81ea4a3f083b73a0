// Package diff says which requests two policies answer differently, each with a smallest
// request and principal that shows it. It is exact for the closed language: whatever it
// does not report has the same answer, and whatever it reports has been asked of both. An
// expression is an atom, true or false whatever else holds, so that of expressions it may
// report what cannot happen, and says what it assumes.
//
// Principals are those that authenticators make (see [Maker]), with what grants add on each
// side, and as whom they may select to be. A request is taken to have one credential, for
// which the authenticator of that name makes the same principal on both sides: which
// credentials an authenticator accepts, how it makes principals of them, and that identity
// headers may be too large to be sent are not part of it.
//
// Start reading at [Compare]. walk.go finds every pair of patterns of which one decides in
// the old table and the other in the new; vary.go gives a pair the requests that could
// matter, for which uses.go finds the texts; search.go looks for a principal between the
// requirements of the two, which condition.go makes formulas over the variables of space.go.
package diff

import (
	"cmp"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Direction is how an answer changes.
type Direction uint8

const (
	Undecided Direction = iota // the search was given up: it may be either
	Widens                     // what was refused passes
	Narrows                    // what passed is refused
	Forwards                   // it passes as before, and the upstream gets something else
	Answers                    // it is refused as before, and the client gets another answer
)

var directionNames = [...]string{"undecided", "widens", "narrows", "forwards", "answers"}

func (d Direction) String() string { return directionNames[d] }

// A Change is a region of requests, those that one pattern decides in the old table and
// one in the new, of which some change their answer.
type Change struct {
	Direction Direction
	Request   policy.Request    // a smallest one that shows it
	Principal *policy.Principal // who makes it, before grants, as the side that lets it pass has it; nil: nobody
	Selected  policy.Selection  // as whom it selects to be
	Assumed   []Assumption      // what expressions have to say besides; none if they say so of the witness
	Old, New  Verdict
	Forwarded []Forwarding // what else the upstream gets, by name; of Forwards only
	Preflight bool         // it is the CORS preflight of the region that changes
}

// An Assumption is what an expression says of a witness.
type Assumption struct {
	Source string
	Holds  bool
}

// A Verdict is what one policy says.
type Verdict struct {
	Allowed bool
	Route   *policy.Route   // nil: none covers the request
	Pattern *policy.Pattern // of Route, that matches; nil if there is none
	At      policy.Position // the requirement that holds, or the route
	Answer  string          // of a refusal, in the words of the side; of Answers only
}

// A Forwarding is one thing that the upstream gets, in the words of each side; "": not.
type Forwarding struct{ Name, Old, New string }

// Compare lists the regions whose requests change their answer, in the order of the new
// file, what is gone from it last.
func Compare(old, new Side) []Change {
	c := newComparison(old, new)
	c.walk()
	c.walkNames()
	c.walkTCP()
	var changes []Change
	for _, r := range c.ordered() {
		changes = append(changes, c.changes(r)...)
	}
	return changes
}

// A comparison is the state of one Compare.
type comparison struct {
	old, new   Side
	patterns   []pattern // of both sides
	longest    int       // the most segments that a pattern has
	fresh      string    // a segment that no pattern has
	hosts      []string  // one of each kind that patterns tell apart
	methods    []string
	regions    map[regionKey]*region
	bare       policy.Match // of preflights that pass
	preflights bool         // some route lets CORS preflights pass
	identity   bool         // one principal can be two on the two sides, by other grants, tenants or realms
}

// A region is what one pattern decides in the old table and one in the new.
type region struct {
	request  policy.Request   // with the fewest segments
	others   []policy.Request // of other methods and hosts, which may stay in it where this one does not
	segments []string
	old, new ruling
}

// A regionKey is what decides a request on both sides.
type regionKey struct{ old, new, oldAsked, newAsked matchKey }

type matchKey struct {
	pattern *policy.Pattern
	route   *policy.Route
}

func keyOf(old, new ruling) regionKey {
	of := func(m policy.Match) matchKey { return matchKey{m.Pattern, m.Route} }
	return regionKey{of(old.Match), of(new.Match), of(old.asked), of(new.asked)}
}

// ordered sorts the regions by where the new file has them.
func (c *comparison) ordered() []*region {
	list := make([]*region, 0, len(c.regions))
	for _, r := range c.regions {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *region) int {
		return cmp.Or(compareMatches(a.new.shown(), b.new.shown()), compareMatches(a.old.shown(), b.old.shown()), cmp.Compare(a.request.Path, b.request.Path),
			cmp.Compare(a.request.Method, b.request.Method), cmp.Compare(a.request.Host, b.request.Host))
	})
	return list
}

func compareMatches(a, b policy.Match) int {
	switch {
	case a.Route == nil || b.Route == nil:
		return cmp.Compare(present(b.Route), present(a.Route))
	case a.Route.Index != b.Route.Index:
		return cmp.Compare(a.Route.Index, b.Route.Index)
	case a.Pattern == nil || b.Pattern == nil:
		return cmp.Compare(present(b.Pattern), present(a.Pattern))
	}
	return cmp.Or(cmp.Compare(a.Pattern.At.Line, b.Pattern.At.Line), cmp.Compare(a.Pattern.String(), b.Pattern.String()))
}

func present[T any](p *T) int {
	if p == nil {
		return 0
	}
	return 1
}

// maxAssumed bounds how many requests are tried for one that no expression has to be
// assumed for.
const maxAssumed = 512

// changes are those of one region: at most one of each direction.
func (c *comparison) changes(r *region) []Change {
	var list []Change
	for _, direction := range []Direction{Widens, Narrows, Forwards, Answers} {
		if given := c.change(direction, r); given != nil {
			list = append(list, *given)
		}
	}
	return list
}

// within tells whether a request of a region's path is in it, or can be by another method or
// host, which it then gets.
func (c *comparison) within(r *region, request *policy.Request) (old, new ruling, ok bool) {
	key, plain := keyOf(r.old, r.new), *request
	for i := -1; i < len(r.others); i++ {
		if i >= 0 {
			o := &r.others[i]
			request.Method, request.Host = o.Method, o.Host
			request.Headers = append(slices.Clone(o.Headers), plain.Headers[len(r.request.Headers):]...)
		}
		old, new = c.rule(&c.old, request), c.rule(&c.new, request)
		if keyOf(old, new) == key {
			return old, new, true
		}
	}
	return old, new, false
}

// change looks among the requests of a region for one whose answer changes in a direction,
// if there is one for which no expression is assumed to say anything.
func (c *comparison) change(direction Direction, r *region) (given *Change) {
	tried := 0
	requests, all := c.variations(r)
	for request := range requests {
		old, new, ok := c.within(r, &request)
		if !ok {
			continue // another region's
		}
		found, undecided := c.find(direction, &request, old.Match, new.Match)
		if found == nil && undecided && given == nil {
			found = &Change{Direction: Undecided, Request: request, Old: old.verdict(-1), New: new.verdict(-1)}
		}
		if found != nil && (given == nil || given.Direction == Undecided || len(found.Assumed) == 0) {
			given = found
			if old.asked.Route != nil {
				given.Preflight, given.Old = true, old.verdict(-1)
			}
			if new.asked.Route != nil {
				given.Preflight, given.New = true, new.verdict(-1)
			}
		}
		if given != nil && given.Direction != Undecided && (len(given.Assumed) == 0 || tried >= maxAssumed) {
			break
		}
		tried++
	}
	if given == nil && !all && direction == Widens { // it may be any
		given = &Change{Direction: Undecided, Request: r.request, Old: r.old.verdict(-1), New: r.new.verdict(-1), Preflight: r.old.asked.Route != nil || r.new.asked.Route != nil}
	}
	return given
}
