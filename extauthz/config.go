package extauthz

import (
	"html/template"
	"net/netip"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// Config is what a [Snapshot] is made of: the configuration file, resolved and
// checked, in plain Go values. Whoever builds one has checked what the file's
// reference promises; the gate relies on it.
type Config struct {
	Hash string // of the resolved configuration, for logs and metrics

	Table  *policy.Table
	Routes []Route // by [policy.Route.Index], shadow routes included
	Paths  policy.PathOptions

	// TCP decides Checks without an HTTP part by its only route, called [TCPRoute] and
	// without patterns; nil: they are forbidden.
	TCP *policy.Table

	Set     *authn.Set
	Tenancy *policy.Tenancy // nil without a tenancy block
	Grants  *policy.Grants  // what is added to principals; may be nil

	SelectHeader   string // by which callers select a tenant; lower case, "" for none
	UsernameHeader string // by which some name a user; lower case, "" for none

	Forward *Forward // the file's own: its headers are owned even where every route has another; may be nil
	SignIn  []SignIn
	Answers Answers
	Limits  Limits

	AnonymousTenant string // of public requests without a principal, for identity headers; "" for none

	TrustedProxies []netip.Prefix // whose X-Forwarded-* and X-Original-* count at the forward-auth door
}

// TCPRoute is the name of the route that decides connections without HTTP.
const TCPRoute = "tcp"

// A Route is what the gate does for requests that a route of the table covers.
type Route struct {
	Policy  *policy.Route
	Forward *Forward // never nil; routes without their own share one
	Answers RouteAnswers
	SignIn  bool // browsers are redirected to sign in; false: they get the 401

	// Identify names the authenticators that a public route looks at. nil: those
	// that need neither I/O nor a password hash; empty but not nil: none.
	Identify []string
}

// Forward says what the upstream receives. Routes share one by its pointer.
type Forward struct {
	Headers       []Header // identity headers, by name; each name once
	Credentials   Credentials
	Token         *IdentityToken // nil: none
	KeepOverrides bool           // leave x-http-method-override and its kin in place
	Remove        []string       // further headers, lower case, that never reach the upstream of any route: owned, never set
}

// A Header is one identity header.
type Header struct {
	Name  string // lower case
	Value policy.Template
	JSON  bool // a list is written as a JSON array instead of with commas
}

// Credentials says what becomes of the credentials in a request. Its zero value
// takes all of them away.
type Credentials uint8

const (
	Strip Credentials = iota // every credential place is cleared
	Keep                     // so, but the credential that was verified is put back
	Pass                     // all stay in place; on public routes only
)

// An IdentityToken is a short-lived token that is minted for the upstream.
type IdentityToken struct {
	Header   string // lower case
	Scheme   string // before the token; "" for none
	Audience string // `{host}` stands for the request's host
	TTL      time.Duration
	Minter   *mint.Minter
}

// RouteAnswers are other statuses for refusals on a route.
type RouteAnswers struct {
	Unauthenticated int  // 400 to 499; 0: 401
	Forbidden       int  // 400 to 499; 0: 403
	NoBody          bool // refusals of this route have no body
}

// SignIn says where browsers go instead of a 401.
type SignIn struct {
	Hosts       []string // for which this entry counts, lower case
	URL         string   // with {host}, {request_uri} and {url}
	Navigations bool     // any GET or HEAD without an Authorization header, not only browsers
}

// Answers says how refusals look to clients.
type Answers struct {
	Contact       string             // whom to ask: a mail address or URL; "" for none
	Documentation string             // where to read more: a URL; "" for none
	Page          *template.Template // for browsers, in place of ours; executed with [Page]
}

// Limits bound what one request, and all of them together, may cost. Zero values
// mean the defaults.
type Limits struct {
	MessageBytes int // of one Check message; default [DefaultMessageBytes]
	HeaderBytes  int // of a request's headers, names and values; default [DefaultHeaderBytes]
	Concurrent   int // Checks worked on at once; default [DefaultConcurrentPerCore] times GOMAXPROCS
	Queue        int // Checks waiting for that; default [DefaultQueue]
}

const (
	// DefaultMessageBytes is more than Envoy's largest header limit (8 MiB is never
	// configured in practice) and request bodies for signatures need.
	DefaultMessageBytes = 4 << 20
	// DefaultHeaderBytes is above Envoy's default of 60 KiB.
	DefaultHeaderBytes = 96 << 10
	// DefaultConcurrentPerCore leaves room for Checks that wait for a provider.
	DefaultConcurrentPerCore = 256
	// DefaultQueue is what one core answers well within Envoy's default timeout.
	DefaultQueue = 1024
)
