// Package story decides a request offline, by the code that decides for Envoy, and tells
// how the decision came about. Start reading at [Ask]; text.go prints.
package story

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Question is what to decide.
type Question struct {
	Call      *extauthz.Call
	Principal *policy.Principal // stands in for a credential; nil: the call's own credentials count
	Now       time.Time
}

// Ask decides q by the configuration. Credentials are verified as they are for Envoy, so
// that the issuers' keys must be at hand.
func Ask(ctx context.Context, config *extauthz.Config, q Question) (*Story, error) {
	call := *q.Call
	if q.Principal != nil {
		stand, header, err := standIn(config, q.Principal)
		if err != nil {
			return nil, err
		}
		config = stand
		call.Headers = append(slices.Clone(call.Headers), policy.Pair{Name: header, Value: "1"})
	}
	snapshot, err := extauthz.NewSnapshot(config)
	if err != nil {
		return nil, fmt.Errorf("preparing the configuration: %w", err)
	}
	var record extauthz.Record
	var request policy.Request
	gate := extauthz.NewGate(extauthz.Options{
		Now: func() time.Time { return q.Now },
		Observe: func(r *extauthz.Record) {
			record, request = *r, *r.Request
			if r.Shadow != nil {
				shadow := *r.Shadow
				record.Shadow = &shadow
			}
		},
	})
	gate.Swap(snapshot)
	answer := gate.Check(ctx, &call)
	if record.Panic != nil {
		return nil, fmt.Errorf("deciding: %v\n%s", record.Panic, record.Stack)
	}
	t := teller{config: config, call: &call, request: &request, record: &record, answer: answer, now: q.Now, standIn: q.Principal != nil}
	return t.tell(ctx), nil
}

// A teller has everything that a story is made of.
type teller struct {
	config  *extauthz.Config
	call    *extauthz.Call
	request *policy.Request
	record  *extauthz.Record
	answer  *extauthz.Answer
	now     time.Time
	standIn bool
}

func (t *teller) tell(ctx context.Context) *Story {
	d := &t.record.Decision
	s := &Story{
		Request: Request{Method: t.request.Method, Host: t.request.Host, Path: t.request.Path},
		Outcome: d.Outcome.String(), Reason: d.Reason.String(), Status: t.record.Status, Position: d.At.String(),
	}
	if d.Route != nil {
		s.Route = d.Route.Name
	}
	if t.record.Detail != nil {
		s.Detail = t.record.Detail.Error()
	}
	if d.Principal != nil {
		s.Principal = newPrincipal(d.Principal)
	}
	if shadow := t.record.Shadow; shadow != nil {
		s.Shadow = &Shadow{Outcome: shadow.Outcome.String(), Reason: shadow.Reason.String()}
		if shadow.Route != nil {
			s.Shadow.Route = shadow.Route.Name
		}
	}
	if t.call.HTTP && d.Outcome == policy.Malformed && s.Request.Path == "" {
		s.Request = Request{Method: t.call.Method, Host: t.call.Host}
		s.Request.Path, _, _ = strings.Cut(t.call.Target, "?")
	}
	t.tellAnswer(s)
	if !t.standIn && t.call.HTTP && d.Outcome != policy.Malformed {
		s.Authenticators = t.seen(ctx, d.Route)
	}
	if t.call.HTTP && t.request.Path != "" {
		t.tellTable(s, t.config.Table.Explain(t.request, d.Principal))
	}
	if flip, ok := t.flip(); ok {
		s.Flip = flip
	}
	return s
}

// tellAnswer tells what client or upstream get, without what only stands in.
func (t *teller) tellAnswer(s *Story) {
	for _, h := range t.answer.SetHeaders() {
		s.Set = append(s.Set, Header{h.Name, h.Value})
	}
	for _, name := range t.answer.RemovedHeaders() {
		if !strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), standInPrefix) {
			s.Removed = append(s.Removed, name)
		}
	}
	slices.Sort(s.Removed)
	s.Removed = slices.Compact(s.Removed)
	if !s.Allowed() {
		for _, h := range t.answer.Headers() {
			s.Response = append(s.Response, Header{h.Name, h.Value})
		}
	}
}

func (t *teller) tellTable(s *Story, x policy.Explanation) {
	for _, c := range x.Candidates {
		candidate := Candidate{Route: c.Route.Name, Position: c.Route.At.String(), Fate: c.Fate.String(), Why: c.Why}
		if c.Pattern != nil {
			candidate.Pattern, candidate.Position = c.Pattern.String(), c.Pattern.At.String()
		}
		s.Candidates = append(s.Candidates, candidate)
	}
	if t.record.Decision.Principal != nil || x.Decision.Reason == t.record.Decision.Reason {
		for _, q := range x.Requirements {
			requirement := Requirement{Position: q.At.String(), Holds: q.Holds}
			for _, c := range q.Conditions {
				requirement.Conditions = append(requirement.Conditions, Condition{
					Position: c.At.String(), Condition: c.Condition, Want: c.Want, Got: c.Got, Truth: truthNames[c.Truth],
				})
			}
			s.Requirements = append(s.Requirements, requirement)
		}
	}
	for _, c := range x.Flip {
		s.Flip = append(s.Flip, Change{Position: c.At.String(), Text: c.Text})
	}
}

