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

// A removal is a list of headers to remove, shared by the many answers of one profile
// that set the same headers.
type removal struct {
	profile *profile
	names   []string
	wire    []byte // as fields of an OkHttpResponse
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
// last. It is immutable. There is one to each cached credential at least, so it holds
// little: the headers once, as they are written.
type upstream struct {
	removal *removal
	setWire string   // as fields of an OkHttpResponse: each name once, by name
	binding *binding // nil: it holds for every request of the principal
	refusal *unfit   // nil: it goes on
}

// A binding is what a request has to have in common with the one that an upstream was
// made for.
type binding struct {
	kept  keptCredential
	host  string    // in the token's audience
	until time.Time // when the token wants to be replaced; zero: never
}

// unfit is why a request is refused although it is allowed: it cannot go on.
type unfit struct {
	reason policy.Reason
	detail error
}

// set gives the headers that are set.
func (u *upstream) set() []policy.Pair { return readHeaders(u.setWire, okHeaders) }

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
	if u.removal.profile != p {
		return false
	}
	b := u.binding
	if b == nil {
		return kept == keptCredential{} && (!p.perHost || host == "")
	}
	return b.kept == kept && (!p.perHost || b.host == host) && !b.over(now)
}

// over tells whether no request can have in common what b asks for.
func (b *binding) over(now time.Time) bool {
	return b != nil && !b.until.IsZero() && !now.Before(b.until)
}

var errHeaderControl = errors.New("the credential cannot be put back into a header")

// upstream makes what a request is sent on with. who is nil, or has no authenticator,
// where nobody was verified: then nothing is kept or minted. reuse tells whether it
// holds for further requests of the same principal.
func (p *profile) upstream(who *policy.Principal, kept keptCredential, r *policy.Request, m policy.Match, now time.Time) (u *upstream, reuse bool) {
	reuse = !p.perRequest
	var few [8]policy.Pair // that need no allocation, nor has text, where they are short
	set, text := few[:0], make([]byte, 0, 512)
	var bound binding
	if kept.credential != "" {
		value := kept.value()
		if !isVisible(value) {
			return p.refused(policy.ReasonInvalidIdentity, errHeaderControl), reuse
		}
		set = put(set, kept.header, value)
		// The request's own text is not held on to.
		bound.kept = keptCredential{strings.Clone(kept.header), strings.Clone(kept.scheme), value[len(value)-len(kept.credential):]}
	}
	size := 0
	for i := range p.Headers {
		h := &p.Headers[i]
		value, err := h.value(text, r, m, who)
		if err != nil {
			return p.refused(policy.ReasonInvalidIdentity, fmt.Errorf("header %s: %w", h.Name, err)), reuse
		}
		if len(value) > maxValueBytes {
			return p.refused(policy.ReasonIdentityTooLarge, fmt.Errorf("header %s: %w", h.Name, errTooLarge)), reuse
		}
		if value != "" {
			set = put(set, h.Name, value)
			size += len(value)
		}
	}
	if size > maxIdentityBytes {
		return p.refused(policy.ReasonIdentityTooLarge, errTooLarge), reuse
	}
	if t := p.Token; t != nil && who != nil && who.Authenticator != "" {
		bound.host = strings.Clone(r.Host) // not the whole message with it
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
		set = put(set, t.Header, authn.Place{Scheme: t.Scheme}.Header(token.Text))
		bound.until = token.Reuse
		reuse = reuse && !token.Reuse.IsZero()
	}
	slices.SortFunc(set, func(a, b policy.Pair) int { return strings.Compare(a.Name, b.Name) })
	u = &upstream{removal: p.removalOf(set), setWire: string(appendHeaders(text, okHeaders, set))}
	if bound != (binding{}) {
		bound.kept.within(u.setWire)
		u.binding = &bound
	}
	return u, reuse
}

// within makes the credential a piece of wire, in which it is, so that it is held once. Where
// another header took its place it is a copy.
func (k *keptCredential) within(wire string) {
	if at := strings.Index(wire, k.credential); at >= 0 {
		k.credential = wire[at : at+len(k.credential)]
		return
	}
	k.credential = strings.Clone(k.credential)
}

func (p *profile) refused(reason policy.Reason, detail error) *upstream {
	return &upstream{removal: p.removalOf(nil), refusal: &unfit{reason, detail}}
}

// put sets a header; the last value of a name counts, as with Envoy.
func put(set []policy.Pair, name, value string) []policy.Pair {
	for i := range set {
		if set[i].Name == name {
			set[i].Value = value
			return set
		}
	}
	return append(set, policy.Pair{Name: name, Value: value})
}

// removalOf gives what is removed beside set.
func (p *profile) removalOf(set []policy.Pair) *removal {
	var few [256]byte
	key := few[:0]
	for i := range set {
		key = append(append(key, set[i].Name...), ',')
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.removals[string(key)]; r != nil {
		return r
	}
	r := &removal{profile: p}
	for _, name := range p.always {
		if !slices.ContainsFunc(set, func(h policy.Pair) bool { return h.Name == name }) {
			r.names = append(r.names, name)
		}
	}
	r.wire = appendTexts(nil, okRemove, r.names)
	if len(p.removals) < maxRemovals {
		p.removals[string(key)] = r
	}
	return r
}

// value gives the encoded value of an identity header, "" if it has none. It is written to
// the memory of b first.
func (h *Header) value(b []byte, r *policy.Request, m policy.Match, who *policy.Principal) (string, error) {
	var few [4]policy.Value
	parts, ok := h.Value.AppendValues(few[:0], r, m, who)
	if !ok {
		return "", nil
	}
	b = b[:0]
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
