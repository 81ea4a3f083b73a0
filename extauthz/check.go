package extauthz

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// check is the walk of one request: decode, match, authenticate, decide, and what the
// answer is made of.
func (s *Snapshot) check(ctx context.Context, x *exchange, now time.Time, shadowAll bool) {
	upstream, rt := s.decision(ctx, x, now)
	a := &x.answer
	if a.Decision.Outcome == policy.Allowed && upstream == nil {
		// An allowed decision without anything to go on with is a mistake of ours.
		a.Decision = verdict(policy.ReasonInternal)
	}
	if upstream == nil && shadowAll && (a.Decision.Outcome == policy.Forbidden || a.Decision.Outcome == policy.Unauthenticated) {
		x.shadow = a.Decision
		x.record.Shadow = &x.shadow
		a.Decision.Outcome, a.Decision.Reason, a.Decision.Principal = policy.Allowed, policy.ReasonShadowed, nil
		a.principal = ""
		upstream = s.bare.nobody
		s.clear(x, s.bare, authn.Place{})
	}
	if upstream != nil && x.call.Door == Forwarded && len(a.query) > 0 {
		a.Decision.Outcome, a.Decision.Reason = policy.Forbidden, policy.ReasonCredentialStays
		upstream = nil // this door cannot take anything out of a query
	}
	if upstream != nil {
		a.upstream = upstream
		a.Status = http.StatusOK
		return
	}
	s.writeRefusal(x, rt)
}

// writeRefusal writes the answer to a request that does not go on.
func (s *Snapshot) writeRefusal(x *exchange, rt *route) {
	s.refuse(&x.answer, &refusal{
		route:     rt,
		request:   &x.request,
		client:    readClient(x.call.Headers),
		presented: &x.refused,
		retry:     x.refused.RetryAfter,
	})
}

// decision decides x.call. It gives what the request goes on with if it is allowed,
// else nil, and the route that covers it.
func (s *Snapshot) decision(ctx context.Context, x *exchange, now time.Time) (*upstream, *route) {
	a := &x.answer
	if reason, ok := s.read(x); !ok {
		x.request.Method = x.call.Method
		a.Decision = verdict(reason)
		return nil, nil
	}
	r := &x.request
	if r.TCP {
		return s.connection(ctx, x, now), nil
	}
	if m, ok := s.preflight(x); ok {
		a.Decision = verdict(policy.ReasonPreflight)
		a.Decision.Route, a.Decision.Pattern, a.Decision.At = m.Route, m.Pattern, m.Route.At
		s.clear(x, s.bare, authn.Place{})
		return s.bare.nobody, s.route(m.Route)
	}
	m := s.config.Table.Match(r)
	s.report(ctx, x, now)
	rt := s.route(m.Route)
	if rt == nil || m.Route.Forbid {
		a.Decision = m.Decide(nil, r)
		return nil, rt
	}
	return s.onRoute(ctx, x, m, rt, now), rt
}

// read makes the canonical request of x.call.
func (s *Snapshot) read(x *exchange) (policy.Reason, bool) {
	c := &x.call
	switch {
	case c.Untrusted:
		return policy.ReasonProxyUntrusted, false
	case c.Undecodable:
		return policy.ReasonRequestUndecodable, false
	case c.TooLarge || headerBytes(c.Headers) > s.limits.HeaderBytes:
		return policy.ReasonHeadersTooLarge, false
	}
	r := &x.request
	if c.HTTP {
		parsed, reason, ok := policy.ParseRequest(c.Method, c.Host, c.Target, s.config.Paths)
		if !ok {
			return reason, false
		}
		*r = parsed
	}
	r.TCP = !c.HTTP
	r.Scheme, r.Headers, r.Context = c.Scheme, c.Headers, c.Context
	r.Source, r.SourcePrincipal = c.Source, c.SourcePrincipal
	return policy.ReasonNone, true
}

func headerBytes(headers []policy.Pair) int {
	n := 0
	for i := range headers {
		n += len(headers[i].Name) + len(headers[i].Value)
	}
	return n
}

