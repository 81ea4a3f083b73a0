// Package diff says which requests two policies answer differently, each with a smallest
// request and principal that shows it. It is exact for the closed language: whatever it
// does not report has the same answer. An expression is an atom, true or false whatever
// else holds, so that of expressions it may report what cannot happen.
//
// Principals are those that authenticators make (see [Maker]), with what grants add on each
// side, and as whom they may select to be. Which credentials an authenticator accepts is
// not part of it.
//
// Start reading at [Compare]. walk.go finds every pair of patterns of which one decides in
// the old table and the other in the new; vary.go gives a pair the requests that could
// matter; search.go looks for a principal between the requirements of the two, which
// condition.go makes formulas over the variables of space.go.
//
// One thing is known to be missed: where tenancy.select_header is switched on, public
// routes whose forwarded values then depend on the selection are not among [Forwards].
// Brute force finds it with the seeds 0x161ad and 0x5363346a75.
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
	old, new Side
	patterns []pattern // of both sides
	fresh    string    // a segment that no pattern has
	hosts    []string  // one of each kind that patterns tell apart
	methods  []string
	regions  map[regionKey]*region
	identity bool // one principal can be two on the two sides, by other grants, tenants or realms
}

// A region is what one pattern decides in the old table and one in the new.
type region struct {
	request  policy.Request // with the fewest segments
	segments []string
	old, new policy.Match
}

type regionKey struct {
	old, new           *policy.Pattern
	oldRoute, newRoute *policy.Route
}

// ordered sorts the regions by where the new file has them.
func (c *comparison) ordered() []*region {
	list := make([]*region, 0, len(c.regions))
	for _, r := range c.regions {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *region) int {
		return cmp.Or(compareMatches(a.new, b.new), compareMatches(a.old, b.old), cmp.Compare(a.request.Path, b.request.Path),
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
		var given *Change
		tried := 0
		for request := range c.variations(r) {
			old, new := c.old.match(&request), c.new.match(&request)
			if keyOf(old, new) != keyOf(r.old, r.new) {
				continue // another region's
			}
			found, undecided := c.find(direction, &request, old, new)
			if found != nil && (given == nil || given.Direction == Undecided || len(found.Assumed) == 0) {
				given = found
			}
			if given != nil && given.Direction != Undecided && (len(given.Assumed) == 0 || tried >= maxAssumed) {
				break
			}
			tried++
			if undecided && given == nil {
				given = &Change{Direction: Undecided, Request: request, Old: verdict(old, -1), New: verdict(new, -1)}
			}
		}
		if given != nil {
			list = append(list, *given)
		}
	}
	return append(list, c.preflights(r)...)
}

func keyOf(old, new policy.Match) regionKey {
	return regionKey{old.Pattern, new.Pattern, old.Route, new.Route}
}

// verdict is what a match says with the requirement that holds; -1: none.
func verdict(m policy.Match, requirement int) Verdict {
	v := Verdict{Route: m.Route, Pattern: m.Pattern}
	if m.Route == nil {
		return v
	}
	v.At = m.Route.At
	v.Allowed = m.Route.Public && !m.Route.Forbid
	if requirement >= 0 {
		v.Allowed, v.At = true, m.Route.Allow[requirement].At
	}
	return v
}

// preflights are what becomes of CORS preflights, which pass without a principal.
func (c *comparison) preflights(r *region) []Change {
	passes := func(m policy.Match) bool { return m.Route != nil && m.Route.Preflight && !m.Route.Forbid }
	before, after := passes(r.old), passes(r.new)
	if before == after {
		return nil
	}
	request := r.request
	request.Method = "OPTIONS"
	// What does not pass as a preflight is an ordinary request.
	ordinary := c.old.match(&request)
	change := Change{Direction: Widens, Preflight: true, Old: verdict(r.old, -1), New: verdict(r.new, -1)}
	if before {
		ordinary = c.new.match(&request)
		change.Direction = Narrows
	}
	if ordinary.Route != nil && ordinary.Route.Public {
		return nil
	}
	change.Old.Allowed, change.New.Allowed = before, after
	request.Headers = []policy.Pair{{Name: "origin", Value: "https://example.com"}, {Name: "access-control-request-method", Value: r.request.Method}}
	change.Request = request
	return []Change{change}
}
