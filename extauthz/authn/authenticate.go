package authn

import (
	"context"
	"errors"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// An Answer is what came of a request's credentials. Its zero value is a refusal.
type Answer struct {
	Result

	// Entry is whose credential decided: it verified it where Identity is set, and
	// refused it otherwise. Nil if nothing was presented.
	Entry *Entry

	// Place and Credential are where it was and what it was, without its scheme. Both
	// are zero for what is not in a place. Credential is secret.
	Place      Place
	Credential string
}

var errNoOwner = errors.New("no authenticator takes it")

// Authenticate decides who makes the request in.
//
// The first entry, in order, whose credential is present decides, and what it says
// is final: nothing falls through to the next credential or to anonymous. A value in
// a place that several entries look at goes to the one that claims it:
//
//   - a JWT to the first refresh_token, then to the first other entry, that takes it
//     by its unverified parts; where nobody does, to nobody;
//   - anything else to the entries with the longest prefix that it begins with. Those
//     that compute, those that hash and those that ask elsewhere are asked in this
//     order, each kind at once; the first success wins, of several in hand the earliest
//     in order. If none succeeds an outage of one of them is the answer, else the
//     refusal of the first.
//
// An entry is not shown a credential that comes from outside its OnlyFrom. Where
// credentials may be combined ([Options]), a refusal of one is not final for the
// others of the same header.
//
// in.Value, in.Scheme and in.Local are set here. With a JWT that was verified before
// or a key, nothing is allocated.
func (s *Set) Authenticate(ctx context.Context, a *Accept, in *Input) Answer {
	in.Local = a.local
	w := walk{ctx: ctx, accept: a, in: in}
	if len(a.slots) > len(w.few) {
		w.more = make([]reading, len(a.slots)-len(w.few))
	}
	return w.run()
}

// stackSlots is how many slots need no allocation. The value is a guess: header,
// cookie, key header and one to spare.
const stackSlots = 4

// A walk is the state of one Authenticate.
type walk struct {
	ctx    context.Context
	accept *Accept
	in     *Input

	few  [stackSlots]reading // by slot
	more []reading           // of the slots after these

	asked    [maxCombined]int // spots that were asked in vain; only in combined headers
	askedLen int
	failed   Answer // the first refusal, or the first outage

	realmNamed, realmKnown bool // by a realm header

	claimed   claim // the last one, of spot claimedAt-1
	claimedAt int
}

// reading is what the slot n holds.
func (w *walk) reading(n int) *reading {
	var r *reading
	if n < len(w.few) {
		r = &w.few[n]
	} else {
		r = &w.more[n-len(w.few)]
	}
	if r.state == unread {
		*r = w.accept.slots[n].read(w.in.Request)
	}
	return r
}

func (w *walk) run() Answer {
	for i := range w.accept.entries {
		e := &w.accept.entries[i]
		if e.RealmHeader != "" {
			mine, reason := w.inRealm(e.Entry)
			if reason != policy.ReasonNone {
				return Answer{Result: Refuse(reason, nil), Entry: e.Entry}
			}
			if !mine {
				continue
			}
		}
		answer, found := w.entry(i)
		if !found {
			continue
		}
		if answer.Identity != nil || !w.goesOn(answer) {
			return answer
		}
	}
	switch {
	case w.askedLen > 0:
		return w.failed
	case w.realmNamed && !w.realmKnown:
		return Answer{Result: Refuse(policy.ReasonRealmUnknown, nil)}
	}
	return Answer{Result: Refuse(policy.ReasonNoCredential, nil)}
}

// goesOn notes a refusal, and tells whether other credentials may still be tried.
func (w *walk) goesOn(refusal Answer) bool {
	if w.askedLen == 0 {
		return false
	}
	if w.failed.Entry == nil || !outage(w.failed.Reason) && outage(refusal.Reason) {
		w.failed = refusal
	}
	return true
}

func outage(r policy.Reason) bool { return r.Outcome() == policy.Unavailable }

// inRealm tells whether the realm header, if the request has it, names e's realm.
func (w *walk) inRealm(e *Entry) (bool, policy.Reason) {
	found := readBare(w.in.Request, e.RealmHeader)
	switch found.state {
	case absent:
		return true, policy.ReasonNone
	case repeated:
		return false, policy.ReasonSelectionRepeated
	}
	w.realmNamed = true
	if found.state == present && found.value == e.Realm {
		w.realmKnown = true
		return true, policy.ReasonNone
	}
	return false, policy.ReasonNone
}

// entry gives the answer to the credential of entry i, if one is present that is its
// own or nobody's.
func (w *walk) entry(i int) (Answer, bool) {
	e := &w.accept.entries[i]
	for _, n := range e.spots {
		spot := &w.accept.spots[n]
		slot := &w.accept.slots[spot.slot]
		if !slot.combined && w.askedLen > 0 {
			return Answer{}, false // a refused header never falls through to another place
		}
		r := w.reading(spot.slot)
		switch {
		case r.state == absent:
			continue
		case r.state == repeated:
			return Answer{Result: Refuse(policy.ReasonCredentialRepeated, nil), Entry: e.Entry, Place: slot.place(spot.scheme)}, true
		case r.state == malformed && (r.scheme == spot.scheme || r.scheme == anyScheme):
			return w.malformedAt(e.Entry, slot.place(spot.scheme)), true
		case r.state == malformed:
			continue
		}
		value, ok := r.credential(spot.scheme)
		if !ok {
			continue
		}
		if slot.combined && w.wasAsked(n) {
			return Answer{}, false
		}
		claim := w.claim(n, value)
		if !claim.includes(i, e) {
			return Answer{}, false // somebody else's; e's other places are not looked at
		}
		if slot.combined {
			w.asked[w.askedLen] = n // each spot once, and a header has at most maxCombined
			w.askedLen++
		}
		answer := w.ask(n, claim, i, value)
		answer.Place, answer.Credential = slot.place(spot.scheme), value
		return answer, true
	}
	if e.ambient != nil && w.askedLen == 0 && e.ambient.Presented(w.in) {
		w.in.Value, w.in.Scheme = "", ""
		return verify(w.ctx, e.Entry, w.in), true
	}
	return Answer{}, false
}

// malformedAt refuses what is not of its form; outside of OnlyFrom even that is not
// looked at.
func (w *walk) malformedAt(e *Entry, p Place) Answer {
	reason := policy.ReasonCredentialMalformed
	if !e.comesFrom(w.in.Request) {
		reason = policy.ReasonWrongPlace
	}
	return Answer{Result: Refuse(reason, nil), Entry: e, Place: p}
}

func (w *walk) wasAsked(spot int) bool {
	for _, n := range w.asked[:w.askedLen] {
		if n == spot {
			return true
		}
	}
	return false
}

// place is the place of one of the slot's schemes.
func (s *slot) place(scheme int) Place {
	return Place{Kind: s.kind, Name: s.name, Scheme: s.schemes[scheme]}
}

// A claim is who a credential belongs to: one entry, a group, or nobody.
type claim struct {
	to     claimant
	entry  int    // in Accept.entries
	prefix string // of the group
	jwt    bool   // it is a JWT

	identity *Identity // of the entry, if it remembers
}

type claimant uint8

const (
	nobody claimant = iota
	one
	group
)

// includes tells whether entry i answers for the claim. What nobody claims is refused
// by the first who looks there.
func (c *claim) includes(i int, e *consulted) bool {
	switch c.to {
	case one:
		return c.entry == i
	case group:
		return e.Kind.takesOpaque() && e.Prefix == c.prefix
	}
	return true
}

// claim is whose the value at spot n is.
func (w *walk) claim(n int, value string) claim {
	if w.claimedAt != n+1 {
		w.claimed, w.claimedAt = w.findOwner(&w.accept.spots[n], value), n+1
	}
	return w.claimed
}

// findOwner finds out whose value is, without verifying anything.
func (w *walk) findOwner(spot *spot, value string) claim {
	if len(spot.members) == 1 && spot.claimers == 0 {
		e := &w.accept.entries[spot.members[0]]
		if strings.HasPrefix(value, e.Prefix) {
			return claim{to: one, entry: spot.members[0]}
		}
		return claim{}
	}
	var c claim
	if spot.claimers > 0 {
		identity, member, peek, remembered := w.remembered(spot, value)
		if c.jwt = remembered; !remembered {
			peek, c.jwt = w.in.peekJWT(value)
		}
		if c.jwt {
			if entry, ok := w.claimJWT(spot, peek); ok {
				c = claim{to: one, entry: entry, jwt: true}
				if entry == member {
					c.identity = identity
				}
				return c
			}
		}
	}
	found := false
	for _, m := range spot.members {
		e := &w.accept.entries[m]
		if !e.Kind.takesOpaque() || !strings.HasPrefix(value, e.Prefix) || w.outOfRealm(e.Entry) {
			continue
		}
		if c.jwt && e.Prefix == "" {
			continue // a JWT that nobody claims is not shown around
		}
		if !found || len(e.Prefix) > len(c.prefix) {
			found, c.to, c.prefix = true, group, e.Prefix
		}
	}
	if !found && !c.jwt {
		// Not a JWT, where only JWTs are taken: the first of them says what is wrong with it.
		for _, m := range spot.members {
			if e := &w.accept.entries[m]; e.claimer != nil && e.Kind.cost() == cheap && !w.outOfRealm(e.Entry) {
				return claim{to: one, entry: m}
			}
		}
	}
	return c
}

// remembered asks the members for a token that one of them verified before. It saves
// reading the token, and says nothing about whose it is on this route. The members
// share their cache keys ([CacheKeys]).
func (w *walk) remembered(spot *spot, value string) (identity *Identity, member int, peek Peek, ok bool) {
	var key CacheKey
	for _, m := range spot.members {
		memory := w.accept.entries[m].memory
		if memory == nil {
			continue
		}
		if key == (CacheKey{}) {
			key = w.in.cacheKey(memory.keysOfCache(), value)
		}
		if identity, peek, ok = memory.Cached(key, w.in.Now); ok {
			return identity, m, peek, true
		}
	}
	return nil, -1, Peek{}, false
}

func (w *walk) claimJWT(spot *spot, peek Peek) (int, bool) {
	for _, refresh := range [...]bool{true, false} {
		for _, m := range spot.members {
			e := &w.accept.entries[m]
			if e.claimer != nil && (e.Kind == KindRefreshToken) == refresh && !w.outOfRealm(e.Entry) && e.claimer.Takes(peek) {
				return m, true
			}
		}
	}
	return 0, false
}

func (w *walk) outOfRealm(e *Entry) bool {
	if e.RealmHeader == "" {
		return false
	}
	mine, reason := w.inRealm(e)
	return !mine || reason != policy.ReasonNone
}

// ask has the owners of value verify it. first is the entry that came upon it.
func (w *walk) ask(n int, c claim, first int, value string) Answer {
	spot := &w.accept.spots[n]
	w.in.Value, w.in.Scheme = value, w.accept.slots[spot.slot].schemes[spot.scheme]
	switch c.to {
	case one:
		e := w.accept.entries[c.entry].Entry
		if c.identity != nil && e.comesFrom(w.in.Request) {
			return Answer{Result: e.guarded(w.ctx, Result{Identity: c.identity}, w.in), Entry: e}
		}
		answer := verify(w.ctx, e, w.in)
		answer.guess.count(w.in.Now) // there is nobody else whose credential it could be
		return answer
	case group:
		return w.askGroup(spot, c.prefix)
	}
	e := w.accept.entries[first].Entry
	switch {
	case !e.comesFrom(w.in.Request):
		return Answer{Result: Refuse(policy.ReasonWrongPlace, nil), Entry: e}
	case c.jwt:
		return Answer{Result: Refuse(policy.ReasonUnknownIssuer, errNoOwner), Entry: e}
	}
	return Answer{Result: Refuse(policy.ReasonTokenUnknown, errNoOwner), Entry: e}
}

// verify has e verify what is in in.
func verify(ctx context.Context, e *Entry, in *Input) Answer {
	if !e.comesFrom(in.Request) {
		return Answer{Result: Refuse(policy.ReasonWrongPlace, nil), Entry: e}
	}
	if !e.discreet {
		in.keep(KeptTexts)
	}
	return Answer{Result: e.guarded(ctx, sound(e.Authenticator.Authenticate(ctx, in)), in), Entry: e}
}

// guarded is what the entry's guard says to r.
func (e *Entry) guarded(ctx context.Context, r Result, in *Input) Result {
	if e.Guard == nil || r.Identity == nil {
		return r
	}
	return e.Guard.admit(ctx, r.Identity, in.Now, in.Local)
}

var errUnsound = errors.New("the authenticator gave neither a principal nor a reason")

// sound lets only complete results through: a principal, or a reason to refuse.
func sound(r Result) Result {
	if r.Identity != nil && r.Identity.Principal != nil {
		return r
	}
	r.Identity = nil
	if r.Reason == policy.ReasonNone || r.Reason.Outcome() == policy.Allowed {
		return Refuse(policy.ReasonInternal, errUnsound)
	}
	return r
}
