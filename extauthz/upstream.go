package extauthz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A profile is a [Forward], prepared.
type profile struct {
	*Forward
	why    takenName // reasons for which headers are removed here
	always []string  // removed of every request unless set, sorted

	perRequest bool // a header refers to the request
	perHost    bool // the token's audience does

	nobody *upstream // of requests without a principal; nil where perRequest

	mu       sync.Mutex
	removals map[string]*removal // by the names that are set, joined
}

// maxRemovals is how many combinations of set headers a profile keeps the removals
// of. Which headers are set depends on what a principal has; few combinations occur.
const maxRemovals = 64

// A removal is a list of headers to remove, shared by many answers.
type removal struct {
	names []string
	wire  []byte // as fields of an OkHttpResponse
}

func newProfile(f *Forward, t *taken) *profile {
	p := &profile{Forward: f, why: owned | selection, removals: make(map[string]*removal)}
	if f.Credentials != Pass {
		p.why |= credential
	}
	if !f.KeepOverrides {
		p.why |= override
	}
	p.always = t.removals(p.why)
	for i := range f.Headers {
		if f.Headers[i].Value.Uses(policy.RefPath | policy.RefContext | policy.RefQuery | policy.RefHost) {
			p.perRequest = true
		}
	}
	p.perHost = f.Token != nil && strings.Contains(f.Token.Audience, hostReference)
	return p
}

// hostReference stands for the request's host, in audiences and sign-in URLs.
const hostReference = "{host}"

// An upstream is which headers one principal's requests have when they go on through
// one profile: what is set and what is removed are disjoint, because Envoy removes
// last. It is immutable.
type upstream struct {
	profile *profile
	kept    keptCredential
	host    string    // in the token's audience
	until   time.Time // when the token wants to be replaced; zero: never

	set     []policy.Pair // each name once, by name
	setWire string        // as fields of an OkHttpResponse; the values in set are pieces of it
	removal *removal

	reason policy.Reason // if it cannot be: why the request is refused instead
	detail error
}

// A keptCredential is the verified credential that a request goes on with. The zero
// value is none.
type keptCredential struct {
	header     string // its name
	scheme     string // before the credential; "" for none
	credential string
}

func (k keptCredential) value() string { return authn.Place{Scheme: k.scheme}.Header(k.credential) }

// fits tells whether u holds for another request of the same principal.
func (u *upstream) fits(p *profile, kept keptCredential, host string, now time.Time) bool {
	return u.profile == p && u.kept == kept && (!p.perHost || u.host == host) && (u.until.IsZero() || now.Before(u.until))
}

var errHeaderControl = errors.New("the credential cannot be put back into a header")

// upstream makes what a request is sent on with. who is nil, or has no authenticator,
// where nobody was verified: then nothing is kept or minted. reuse tells whether it
// holds for further requests of the same principal.
func (p *profile) upstream(who *policy.Principal, kept keptCredential, r *policy.Request, m policy.Match, now time.Time) (u *upstream, reuse bool) {
	u = &upstream{profile: p}
	reuse = !p.perRequest
	if kept.credential != "" {
		value := kept.value()
		if !isVisible(value) {
			return p.refused(policy.ReasonInvalidIdentity, errHeaderControl), reuse
		}
		u.put(kept.header, value)
		// The request's own text is not held on to.
		u.kept = keptCredential{strings.Clone(kept.header), strings.Clone(kept.scheme), value[len(value)-len(kept.credential):]}
	}
	size := 0
	for i := range p.Headers {
		h := &p.Headers[i]
		value, err := h.value(r, m, who)
		if err != nil {
			return p.refused(policy.ReasonInvalidIdentity, fmt.Errorf("header %s: %w", h.Name, err)), reuse
		}
		if len(value) > maxValueBytes {
			return p.refused(policy.ReasonIdentityTooLarge, fmt.Errorf("header %s: %w", h.Name, errTooLarge)), reuse
		}
		if value != "" {
			u.put(h.Name, value)
			size += len(value)
		}
	}
	if size > maxIdentityBytes {
		return p.refused(policy.ReasonIdentityTooLarge, errTooLarge), reuse
	}
	if t := p.Token; t != nil && who != nil && who.Authenticator != "" {
		u.host = strings.Clone(r.Host) // not the whole message with it
		audience := strings.ReplaceAll(t.Audience, hostReference, r.Host)
		token, err := t.Minter.Mint(who, r, audience, t.TTL, now)
		switch {
		case errors.Is(err, mint.ErrExpired):
			return p.refused(policy.ReasonExpired, err), false
		case errors.Is(err, mint.ErrNoKeys):
			return p.refused(policy.ReasonStoreUnavailable, err), false
		case err != nil:
			return p.refused(policy.ReasonInternal, err), false
		}
		u.put(t.Header, authn.Place{Scheme: t.Scheme}.Header(token.Text))
		u.until = token.Reuse
		reuse = reuse && !token.Reuse.IsZero()
	}
	slices.SortFunc(u.set, func(a, b policy.Pair) int { return strings.Compare(a.Name, b.Name) })
	u.write()
	u.removal = p.removalOf(u.set)
	return u, reuse
}

