package authn

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Kind is what an authenticator verifies.
type Kind uint8

const (
	KindJWT Kind = iota + 1
	KindAPIKey
	KindBasic
	KindClientCredentials
	KindToken
	KindIntrospection
	KindRefreshToken
	KindLookup
	KindPeer
	KindMTLS
)

var kindNames = [...]string{"", "jwt", "api_key", "basic", "client_credentials", "token", "introspection", "refresh_token", "lookup", "peer", "mtls"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// A cost is what the verification of a credential that was not seen before takes.
type cost uint8

const (
	cheap  cost = iota // computing only
	hashed             // a password hash
	remote             // somebody else is asked
)

func (k Kind) cost() cost {
	switch k {
	case KindJWT, KindAPIKey, KindPeer, KindMTLS:
		return cheap
	case KindBasic:
		return hashed
	}
	return remote
}

// takesOpaque tells whether values that say nothing of themselves can be of kind k.
func (k Kind) takesOpaque() bool { return k != KindJWT && k != KindPeer && k != KindMTLS }

// A claimer is an authenticator that knows its tokens by what they say of themselves.
type claimer interface{ Takes(Peek) bool }

// A rememberer is a claimer that keeps what it verified: peek is what the token says
// of itself. A nil identity means that there is more to do than remember.
type rememberer interface {
	keysOfCache() *CacheKeys
	Cached(key CacheKey, now time.Time) (identity *Identity, peek Peek, ok bool)
}

// An ambient authenticator looks at the request as a whole, not at a value in a place.
type ambient interface{ Presented(*Input) bool }

// An Entry is one authenticator and where and when it counts.
type Entry struct {
	Name          string
	Realm         string
	Kind          Kind
	Authenticator Authenticator
	Guard         *Guard // has a say about those it verified; nil: nobody has

	Places    []Place  // in order of preference: only the first that holds something is looked at
	OnlyFrom  []Origin // one must hold; nil: anywhere
	Prefix    string   // of the opaque tokens that are its own; "": any
	TryInTurn bool     // its credentials may be shown to the others of its group

	// RealmHeader is a header that, where the request has it, must name Realm for this
	// entry to be consulted; "": none.
	RealmHeader string

	Scheme      string // of its challenge; "": that of its places, else Bearer
	Impersonate bool   // its principals may name the user they act for

	discreet bool // Authenticator is
}

// An Origin is a place that requests come from. Everything in it must hold; the zero
// Origin holds for none.
type Origin struct {
	Sources    []netip.Prefix      // of the connection's peer, one of these; nil: any
	Context    []policy.Pair       // context extensions, each of them
	Principals []*PrincipalPattern // of the peer's certificate, one of these; nil: any
}

func (o *Origin) holds(r *policy.Request) bool {
	if len(o.Sources) == 0 && len(o.Context) == 0 && len(o.Principals) == 0 {
		return false
	}
	if len(o.Sources) > 0 && !containsAddr(o.Sources, r.Source) {
		return false
	}
	for _, want := range o.Context {
		if got, ok := r.ContextValue(want.Name); !ok || got != want.Value {
			return false
		}
	}
	for _, p := range o.Principals {
		if p.Matches(r.SourcePrincipal) {
			return true
		}
	}
	return len(o.Principals) == 0
}

// containsAddr tells whether one of prefixes holds addr. IPv4 in IPv6 is IPv4, and
// zones do not count.
func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// plainPrefix gives the IPv4 prefix that p means where p is IPv4 in IPv6.
func plainPrefix(p netip.Prefix) netip.Prefix {
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p
}

// comesFrom tells whether the entry counts for r at all.
func (e *Entry) comesFrom(r *policy.Request) bool {
	if e.OnlyFrom == nil {
		return true
	}
	for i := range e.OnlyFrom {
		if e.OnlyFrom[i].holds(r) {
			return true
		}
	}
	return false
}

// challengeScheme is the scheme that clients are told.
func (e *Entry) challengeScheme() string {
	if e.Scheme != "" {
		return e.Scheme
	}
	for _, p := range e.Places {
		if p.Kind == InHeader && p.Scheme != "" {
			return p.Scheme
		}
	}
	return "Bearer"
}

// Options are what holds for a whole Set.
type Options struct {
	// Combined lets the Authorization header hold several credentials, separated by
	// commas: they are tried in the order of the entries, and the first success wins.
	Combined bool

	// RealmHeader is a [Entry.RealmHeader] for all entries; "": none.
	RealmHeader string
}

// A Set is the authenticators of a configuration, in order of precedence. It is
// immutable and safe for concurrent use.
type Set struct {
	entries []*Entry
	options Options
}

// NewSet checks entries and makes a Set of them. All that is wrong is in the error
// (errors.Join), each an [*EntryError].
func NewSet(entries []Entry, options Options) (*Set, error) {
	s := &Set{options: options}
	s.options.RealmHeader = strings.ToLower(options.RealmHeader)
	var errs []error
	names := make(map[string]bool)
	for i := range entries {
		e := entries[i]
		e.RealmHeader = strings.ToLower(e.RealmHeader)
		if e.RealmHeader == "" {
			e.RealmHeader = s.options.RealmHeader
		}
		e.Places = append([]Place(nil), e.Places...)
		for j := range e.Places {
			if e.Places[j].Kind == InHeader {
				e.Places[j].Name = strings.ToLower(e.Places[j].Name)
			}
		}
		e.OnlyFrom = plainOrigins(e.OnlyFrom)
		e.discreet = isDiscreet(e.Authenticator)
		if err := e.check(names[e.Name]); err != nil {
			errs = append(errs, &EntryError{Entry: e.Name, Err: err})
		}
		names[e.Name] = true
		s.entries = append(s.entries, &e)
	}
	if errs == nil {
		errs = s.checkPlaces()
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// An EntryError is what is wrong with one entry of a Set.
type EntryError struct {
	Entry string
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("authenticator %q: %v", e.Entry, e.Err) }
func (e *EntryError) Unwrap() error { return e.Err }

func plainOrigins(origins []Origin) []Origin {
	if origins == nil {
		return nil
	}
	plain := make([]Origin, len(origins)) // not nil even if empty: no origin is no permission
	for i, o := range origins {
		plain[i] = o
		plain[i].Sources = nil
		for _, p := range o.Sources {
			plain[i].Sources = append(plain[i].Sources, plainPrefix(p))
		}
	}
	return plain
}

func (e *Entry) check(twice bool) error {
	_, isAmbient := e.Authenticator.(ambient)
	switch {
	case e.Name == "":
		return errors.New("the name is empty")
	case twice:
		return errors.New("the name is used twice")
	case e.Realm == "":
		return errors.New("the realm is empty")
	case e.Kind == 0 || e.Kind.String() == "" || e.Authenticator == nil:
		return errors.New("it has no kind")
	case len(e.Places) == 0 && !isAmbient:
		return errors.New("it has no place where its credential is")
	case e.OnlyFrom != nil && len(e.OnlyFrom) == 0:
		return errors.New("only_from holds no place")
	}
	for i := range e.OnlyFrom {
		if o := &e.OnlyFrom[i]; len(o.Sources)+len(o.Context)+len(o.Principals) == 0 {
			return errors.New("a place of only_from has no condition")
		}
	}
	seen := make(map[Place]bool)
	for _, p := range e.Places {
		if err := p.check(); err != nil {
			return err
		}
		key := p
		key.Scheme = strings.ToLower(p.Scheme)
		if seen[key] {
			return fmt.Errorf("%v is named twice", p)
		}
		seen[key] = true
	}
	return nil
}

func (p Place) check() error {
	switch {
	case p.Name == "":
		return errors.New("a place has no name")
	case p.Kind < InHeader || p.Kind > InQuery:
		return errors.New("a place is neither header, cookie nor query parameter")
	case p.Kind != InHeader && p.Scheme != "":
		return fmt.Errorf("%v cannot have a scheme", p)
	case p.Kind != InQuery && !isToken(p.Name):
		return fmt.Errorf("%q cannot be the name of a header or cookie", p.Name)
	case p.Scheme != "" && !isToken(p.Scheme):
		return fmt.Errorf("%q cannot be a scheme", p.Scheme)
	case p.Kind == InHeader && p.Name == "cookie":
		return errors.New("the header cookie is read by cookie, not as a header")
	}
	return nil
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

// checkPlaces finds what entries cannot share.
func (s *Set) checkPlaces() []error {
	var errs []error
	all, _ := s.Accept(nil) // knows every name
	for _, spot := range all.spots {
		slot := &all.slots[spot.slot]
		if slot.kind == InHeader && slot.schemes[spot.scheme] == "" && len(slot.schemes) > 1 {
			for _, m := range spot.members {
				errs = append(errs, &EntryError{all.entries[m].Name, fmt.Errorf("header %s is the whole credential here and begins with a scheme elsewhere", slot.name)})
			}
		}
		// A remote look-up shows the credential to whoever runs it.
		first := make(map[string]*Entry)
		for _, m := range spot.members {
			e := all.entries[m].Entry
			if e.Kind.cost() != remote {
				continue
			}
			other, shared := first[e.Prefix]
			if !shared {
				first[e.Prefix] = e
				continue
			}
			if !e.TryInTurn || !other.TryInTurn {
				errs = append(errs, &EntryError{e.Name, fmt.Errorf("its credentials cannot be told from those of %q: give one of them a prefix, or both try_in_turn: true, which shows each one's credentials to the other", other.Name)})
			}
		}
	}
	return errs
}

// Entries are the entries in order. They must not be changed.
func (s *Set) Entries() []*Entry { return s.entries }

// Entry finds an entry by its name; nil if there is none.
func (s *Set) Entry(name string) *Entry {
	for _, e := range s.entries {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Places are all places where a credential of any entry can be, each once: what has
// to be cleared before a request goes on, whatever was accepted of it. Headers come
// without their schemes.
func (s *Set) Places() []Place {
	var places []Place
	seen := make(map[Place]bool)
	for _, e := range s.entries {
		for _, p := range e.Places {
			p.Scheme = ""
			if !seen[p] {
				seen[p] = true
				places = append(places, p)
			}
		}
	}
	return places
}

// A Challenge tells clients how to authenticate (RFC 9110 §11.6.1).
type Challenge struct{ Scheme, Realm string }

// Challenges are those of what is consulted, in order, equal ones once.
func (a *Accept) Challenges() []Challenge { return a.challenges }
