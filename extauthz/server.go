package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/patience"
	"github.com/gatehouse-authz/gatehouse/extauthz/transport"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// ServiceName is the service that Envoy calls, and whose health it asks for.
var ServiceName = authv3.Authorization_ServiceDesc.ServiceName

const checkMethod = authv3.Authorization_Check_FullMethodName

const (
	// streamWorkers spare grpc-go the growth of a goroutine's stack per call. Measured: with
	// 16 a Check costs a tenth less CPU time than without.
	streamWorkers = 16

	// window is how many bytes a client may send per stream, and with grpc-go per
	// connection, before we have taken them. There a fixed one spares the pings by which
	// grpc-go would measure the line, a twentieth of what a Check costs, and a small one
	// keeps Checks from waiting where nobody looks at their deadline: with a megabyte, twice
	// the load that can be answered left nearly all of them to time out; with 64 KiB they
	// are refused at once.
	window = 64 << 10

	// spareStreams are those of one connection that find the queue full and are told so.
	// Without any, callers would wait for a stream, out of our sight.
	spareStreams = 1024

	// maxMetadataBytes bounds the metadata of a call. Envoy sends some hundred bytes.
	maxMetadataBytes = 16 << 10

	// connectTimeout is how long a client may take to say hello.
	connectTimeout = 10 * time.Second

	// minPing is how often clients may ask whether the connection is alive.
	minPing = 10 * time.Second
)

// ServerOptions are what the gRPC door is told when the process starts.
type ServerOptions struct {
	// Plain decodes and encodes with the generated code: the same answers at several
	// times the cost. It is there to be compared with.
	Plain bool

	Limits           Limits // of messages and of concurrency; zero values are the defaults
	Credentials      credentials.TransportCredentials
	MaxConnectionAge time.Duration // after which clients are asked to reconnect; 0: no limit
	IdleTimeout      time.Duration // without a call, after which a connection is closed; 0: never

	Unary  grpc.UnaryServerInterceptor  // nil: none
	Stream grpc.StreamServerInterceptor // nil: none

	Transport Transport // what carries the calls
}

// A Transport is what carries calls over HTTP/2.
type Transport uint8

const (
	// Direct answers calls where they are read: see package transport.
	Direct Transport = iota

	// GRPCGo is the server of google.golang.org/grpc, which most Go services use. A Check
	// costs ten microseconds more with it.
	GRPCGo
)

// Transports are the names by which people choose.
var Transports = []string{Direct: "direct", GRPCGo: "grpc-go"}

// ParseTransport gives the transport of a name.
func ParseTransport(name string) (Transport, error) {
	i := slices.Index(Transports, name)
	if i < 0 {
		return 0, fmt.Errorf("there is no transport %q: choose one of %s", name, strings.Join(Transports, ", "))
	}
	return Transport(i), nil
}

// A carrier is a transport that serves. Its methods are those of [grpc.Server].
type carrier interface {
	reflection.GRPCServer
	Serve(net.Listener) error
	Stop()
	GracefulStop()
}

// A Server is the gRPC door: Envoy's Check, health and reflection. Its Serve, Stop and
// GracefulStop are those of grpc.Server.
type Server struct {
	carrier
	gate      *Gate
	plain     bool
	admission *admission
	health    *health.Server
	checks    sync.Pool
	info      grpc.UnaryServerInfo
	fallback  []byte // the reply where even a refusal could not be written
}

// NewServer makes the gRPC door of gate. Health says NOT_SERVING until
// [Server.SetServing].
func NewServer(gate *Gate, options ServerOptions) (*Server, error) {
	limits := options.Limits.withDefaults()
	fallback, err := proto.Marshal(CheckResponse(&Answer{Decision: verdict(policy.ReasonInternal), Status: 503}))
	if err != nil {
		return nil, err
	}
	s := &Server{
		gate:      gate,
		plain:     options.Plain,
		admission: newAdmission(limits.Concurrent, limits.Queue),
		health:    health.NewServer(),
		fallback:  fallback,
	}
	s.info = grpc.UnaryServerInfo{Server: s, FullMethod: checkMethod}
	s.checks.New = func() any { return &check{} }
	if err := s.carry(options, limits); err != nil {
		return nil, err
	}
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Check", Handler: s.handle}},
		Metadata:    authv3.Authorization_ServiceDesc.Metadata,
	}, s)
	healthv1.RegisterHealthServer(s, s.health)
	reflection.Register(s)
	s.SetServing(false)
	return s, nil
}

