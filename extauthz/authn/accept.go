package authn

import (
	"fmt"
	"slices"
)

// An Accept is which entries of a Set are consulted, prepared for one route. It is
// immutable and safe for concurrent use.
type Accept struct {
	entries    []consulted
	slots      []slot
	spots      []spot
	challenges []Challenge
	local      bool // no I/O and no password hash
}

// consulted is an entry with its places as indexes into the slots and spots.
type consulted struct {
	*Entry
	spots   []int
	ambient ambient // nil if it only looks at places
	claimer claimer // nil if tokens do not tell it that they are its own
	memory  rememberer
}

// A spot is a scheme at a slot: entries there are told apart by the credential.
type spot struct {
	slot, scheme int
	members      []int // in Accept.entries, in order
	claimers     int   // how many of them are jwt or the like
}

// Accept prepares for the entries called names, in the order of the Set; nil: all.
// An unknown name is an error.
func (s *Set) Accept(names []string) (*Accept, error) {
	for _, name := range names {
		if s.Entry(name) == nil {
			return nil, fmt.Errorf("accepting %q: there is no such authenticator", name)
		}
	}
	a := &Accept{}
	for _, e := range s.entries {
		if names == nil || slices.Contains(names, e.Name) {
			a.add(e, s.options.Combined)
		}
	}
	a.challenges = a.listChallenges()
	return a, nil
}

// AcceptPublic prepares for a public route, where a valid credential is welcome and
// any other counts as none: identify names what is looked at, at any cost; nil: those
// among accept that need neither I/O nor a password hash.
func (s *Set) AcceptPublic(accept, identify []string) (*Accept, error) {
	if identify != nil {
		return s.Accept(identify)
	}
	if _, err := s.Accept(accept); err != nil {
		return nil, err
	}
	names := []string{}
	for _, e := range s.entries {
		if e.Kind.cost() == cheap && (accept == nil || slices.Contains(accept, e.Name)) {
			names = append(names, e.Name)
		}
	}
	a, err := s.Accept(names)
	if err != nil {
		return nil, err
	}
	a.local = true
	return a, nil
}

func (a *Accept) add(e *Entry, combine bool) {
	c := consulted{Entry: e}
	c.ambient, _ = e.Authenticator.(ambient)
	c.claimer, _ = e.Authenticator.(claimer)
	c.memory, _ = e.Authenticator.(rememberer)
	index := len(a.entries)
	for _, p := range e.Places {
		n := a.spotFor(p, combine)
		if slices.Contains(c.spots, n) {
			continue // Plain beside Basic
		}
		c.spots = append(c.spots, n)
		a.spots[n].members = append(a.spots[n].members, index)
		if c.claimer != nil {
			a.spots[n].claimers++
		}
	}
	a.entries = append(a.entries, c)
}

func (a *Accept) spotFor(p Place, combine bool) int {
	at := -1
	for i := range a.slots {
		if a.slots[i].kind == p.Kind && a.slots[i].name == p.Name {
			at = i
		}
	}
	if at < 0 {
		at = len(a.slots)
		a.slots = append(a.slots, slot{kind: p.Kind, name: p.Name, combined: combine && p.Kind == InHeader && p.Name == "authorization"})
	}
	slot := &a.slots[at]
	scheme := p.Scheme
	if slot.combined && equalFold(scheme, "Plain") {
		scheme = "Basic" // one of a scheme, and these two are one
	}
	index := slot.schemeIndex(scheme)
	if index < 0 {
		index = len(slot.schemes)
		slot.schemes = append(slot.schemes, scheme)
	}
	for i := range a.spots {
		if a.spots[i].slot == at && a.spots[i].scheme == index {
			return i
		}
	}
	a.spots = append(a.spots, spot{slot: at, scheme: index})
	return len(a.spots) - 1
}

func (a *Accept) listChallenges() []Challenge {
	var list []Challenge
next:
	for i := range a.entries {
		e := a.entries[i].Entry
		c := Challenge{Scheme: e.challengeScheme(), Realm: e.Realm}
		for _, other := range list {
			if equalFold(other.Scheme, c.Scheme) && other.Realm == c.Realm {
				continue next
			}
		}
		list = append(list, c)
	}
	return list
}
