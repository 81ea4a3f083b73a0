package extauthz

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// AuthorizePath is where nginx, Traefik and Caddy ask, with the original request in
	// headers.
	AuthorizePath = "/authorize"

	// EnvoyPrefix is the path_prefix of Envoy's HTTP ext_authz, which asks with the
	// original method and host, and the original path behind the prefix.
	EnvoyPrefix = "/authorize/envoy"

	// SignInHeader tells nginx, whose auth_request knows no redirects, where a browser
	// would be sent; StatusHeader the status that it should have been.
	SignInHeader = "x-gatehouse-sign-in"
	StatusHeader = "x-gatehouse-status"

	// envoyRemove is how Envoy's HTTP ext_authz is told what to remove.
	envoyRemove = "x-envoy-auth-headers-to-remove"
)

// ForwardAuth is the HTTP door: nginx's auth_request, forward-auth of Traefik and
// Caddy, and Envoy's HTTP ext_authz. It decides as the gRPC door does, and gives the
// identity headers in its response. What the upstream must not get is up to the proxy's
// configuration, except for Envoy, which is told. A configuration names spellings, so that a
// request with `X-Tenant_id`, where an identity header is `x-tenant-id`, is 400 from others:
// some upstreams cannot tell the two apart.
//
// Only peers in trusted_proxies are answered with anything but 403: whoever else
// asks could make up the request that is decided.
type ForwardAuth struct {
	gate      *Gate
	admission *admission
}

// NewForwardAuth makes the HTTP door of gate.
func NewForwardAuth(gate *Gate, limits Limits) *ForwardAuth {
	limits = limits.withDefaults()
	return &ForwardAuth{gate: gate, admission: newAdmission(limits.Concurrent, limits.Queue)}
}

// Handler answers what is for the door and leaves everything else to next, which may be
// an http.ServeMux: paths are looked at as they came, before anybody cleans them.
func (f *ForwardAuth) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if path != AuthorizePath && !strings.HasPrefix(path, EnvoyPrefix+"/") {
			next.ServeHTTP(w, r)
			return
		}
		f.ServeHTTP(w, r)
	})
}

// ServeHTTP answers one request of a proxy.
func (f *ForwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxDiscardBytes)) // what a proxy sends along is not looked at
	x := &exchange{call: Call{Door: Forwarded}}
	dialect := dialectOf(r)
	if f.admission.enter(r.Context()) {
		f.gate.run(r.Context(), x, func() { f.read(&x.call, r, dialect) })
		f.admission.leave()
	} else {
		f.gate.refuse(x, policy.ReasonOverloaded)
	}
	reply(w, &x.answer, dialect)
}

// maxDiscardBytes is how much of a body is read so that the connection can be used
// again.
const maxDiscardBytes = 64 << 10

// A dialect is how a proxy asks and what it understands of the answer.
type dialect uint8

const (
	plainDialect dialect = iota // Traefik, Caddy: X-Forwarded-*, any status, passed on as it is
	nginxDialect                // X-Original-*; 200, 401 and 403 only
	envoyDialect                // the request itself, behind EnvoyPrefix
)

func dialectOf(r *http.Request) dialect {
	switch {
	case strings.HasPrefix(r.RequestURI, EnvoyPrefix+"/"):
		return envoyDialect
	case r.Header.Get("X-Original-Url") != "" || r.Header.Get("X-Original-Uri") != "":
		return nginxDialect
	}
	return plainDialect
}

// read makes a Call of what a proxy asks. What cannot be believed or can be read in two
// ways is undecodable.
func (f *ForwardAuth) read(c *Call, r *http.Request, d dialect) {
	var trusted []netip.Prefix
	s := f.gate.Snapshot()
	if s != nil {
		trusted = s.config.TrustedProxies
	}
	peer := peerAddr(r.RemoteAddr)
	if !containsAddr(trusted, peer) {
		c.Untrusted = true
		return
	}
	o, ok := original(r, d)
	if !ok {
		c.Undecodable = true
		return
	}
	c.HTTP = true
	c.Method, c.Host, c.Target, c.Scheme = o.method, o.host, o.target, o.scheme
	c.Source = clientAddr(peer, r.Header.Values("X-Forwarded-For"), trusted)
	c.BodyPartial = !isReading(o.method)
	c.Headers = headersOf(r)
	c.TooLarge = len(c.Headers) > maxHeaders
	c.Undecodable = d != envoyDialect && s != nil && s.taken.isImitated(c.Headers)
}

// An originalRequest is the request line that a proxy asks about.
type originalRequest struct{ method, host, target, scheme string }

