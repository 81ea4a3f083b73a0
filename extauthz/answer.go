package extauthz

import (
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// An Answer is what a door is told to say. Its zero value is a refusal, which a door
// answers with 403.
type Answer struct {
	ID       string // of the decision
	Decision policy.Decision

	// Status is the HTTP status that the client gets: 302 or 400 to 599. It means
	// nothing where the decision allows.
	Status int

	headers []policy.Pair // of a refusal; names may not repeat
	body    string        // of a refusal

	upstream *upstream // of a request that goes on; never nil then
	also     []string  // headers that are removed of this request besides
	cookie   string    // the new Cookie header, where it is rewritten
	cookies  cookieChange
	query    []string // keys of query parameters to remove

	// principal is what [kind.metadata] is of the decision's principal; "": not at hand.
	principal string
}

// Allowed tells whether the request goes on: the one place where that is read off.
func (a *Answer) Allowed() bool {
	return a.Decision.Outcome == policy.Allowed && a.Decision.Reason.Outcome() == policy.Allowed && a.upstream != nil
}

// SetHeaders are the request headers that the upstream gets from us, each name once.
// None of them is among [Answer.RemovedHeaders].
func (a *Answer) SetHeaders() []policy.Pair {
	if !a.Allowed() {
		return nil
	}
	set := a.upstream.set()
	if a.cookies == cookieRewritten {
		set = append(set, policy.Pair{Name: "cookie", Value: a.cookie})
	}
	return set
}

// RemovedHeaders are the request headers that do not reach the upstream.
func (a *Answer) RemovedHeaders() []string {
	if !a.Allowed() {
		return nil
	}
	names := a.upstream.removal.names
	names = append(names[:len(names):len(names)], a.also...)
	if a.cookies == cookieRemoved {
		names = append(names, "cookie")
	}
	return names
}

// RemovedQuery are the keys, as they are written, of the query parameters that do not
// reach the upstream.
func (a *Answer) RemovedQuery() []string {
	if !a.Allowed() {
		return nil
	}
	return a.query
}

// Headers are the response headers of a refusal.
func (a *Answer) Headers() []policy.Pair { return a.headers }

// Body is the response body of a refusal.
func (a *Answer) Body() string { return a.body }

// refusalStatus is Status where it is one that refuses, and 403 where it is not: Envoy
// would pass a 200 on to the client.
func (a *Answer) refusalStatus() int {
	if a.Status == http.StatusFound || a.Status >= 400 && a.Status <= 599 {
		return a.Status
	}
	return http.StatusForbidden
}

// code is the status code of the CheckResponse; Envoy reads nothing else to tell
// whether it allows.
func (a *Answer) code() codes.Code {
	if a.Allowed() {
		return codes.OK
	}
	switch a.Decision.Outcome {
	case policy.Unauthenticated:
		return codes.Unauthenticated
	case policy.Malformed:
		return codes.InvalidArgument
	case policy.Unavailable:
		return codes.Unavailable
	}
	return codes.PermissionDenied
}