// onRoute authenticates and decides a request that rt covers.
func (s *Snapshot) onRoute(ctx context.Context, x *exchange, m policy.Match, rt *route, now time.Time) *upstream {
	a, r := &x.answer, &x.request
	found := s.authenticate(ctx, x, rt.accept, now)
	if found.Entry != nil {
		x.record.Authenticator = found.Entry.Name
	}
	if found.Identity == nil {
		if !m.Route.Public {
			a.Decision = refused(m, found.Reason)
			x.record.Detail, x.refused = found.Detail, found
			return nil
		}
		// What is not good on a public route counts as none.
		if found.Reason != policy.ReasonNoCredential {
			x.record.Ignored, x.record.Detail = found.Reason, found.Detail
		}
		a.Decision = m.Decide(nil, r)
		return s.goOn(x, m, rt, nil, authn.Answer{}, now)
	}
	d := s.derive(found.Identity)
	selected, reason, ok := s.config.Tenancy.Select(d.principal, s.selection(x, found.Entry))
	if !ok {
		a.Decision = refused(m, reason)
		a.Decision.Principal = d.principal
		return nil
	}
	if selected != d.principal {
		d = s.derivePrincipal(selected)
	}
	a.principal = d.kind.metadata
	a.Decision = m.Decide(d.principal, r)
	if a.Decision.Outcome != policy.Allowed {
		return nil
	}
	return s.goOn(x, m, rt, d, found, now)
}

func (s *Snapshot) authenticate(ctx context.Context, x *exchange, accept *authn.Accept, now time.Time) authn.Answer {
	if s.config.Set == nil || accept == nil {
		return authn.Answer{Result: authn.Refuse(policy.ReasonNoCredential, nil)}
	}
	x.input = authn.Input{
		Request: &x.request, Now: now,
		Authority: x.call.Host, Target: x.call.Target, Body: x.call.Body, BodyPartial: x.call.BodyPartial,
	}
	answer := s.config.Set.Authenticate(ctx, accept, &x.input)
	x.keep(x.input.Kept())
	return answer
}

// refused is the decision where the credential is the reason.
func refused(m policy.Match, reason policy.Reason) policy.Decision {
	if reason.Outcome() == policy.Allowed || reason == policy.ReasonNone {
		reason = policy.ReasonInternal
	}
	d := verdict(reason)
	d.Route, d.Pattern, d.At = m.Route, m.Pattern, m.Route.At
	return d
}

// goOn gives what an allowed request goes on with. d is nil without a principal.
func (s *Snapshot) goOn(x *exchange, m policy.Match, rt *route, d *derived, found authn.Answer, now time.Time) *upstream {
	p := rt.profile
	var kept keptCredential
	var place authn.Place
	if p.Credentials == Keep && d != nil {
		kept, place = keptOf(found)
	}
	var u *upstream
	switch {
	case d != nil:
		u = d.upstream(p, kept, &x.request, m, now)
	case p.nobody != nil:
		u = p.nobody
	default:
		u, _ = p.upstream(s.anonymous, keptCredential{}, &x.request, m, now)
	}
	if not := u.refusal; not != nil {
		a := &x.answer
		a.Decision.Outcome, a.Decision.Reason = not.reason.Outcome(), not.reason
		x.record.Detail = not.detail
		return nil
	}
	s.clear(x, p, place)
	return u
}

// keptOf is the credential that was verified: as a header, or by its place. Nothing
// else goes on.
func keptOf(found authn.Answer) (keptCredential, authn.Place) {
	switch {
	case found.Identity.Upstream() != "":
		return keptCredential{header: "authorization", credential: found.Identity.Upstream()}, authn.Place{}
	case found.Credential != "" && found.Place.Kind == authn.InHeader:
		return keptCredential{header: found.Place.Name, scheme: found.Place.Scheme, credential: found.Credential}, found.Place
	}
	return keptCredential{}, found.Place
}

// clear finds what has to be removed of this request in particular: odd spellings of
// taken names, cookies and query parameters that are credentials. keep is left alone.
func (s *Snapshot) clear(x *exchange, p *profile, keep authn.Place) {
	a := &x.answer
	a.also = s.taken.oddSpellings(a.also[:0], x.call.Headers, p.why, p.always)
	if p.Credentials == Pass {
		return
	}
	cookies, queries := s.cookies, s.queries
	switch keep.Kind {
	case authn.InCookie:
		cookies = without(cookies, keep.Name)
	case authn.InQuery:
		queries = without(queries, keep.Name)
	}
	a.cookie, a.cookies = clearCookies(x.call.Headers, cookies)
	a.query = queryKeys(x.request.Query, queries)
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == one })
}

