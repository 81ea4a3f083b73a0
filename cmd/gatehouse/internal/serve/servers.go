package serve

import (
	"net/http"
	"time"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/connections"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

const (
	// headerTimeout is how long a client may take for the handshake of TLS, and again for
	// its request line and headers, or the preface of HTTP/2.
	headerTimeout = 10 * time.Second

	// requestTimeout is how long a client may take for a whole request, and answerTimeout
	// until it has the answer, for which the store or a provider may be asked.
	requestTimeout = 30 * time.Second
	answerTimeout  = 60 * time.Second

	// defaultIdle is how long a connection may be open without a request, and
	// defaultGRPCIdle on the gRPC listener: Envoy keeps its connections, and has to make
	// a new one, with a handshake, for the next request.
	defaultIdle     = 2 * time.Minute
	defaultGRPCIdle = 15 * time.Minute

	// webHeaderBytes is what a proxy may send along of its client's headers: more than the
	// gate's own limit, which answers better. operatorHeaderBytes are for a token.
	webHeaderBytes      = 256 << 10
	operatorHeaderBytes = 64 << 10

	// webStreams and operatorStreams are how many requests one HTTP/2 connection may have
	// open.
	webStreams      = 100
	operatorStreams = 16

	// streamBuffer and connectionBuffer are bytes of bodies that an HTTP/2 client may send
	// before they are read.
	streamBuffer     = 64 << 10
	connectionBuffer = 256 << 10

	// pingAfter is how long an HTTP/2 client may be silent before it is asked whether it
	// is there, pingTimeout how long it may take to say so, or to take what is written.
	pingAfter   = time.Minute
	pingTimeout = 15 * time.Second
)

// newHTTPServer makes a server of net/http whose every limit is set, so that a client
// costs no more than it may, however slow, large or many its requests.
func (s *service) newHTTPServer(name string, l *configv1.Listener, handler http.Handler) *http.Server {
	headerBytes, streams := operatorHeaderBytes, operatorStreams
	if !isForOperators(name) {
		headerBytes, streams = webHeaderBytes, webStreams
	}
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      answerTimeout, // what runs longer by itself (a CPU profile) adds its own time
		IdleTimeout:       idleTimeout(l, defaultIdle),
		MaxHeaderBytes:    headerBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streams,
			MaxReceiveBufferPerStream:     streamBuffer,
			MaxReceiveBufferPerConnection: connectionBuffer,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              pingTimeout,
		},
		ConnState: connections.State,
		ErrorLog:  s.log.HTTP(name),
	}
}

func idleTimeout(l *configv1.Listener, otherwise time.Duration) time.Duration {
	if idle := l.GetIdleTimeout().AsDuration(); idle > 0 {
		return idle
	}
	return otherwise
}

func (s *service) opsServer(l *configv1.Listener) *http.Server {
	return s.newHTTPServer("ops", l, opsHandler(s.metrics.Registry, s.conditions, l.GetPprof()))
}

func (s *service) webServer(l *configv1.Listener, loaded *config.Loaded) *http.Server {
	return s.newHTTPServer("http", l, extauthz.NewHTTPHandler(s.gate, loaded.Gate.Limits, http.NotFoundHandler()))
}
