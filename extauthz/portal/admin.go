package portal

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

const (
	// TokensScope lets one of our own tokens manage tokens of its owner.
	TokensScope = "gatehouse:tokens"

	// AdminScope lets one of our own tokens do what its owner's roles let it do here.
	AdminScope = "gatehouse:admin"

	// maxMessageBytes bounds one request of the admin API.
	maxMessageBytes = 1 << 20
)

// Options are what an [Admin] is made of.
type Options struct {
	Gate *extauthz.Gate

	// View gives the store's, as the configuration of the moment has it; nil without a
	// store: then there are only states to ask for.
	View func() *tokens.View

	// Explain decides a call as the service would, and tells why in a value whose JSON
	// others read; nil: it is not offered.
	Explain func(context.Context, *extauthz.Call) (any, error)

	// Roles gives the roles that make an administrator, as the configuration of the
	// moment has them.
	Roles func() []string
}

// Admin serves the admin API. It is an [http.Handler] for gRPC (HTTP/2, also without
// TLS) and for JSON.
type Admin struct {
	options Options
	grpc    *grpc.Server
	methods methods
}

// view is the store's, or the error that callers get without one.
func (o *Options) view() (*tokens.View, error) {
	if view := o.View(); view != nil {
		return view, nil
	}
	return nil, refuse(codes.FailedPrecondition, "there is no store")
}

// New makes an Admin.
func New(options Options) *Admin {
	a := &Admin{options: options, grpc: grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes), grpc.UnaryInterceptor(answerFaults)), methods: methods{}}
	for _, registrar := range []grpc.ServiceRegistrar{a.grpc, a.methods} {
		adminv1.RegisterServiceServer(registrar, &service{options: options})
		adminv1.RegisterTokensServer(registrar, &tokenService{options: options})
		adminv1.RegisterDirectoryServer(registrar, &directoryService{options: options})
	}
	reflection.Register(a.grpc)
	return a
}

// A Caller is who makes a request of the admin API.
type Caller struct {
	Actor         tokens.Actor
	Principal     *policy.Principal // nil for the operator
	Administrator bool
	Token         bool // they showed a token or key that the store gave out
}

type callerKey struct{}

// callerOf is who makes the request. Without one there is nobody, who may do nothing.
func callerOf(ctx context.Context) Caller {
	caller, _ := ctx.Value(callerKey{}).(Caller)
	return caller
}

// administrator refuses everybody else.
func administrator(ctx context.Context) (Caller, error) {
	caller := callerOf(ctx)
	if !caller.Administrator {
		return Caller{}, refuse(codes.PermissionDenied, "only administrators may do this")
	}
	return caller, nil
}

// ServeHTTP finds out who calls, and answers.
func (a *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller, refusal := a.caller(r)
	if refusal != nil {
		refusal.write(w, r)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
	if isGRPC(r) {
		a.grpc.ServeHTTP(w, r)
		return
	}
	a.methods.ServeHTTP(w, r)
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// caller decides whether the request may go on, and who makes it.
//
// Whoever connects to the service's Unix socket as the user that runs it (or root) and
// shows no credential is the operator: they could read the store and the secrets
// anyway. Everybody else is decided by the route table.
func (a *Admin) caller(r *http.Request) (Caller, *refusal) {
	if uid, ok := r.Context().Value(uidKey{}).(int); ok && (uid == 0 || uid == os.Getuid()) && !a.showsCredential(r) {
		return operator(uid), nil
	}
	answer := a.options.Gate.Check(r.Context(), call(r))
	if !answer.Allowed() {
		return Caller{}, refusalOf(answer)
	}
	p := answer.Decision.Principal
	if p == nil {
		// A route that is public by mistake makes nobody an administrator.
		return Caller{}, &refusal{status: http.StatusUnauthorized, code: codes.Unauthenticated, message: "a credential is needed"}
	}
	caller := Caller{
		Actor:         tokens.Actor{Owner: tokens.OwnerOf(p), TokenID: p.TokenID},
		Principal:     p,
		Administrator: slices.ContainsFunc(a.options.Roles(), func(role string) bool { return slices.Contains(p.Roles, role) }),
	}
	if caller.Token = a.isOurs(p); caller.Token {
		switch {
		case slices.Contains(p.Scopes, AdminScope):
		case slices.Contains(p.Scopes, TokensScope):
			caller.Administrator = false
		default:
			return Caller{}, &refusal{
				status: http.StatusForbidden, code: codes.PermissionDenied,
				message: "an API token needs the scope " + TokensScope + " or " + AdminScope + " here",
			}
		}
	}
	return caller, nil
}

// isOurs tells whether the principal showed a token or key that the store gave out.
func (a *Admin) isOurs(p *policy.Principal) bool {
	snapshot := a.options.Gate.Snapshot()
	if snapshot == nil || snapshot.Config().Set == nil {
		return true // it cannot be told, so the scope decides
	}
	entry := snapshot.Config().Set.Entry(p.Authenticator)
	return entry == nil || entry.Kind == authn.KindToken || entry.Kind == authn.KindAPIKey
}

// showsCredential tells whether the request has something in a place where a
// credential can be.
func (a *Admin) showsCredential(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		return true
	}
	snapshot := a.options.Gate.Snapshot()
	if snapshot == nil || snapshot.Config().Set == nil {
		return false
	}
	for _, place := range snapshot.Config().Set.Places() {
		if place.Kind == authn.InHeader && r.Header.Get(place.Name) != "" || place.Kind == authn.InQuery && r.URL.RawQuery != "" {
			return true
		}
	}
	return false
}

// call is the request as the gate reads it.
func call(r *http.Request) *extauthz.Call {
	c := &extauthz.Call{
		Door: extauthz.AdminAPI, HTTP: true,
		Method: r.Method, Host: r.Host, Target: r.RequestURI, Scheme: "http",
	}
	if r.TLS != nil {
		c.Scheme = "https"
		if len(r.TLS.VerifiedChains) > 0 {
			c.SourcePrincipal = peerName(r.TLS.PeerCertificates[0])
		}
	}
	for name, values := range r.Header {
		for _, value := range values {
			c.Headers = append(c.Headers, policy.Pair{Name: strings.ToLower(name), Value: value})
		}
	}
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Source = addr.Addr().Unmap().WithZone("")
	}
	return c
}

type uidKey struct{}

// ConnContext is for [http.Server.ConnContext]: it notes who is at the other end of a
// Unix socket.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if uid, ok := peerUID(conn); ok {
		return context.WithValue(ctx, uidKey{}, uid)
	}
	return ctx
}
