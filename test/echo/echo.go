// Package echo is an upstream that answers with what it received: HTTP/1.1, HTTP/2
// without TLS, gRPC and WebSocket on one port. Tests read from it what a service behind
// Envoy would have been told. Start reading at [Serve].
package echo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
)

// Received is one request as it came in, and the JSON that the client gets back.
type Received struct {
	Protocol string      `json:"protocol"` // HTTP/1.1 or HTTP/2.0
	Method   string      `json:"method"`
	Target   string      `json:"target"` // path and query, undecoded
	Host     string      `json:"host"`
	Headers  [][2]string `json:"headers"` // see headers
	Body     string      `json:"body"`
}

// maxBody bounds what is read and sent back.
const maxBody = 1 << 20

// Server is a running upstream. Its methods are safe for concurrent use.
type Server struct {
	address string
	http    *http.Server
	grpc    *grpc.Server
	served  atomic.Int64
}

// Serve listens on address (host:port, port 0 for any) until Close.
//
// Any path answers 200 with [Received] as JSON; a WebSocket handshake gets its frames
// back; a unary gRPC call to any method gets a google.protobuf.Struct with the fields
// "method" and "metadata".
func Serve(address string) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{address: listener.Addr().String()}
	s.grpc = grpc.NewServer(grpc.UnknownServiceHandler(s.call))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler:   http.HandlerFunc(s.handle),
		Protocols: protocols,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go func() {
		// Close makes Serve return ErrServerClosed; a listener that fails earlier shows in the
		// requests that then fail.
		_ = s.http.Serve(recordingListener{listener})
	}()
	return s, nil
}

// Address is the host:port that the server listens on.
func (s *Server) Address() string { return s.address }

// Served counts the requests that arrived, of every kind.
func (s *Server) Served() int64 { return s.served.Load() }

// Close ends the server and its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	s.grpc.Stop()
	return err
}

func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		s.grpc.ServeHTTP(w, r)
		return
	}
	s.served.Add(1)
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		websocket.Server{Handler: func(ws *websocket.Conn) { _, _ = io.Copy(ws, ws) }}.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Upstream", "echo")
	w.Header().Add("Set-Cookie", "upstream=1")
	answer := json.NewEncoder(w)
	answer.SetEscapeHTML(false)
	// A client that is gone reads no answer.
	_ = answer.Encode(Received{
		Protocol: r.Proto, Method: r.Method, Target: r.RequestURI, Host: r.Host,
		Headers: headers(r), Body: string(body),
	})
}

// headers lists the request's headers: of HTTP/1.1 as they came over the wire, in their
// order and spelling; of HTTP/2, where net/http keeps neither, sorted and lower-case.
func headers(r *http.Request) [][2]string {
	if conn, ok := r.Context().Value(connKey{}).(*recordingConn); ok && r.ProtoMajor == 1 {
		return conn.takeHeaders()
	}
	var list [][2]string
	for name, values := range r.Header {
		for _, value := range values {
			list = append(list, [2]string{strings.ToLower(name), value})
		}
	}
	slices.SortStableFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}

// call answers any gRPC method.
func (s *Server) call(_ any, stream grpc.ServerStream) error {
	s.served.Add(1)
	var request structpb.Struct
	if err := stream.RecvMsg(&request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	md, _ := metadata.FromIncomingContext(stream.Context())
	received := map[string]any{}
	for name, values := range md {
		received[name] = strings.Join(values, ",")
	}
	answer, err := structpb.NewStruct(map[string]any{"method": method, "metadata": received})
	if err != nil {
		return err
	}
	return stream.SendMsg(answer)
}

type connKey struct{}

// recordingListener makes connections that remember what was read from them.
type recordingListener struct{ net.Listener }

func (l recordingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &recordingConn{Conn: conn}, nil
}

// recordingConn keeps the bytes of the request being read, because net/http gives back
// neither the order of headers nor how they were spelled.
type recordingConn struct {
	net.Conn
	mu   sync.Mutex
	read []byte
}

// maxRecorded bounds the memory of a connection; heads beyond it are cut.
const maxRecorded = 256 << 10

func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if room := maxRecorded - len(c.read); room > 0 {
		c.read = append(c.read, p[:min(n, room)]...)
	}
	return n, err
}

// takeHeaders parses the head that was read and forgets it. The caller has read the whole
// request and not yet answered: the next one is not on the wire.
func (c *recordingConn) takeHeaders() [][2]string {
	c.mu.Lock()
	head, _, _ := bytes.Cut(c.read, []byte("\r\n\r\n"))
	c.read = nil
	c.mu.Unlock()

	var list [][2]string
	for i, line := range strings.Split(string(head), "\r\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && i > 0 {
			list = append(list, [2]string{name, strings.TrimSpace(value)})
		}
	}
	return list
}
