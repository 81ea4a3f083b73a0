package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// LookupOptions say whom a [Lookup] asks and what it makes of the answer.
type LookupOptions struct {
	URL             string            // asked with GET; `{token}` is the credential, percent-encoded
	Headers         map[string]string // values may hold `{token}`, the credential as it is
	RefusedStatuses []int             // that refuse the credential; empty: 401 and 403
	CacheFor        time.Duration     // of an answer; 0: not kept
	Mapping         *Mapping
	Remote          RemoteOptions
}

// Lookup verifies credentials by asking a remote "who am I" endpoint.
type Lookup struct {
	*provider
	options           LookupOptions
	inPath, inHeaders bool // where the credential goes; in the query it needs no second look
}

const tokenReference = "{token}"

// NewLookup checks options.
func NewLookup(options LookupOptions) (*Lookup, error) {
	u, err := parseRemoteURL(strings.ReplaceAll(options.URL, tokenReference, "token"))
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	inURL := strings.Contains(options.URL, tokenReference)
	if before, _, _ := strings.Cut(options.URL, tokenReference); inURL && len(before) < len(u.Scheme)+len("://")+len(u.Host)+len("/") {
		return nil, fmt.Errorf("url: %s may stand in the path and the query only", tokenReference)
	}
	inHeaders := false
	for name, value := range options.Headers {
		if !isToken(name) || equalFold(name, "host") {
			return nil, fmt.Errorf("headers: %q cannot be set", name)
		}
		inHeaders = inHeaders || strings.Contains(value, tokenReference)
	}
	switch {
	case !inURL && !inHeaders:
		return nil, fmt.Errorf("neither the url nor a header holds %s, so that any credential would do", tokenReference)
	case options.Mapping == nil:
		return nil, errors.New("a mapping is needed")
	}
	if len(options.RefusedStatuses) == 0 {
		options.RefusedStatuses = []int{http.StatusUnauthorized, http.StatusForbidden}
	}
	for _, status := range options.RefusedStatuses {
		if status < 400 || status > 499 {
			return nil, fmt.Errorf("refused_statuses: %d is not a client's mistake", status)
		}
	}
	r, err := newProvider(options.Remote)
	if err != nil {
		return nil, err
	}
	path, _, _ := strings.Cut(options.URL, "?")
	return &Lookup{provider: r, options: options, inPath: strings.Contains(path, tokenReference), inHeaders: inHeaders}, nil
}

// Authenticate implements [Authenticator]. Only status 200 with a JSON object is an
// answer; a status that refuses is [policy.ReasonProviderRefused], and anything else an
// outage. A credential that would lead to another path, or that no header can hold, is
// [policy.ReasonCredentialMalformed], and nobody is asked.
func (l *Lookup) Authenticate(ctx context.Context, in *Input) Result {
	key := l.provider.options.CacheKeys.Key(in.Value)
	if result, ok := l.known(key, in.Now); ok {
		return result
	}
	if in.Local {
		return Refuse(policy.ReasonProviderUnavailable, errLocal)
	}
	if !l.sendable(in.Value) {
		return Refuse(policy.ReasonCredentialMalformed, errUnsendable)
	}
	credential, now := in.Value, in.Now
	return l.ask(ctx, key, now, func(ctx context.Context) verdict { return l.question(ctx, credential, now) })
}

func (l *Lookup) question(ctx context.Context, credential string, now time.Time) verdict {
	address := strings.ReplaceAll(l.options.URL, tokenReference, percentEncode(credential))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return unavailable(errors.New("looking up: the URL cannot be made with this credential"))
	}
	for name, value := range l.options.Headers {
		request.Header.Set(name, strings.ReplaceAll(value, tokenReference, credential))
	}
	answer, err := l.do(request)
	switch {
	case err != nil:
		return unavailable(fmt.Errorf("looking up: %w", err))
	case slices.Contains(l.options.RefusedStatuses, answer.status):
		return refused(policy.ReasonProviderRefused, fmt.Errorf("looking up: status %d", answer.status))
	case answer.status != http.StatusOK:
		return unavailable(fmt.Errorf("looking up: status %d", answer.status))
	}
	document, err := DecodeObject(answer.body)
	if err != nil {
		return unavailable(fmt.Errorf("looking up: %w", err))
	}
	return l.identify(document, now)
}

var errUnsendable = errors.New("the credential cannot be sent, or would change what is asked")

// sendable tells whether a credential may be put where the URL and the headers want it. In
// a path it must not lead elsewhere: `..` is a segment that escaping leaves as it is, and
// servers that decode twice, or take an escaped slash for one, would find more of them.
func (l *Lookup) sendable(credential string) bool {
	if l.inPath && hasDotSegment(credential) {
		return false
	}
	return !l.inHeaders || !strings.ContainsFunc(credential, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// maxDecodings is how often a server, its proxies and its framework are supposed to
// decode a path among them.
const maxDecodings = 3

// hasDotSegment tells whether text has a part that is `.` or `..`, however often it is
// decoded, and whatever ends a segment there.
func hasDotSegment(text string) bool {
	for range maxDecodings {
		for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(`/\;?#`, r) }) {
			if part == "." || part == ".." {
				return true
			}
		}
		decoded, err := url.PathUnescape(text)
		if err != nil || decoded == text {
			return false
		}
		text = decoded
	}
	return true // nobody's tokens are escaped that often
}

// Identify gives what comes of claims as if the endpoint had answered with them. It is
// for tests of a configuration.
func (l *Lookup) Identify(claims Claims) Result { return l.identify(claims, time.Time{}).Result }

func (l *Lookup) identify(claims Claims, now time.Time) verdict {
	principal, reason, err := l.options.Mapping.Principal(claims)
	if err != nil {
		return refused(reason, err)
	}
	if err := named(principal); err != nil {
		return refused(policy.ReasonClaimMissing, err)
	}
	return kept(&Identity{Principal: principal}, now, l.options.CacheFor)
}

// percentEncode escapes everything but unreserved characters (RFC 3986 §2.3), which is
// right in a path segment and in a query.
func percentEncode(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
