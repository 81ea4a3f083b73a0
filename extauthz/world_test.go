package extauthz

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	secretText = "a secret that is known to nobody but this test"
	apiKeyText = "the-key-of-the-batch-job"
	issuerText = "https://idp.example.com"
)

// A world is a configuration built by hand, with a gate.
type world struct {
	t      testing.TB
	config *Config
	now    time.Time
	gate   *Gate
}

// must gives v: what the tests build is right.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newWorld builds one; the changes are made before it is used.
func newWorld(t testing.TB, changes ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0)}
	c := &Config{
		Hash:           "test",
		SelectHeader:   "x-select-tenant",
		UsernameHeader: "x-select-user",
		Tenancy:        &policy.Tenancy{Separator: ":", Default: "_", Wildcard: "*"},
		SignIn: []SignIn{
			{Hosts: []string{"ui.example.com"}, URL: "https://{host}/authenticate?redirect_uri={request_uri}"},
			{Hosts: []string{"nav.example.com"}, URL: "https://id.example.com/?back={url}", Navigations: true},
		},
	}
	c.Set = newSet(t, 0)
	forward := &Forward{Headers: []Header{
		header(t, "x-tenant-id", "{tenant}"),
		header(t, "x-tenants", "{tenants}"),
		header(t, "x-user", "{username}"),
		header(t, "x-roles", "{roles}"),
		header(t, "x-department", "{attributes.department}"),
		jsonHeader(t, "x-groups", "{attributes.groups}"),
	}}
	keep := &Forward{Headers: forward.Headers, Credentials: Keep}
	pass := &Forward{Headers: forward.Headers, Credentials: Pass}
	order := &Forward{Headers: []Header{header(t, "x-order", "{path.order}"), header(t, "x-link", "{username}@{context.zone}")}}
	c.Forward = forward
	minted := &Forward{Headers: forward.Headers, Token: &IdentityToken{
		Header: "authorization", Scheme: "Bearer", Audience: "{host}", TTL: time.Minute, Minter: newMinter(t),
	}}

	w.config = c
	w.public("landing", []string{"GET /{$}", "GET /assets/", "/authenticate"}, forward)
	w.public("passing", []string{"/login/"}, pass)
	w.allow("orders", []string{"GET,HEAD /tenants/{tenant}/orders/"}, forward, policy.Requirement{
		ReadableTenant: templates(t, "{path.tenant}"),
		Roles:          &policy.Sets{Any: []string{"reader", "admin"}},
	})
	w.allow("admin", []string{"/admin/"}, forward, policy.Requirement{Roles: &policy.Sets{All: []string{"admin"}}})
	w.allow("hidden", []string{"/hidden/"}, forward, policy.Requirement{Roles: &policy.Sets{All: []string{"admin"}}})
	w.last().Answers = RouteAnswers{Unauthenticated: 404, Forbidden: 404, NoBody: true}
	w.allow("scoped", []string{"/scoped/"}, forward, policy.Requirement{Scopes: &policy.Sets{All: []string{"orders:read", "orders:write"}}})
	w.allow("me", []string{"/me/"}, forward, policy.Requirement{Authenticated: &policy.Flag{}})
	w.allow("keep", []string{"/keep/"}, keep, policy.Requirement{Authenticated: &policy.Flag{}})
	w.allow("order", []string{"/order/{order}"}, order, policy.Requirement{Authenticated: &policy.Flag{}})
	w.allow("minted", []string{"/minted/"}, minted, policy.Requirement{Authenticated: &policy.Flag{}})
	w.allow("ui", []string{"ui.example.com/app/", "nav.example.com/app/"}, forward, policy.Requirement{Authenticated: &policy.Flag{}})
	w.last().SignIn = true
	w.allow("cors", []string{"PUT /cors/"}, forward, policy.Requirement{Authenticated: &policy.Flag{}})
	w.last().Policy.Preflight = true
	w.allow("named", nil, forward, policy.Requirement{Authenticated: &policy.Flag{}})
	w.allow("machines", []string{"/machines/"}, forward, policy.Requirement{Authenticated: &policy.Flag{}})
	w.last().Policy.Accept = []string{"machines"}
	w.add(Route{Forward: forward, Policy: &policy.Route{Name: "internal", Forbid: true, Patterns: patterns(t, "/internal/")}})
	w.allow("soon", []string{"/me/soon/"}, forward, policy.Requirement{Roles: &policy.Sets{All: []string{"admin"}}})
	w.last().Policy.Shadow = true

	for _, change := range changes {
		change(c)
	}
	var routes []*policy.Route
	for i := range c.Routes {
		routes = append(routes, c.Routes[i].Policy)
	}
	table, problems := policy.NewTable(routes, c.Tenancy)
	if table == nil {
		t.Fatalf("NewTable: %v", problems)
	}
	c.Table = table
	w.gate = NewGate(Options{Now: func() time.Time { return w.now }})
	w.gate.Swap(must(NewSnapshot(c)))
	return w
}

