package policy

import (
	"net/netip"
	"strings"
)

// A Request is what is asked, in its one canonical reading. Only [ParseRequest]
// makes one from the outside; everything after it may rely on the form.
type Request struct {
	Method string // an RFC 9110 token, case kept
	Host   string // lower case, no port, no trailing dot; IPv6 in brackets; "" if none
	Path   string // canonical and escaped, no trailing slash ("/" excepted); "" or "*" match nothing
	Query  string // what follows the first '?', as received
	Scheme string // http or https, as Envoy saw it

	Headers []Pair // lower-case names, as received
	Context []Pair // Envoy's context_extensions

	Source          netip.Addr // the connection's peer
	SourcePrincipal string     // of the peer's certificate: SPIFFE ID, other SAN or subject
	TCP             bool       // a Check without an HTTP part: Method, Host, Path are empty
}

// A Pair is a name and its value.
type Pair struct{ Name, Value string }

// RouteName is the context extension that names the route of a request.
const RouteName = "gatehouse.route"

// ParseRequest reads the request line. target is the path with its query, as it
// came. If the request has two readings, ok is false and the reason says which part
// is to blame: [ReasonMethodInvalid], [ReasonHostInvalid], [ReasonPathNotCanonical].
//
// A path is decided as its canonical form is (see [PathOptions]); `*` and the empty
// target of CONNECT are no paths and match nothing. ParseRequest allocates only what
// is not canonical already.
func ParseRequest(method, host, target string, opts PathOptions) (r Request, reason Reason, ok bool) {
	if !isToken(method) {
		return Request{}, ReasonMethodInvalid, false
	}
	host, ok = canonicalHost(host)
	if !ok {
		return Request{}, ReasonHostInvalid, false
	}
	r = Request{Method: method, Host: host}
	if target == "" || target == "*" {
		r.Path = target
		return r, ReasonNone, true
	}
	path, query, _ := strings.Cut(target, "?")
	path, f := canonicalPath(path, opts)
	if f.what != "" || !isQuery(query) {
		return Request{}, ReasonPathNotCanonical, false
	}
	r.Path, r.Query = path, query
	return r, ReasonNone, true
}

// DecodedPath is the path as expressions and people read it.
func (r *Request) DecodedPath() string { return unescape(r.Path) }

// ContextValue gives the context extension called name.
func (r *Request) ContextValue(name string) (string, bool) { return lookup(r.Context, name) }

// Header gives the first header called name, which must be lower case.
func (r *Request) Header(name string) (string, bool) { return lookup(r.Headers, name) }

// QueryValue gives the decoded value of the query parameter called name. One that is
// absent, repeated, or not well escaped has no value.
func (r *Request) QueryValue(name string) (string, bool) {
	found, value := false, ""
	for rest := r.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		k, v, _ := strings.Cut(pair, "=")
		if k, ok := unescapeQuery(k); !ok || k != name {
			continue
		}
		v, ok := unescapeQuery(v)
		if !ok || found {
			return "", false
		}
		found, value = true, v
	}
	return value, found
}

func lookup(pairs []Pair, name string) (string, bool) {
	for i := range pairs {
		if pairs[i].Name == name {
			return pairs[i].Value, true
		}
	}
	return "", false
}

// unescapeQuery decodes application/x-www-form-urlencoded text.
func unescapeQuery(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '+':
			b = append(b, ' ')
		case '%':
			if i+escapeWidth > len(s) || unhex(s[i+1]) < 0 || unhex(s[i+2]) < 0 {
				return "", false
			}
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += escapeWidth - 1
		default:
			b = append(b, s[i])
		}
	}
	return string(b), true
}

// isQuery reports whether nothing in a query ends the request target early.
func isQuery(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), as methods are.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isLetter(c) && !isDigit(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

const (
	maxHostBytes  = 253 // of a name in DNS, RFC 1035 §2.3.4
	maxLabelBytes = 63
	maxPort       = 65535
)

// canonicalHost drops one port and one trailing dot and gives the rest in lower case,
// an IPv6 address in its RFC 5952 spelling. No host at all is "".
func canonicalHost(host string) (string, bool) {
	if host == "" {
		return "", true
	}
	if host[0] == '[' {
		return canonicalIPv6(host)
	}
	name, port, hasPort := strings.Cut(host, ":")
	if hasPort && !isPort(port) {
		return "", false
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxHostBytes {
		return "", false
	}
	label, upper := 0, false
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
		if label++; label > maxLabelBytes {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

func canonicalIPv6(host string) (string, bool) {
	end := strings.IndexByte(host, ']')
	if end < 0 {
		return "", false
	}
	if rest := host[end+1:]; rest != "" && (rest[0] != ':' || !isPort(rest[1:])) {
		return "", false
	}
	addr, err := netip.ParseAddr(host[1:end])
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return "", false
	}
	return "[" + addr.String() + "]", true
}

func isPort(s string) bool {
	if s == "" || len(s) > len("65535") {
		return false
	}
	port := 0
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			return false
		}
		port = port*10 + int(s[i]-'0')
	}
	return port <= maxPort
}
