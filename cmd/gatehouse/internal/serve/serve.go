// Package serve runs the service: it loads the configuration, listens, answers, reloads
// and drains. What it decides with is in extauthz; what is here is the process around it.
// Start reading at [Run].
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/metrics"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/tracing"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// Where the service listens unless the configuration says otherwise.
const (
	defaultGRPC = "127.0.0.1:9191"
	defaultOps  = "127.0.0.1:8082"
)

const (
	// stopTimeout is how long checks in flight may take once new ones are refused.
	// Envoy has given up on them long before.
	stopTimeout = 10 * time.Second

	// issuerPatience is how long a new process says that it is not ready while the keys
	// of an issuer are being fetched for the first time. An issuer that is down then does
	// not keep it from serving everybody else.
	issuerPatience = 5 * time.Second

	// closeDelay keeps what a replaced configuration held alive for the checks that
	// still run with it.
	closeDelay = 10 * time.Second
)

// ErrConfiguration says that the configuration is broken; what is wrong has been printed.
var ErrConfiguration = errors.New("the configuration is broken")

// Options are what the command line says.
type Options struct {
	Config     string // path of the configuration file
	Env        func(string) (string, bool)
	Log        *Log
	Err        io.Writer // where the errors of the first load go, as a person reads them
	Build      metrics.Build
	Plain      bool
	Transport  extauthz.Transport
	ShadowAll  bool
	DrainDelay time.Duration // between saying NOT_SERVING and refusing connections
}

// service is a running process.
type service struct {
	options Options
	log     *Log
	metrics *metrics.Metrics
	gate    *extauthz.Gate
	door    *extauthz.Server
	secured []*transportSecurity
	garbage *garbageCollector
	limits  connectionLimits
	bounded []boundedListener

	loaded   atomic.Pointer[config.Loaded]
	records  atomic.Pointer[record.Log]     // nil: decisions are not recorded
	tracer   atomic.Pointer[tracing.Tracer] // nil: decisions are not traced
	collects atomic.Bool                    // decisions are sent to collector
	settled  atomic.Bool                    // the issuers of the first configuration have answered, or failed to
	draining atomic.Bool

	watcher   *config.Watcher   // nil where files cannot be watched
	collector *record.Collector // of the loop in Run; nil: records stay here
	retiring  sync.WaitGroup    // collectors that a reload replaced
	ending    <-chan struct{}   // closed when the process is to end

	mu       sync.Mutex
	loadedAt time.Time
	lostAt   time.Time       // when the log last said that records were lost
	broken   *config.Problem // the first error of the file on disk, if that one is not in use
}

