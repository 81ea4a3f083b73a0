package extauthz

import (
	"net/netip"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Call is what a door was asked, as it was received: [Gate.Check] makes a
// [policy.Request] of it, or refuses it as malformed.
type Call struct {
	Door Door

	// Undecodable is set when the message itself could not be read. TooLarge is set
	// when it has more headers than the limits of the decoder allow.
	Undecodable bool
	TooLarge    bool

	// Untrusted is set when forward-auth was asked by somebody who may not.
	Untrusted bool

	HTTP   bool // it has an HTTP part; Envoy's network filter sends none
	Method string
	Host   string // with its port, if any
	Target string // path and query
	Scheme string

	// Headers have lower-case names, without pseudo headers. Envoy joins the values
	// of repeated ones with a comma, or lists them one by one (encode_raw_headers).
	Headers []policy.Pair
	Context []policy.Pair // context_extensions

	Source          netip.Addr // the connection's peer; zero if it is not an IP address
	SourcePrincipal string     // of the peer's certificate

	Body        []byte
	BodyPartial bool // Body is not all of it
}

// maxHeaders is how many headers, and context extensions, one request may have.
// Envoy's default is 100.
const maxHeaders = 1024

// The header by which Envoy tells that it buffered a part of the body only.
const partialBodyHeader = "x-envoy-auth-partial-body"

// parts is what both decoders read from a CheckRequest, before anything is made of it.
type parts struct {
	http                                        bool
	method, host, path, query, fragment, scheme string
	size                                        int64
	body                                        string
	rawBody                                     []byte
	sourceAddress, sourcePrincipal              string
	headers, rawHeaders, context                []policy.Pair
}

// call makes a Call of parts, reusing c's memory.
func (p *parts) call(c *Call) {
	c.HTTP = p.http
	c.Context = p.context
	c.TooLarge = len(p.headers) > maxHeaders || len(p.rawHeaders) > maxHeaders || len(p.context) > maxHeaders
	c.SourcePrincipal = p.sourcePrincipal
	if addr, err := netip.ParseAddr(p.sourceAddress); err == nil {
		c.Source = addr.Unmap().WithZone("")
	}
	if !p.http {
		return
	}
	c.Method, c.Host, c.Scheme = p.method, p.host, p.scheme
	c.Target = p.target()
	c.setHeaders(p.headers, p.rawHeaders)
	c.Body = p.rawBody
	if len(c.Body) == 0 && p.body != "" {
		c.Body = []byte(p.body)
	}
	if p.size > int64(len(c.Body)) {
		c.BodyPartial = true
	}
	for i := range c.Headers {
		if c.Headers[i].Name == partialBodyHeader && c.Headers[i].Value == "true" {
			c.BodyPartial = true
		}
	}
}

// target is the request target. Envoy sends the query with the path; whoever sends
// them apart is understood, and whoever sends two queries or a fragment is left with
// a target that is not canonical.
func (p *parts) target() string {
	if p.query == "" && p.fragment == "" {
		return p.path
	}
	target := p.path
	if p.query != "" {
		if _, query, ok := strings.Cut(target, "?"); !ok {
			target += "?" + p.query
		} else if query != p.query {
			return target + "#" // two queries: refused like a fragment
		}
	}
	if p.fragment != "" {
		target += "#" + p.fragment
	}
	return target
}

// setHeaders keeps the headers without pseudo headers, in lower case. The slices
// are reused.
func (c *Call) setHeaders(headers, raw []policy.Pair) {
	kept := headers[:0]
	for _, list := range [...][]policy.Pair{headers, raw} {
		for _, h := range list {
			if h.Name == "" || h.Name[0] == ':' {
				continue
			}
			kept = append(kept, policy.Pair{Name: lowerName(h.Name), Value: h.Value})
		}
	}
	c.Headers = kept
}

// lowerName is name in lower case; Envoy sends no other.
func lowerName(name string) string {
	for i := 0; i < len(name); i++ {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return strings.ToLower(name)
		}
	}
	return name
}
