package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	testv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/test/v1"
)

// A Run is a suite and what the configuration said to it.
type Run struct {
	Suite   *Suite
	Loaded  *config.Loaded
	Results []Result // by test
	Elapsed time.Duration

	claims []exercised // mappings that tests have used
}

// A Result is what came of one test.
type Result struct {
	Test        *Test
	Answer      Answer
	Differences []Difference // none: the test passes
	Elapsed     time.Duration

	caller *policy.Principal // who makes the request, if the test says so and it is verified
}

// A Difference is one thing that is not as wanted.
type Difference struct{ What, Want, Got string }

// Passed tells whether everything is as wanted.
func (r *Result) Passed() bool { return len(r.Differences) == 0 }

// Failed counts the tests that did not pass.
func (r *Run) Failed() int {
	n := 0
	for i := range r.Results {
		if !r.Results[i].Passed() {
			n++
		}
	}
	return n
}

// caller is who makes a test's request.
type caller struct {
	authenticator string // "": whoever the credentials in the request say
	index         int    // in the results; -1: nobody
}

// HasCredentials tells whether some test presents a credential of its own, for which an
// issuer's keys may be needed.
func (s *Suite) HasCredentials(c *extauthz.Config) bool {
	for i := range s.Tests {
		if s.Tests[i].hasCredential(c) {
			return true
		}
	}
	return false
}

func (t *Test) hasCredential(c *extauthz.Config) bool {
	if t.Given != nil || c.Set == nil {
		return false
	}
	if t.Call.SourcePrincipal != "" {
		return true
	}
	for _, p := range c.Set.Places() {
		for _, h := range t.Call.Headers {
			if p.Kind == authn.InHeader && h.Name == p.Name || p.Kind == authn.InCookie && h.Name == "cookie" {
				return true
			}
		}
		if p.Kind == authn.InQuery && strings.Contains(t.Call.Target, p.Name+"=") {
			return true
		}
	}
	return false
}

// Run decides every test of the suite by loaded, several at a time. Callers that
// the configuration cannot have are in the report, and then there is no Run.
func (s *Suite) Run(ctx context.Context, loaded *config.Loaded, now time.Time) (*Run, *config.Report, error) {
	if !s.Now.IsZero() {
		now = s.Now
	}
	clock := func() time.Time { return now }
	run := &Run{Suite: s, Loaded: loaded, Results: make([]Result, len(s.Tests))}
	callers := make([]caller, len(s.Tests))
	principals := make([]*policy.Principal, len(s.Tests))
	var results []authn.Result
	for i := range s.Tests {
		callers[i] = caller{index: -1}
		given := s.Tests[i].Given
		if given == nil {
			continue
		}
		if result, name, ok := s.identify(loaded, given); ok {
			callers[i] = caller{name, len(results)}
			results = append(results, result)
			if result.Identity != nil {
				p := result.Identity.Principal
				principals[i] = loaded.Gate.Grants.Apply(loaded.Gate.Tenancy.Resolve(*p, p.Wildcard))
			}
			if given.GetClaims() != nil && result.Identity != nil {
				run.claims = append(run.claims, exercised{name, result.Identity.Principal})
			}
		}
	}
	if report := s.document.Report(); !report.OK() {
		return nil, report, nil
	}
	standIn, err := NewAsker(loaded.Gate, results, clock)
	if err != nil {
		return nil, nil, err
	}
	began := time.Now()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(s.Tests)) {
		workers.Go(func() {
			plain, standIn := NewPlainAsker(loaded.Snapshot, clock), standIn.Clone(clock)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(s.Tests) || ctx.Err() != nil {
					return
				}
				asker := standIn
				if callers[i].authenticator == "" && s.Tests[i].hasCredential(loaded.Gate) {
					asker = plain
				}
				began := time.Now()
				answer := asker.Ask(ctx, s.Tests[i].Call, callers[i].authenticator, callers[i].index)
				run.Results[i] = Result{&s.Tests[i], answer, s.Tests[i].Want.compare(&answer), time.Since(began), principals[i]}
			}
		})
	}
	workers.Wait()
	run.Elapsed = time.Since(began)
	return run, s.document.Report(), ctx.Err()
}

