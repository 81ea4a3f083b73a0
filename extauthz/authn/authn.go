// Package authn turns a credential into a principal, or into one reason why not.
//
// There is one file per kind of credential. Which credential of a request counts,
// and which authenticator it goes to, is decided by [Set.Authenticate]; start
// reading there. The package knows nothing of Envoy, routes or the configuration
// file: it is built from plain Go values.
package authn

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// An Authenticator verifies credentials of one kind. It is safe for concurrent use,
// and lives as long as its configuration does not change, across reloads.
type Authenticator interface {
	// Authenticate verifies one credential that was presented to it.
	//
	// It does no I/O for a credential that it has verified before and that still
	// holds. ctx ends when the caller gives up.
	Authenticate(ctx context.Context, in *Input) Result
}

// Input is what an authenticator may look at.
type Input struct {
	Value   string // the credential without its scheme; empty for those that are not in a header, cookie or query
	Scheme  string // of the header it came in, as configured; "" for bare values
	Request *policy.Request
	Now     time.Time

	// Local asks for no I/O and no password hash: what would need either is
	// answered with what is at hand (public routes).
	Local bool

	// What signatures cover besides the request's headers: the request line as it was
	// received. Without them signatures over these parts do not verify.
	Authority string // host, with its port if any
	Target    string // path and query

	Body        []byte // as far as Envoy sent it
	BodyPartial bool   // Envoy sent a part of it

	// The token that was read last, so that finding out whose it is and verifying it
	// take one reading. Reading takes a fifth of what RS256 does.
	token   *jws
	tokenOf string // the text of token

	// The cache key that was made last, for the same reason.
	key   CacheKey
	keyOf string
	keyBy *CacheKeys

	kept Kept
}

// cacheKey is the key that keys give credential.
func (in *Input) cacheKey(keys *CacheKeys, credential string) CacheKey {
	if in.keyBy != keys || in.keyOf != credential {
		in.key, in.keyOf, in.keyBy = keys.Key(credential), credential, keys
	}
	return in.key
}

// Kept is what of an [Input] may still be looked at when [Set.Authenticate] has answered.
type Kept uint8

const (
	KeptNothing Kept = iota
	KeptTexts        // its texts, by authenticators that go on for those who come later
	KeptRequest      // all that it points to, by authenticators that nobody waits for any more
)

// Kept tells whether the memory of the input can be used for another.
func (in *Input) Kept() Kept { return in.kept }

func (in *Input) keep(k Kept) { in.kept = max(in.kept, k) }

// A discreet authenticator neither keeps a text of its input beyond its answer nor shows
// it to others who might. What is neither said nor proven counts as indiscreet.
type discreet interface{ discreet() bool }

func isDiscreet(a Authenticator) bool {
	d, ok := a.(discreet)
	return ok && d.discreet()
}

// Result is what came of one credential. Its zero value is a refusal.
type Result struct {
	Identity *Identity     // set if and only if the credential is good
	Reason   policy.Reason // otherwise; never one of an allowed outcome
	Detail   error         // for the log; never holds the credential, never reaches a client

	// RetryAfter is a hint for the client where Reason is an outage; zero: none.
	RetryAfter time.Duration

	guess guess // to be counted, if nobody else takes the credential
}

// Refuse is the Result for reason, with the cause for the log.
func Refuse(reason policy.Reason, detail error) Result { return Result{Reason: reason, Detail: detail} }

// An Identity is a verified credential's principal. It is shared by all requests
// with that credential and must not be changed, but for Derived.
type Identity struct {
	Principal *policy.Principal

	// Issued is when the credential was made; zero: it does not say.
	Issued time.Time

	more      atomic.Pointer[widening] // the identity with the roles of the directory
	exchanged *exchanged               // nil: the credential was exchanged for nothing

	// Derived is room for what the gate computes from Principal once.
	Derived atomic.Pointer[any]
}

// exchanged is what a credential was exchanged for.
type exchanged struct {
	upstream string
	verified *Identity // whose access token upstream is
}

// Upstream replaces the credential where routes keep it: the header `authorization` with
// this value. Empty: the credential as it was presented.
func (id *Identity) Upstream() string {
	if id.exchanged == nil {
		return ""
	}
	return id.exchanged.upstream
}