func (w *world) add(r Route) {
	r.Policy.Index = len(w.config.Routes)
	r.Policy.At = policy.Position{File: "gatehouse.yaml", Line: 10 + r.Policy.Index, Column: 3}
	w.config.Routes = append(w.config.Routes, r)
}

func (w *world) last() *Route { return &w.config.Routes[len(w.config.Routes)-1] }

func (w *world) public(name string, match []string, f *Forward) {
	w.add(Route{Forward: f, Policy: &policy.Route{Name: name, Public: true, Patterns: patterns(w.t, match...)}})
}

func (w *world) allow(name string, match []string, f *Forward, requirements ...policy.Requirement) {
	w.add(Route{Forward: f, Policy: &policy.Route{Name: name, Allow: requirements, Patterns: patterns(w.t, match...)}})
}

func patterns(t testing.TB, texts ...string) []policy.Pattern {
	var list []policy.Pattern
	for _, text := range texts {
		list = append(list, must(policy.ParsePattern(text))...)
	}
	return list
}

func templates(t testing.TB, texts ...string) *policy.Templates {
	list := &policy.Templates{}
	for _, text := range texts {
		list.Values = append(list.Values, must(policy.ParseTemplate(text, policy.RefsInAllow)))
	}
	return list
}

func header(t testing.TB, name, value string) Header {
	return Header{Name: name, Value: must(policy.ParseTemplate(value, policy.RefsInForward))}
}

func jsonHeader(t testing.TB, name, value string) Header {
	h := header(t, name, value)
	h.JSON = true
	return h
}

// newSet has API keys and tokens, in that order of precedence, of which it remembers some.
func newSet(t testing.TB, remembered int) *authn.Set {
	keys := must(authn.NewAPIKey(authn.Stamp{Authenticator: "machines", Realm: "internal", Wildcard: "*"}, []authn.Key{
		{ID: "batch", Secret: authn.NewSecret(apiKeyText), Principal: policy.Principal{Tenant: "*", Roles: []string{"admin"}}},
		{ID: "ci", Secret: authn.NewSecret("the-key-of-ci"), Principal: policy.Principal{Tenant: "acme", Roles: []string{"user"}}},
	}, nil))
	mapping := &authn.Mapping{
		Stamp:    authn.Stamp{Authenticator: "corp", Realm: "corp"},
		Subject:  &authn.Field{Claim: "sub", Required: true},
		Username: &authn.Field{Claim: "email"},
		Tenant:   &authn.Field{Claim: "tenant"},
		Roles:    &authn.Field{Claim: "groups"},
		Scopes:   &authn.Field{Claim: "scope"},
		Attributes: map[string]*authn.Field{
			"department": {Claim: "department"},
			"groups":     {Claim: "groups"},
		},
	}
	tokens := must(authn.NewJWT(authn.JWTOptions{
		Issuer: issuerText, AnyAudience: true, SharedSecret: authn.NewSecret(secretText), Map: mapping.Principal, CacheEntries: remembered,
	}))
	return must(authn.NewSet([]authn.Entry{
		{
			Name: "machines", Realm: "internal", Kind: authn.KindAPIKey, Authenticator: keys, Impersonate: true, Scheme: "ApiKey",
			Places:   []authn.Place{{Kind: authn.InHeader, Name: "x-api-key"}},
			OnlyFrom: []authn.Origin{{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
		},
		{
			Name: "corp", Realm: "corp", Kind: authn.KindJWT, Authenticator: tokens,
			Places: []authn.Place{
				{Kind: authn.InHeader, Name: "authorization", Scheme: "Bearer"},
				{Kind: authn.InCookie, Name: "access_token"},
				{Kind: authn.InQuery, Name: "access_token"},
			},
		},
	}, authn.Options{}))
}

func newMinter(t testing.TB) *mint.Minter {
	key := must(mint.GenerateKey("ES256"))
	return must(mint.New(mint.Config{Issuer: "https://gatehouse.example.com", Keys: []mint.Key{key}}))
}

// token makes a token of the issuer, for an hour, with changes.
func (w *world) token(changes map[string]any) string {
	claims := jwt.MapClaims{
		"iss": issuerText, "sub": "u1", "email": "eve@example.com", "tenant": "acme:sales", "groups": []string{"reader", "a,b"},
		"scope": "orders:read", "department": "Größe", "exp": w.now.Add(time.Hour).Unix(),
	}
	for k, v := range changes {
		if v == nil {
			delete(claims, k)
		} else {
			claims[k] = v
		}
	}
	return must(jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secretText)))
}