// write makes setWire of set. What the values were before need not be kept: there is one
// upstream to each principal at least, and a token may be among the values.
func (u *upstream) write() {
	u.setWire = string(appendHeaders(nil, okHeaders, u.set))
	rest := u.setWire
	for i := range u.set {
		h := &u.set[i]
		rest = rest[strings.Index(rest, h.Name)+len(h.Name):]
		at := strings.Index(rest, h.Value)
		if kept := &u.kept; kept.credential != "" && h.Name == kept.header {
			kept.credential = rest[at+len(h.Value)-len(kept.credential) : at+len(h.Value)]
		}
		h.Value, rest = rest[at:at+len(h.Value)], rest[at+len(h.Value):]
	}
}

func (p *profile) refused(reason policy.Reason, detail error) *upstream {
	return &upstream{profile: p, reason: reason, detail: detail, removal: p.removalOf(nil)}
}

// put sets a header; the last value of a name counts, as with Envoy.
func (u *upstream) put(name, value string) {
	for i := range u.set {
		if u.set[i].Name == name {
			u.set[i].Value = value
			return
		}
	}
	u.set = append(u.set, policy.Pair{Name: name, Value: value})
}

// removalOf gives what is removed beside set.
func (p *profile) removalOf(set []policy.Pair) *removal {
	var key strings.Builder
	for i := range set {
		key.WriteString(set[i].Name)
		key.WriteByte(',')
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.removals[key.String()]; r != nil {
		return r
	}
	r := &removal{}
	for _, name := range p.always {
		if !slices.ContainsFunc(set, func(h policy.Pair) bool { return h.Name == name }) {
			r.names = append(r.names, name)
		}
	}
	r.wire = appendTexts(nil, okRemove, r.names)
	if len(p.removals) < maxRemovals {
		p.removals[key.String()] = r
	}
	return r
}

// value gives the encoded value of an identity header, "" if it has none.
func (h *Header) value(r *policy.Request, m policy.Match, who *policy.Principal) (string, error) {
	parts, ok := h.Value.Expand(r, m, who)
	if !ok {
		return "", nil
	}
	var b []byte
	var err error
	for _, part := range parts {
		switch {
		case part.List && h.JSON:
			b, err = appendJSONList(b, part.Items)
		case part.List:
			b, err = appendList(b, part.Items)
		case part.Literal:
			b, err = appendLiteral(b, part.Text)
		case h.JSON && len(parts) == 1:
			b, err = appendJSONList(b, []string{part.Text})
		default:
			b, err = appendText(b, part.Text)
		}
		if err != nil {
			return "", err
		}
		if len(b) > maxValueBytes {
			break // it is too large already
		}
	}
	return string(b), nil
}

// isVisible tells whether s can be a header value as it is.
func isVisible(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