// original finds it. A proxy that says a thing twice must say the same, because one of
// the two may be the client's: nginx copies whatever headers a client made up. Method
// and target must come from the same family of headers.
func original(r *http.Request, d dialect) (originalRequest, bool) {
	h := proxyHeaders{header: r.Header, ok: true}
	forwarded := originalRequest{
		method: h.get("X-Forwarded-Method"), host: h.get("X-Forwarded-Host"),
		target: h.get("X-Forwarded-Uri"), scheme: h.get("X-Forwarded-Proto"),
	}
	o := originalRequest{method: h.get("X-Original-Method"), host: h.get("X-Original-Host"), target: h.get("X-Original-Uri")}
	if whole := h.get("X-Original-Url"); whole != "" {
		u, ok := splitURL(whole)
		if !ok || !agree(o.target, u.target) || !agree(o.host, u.host) {
			return o, false
		}
		o.host, o.target, o.scheme = u.host, u.target, u.scheme
	}
	if d == envoyDialect {
		if o.method+o.target+forwarded.method+forwarded.target != "" {
			return o, false // somebody who speaks another dialect, to whom this path means nothing
		}
		return originalRequest{method: r.Method, host: r.Host, target: strings.TrimPrefix(r.RequestURI, EnvoyPrefix), scheme: forwarded.scheme}, h.ok
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return o, false
	}
	if d == plainDialect {
		if forwarded.host == "" {
			forwarded.host = r.Host
		}
		ok := agree(o.method, forwarded.method) && agreeHost(o.host, forwarded.host)
		return forwarded, ok && h.ok && forwarded.method != "" && forwarded.target != ""
	}
	if o.host == "" {
		o.host = r.Host
	}
	if o.scheme == "" {
		o.scheme = forwarded.scheme
	}
	ok := agree(o.method, forwarded.method) && agree(o.target, forwarded.target) && agreeHost(o.host, forwarded.host)
	return o, ok && h.ok && o.method != "" && o.target != ""
}

// proxyHeaders reads headers that may not repeat.
type proxyHeaders struct {
	header http.Header
	ok     bool
}

func (h *proxyHeaders) get(name string) string {
	values := h.header.Values(name)
	if len(values) > 1 {
		h.ok = false
	}
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// agree tells whether two headers that should say the same do, as far as both are there.
func agree(a, b string) bool { return a == "" || b == "" || a == b }

func agreeHost(a, b string) bool { return a == "" || b == "" || strings.EqualFold(a, b) }

// splitURL takes an absolute URL apart without changing its parts.
func splitURL(s string) (originalRequest, bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return originalRequest{}, false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		return originalRequest{scheme: scheme, host: rest, target: "/"}, rest != ""
	}
	if end == 0 || rest[end] != '/' {
		return originalRequest{}, false
	}
	return originalRequest{scheme: scheme, host: rest[:end], target: rest[end:]}, true
}

// doorHeaders are what proxies tell the door; they are not the client's.
var doorHeaders = []string{
	"X-Original-Url", "X-Original-Uri", "X-Original-Method", "X-Original-Host",
	"X-Forwarded-Uri", "X-Forwarded-Method",
}

func headersOf(r *http.Request) []policy.Pair {
	var headers []policy.Pair
	for name, values := range r.Header {
		if slices.Contains(doorHeaders, name) {
			continue
		}
		for _, value := range values {
			headers = append(headers, policy.Pair{Name: strings.ToLower(name), Value: value})
		}
	}
	slices.SortStableFunc(headers, func(a, b policy.Pair) int { return strings.Compare(a.Name, b.Name) })
	return headers
}

// peerAddr is the address of a connection's other end; zero for Unix sockets.
func peerAddr(remote string) netip.Addr {
	if addr, err := netip.ParseAddrPort(remote); err == nil {
		return addr.Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// clientAddr is the right-most address of X-Forwarded-For that is not a trusted proxy:
// what is left of it may be made up. If one on the way is not an address, there is none.
func clientAddr(peer netip.Addr, forwardedFor []string, trusted []netip.Prefix) netip.Addr {
	hops := strings.Split(strings.Join(forwardedFor, ","), ",")
	client := peer
	for i := len(hops) - 1; i >= 0; i-- {
		text := strings.TrimSpace(hops[i])
		if text == "" && len(hops) == 1 {
			break
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Addr{}
		}
		client = addr.Unmap().WithZone("")
		if !containsAddr(trusted, client) {
			break
		}
	}
	return client
}

func containsAddr(prefixes []netip.Prefix, addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// reply writes an answer in a dialect.
func reply(w http.ResponseWriter, a *Answer, d dialect) {
	h := w.Header()
	if a.Allowed() {
		for _, p := range a.SetHeaders() {
			h.Set(p.Name, p.Value)
		}
		if d == envoyDialect {
			h.Set(envoyRemove, strings.Join(a.RemovedHeaders(), ","))
		}
		h.Set("cache-control", "no-store")
		h.Set(DecisionHeader, a.ID)
		w.WriteHeader(http.StatusOK)
		return
	}
	for _, p := range a.headers {
		h.Set(p.Name, p.Value)
	}
	status := a.refusalStatus()
	if d == nginxDialect {
		h.Set(StatusHeader, strconv.Itoa(status))
		if location := h.Get("location"); location != "" {
			h.Del("location")
			h.Set(SignInHeader, location)
			status = http.StatusUnauthorized
		}
		if status != http.StatusUnauthorized {
			status = http.StatusForbidden
		}
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, a.body) // a proxy that went away has nobody to tell
}
