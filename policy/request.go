package policy

import "net/netip"

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

// ContextValue gives the context extension called name.
func (r *Request) ContextValue(name string) (string, bool) { return lookup(r.Context, name) }

// Header gives the first header called name, which must be lower case.
func (r *Request) Header(name string) (string, bool) { return lookup(r.Headers, name) }

func lookup(pairs []Pair, name string) (string, bool) {
	for i := range pairs {
		if pairs[i].Name == name {
			return pairs[i].Value, true
		}
	}
	return "", false
}
