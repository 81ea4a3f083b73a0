// Package diff says which requests two policies answer differently, each with a smallest
// request and principal that shows it. It is exact for the closed language: whatever it
// does not report has the same answer. An expression is an atom, true or false whatever
// else holds, so that of expressions it may report what cannot happen.
//
// Principals are compared as they come out of authentication and grants: what
// authenticators accept is not part of it.
//
// Start reading at [Compare]. walk.go finds every pair of patterns of which one decides in
// the old table and the other in the new; vary.go gives a pair the requests that could
// matter; search.go looks for a principal between the requirements of the two, over the
// atoms of atom.go.
package diff

import (
	"cmp"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Side is one of two policies.
type Side struct {
	Table          *policy.Table
	Routes         []*policy.Route
	Tenancy        *policy.Tenancy
	Authenticators []Authenticator

	// Forwarded is what the upstream gets of a request that a route lets pass: values by
	// name, in any form that two sides can compare. nil: nothing.
	Forwarded func(*policy.Route) map[string]string
}

// An Authenticator is who can vouch for a principal.
type Authenticator struct {
	Name, Realm string
	Unscoped    bool // its principals meet every scopes requirement
}

// Direction is how an answer changes.
type Direction uint8

const (
	Undecided Direction = iota // the search was given up: it may be either
	Widens                     // what was refused passes
	Narrows                    // what passed is refused
	Forwards                   // it passes as before, and the upstream gets something else
)

var directionNames = [...]string{"undecided", "widens", "narrows", "forwards"}

func (d Direction) String() string { return directionNames[d] }

// A Change is a region of requests, those that one pattern decides in the old table and
// one in the new, of which some change their answer.
type Change struct {
	Direction Direction
	Request   policy.Request    // a smallest one that shows it
	Principal *policy.Principal // who makes it, in the new policy; nil: nobody
	Assumed   []Assumption      // what expressions have to say besides
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
}

// A Forwarding is one thing that the upstream gets, in the words of each side; "": not.
type Forwarding struct{ Name, Old, New string }

// Compare lists the regions whose requests change their answer, in the order of the new
// file, what is gone from it last.
func Compare(old, new Side) []Change {
	c := newComparison(old, new)
	c.walk()
	c.walkNames()
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

// changes are those of one region: at most one of each direction.
func (c *comparison) changes(r *region) []Change {
	var list []Change
	for _, direction := range []Direction{Widens, Narrows, Forwards} {
		var given *Change
		for request := range c.variations(r) {
			old, new := c.old.Table.Match(&request), c.new.Table.Match(&request)
			if keyOf(old, new) != keyOf(r.old, r.new) {
				continue // another region's
			}
			found, undecided := c.find(direction, &request, old, new)
			if found != nil {
				given = found
				break
			}
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
	ordinary := c.old.Table.Match(&request)
	change := Change{Direction: Widens, Preflight: true, Old: verdict(r.old, -1), New: verdict(r.new, -1)}
	if before {
		ordinary = c.new.Table.Match(&request)
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

// forwarded compares what the upstream gets.
func (c *comparison) forwarded(old, new *policy.Route) []Forwarding {
	var before, after map[string]string
	if c.old.Forwarded != nil && c.new.Forwarded != nil {
		before, after = c.old.Forwarded(old), c.new.Forwarded(new)
	}
	var list []Forwarding
	for name, value := range before {
		if after[name] != value {
			list = append(list, Forwarding{name, value, after[name]})
		}
	}
	for name, value := range after {
		if _, known := before[name]; !known {
			list = append(list, Forwarding{name, "", value})
		}
	}
	slices.SortFunc(list, func(a, b Forwarding) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