// A req is a request as Envoy tells of it.
type req struct {
	method, host, path string
	headers            map[string]string
	raw                [][2]string // in header_map instead
	source             string
	context            map[string]string
	body               string
}

func (r req) message() *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Method: r.method, Host: r.host, Path: r.path, Scheme: "https", Protocol: "HTTP/1.1", Id: "123", Size: -1, Body: r.body,
	}
	if http.Method == "" {
		http.Method = "GET"
	}
	if http.Host == "" {
		http.Host = "api.example.com"
	}
	http.Headers = map[string]string{":authority": http.Host, ":path": http.Path, ":method": http.Method, ":scheme": "https", "x-request-id": "f00"}
	for name, value := range r.headers {
		http.Headers[name] = value
	}
	if r.raw != nil {
		http.Headers = nil
		http.HeaderMap = &corev3.HeaderMap{}
		for _, h := range r.raw {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: h[0], RawValue: []byte(h[1])})
		}
	}
	source := r.source
	if source == "" {
		source = "192.0.2.7"
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{Address: source, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711}},
		}}},
		Request:           &authv3.AttributeContext_Request{Http: http},
		ContextExtensions: r.context,
	}}
}

// withBearer adds a token to a request.
func (r req) withBearer(token string) req { return r.with("authorization", "Bearer "+token) }

func (r req) with(name, value string) req {
	headers := map[string]string{name: value}
	for k, v := range r.headers {
		headers[k] = v
	}
	headers[name] = value
	r.headers = headers
	return r
}

// doors are the ways to the gate that have to say the same.
var doors = []struct {
	name    string
	options ServerOptions
}{{"fast", ServerOptions{}}, {"plain", ServerOptions{Plain: true, Transport: GRPCGo}}, {"grpc-go", ServerOptions{Transport: GRPCGo}}}

// dial starts the gRPC door and gives a client of it.
func (w *world) dial(t testing.TB, options ServerOptions) (authv3.AuthorizationClient, *Server, *grpc.ClientConn) {
	t.Helper()
	server := must(NewServer(w.gate, options))
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn := must(grpc.NewClient("passthrough:///bufconn",
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }),
		grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return authv3.NewAuthorizationClient(conn), server, conn
}

// A seen is what came of a request, as Envoy 1.40 acts on an answer.
type seen struct {
	status   int               // 200: forwarded
	client   map[string]string // response headers of a refusal
	body     string
	upstream map[string][]string // headers that the upstream gets; nil if it gets nothing
	query    string              // of what the upstream gets
	metadata map[string]any
}

// envoy does what Envoy does with a response: status.code alone allows, headers are set
// one after the other, and then removed.
func envoy(request *authv3.CheckRequest, response *authv3.CheckResponse) seen {
	var s seen
	s.metadata = response.GetDynamicMetadata().AsMap()
	http := request.GetAttributes().GetRequest().GetHttp()
	if response.GetStatus().GetCode() != 0 {
		denied := response.GetDeniedResponse()
		s.status, s.body = int(denied.GetStatus().GetCode()), denied.GetBody()
		s.client = make(map[string]string)
		for _, h := range denied.GetHeaders() {
			s.client[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		return s
	}
	s.status = 200
	s.upstream = make(map[string][]string)
	for name, value := range http.GetHeaders() {
		s.upstream[name] = []string{value}
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		s.upstream[h.GetKey()] = append(s.upstream[h.GetKey()], string(h.GetRawValue()))
	}
	ok := response.GetOkResponse()
	for _, h := range ok.GetHeaders() {
		s.upstream[strings.ToLower(h.GetHeader().GetKey())] = []string{h.GetHeader().GetValue()}
	}
	for _, name := range ok.GetHeadersToRemove() {
		delete(s.upstream, strings.ToLower(name))
	}
	_, s.query, _ = strings.Cut(http.GetPath(), "?")
	if remove := ok.GetQueryParametersToRemove(); len(remove) > 0 {
		var rest []string
		for _, p := range strings.Split(s.query, "&") {
			if key, _, _ := strings.Cut(p, "="); !slices.Contains(remove, key) {
				rest = append(rest, p)
			}
		}
		slices.Sort(rest)
		s.query = strings.Join(rest, "&")
	}
	return s
}

// got is one header of what the upstream gets; "-" if it gets none.
func (s seen) got(name string) string {
	values, ok := s.upstream[name]
	if !ok {
		return "-"
	}
	return strings.Join(values, "|")
}