// selection reads the headers by which a caller selects a tenant or a user. One that
// is there twice asks for something that no selection can be.
func (s *Snapshot) selection(x *exchange, e *authn.Entry) policy.Selection {
	var want policy.Selection
	if s.config.SelectHeader != "" {
		want.Tenant = joined(x.call.Headers, s.config.SelectHeader)
	}
	if s.config.UsernameHeader != "" {
		want.Username = joined(x.call.Headers, s.config.UsernameHeader)
	}
	want.Impersonate = e != nil && e.Impersonate
	return want
}

// joined is the value of a header as Envoy joins repeated ones.
func joined(headers []policy.Pair, name string) string {
	value, n := "", 0
	for i := range headers {
		if headers[i].Name != name {
			continue
		}
		if n++; n > 1 {
			value += ","
		}
		value += headers[i].Value
	}
	return value
}

// preflight finds the route that a CORS preflight asks for, if that lets it pass.
func (s *Snapshot) preflight(x *exchange) (policy.Match, bool) {
	if x.request.Method != http.MethodOptions {
		return policy.Match{}, false
	}
	_, cors := x.request.Header("origin")
	method, asks := x.request.Header("access-control-request-method")
	if !cors || !asks || !isMethod(method) {
		return policy.Match{}, false
	}
	x.asked = x.request
	x.asked.Method = method
	m := s.config.Table.Match(&x.asked)
	return m, m.Route != nil && m.Route.Preflight && !m.Route.Forbid
}

func isMethod(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

// connection decides a Check without an HTTP part.
func (s *Snapshot) connection(ctx context.Context, x *exchange, now time.Time) *upstream {
	a := &x.answer
	a.Decision = verdict(policy.ReasonNotHTTP)
	if s.config.TCP == nil {
		return nil
	}
	named := [...]policy.Pair{{Name: policy.RouteName, Value: TCPRoute}}
	x.asked = x.request
	x.asked.TCP, x.asked.Context = false, named[:]
	m := s.config.TCP.Match(&x.asked)
	if m.Route == nil {
		return nil
	}
	a.Decision.Route, a.Decision.At = m.Route, m.Route.At
	found := s.authenticate(ctx, x, s.tcp, now)
	if found.Identity == nil {
		x.record.Detail = found.Detail
		if found.Reason.Outcome() == policy.Unavailable {
			a.Decision = refused(m, found.Reason)
		}
		return nil
	}
	x.record.Authenticator = found.Entry.Name
	d := s.derive(found.Identity)
	a.principal = d.kind.metadata
	decision := m.Decide(d.principal, &x.request)
	if decision.Outcome != policy.Allowed {
		decision.Reason = policy.ReasonNotHTTP
		a.Decision = decision
		return nil
	}
	a.Decision = decision
	return s.bare.nobody
}

// report finds out what a shadow route would have decided.
func (s *Snapshot) report(ctx context.Context, x *exchange, now time.Time) {
	m, ok := s.config.Table.MatchShadow(&x.request)
	if !ok {
		return
	}
	rt := s.route(m.Route)
	if rt == nil {
		return
	}
	x.record.Shadow = &x.shadow
	if m.Route.Forbid {
		x.shadow = m.Decide(nil, &x.request)
		return
	}
	found := s.authenticate(ctx, x, rt.accept, now)
	switch {
	case found.Identity != nil:
		d := s.derive(found.Identity)
		selected, reason, ok := s.config.Tenancy.Select(d.principal, s.selection(x, found.Entry))
		if !ok {
			x.shadow = refused(m, reason)
			return
		}
		x.shadow = m.Decide(selected, &x.request)
	case m.Route.Public:
		x.shadow = m.Decide(nil, &x.request)
	default:
		x.shadow = refused(m, found.Reason)
	}
}

// newID makes a decision's id. It only has to be unique.
func newID(id *[idLength]byte) {
	const digits = "0123456789abcdefghjkmnpqrstvwxyz"
	high, low := rand.Uint64(), rand.Uint64()
	for i := idLength - 1; i >= 0; i-- {
		id[i] = digits[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
}