var truthNames = [...]string{policy.Failed: "error", policy.False: "false", policy.True: "true"}

// flip is the smallest change where the table is not the reason.
func (t *teller) flip() ([]Change, bool) {
	d := &t.record.Decision
	change := func(format string, args ...any) ([]Change, bool) {
		return []Change{{Text: fmt.Sprintf(format, args...), Position: d.At.String()}}, true
	}
	switch d.Outcome {
	case policy.Malformed:
		switch d.Reason {
		case policy.ReasonPathNotCanonical:
			return change("the path would have to be written in one way only: without // . .. ; \\ or encoded / \\ %%")
		case policy.ReasonHostInvalid:
			return change("the host would have to be one valid name or address")
		case policy.ReasonMethodInvalid:
			return change("the method would have to be a token")
		case policy.ReasonCredentialRepeated:
			return change("the credential would have to be there once")
		case policy.ReasonSelectionRepeated:
			return change("the header that selects a tenant would have to be there once")
		case policy.ReasonHeadersTooLarge:
			return change("the headers would have to be smaller, or limits.header_bytes larger")
		}
		return change("the request would have to be readable")
	case policy.Unauthenticated:
		if d.Reason == policy.ReasonNoCredential {
			return change("a credential is missing: %s", t.wanted(d.Route))
		}
		if d.Reason == policy.ReasonTenantNotSelectable {
			return change("the tenant or user that is asked for would have to be one that the caller may act for")
		}
		if t.record.Authenticator == "" {
			return change("the credential would have to be one that an accepted authenticator takes")
		}
		return change("the credential would have to be one that %s accepts (%s)", t.record.Authenticator, d.Reason)
	case policy.Unavailable:
		return change("%s would have to be available", orUnknown(t.record.Authenticator))
	}
	return nil, false
}

func orUnknown(name string) string {
	if name == "" {
		return "the authenticator"
	}
	return name
}

// wanted lists the places of the credentials that a route accepts.
func (t *teller) wanted(r *policy.Route) string {
	var list []string
	for _, e := range t.entries() {
		if !accepts(r, e.Name) {
			continue
		}
		for _, p := range e.Places {
			list = append(list, p.String())
		}
	}
	if len(list) == 0 {
		return "the route accepts none"
	}
	return strings.Join(list, ", or ")
}

func (t *teller) entries() []*authn.Entry {
	if t.config.Set == nil {
		return nil
	}
	return t.config.Set.Entries()
}

func accepts(r *policy.Route, name string) bool {
	return r == nil || r.Accept == nil || slices.Contains(r.Accept, name)
}

// seen asks each authenticator by itself what it makes of the request. Those that would
// have to ask somebody else, or hash a password, are asked only through the gate: a
// credential is not shown to anybody just to explain.
func (t *teller) seen(ctx context.Context, route *policy.Route) []Seen {
	var list []Seen
	for _, e := range t.entries() {
		s := Seen{Name: e.Name, Kind: e.Kind.String(), Consulted: route != nil && accepts(route, e.Name), Saw: "not asked"}
		s.Decided = t.record.Authenticator == e.Name
		// Of a single entry the local ones remain; see AcceptPublic.
		accept, err := t.config.Set.AcceptPublic([]string{e.Name}, nil)
		if err == nil {
			in := &authn.Input{Request: t.request, Now: t.now, Body: t.call.Body, BodyPartial: t.call.BodyPartial}
			switch got := t.config.Set.Authenticate(ctx, accept, in); {
			case got.Identity != nil:
				s.Saw, s.Place = "verified", got.Place.String()
			case got.Entry != nil || got.Reason != policy.ReasonNoCredential:
				s.Saw = got.Reason.String()
				if got.Place != (authn.Place{}) {
					s.Place = got.Place.String()
				}
			case isLocal(e.Kind):
				s.Saw = policy.ReasonNoCredential.String()
			}
		}
		if s.Decided {
			if t.record.Decision.Principal != nil {
				s.Saw = "verified"
			} else if s.Saw == "not asked" {
				s.Saw = t.record.Decision.Reason.String()
			}
		}
		list = append(list, s)
	}
	return list
}

// isLocal are the kinds that a public route looks at without being told.
func isLocal(k authn.Kind) bool {
	return k == authn.KindJWT || k == authn.KindAPIKey || k == authn.KindPeer || k == authn.KindMTLS
}
