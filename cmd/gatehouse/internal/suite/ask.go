package suite

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// An Asker decides calls of principals that present no credential. Everything but the
// verification of credentials is as serve does it. It is for one goroutine; [Asker.Clone]
// gives another one.
type Asker struct {
	snapshot *extauthz.Snapshot
	gate     *extauthz.Gate
	headers  map[string]string // by authenticator: the header that stands for a credential
	results  []authn.Result    // what the headers' values, which are indexes, come to
	seen     Answer            // of the call in hand
}

// An Answer is what the gate said, for as long as nobody asks again.
type Answer struct {
	Decision policy.Decision
	Request  policy.Request // in its canonical reading
	Status   int
	Set      []policy.Pair
	Removed  []string
	Detail   error
}

// standInPrefix begins the names of headers that nobody sends: they exist only between
// an Asker and its gate.
const standInPrefix = "gatehouse-stand-in-"

// NewAsker prepares for callers that are results: of an authenticator, as if it had
// verified or refused a credential.
func NewAsker(config *extauthz.Config, results []authn.Result, now func() time.Time) (*Asker, error) {
	copied := *config
	headers := map[string]string{}
	if config.Set != nil {
		var entries []authn.Entry
		for i, e := range config.Set.Entries() {
			header := standInPrefix + strconv.Itoa(i)
			headers[e.Name] = header
			entries = append(entries, authn.Entry{
				Name: e.Name, Realm: e.Realm, Kind: standInKind(e.Kind), Impersonate: e.Impersonate, Scheme: e.Scheme, OnlyFrom: e.OnlyFrom,
				Authenticator: standIn{results}, Places: []authn.Place{{Kind: authn.InHeader, Name: header}},
			})
		}
		set, err := authn.NewSet(entries, authn.Options{})
		if err != nil {
			return nil, fmt.Errorf("putting principals in the place of credentials: %w", err)
		}
		copied.Set = set
	}
	snapshot, err := extauthz.NewSnapshot(&copied)
	if err != nil {
		return nil, fmt.Errorf("preparing the configuration: %w", err)
	}
	return newAsker(snapshot, headers, results, now), nil
}

// NewPlainAsker decides by the credentials that the calls have.
func NewPlainAsker(snapshot *extauthz.Snapshot, now func() time.Time) *Asker {
	return newAsker(snapshot, nil, nil, now)
}

func newAsker(snapshot *extauthz.Snapshot, headers map[string]string, results []authn.Result, now func() time.Time) *Asker {
	a := &Asker{snapshot: snapshot, headers: headers, results: results}
	a.gate = extauthz.NewGate(extauthz.Options{Now: now, Observe: func(r *extauthz.Record) {
		a.seen.Request, a.seen.Status, a.seen.Detail = *r.Request, r.Status, r.Detail
	}})
	a.gate.Swap(snapshot)
	return a
}

// Clone gives an Asker for another goroutine.
func (a *Asker) Clone(now func() time.Time) *Asker {
	return newAsker(a.snapshot, a.headers, a.results, now)
}

// Ask decides call for the caller that is results[caller]; nobody if it is negative.
func (a *Asker) Ask(ctx context.Context, call extauthz.Call, authenticator string, caller int) Answer {
	if header := a.headers[authenticator]; header != "" && caller >= 0 {
		call.Headers = append(slices.Clone(call.Headers), policy.Pair{Name: header, Value: strconv.Itoa(caller)})
	}
	a.seen = Answer{}
	answer := a.gate.Check(ctx, &call)
	a.seen.Decision = answer.Decision
	isOurs := func(name string) bool {
		return strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), standInPrefix)
	}
	for _, h := range answer.SetHeaders() {
		if !isOurs(h.Name) {
			a.seen.Set = append(a.seen.Set, h)
		}
	}
	for _, name := range answer.RemovedHeaders() {
		if !isOurs(name) {
			a.seen.Removed = append(a.seen.Removed, name)
		}
	}
	slices.Sort(a.seen.Removed)
	a.seen.Removed = slices.Compact(a.seen.Removed)
	return a.seen
}

// standInKind keeps what a public route asks of a kind: whether it is looked at.
func standInKind(k authn.Kind) authn.Kind {
	switch k {
	case authn.KindJWT, authn.KindAPIKey, authn.KindPeer, authn.KindMTLS:
		return authn.KindAPIKey
	}
	return authn.KindIntrospection
}

// standIn answers for the number that it finds in the place of a credential.
type standIn struct{ results []authn.Result }

// Authenticate implements [authn.Authenticator].
func (s standIn) Authenticate(_ context.Context, in *authn.Input) authn.Result {
	i, err := strconv.Atoi(in.Value)
	if err != nil || i < 0 || i >= len(s.results) {
		return authn.Refuse(policy.ReasonKeyUnknown, nil)
	}
	return s.results[i]
}