// carry makes the transport.
func (s *Server) carry(options ServerOptions, limits Limits) error {
	streams := uint32(limits.Concurrent + limits.Queue + spareStreams)
	if options.Transport != GRPCGo {
		direct, err := transport.New(transport.Options{
			Codec:          directCodec{s.release},
			Credentials:    options.Credentials,
			Unary:          options.Unary,
			Stream:         options.Stream,
			Inline:         func(method string) bool { return method == checkMethod },
			MessageBytes:   limits.MessageBytes,
			Streams:        streams,
			HeaderBytes:    maxMetadataBytes,
			Window:         window,
			ConnectTimeout: connectTimeout,
			MaxAge:         options.MaxConnectionAge,
			IdleTimeout:    options.IdleTimeout,
		})
		s.carrier = direct
		return err
	}
	generated := encoding.GetCodecV2("proto")
	if generated == nil {
		return errors.New("the protobuf codec is not registered")
	}
	serverOptions := []grpc.ServerOption{
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		grpc.ForceServerCodecV2(checkCodec{CodecV2: generated, release: s.release}),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxRecvMsgSize(limits.MessageBytes),
		grpc.MaxConcurrentStreams(streams),
		grpc.MaxHeaderListSize(maxMetadataBytes),
		grpc.ConnectionTimeout(connectTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
	}
	if options.Unary != nil {
		serverOptions = append(serverOptions, grpc.UnaryInterceptor(options.Unary))
	}
	if options.Stream != nil {
		serverOptions = append(serverOptions, grpc.StreamInterceptor(options.Stream))
	}
	if options.MaxConnectionAge > 0 || options.IdleTimeout > 0 {
		serverOptions = append(serverOptions, grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: options.MaxConnectionAge, MaxConnectionIdle: options.IdleTimeout,
		}))
	}
	if options.Credentials != nil {
		serverOptions = append(serverOptions, grpc.Creds(options.Credentials))
	}
	s.carrier = grpc.NewServer(serverOptions...)
	return nil
}

// SetServing tells Envoy's health checks whether to send calls here. Calls are
// answered either way.
func (s *Server) SetServing(serving bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(ServiceName, status)
}

// Drain makes health say NOT_SERVING for good. GracefulStop then waits for the calls
// in flight.
func (s *Server) Drain() { s.health.Shutdown() }

// handle answers one Check. It never gives an error: see [checkCodec].
func (s *Server) handle(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
	ctx = patience.Begin(ctx)
	c := s.checks.Get().(*check)
	if interceptor == nil {
		s.serve(ctx, c, decode)
		return c, nil
	}
	return interceptor(ctx, c, &s.info, func(ctx context.Context, _ any) (any, error) {
		s.serve(ctx, c, decode)
		return c, nil
	})
}

// serve makes c.reply.
//
// The message is read before a place is taken: decode waits for it, and a client that
// begins calls and never ends them could else hold every place there is.
func (s *Server) serve(ctx context.Context, c *check, decode func(any) error) {
	defer s.recovered(c)
	stale := staleAfter(ctx)
	err := decode(c)
	switch {
	case err != nil && ctx.Err() != nil: // gone before anything was asked: no decision
		c.reply = append(c.reply[:0], s.fallback...)
		return
	case !stale.IsZero() && time.Now().After(stale):
		s.gate.refuse(&c.exchange, policy.ReasonOverloaded)
	case !s.admission.enter(ctx):
		s.gate.refuse(&c.exchange, policy.ReasonOverloaded)
	case ctx.Err() != nil: // nobody waits for the answer any more
		s.admission.leave()
		s.gate.refuse(&c.exchange, policy.ReasonOverloaded)
	default:
		defer s.admission.leave()
		s.gate.run(ctx, &c.exchange, func() {
			if err != nil {
				c.call.Undecodable = true
				return
			}
			c.decode(s.plain)
		})
	}
	c.encode(s.plain)
}

// recovered makes the reply a refusal if there was a panic. It is deferred.
func (s *Server) recovered(c *check) {
	if fault := recover(); fault != nil {
		s.gate.fault(&c.exchange, fault, debug.Stack())
		s.gate.observe(&c.exchange, c.record.Time)
		c.reply = append(c.reply[:0], s.fallback...)
	}
}

// release gives c back once the reply is written. One of which somebody may still look at
// more than texts is left to them.
func (s *Server) release(c *check) {
	if c.kept == authn.KeptRequest {
		return
	}
	c.reset()
	s.checks.Put(c)
}
