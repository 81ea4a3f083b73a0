package extauthz

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// DecisionHeader is the response header of a refusal by which the client, Envoy's
// access log and our log can be joined.
const DecisionHeader = "x-gatehouse-decision-id"

// defaultRetry is what clients are told to wait where nobody knows better: about the
// time in which a provider is asked again.
const defaultRetry = 5 * time.Second

// A refusal is what the answer to the client is made of: never the cause.
type refusal struct {
	route     *route // nil if none covers the request
	request   *policy.Request
	client    client
	presented *authn.Answer // the credential that was refused; nil if none was presented
	retry     time.Duration
}

// refuse writes the answer to the client into a, whose decision is made.
func (s *Snapshot) refuse(a *Answer, r *refusal) {
	d := &a.Decision
	switch d.Outcome {
	case policy.Unauthenticated:
		if location, ok := s.signInLocation(d, r); ok {
			a.Status = http.StatusFound
			a.header("location", location)
			a.closing()
			return
		}
		a.Status = http.StatusUnauthorized
		if r.route != nil && r.route.Answers.Unauthenticated != 0 {
			a.Status = r.route.Answers.Unauthenticated
		}
	case policy.Malformed:
		a.Status = http.StatusBadRequest
	case policy.Unavailable:
		a.Status = http.StatusServiceUnavailable
		retry := r.retry
		if retry <= 0 {
			retry = defaultRetry
		}
		a.header("retry-after", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	default:
		a.Status = http.StatusForbidden
		if r.route != nil && r.route.Answers.Forbidden != 0 {
			a.Status = r.route.Answers.Forbidden
		}
	}
	if challenge := s.challenge(a, r); challenge != "" {
		a.header("www-authenticate", challenge)
	}
	s.writeBody(a, r)
	a.closing()
}

// header sets a response header.
func (a *Answer) header(name, value string) {
	a.headers = append(a.headers, policy.Pair{Name: name, Value: value})
}

// closing adds what every refusal has.
func (a *Answer) closing() {
	a.header("cache-control", "no-store")
	a.header(DecisionHeader, a.ID)
}

// challenge gives the challenges of a 401, one per scheme and realm in the order of the
// authenticators that were consulted (RFC 9110 §11.6.1), joined in one header because
// not every proxy passes on more than the first. A Bearer challenge says what was wrong
// as far as RFC 6750 §3.1 names it; without a credential it says nothing (§3).
func (s *Snapshot) challenge(a *Answer, r *refusal) string {
	scopes := a.Status == http.StatusForbidden && a.Decision.Reason == policy.ReasonInsufficientScope
	if a.Status != http.StatusUnauthorized && !scopes {
		return ""
	}
	var b strings.Builder
	for _, c := range s.challenges(r.route) {
		bearer := strings.EqualFold(c.Scheme, "Bearer")
		if scopes && !bearer {
			continue
		}
		if scopes && a.Decision.Principal != nil && c.Realm != a.Decision.Principal.Realm {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.Scheme)
		b.WriteString(" realm=")
		writeQuoted(&b, c.Realm)
		switch {
		case scopes:
			b.WriteString(`, error="insufficient_scope"`)
			if wanted := wantedScopes(&a.Decision); wanted != "" {
				b.WriteString(", scope=")
				writeQuoted(&b, wanted)
			}
		case bearer && r.presentedBearer(c.Realm):
			b.WriteString(`, error="invalid_token"`)
		}
	}
	return b.String()
}

// presentedBearer tells whether a token of realm was refused, wherever it was.
func (r *refusal) presentedBearer(realm string) bool {
	p := r.presented
	return p != nil && p.Entry != nil && p.Entry.Realm == realm && (p.Place.Scheme == "" || strings.EqualFold(p.Place.Scheme, "Bearer"))
}

func (s *Snapshot) challenges(r *route) []authn.Challenge {
	if r == nil || r.accept == nil {
		return nil
	}
	return r.accept.Challenges()
}

// wantedScopes are the scopes that the smallest unmet requirement asks for, which
// RFC 6750 lets a client know.
func wantedScopes(d *policy.Decision) string {
	wanted := d.Scopes()
	for _, scope := range wanted {
		if !isScopeToken(scope) {
			return ""
		}
	}
	return strings.Join(wanted, " ")
}

// isScopeToken tells whether s can be in a scope attribute (RFC 6749 §3.3).
func isScopeToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// writeQuoted writes a quoted-string (RFC 9110 §5.6.4). What it cannot hold is a `?`.
func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
}

// signInLocation gives where a browser is sent to sign in, if it is. The host of the
// request is compared with the configured ones before it becomes part of anything.
func (s *Snapshot) signInLocation(d *policy.Decision, r *refusal) (string, bool) {
	if r.route == nil || !r.route.SignIn || d.Reason == policy.ReasonTenantNotSelectable {
		return "", false // signing in again would not change what the caller may select
	}
	entry := s.signIn[r.request.Host]
	if entry == nil {
		return "", false
	}
	if !r.client.looks(r.request.Method) && !(entry.Navigations && r.client.navigates(r.request.Method)) {
		return "", false
	}
	return entry.location(r.request), true
}

// location fills in the target.
func (e *SignIn) location(r *policy.Request) string {
	uri := r.Path
	if r.Query != "" {
		uri += "?" + r.Query
	}
	scheme := "https"
	if strings.EqualFold(r.Scheme, "http") {
		scheme = "http"
	}
	return strings.NewReplacer(
		hostReference, r.Host,
		"{request_uri}", encodeURIComponent(uri),
		"{url}", encodeURIComponent(scheme+"://"+r.Host+uri),
	).Replace(e.URL)
}

// encodeURIComponent is JavaScript's.
func encodeURIComponent(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+len(s)/2)
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.!~*'()", c) >= 0 {
			b = append(b, c)
			continue
		}
		b = append(b, '%', hex[c>>4], hex[c&15])
	}
	return string(b)
}