// Run serves until ctx ends, then drains. A configuration that is broken at start is
// [ErrConfiguration]; later it is reported and the one before goes on.
func Run(ctx context.Context, o Options) error {
	loaded, report := config.Load(o.Config, o.Env, nil)
	if loaded == nil {
		fmt.Fprint(o.Err, report)
		return ErrConfiguration
	}
	s := &service{options: o, log: o.Log, metrics: metrics.New(o.Build), garbage: newGarbageCollector(o.Env), ending: ctx.Done()}
	s.log.Info("runtime", append(tune(o.Env, loaded.Config.GetListen().GetOps().GetPprof()), zap.String("transport", extauthz.Transports[o.Transport]))...)
	s.garbage.watch(ctx.Done())
	s.gate = extauthz.NewGate(extauthz.Options{ShadowAll: o.ShadowAll, Trace: s.trace, Observe: s.observe})
	s.metrics.Authenticators(s.authenticators, time.Now)

	listen := loaded.Config.GetListen()
	listeners, err := s.open(listen)
	if err != nil {
		return err
	}
	defer listeners.close()
	if s.door, err = s.newDoor(listen.GetGrpc(), loaded, listeners.grpcTLS); err != nil {
		return err
	}
	if err := s.use(loaded, report); err != nil {
		return err
	}
	changes := s.watch(ctx)

	ops := s.opsServer(listen.GetOps())
	// A listener that fails ends the process: half a service is worse than one that the
	// supervisor starts anew.
	failed := make(chan error, 4)
	go func() { failed <- fmt.Errorf("serving gRPC: %w", s.door.Serve(listeners.grpc)) }()
	go func() { failed <- fmt.Errorf("serving ops: %w", ops.Serve(listeners.ops)) }()
	s.log.Info("listening", zap.String("listener", "grpc"), zap.String("address", shownAddress(listeners.grpc.Addr())))
	s.log.Info("listening", zap.String("listener", "ops"), zap.String("address", shownAddress(listeners.ops.Addr())))
	web := s.webServer(listen.GetHttp(), loaded)
	if listeners.http != nil {
		go func() { failed <- fmt.Errorf("serving http: %w", web.Serve(listeners.http)) }()
		s.log.Info("listening", zap.String("listener", "http"), zap.String("address", shownAddress(listeners.http.Addr())))
	}
	admin := s.adminServer(listen.GetAdmin())
	if listeners.admin != nil {
		go func() { failed <- fmt.Errorf("serving the admin API: %w", admin.Serve(listeners.admin)) }()
		s.log.Info("listening", zap.String("listener", "admin"), zap.String("address", shownAddress(listeners.admin.Addr())))
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	settled := s.settle(ctx)
	issuers := newIssuerWatch(s.log)
	look := time.NewTicker(issuerLook)
	defer look.Stop()
	for {
		select {
		case <-settled:
			settled = nil
			s.settled.Store(true)
			s.door.SetServing(true)
			s.log.Info("serving")
		case <-hangups:
			s.reload()
		case <-changes:
			s.noticed()
		case now := <-look.C:
			issuers.look(s.authenticators(), now)
			s.garbage.adjust()
		case err := <-failed:
			return err
		case <-ctx.Done():
			s.drain()
			s.stopWeb(web)
			s.door.GracefulStop()
			s.closeTracer(s.tracer.Load())
			s.loaded.Load().Close()
			err := errors.Join(admin.Close(), ops.Close(), s.closeRecords(s.records.Load()), s.closeCollector(s.collector))
			s.retiring.Wait()
			return errors.Join(err, s.log.Close())
		}
	}
}

// observe is told of every decision.
func (s *service) observe(r *extauthz.Record) {
	s.metrics.Observe(r)
	tracing.End(r)
	s.log.Decision(r)
	if records := s.records.Load(); records != nil && !records.Write(r) {
		// A reload has closed it just now.
		if records = s.records.Load(); records != nil {
			records.Write(r)
		}
	}
}

func (s *service) authenticators() *authn.Set {
	if loaded := s.loaded.Load(); loaded != nil {
		return loaded.Gate.Set
	}
	return nil
}

// opened are the listeners, and the TLS of the one that gRPC does itself.
type opened struct {
	grpc, ops net.Listener
	http      net.Listener // nil: none
	admin     net.Listener // nil: the configuration has none
	grpcTLS   *transportSecurity
}

func (o *opened) close() {
	for _, l := range []net.Listener{o.grpc, o.ops, o.http, o.admin} {
		if l != nil {
			_ = l.Close() // most are closed by their servers
		}
	}
}

// open listens wherever the configuration says.
func (s *service) open(listen *configv1.Listen) (*opened, error) {
	o := &opened{}
	s.limitConnections(listen)
	var err error
	if o.grpc, o.grpcTLS, err = s.listen("grpc", listen.GetGrpc(), defaultGRPC, "h2"); err != nil {
		return nil, err
	}
	var security *transportSecurity
	if o.ops, security, err = s.listen("ops", listen.GetOps(), defaultOps, "h2", "http/1.1"); err != nil {
		o.close()
		return nil, err
	}
	o.ops = security.wrap(o.ops)
	for _, optional := range []struct {
		name     string
		listener *configv1.Listener
		opened   *net.Listener
	}{{"http", listen.GetHttp(), &o.http}, {"admin", listen.GetAdmin(), &o.admin}} {
		if optional.listener == nil {
			continue
		}
		if *optional.opened, security, err = s.listen(optional.name, optional.listener, "", "h2", "http/1.1"); err != nil {
			o.close()
			return nil, err
		}
		*optional.opened = security.wrap(*optional.opened)
	}
	return o, nil
}

func (s *service) listen(name string, l *configv1.Listener, address string, protocols ...string) (net.Listener, *transportSecurity, error) {
	if l.GetAddress() != "" {
		address = l.GetAddress()
	}
	mode, err := socketMode(l.GetMode())
	if err != nil {
		return nil, nil, fmt.Errorf("listener %s: %w", name, err)
	}
	security, err := s.secure(l.GetTls(), protocols)
	if err != nil {
		return nil, nil, fmt.Errorf("listener %s: %w", name, err)
	}
	listener, err := listen(address, mode)
	if err != nil {
		return nil, nil, fmt.Errorf("listener %s: %w", name, err)
	}
	return s.bound(name, listener), security, nil
}

// secure prepares the TLS of a listener; nil without.
func (s *service) secure(t *configv1.Tls, protocols []string) (*transportSecurity, error) {
	if t == nil {
		return nil, nil
	}
	security := &transportSecurity{
		certFile: s.path(t.GetCertFile()), keyFile: s.path(t.GetKeyFile()), clientCAFile: s.path(t.GetClientCaFile()),
		clientNames: t.GetClientNames(), protocols: protocols,
	}
	if err := security.Reload(); err != nil {
		return nil, err
	}
	s.secured = append(s.secured, security)
	return security, nil
}

func (s *service) newDoor(l *configv1.Listener, loaded *config.Loaded, security *transportSecurity) (*extauthz.Server, error) {
	options := extauthz.ServerOptions{
		Plain:            s.options.Plain,
		Limits:           loaded.Gate.Limits,
		MaxConnectionAge: l.GetMaxConnectionAge().AsDuration(),
		IdleTimeout:      idleTimeout(l, defaultGRPCIdle),
		Unary:            s.metrics.Unary,
		Stream:           s.metrics.Stream,
		Transport:        s.options.Transport,
	}
	if security != nil {
		options.Credentials = credentials.NewTLS(security.Config())
	}
	door, err := extauthz.NewServer(s.gate, options)
	if err != nil {
		return nil, fmt.Errorf("preparing the gRPC service: %w", err)
	}
	s.metrics.Serves(door)
	return door, nil
}

// settle is closed when [WaitForKeys] is done or issuerPatience is over, and the store,
// if there is one, was reached.
func (s *service) settle(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		patient, cancel := context.WithTimeout(ctx, issuerPatience)
		defer cancel()
		WaitForKeys(patient, s.authenticators())
		WaitForStore(ctx, s.store())
		s.loaded.Load().WaitForSigningKeys(ctx)
	}()
	return done
}

// stopWeb lets the requests in flight on the HTTP listener end.
func (s *service) stopWeb(web *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := web.Shutdown(ctx); err != nil {
		_ = web.Close() // they took too long
	}
}

// drain tells Envoy to send checks elsewhere, and goes on answering until it has noticed.
// Connections that are still open after stopTimeout are cut.
func (s *service) drain() {
	s.draining.Store(true)
	s.door.Drain()
	s.log.Info("draining", zap.Duration("delay", s.options.DrainDelay))
	if s.options.DrainDelay > 0 {
		<-time.After(s.options.DrainDelay)
	}
	time.AfterFunc(stopTimeout, s.door.Stop)
}