// identify gives what an authenticator of the configuration would make of a caller.
func (s *Suite) identify(loaded *config.Loaded, c *testv1.Caller) (authn.Result, string, bool) {
	var names []string
	if loaded.Gate.Set != nil {
		for _, e := range loaded.Gate.Set.Entries() {
			names = append(names, e.Name)
		}
	}
	name := c.GetAuthenticator()
	switch {
	case len(names) == 0:
		s.document.Errorf(s.document.At(c, ""), "remove the caller", "the configuration has no authenticators, so that nobody can be verified")
		return authn.Result{}, "", false
	case name == "" && len(names) > 1:
		s.document.Errorf(s.document.At(c, ""), "add authenticator: one of "+strings.Join(names, ", "), "the caller does not say who vouches for it")
		return authn.Result{}, "", false
	case name == "":
		name = names[0]
	case !slices.Contains(names, name):
		s.document.Unknown(s.document.At(c, "authenticator"), "authenticator", name, names)
		return authn.Result{}, "", false
	}
	entry := loaded.Gate.Set.Entry(name)
	if c.GetClaims() == nil {
		return authn.Result{Identity: &authn.Identity{Principal: principal(c, entry, loaded.Gate.Tenancy)}}, name, true
	}
	mapper, ok := entry.Authenticator.(interface {
		Identify(authn.Claims) authn.Result
	})
	if !ok {
		s.document.Errorf(s.document.At(c, "claims"), "write the principal out: subject, tenant, roles", "authenticator %q maps no claims: it is of kind %s", name, entry.Kind)
		return authn.Result{}, "", false
	}
	claims, err := decodeClaims(c)
	if err != nil {
		s.document.Errorf(s.document.At(c, "claims"), "write what JSON can hold", "the claims cannot be read: %v", err)
		return authn.Result{}, "", false
	}
	return mapper.Identify(claims), name, true
}

// decodeClaims gives the claims as a token's are read: numbers as they are written.
func decodeClaims(c *testv1.Caller) (authn.Claims, error) {
	text, err := json.Marshal(c.GetClaims().AsMap())
	if err != nil {
		return nil, err
	}
	claims := authn.Claims{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return claims, d.Decode(&claims)
}

// principal is a caller as it is written out.
func principal(c *testv1.Caller, e *authn.Entry, t *policy.Tenancy) *policy.Principal {
	p := &policy.Principal{
		Authenticator: e.Name, Realm: e.Realm, Issuer: c.GetIssuer(), Subject: c.GetSubject(), Username: c.GetUsername(),
		TokenID: c.GetTokenId(), Tenant: c.GetTenant(), Roles: c.GetRoles(), Scopes: c.GetScopes(), Unscoped: c.GetUnscoped(),
	}
	p.Wildcard = t != nil && t.Wildcard != "" && p.Tenant == t.Wildcard
	for name, values := range c.GetAttributes() {
		if p.Attributes == nil {
			p.Attributes = map[string]policy.Attribute{}
		}
		p.Attributes[name] = policy.Attribute{Values: values.GetValues(), List: values.GetList()}
	}
	return p
}

// compare lists what of an answer is not as wanted.
func (w *Want) compare(a *Answer) []Difference {
	var list []Difference
	check := func(what, want, got string) {
		if want != got {
			list = append(list, Difference{what, want, got})
		}
	}
	d := &a.Decision
	check("outcome", w.Outcome.String(), d.Outcome.String())
	if w.IsReason || len(list) > 0 {
		want := w.Reason.String()
		if !w.IsReason {
			want = ""
		}
		check("reason", want, d.Reason.String())
	}
	if w.Route != "" {
		check("route", w.Route, routeName(d))
	}
	if w.Status != 0 {
		check("status", strconv.Itoa(w.Status), strconv.Itoa(a.Status))
	}
	if d.Outcome != policy.Allowed {
		return list // nothing reaches an upstream
	}
	for _, h := range w.Set {
		i := slices.IndexFunc(a.Set, func(got policy.Pair) bool { return got.Name == h.Name })
		if i < 0 {
			list = append(list, Difference{"header " + h.Name, strconv.Quote(h.Value), "not set"})
			continue
		}
		check("header "+h.Name, strconv.Quote(h.Value), strconv.Quote(a.Set[i].Value))
	}
	for _, name := range w.Removed {
		if slices.Contains(a.Removed, name) {
			continue
		}
		got := "left as the client sent it"
		if i := slices.IndexFunc(a.Set, func(got policy.Pair) bool { return got.Name == name }); i >= 0 {
			got = strconv.Quote(a.Set[i].Value)
		}
		list = append(list, Difference{"header " + name, "removed", got})
	}
	return list
}

func routeName(d *policy.Decision) string {
	if d.Route == nil {
		return noRoute
	}
	return d.Route.Name
}

// Because says why the answer is what it is: each unmet condition with its place.
func (a *Answer) Because() []string {
	var list []string
	unmet := a.Decision.Unmet()
	for i := range unmet {
		list = append(list, fmt.Sprintf("%s: %s", unmet[i], unmet[i].At))
	}
	if a.Detail != nil && !errors.Is(a.Detail, context.Canceled) {
		list = append(list, a.Detail.Error())
	}
	if len(list) == 0 && a.Decision.At.Line > 0 {
		list = append(list, "decided by "+a.Decision.At.String())
	}
	return list
}
