package transport

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

const (
	// writeTimeout is how long a client may take no byte of what is written to it.
	writeTimeout = 20 * time.Second

	// tick is how often what has to end is looked for.
	tick = time.Second

	// acceptRetry is the longest wait after the listener could not accept.
	acceptRetry = time.Second
)

// Codec reads and writes the messages of all methods.
type Codec interface {
	// Unmarshal reads message into v, and keeps no part of message.
	Unmarshal(message []byte, v any) error

	// Append appends the message of v. It is called once for every v that a handler of
	// a unary method returns, and may use v again.
	Append(dst []byte, v any) ([]byte, error)
}

// Options are the bounds of a server. Those of one connection hold for each.
type Options struct {
	Codec       Codec
	Credentials credentials.TransportCredentials // nil: no TLS
	Unary       grpc.UnaryServerInterceptor      // nil: none
	Stream      grpc.StreamServerInterceptor     // nil: none

	// Inline tells of which unary methods calls are answered where they are read. They
	// must call [patience.Ahead] before they wait.
	Inline func(fullMethod string) bool

	MessageBytes   int           // of one request; more is answered with RESOURCE_EXHAUSTED
	Streams        uint32        // calls of one connection at once; more are refused
	HeaderBytes    uint32        // of the metadata of a call, as RFC 9113 section 10.5.1 counts them
	Window         uint32        // bytes of a stream that a client may send ahead
	ConnectTimeout time.Duration // for the handshakes of TLS and HTTP/2
	MaxAge         time.Duration // after which a client is asked to reconnect; 0: no limit
	IdleTimeout    time.Duration // without a call, after which a connection ends; 0: never
}

// A Server serves gRPC. Its methods are those of [grpc.Server] by the same names.
type Server struct {
	options  Options
	tick     time.Duration // how often connections are looked after; tests have less time
	patience time.Duration // how long a client may take nothing; likewise
	services map[string]grpc.ServiceInfo
	methods  map[string]*method // by full name

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	draining  bool
	stopped   bool
	ended     chan struct{}  // closed when the server stops
	running   sync.WaitGroup // goroutines of connections
	watch     sync.Once
}

// A method is one that a service has.
type method struct {
	full    string
	service any
	unary   *grpc.MethodDesc // nil: it is a stream
	stream  *grpc.StreamDesc
	inline  bool
}

// New makes a server without services.
func New(options Options) (*Server, error) {
	switch {
	case options.Codec == nil:
		return nil, errors.New("there is no codec")
	case options.MessageBytes <= 0 || options.Streams == 0 || options.HeaderBytes == 0 || options.ConnectTimeout <= 0:
		return nil, errors.New("a bound is missing")
	case options.Window < minWindow || options.Window > maxWindow:
		return nil, fmt.Errorf("the window is not between %d and %d bytes", minWindow, maxWindow)
	}
	return &Server{
		options:   options,
		tick:      tick,
		patience:  writeTimeout,
		services:  map[string]grpc.ServiceInfo{},
		methods:   map[string]*method{},
		listeners: map[net.Listener]struct{}{},
		conns:     map[*conn]struct{}{},
		ended:     make(chan struct{}),
	}, nil
}

// RegisterService adds the methods of a service. It is called before Serve.
func (s *Server) RegisterService(d *grpc.ServiceDesc, service any) {
	info := grpc.ServiceInfo{Metadata: d.Metadata}
	for i := range d.Methods {
		m := &method{full: "/" + d.ServiceName + "/" + d.Methods[i].MethodName, service: service, unary: &d.Methods[i]}
		m.inline = s.options.Inline != nil && s.options.Inline(m.full)
		s.methods[m.full] = m
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: d.Methods[i].MethodName})
	}
	for i := range d.Streams {
		m := &method{full: "/" + d.ServiceName + "/" + d.Streams[i].StreamName, service: service, stream: &d.Streams[i]}
		s.methods[m.full] = m
		info.Methods = append(info.Methods, grpc.MethodInfo{
			Name: d.Streams[i].StreamName, IsClientStream: d.Streams[i].ClientStreams, IsServerStream: d.Streams[i].ServerStreams,
		})
	}
	s.services[d.ServiceName] = info
}

// GetServiceInfo tells the services and their methods.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo { return s.services }

// Serve serves the connections of l until the server stops, which gives nil, or until l
// fails for good. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.draining || s.stopped {
		s.mu.Unlock()
		l.Close()
		return grpc.ErrServerStopped
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	s.watch.Do(func() { go s.lookAfter() })
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.ending() {
				<-s.ended
				return nil
			}
			if temporary, ok := err.(interface{ Temporary() bool }); !ok || !temporary.Temporary() {
				return err
			}
			wait = min(max(5*time.Millisecond, 2*wait), acceptRetry)
			select {
			case <-time.After(wait):
			case <-s.ended:
			}
			continue
		}
		wait = 0
		s.open(nc)
	}
}

func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining || s.stopped
}

// open begins a connection.
func (s *Server) open(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.stopped {
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.running.Add(1)
	go c.begin()
}

// forget is called when a connection has ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// lookAfter ends what has lasted too long.
func (s *Server) lookAfter() {
	t := time.NewTicker(s.tick)
	defer t.Stop()
	for {
		select {
		case <-s.ended:
			return
		case now := <-t.C:
			for _, c := range s.connections() {
				c.look(now)
			}
		}
	}
}

func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// GracefulStop accepts no more connections and calls, and waits for those there are.
func (s *Server) GracefulStop() {
	s.mu.Lock()
	s.draining = true
	s.closeListeners()
	s.mu.Unlock()
	for _, c := range s.connections() {
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
	s.running.Wait()
	s.stop()
}

// Stop ends all connections and the contexts of their calls, and does not wait for those.
func (s *Server) Stop() {
	s.stop()
	for _, c := range s.connections() {
		c.close()
	}
}

func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeListeners()
	if !s.stopped {
		s.stopped = true
		close(s.ended)
	}
}

func (s *Server) closeListeners() {
	for l := range s.listeners {
		l.Close()
	}
}
