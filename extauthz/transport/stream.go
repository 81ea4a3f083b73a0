package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A stream is one call. It is the context of its handler, too, so that one that is
// answered at once needs no other; it is never used again, as whoever goes on with
// something when the call is over may keep the context.
type stream struct {
	conn      *conn
	id        uint32
	method    *method
	fields    []hpack.HeaderField
	authority string
	content   string    // its type
	arrived   time.Time // not before that the call was there
	deadline  time.Time // zero: none

	// conn.mu guards these.
	ended      bool  // the client says no more
	expect     int64 // by content-length; -1: unknown
	length     int64 // bytes that came
	held       int64 // bytes of the metadata, of body and of waiting
	taken      int64 // bytes that came and that the client was not told that it may send again
	sendWindow int64
	body       []byte // messages that the handler has not taken
	wrong      error  // what the handler gets when there are no more; nil: there may be
	more       sync.Cond
	waiting    []byte // what of the answer waits for a window
	trailer    []byte // what follows that; nil: more messages may come
	blocked    bool   // it is among those of the connection
	headed     bool   // the head of the answer has been sent

	// These are the handler's, and whoever's is the context.
	phase   atomic.Uint32
	mu      sync.Mutex
	message []byte // of a call that is answered where it is read, until it is decoded
	fault   error  // why there is no message
	live    atomic.Pointer[live]
	err     error // of the context, when it has ended before anybody waited for that

	header, trailing metadata.MD // what the handler adds; its own, as is the use of SendMsg
}

// The phases of a call that is answered where it is read: who reads on is settled once.
const (
	elsewhere uint32 = iota // it has a goroutine of its own
	inline                  // its goroutine reads on when it is answered
	passed                  // another goroutine reads on
	answered
)

// A refusal is how a call ends that no handler sees: with an HTTP status where the client
// may not speak gRPC, else with one of gRPC.
type refusal struct {
	http int        // 0: it speaks gRPC
	code codes.Code // of gRPC
	text string
}

// accept takes what the head says. It gives why the call cannot be made.
func (s *stream) accept(h *head, server *Server) *refusal {
	s.more.L = &s.conn.mu
	switch {
	case h.truncated:
		return &refusal{http: 431, text: "The metadata are too long."}
	case h.method != "POST":
		return &refusal{http: 405, text: "This is a gRPC service: ask with POST, or with grpcurl."}
	case !isGRPC(h.contentType):
		return &refusal{http: 415, text: "This is a gRPC service: the content type is application/grpc."}
	}
	s.method = server.methods[h.path]
	if s.method == nil {
		return &refusal{code: codes.Unimplemented, text: "there is no method " + cut(h.path, maxPathText)}
	}
	if h.timeout != "" {
		timeout, ok := parseTimeout(h.timeout)
		if !ok {
			return &refusal{code: codes.Internal, text: "grpc-timeout is malformed"}
		}
		s.deadline = after(s.arrived, timeout)
	}
	s.fields = make([]hpack.HeaderField, 0, len(h.fields))
	for i := range h.fields {
		if name := h.fields[i].Name; !reserved(name) {
			s.fields = append(s.fields, h.fields[i])
		}
	}
	s.authority, s.content = h.authority, h.contentType
	return nil
}

// maxPathText is how much of a wrong path is told back: it may have cost the client a byte.
const maxPathText = 256

// overdue tells whether a call is over its deadline that no handler works on, which would
// have noticed.
func (s *stream) overdue(now time.Time) bool {
	if s.deadline.IsZero() || now.Before(s.deadline) {
		return false
	}
	return s.trailer != nil || s.method != nil && s.method.inline && !s.ended
}

// collect keeps a part of the message of a call that is answered where it is read. An
// error says that it will never be good.
func (s *stream) collect(data []byte) error {
	s.hold(len(data))
	s.body = append(s.body, data...)
	if _, err := single(s.body, s.conn.server.options.MessageBytes, false); err != nil {
		return err
	}
	s.credit()
	return nil
}

// hold counts bytes of messages that are kept.
func (s *stream) hold(n int) {
	s.held += int64(n)
	s.conn.held += int64(n)
}

// credit lets the client send as much as it has sent, if that is worth a frame.
func (s *stream) credit() {
	if s.ended || s.taken < int64(s.conn.server.options.Window)/2 {
		return
	}
	s.conn.out = appendWindowUpdate(s.conn.out, s.id, uint32(s.taken))
	s.taken = 0
}

var (
	errNoMessage  = status.Error(codes.Internal, "the call ended before its message")
	errTooMany    = status.Error(codes.Internal, "the call has more than one message")
	errCompressed = status.Error(codes.Unimplemented, "the message is compressed, which no client was told that it may be")
)

// split takes the first message off what came. n is what it took, 0 if there is no message
// yet.
func split(body []byte, limit int) (message []byte, n int, err error) {
	if len(body) < prefixLen {
		return nil, 0, nil
	}
	length := binary.BigEndian.Uint32(body[1:])
	switch {
	case body[0] != 0:
		return nil, 0, errCompressed
	case int64(length) > int64(limit):
		return nil, 0, status.Errorf(codes.ResourceExhausted, "the message has %d bytes, more than %d", length, limit)
	case len(body)-prefixLen < int(length):
		return nil, 0, nil
	}
	n = prefixLen + int(length)
	return body[prefixLen:n], n, nil
}

// single gives the only message of a call; all says that no more comes.
func single(body []byte, limit int, all bool) ([]byte, error) {
	message, n, err := split(body, limit)
	switch {
	case err != nil:
	case n == 0 && all:
		err = errNoMessage
	case n > 0 && n < len(body):
		err = errTooMany
	}
	return message, err
}

// answer answers a call whose message is complete, and tells whether another goroutine
// reads on meanwhile. body is valid until then.
func (s *stream) answer(body []byte) bool {
	c := s.conn
	message, err := single(body, c.server.options.MessageBytes, true)
	s.message, s.fault = message, err
	s.phase.Store(inline)
	reply, err := s.method.unary.Handler(s.method.service, s, s.decode, c.server.options.Unary)
	reads := s.phase.CompareAndSwap(inline, answered)
	size := s.reply(reply, err)
	if !reads {
		c.flush()
		return true
	}
	if now := time.Now(); size > writeSize || now.Sub(c.clock.read) > batchTime && now.Sub(c.flushed) > batchTime {
		c.flushed = now
		c.flush()
	}
	return false
}

// decode reads the message of a call that is answered where it is read.
func (s *stream) decode(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return s.fault
	}
	message := s.message
	s.message, s.fault = nil, errTooMany
	return s.conn.server.options.Codec.Unmarshal(message, v)
}

// Mine implements [patience.Turn].
func (s *stream) Mine() bool { return s.phase.Load() == inline }

// Pass implements [patience.Turn].
func (s *stream) Pass() {
	if !s.phase.CompareAndSwap(inline, passed) {
		return
	}
	s.mu.Lock()
	s.message = slices.Clone(s.message) // what comes next is read over it
	s.mu.Unlock()
	s.conn.server.running.Add(1)
	go s.conn.read()
}

// reply ends a unary call. It gives how many bytes are to be written now.
func (s *stream) reply(v any, err error) int {
	c := s.conn
	c.mu.Lock()
	c.handlers--
	c.noise = 0
	switch {
	case c.streams[s.id] != s: // nobody waits; the codec has to hear of it nevertheless
		if err == nil {
			_, _ = c.server.options.Codec.Append(nil, v)
		}
	case err != nil:
		s.finish(err)
	default:
		_ = s.send(v, true) // what cannot be written has been answered with that
	}
	size := len(c.out)
	c.mu.Unlock()
	s.cancel()
	return size
}

// deliver gives what came to a handler in a goroutine of its own. That one takes the
// messages apart: until then they cost us no more than they cost the client.
func (s *stream) deliver(data []byte) {
	if s.wrong != nil {
		return // the handler will hear of it
	}
	s.hold(len(data))
	s.body = append(s.body, data...)
	if s.ended {
		s.wrong = io.EOF
	}
	s.creditUnread()
	s.more.Broadcast()
}

// creditUnread lets the client send more where the handler cannot go on without.
func (s *stream) creditUnread() {
	if _, n, err := split(s.body, s.conn.server.options.MessageBytes); n == 0 && err == nil {
		s.credit()
	}
}

// serve answers a call in a goroutine of its own.
func (s *stream) serve() {
	defer s.conn.server.running.Done()
	stop := context.AfterFunc(s, func() { // wake who waits
		s.conn.mu.Lock()
		defer s.conn.mu.Unlock()
		s.more.Broadcast()
	})
	defer stop()
	o := &s.conn.server.options
	if s.method.unary != nil {
		reply, err := s.method.unary.Handler(s.method.service, s, s.RecvMsg, o.Unary)
		s.reply(reply, err)
		s.conn.flush()
		return
	}
	var err error
	d := s.method.stream
	if o.Stream != nil {
		info := &grpc.StreamServerInfo{FullMethod: s.method.full, IsClientStream: d.ClientStreams, IsServerStream: d.ServerStreams}
		err = o.Stream(s.method.service, s, info, d.Handler)
	} else {
		err = d.Handler(s.method.service, s)
	}
	c := s.conn
	c.mu.Lock()
	c.handlers--
	c.noise = 0
	if c.streams[s.id] == s {
		s.finish(err)
	}
	c.mu.Unlock()
	s.cancel()
	c.flush()
}

// Context implements [grpc.ServerStream].
func (s *stream) Context() context.Context { return s }

// RecvMsg implements [grpc.ServerStream].
func (s *stream) RecvMsg(v any) error {
	message, err := s.receive()
	if err != nil {
		return err
	}
	return s.conn.server.options.Codec.Unmarshal(message, v)
}

func (s *stream) receive() ([]byte, error) {
	c := s.conn
	c.mu.Lock()
	for s.Err() == nil {
		message, n, err := split(s.body, c.server.options.MessageBytes)
		switch {
		case n > 0:
			message = slices.Clone(message)
			if s.body = s.body[n:]; len(s.body) == 0 {
				s.body = nil
			}
			s.hold(-n)
			s.creditUnread()
			c.mu.Unlock()
			c.flush()
			return message, nil
		case err != nil:
			s.wrong = err
		case errors.Is(s.wrong, io.EOF) && len(s.body) > 0:
			s.wrong = errNoMessage
		}
		if s.wrong != nil {
			defer c.mu.Unlock()
			return nil, s.wrong
		}
		s.more.Wait()
	}
	c.mu.Unlock()
	return nil, status.FromContextError(s.Err()).Err()
}

// SendMsg implements [grpc.ServerStream]. It waits while the client takes nothing.
func (s *stream) SendMsg(v any) error {
	c := s.conn
	c.mu.Lock()
	for len(s.waiting) > 0 && s.Err() == nil {
		s.more.Wait()
	}
	err := s.Err()
	if err == nil && c.streams[s.id] != s {
		err = context.Canceled
	}
	if err != nil {
		c.mu.Unlock()
		return status.FromContextError(err).Err()
	}
	err = s.send(v, false)
	c.noise = 0
	c.mu.Unlock()
	c.flush()
	return err
}

// A call is a stream as [grpc.SetHeader] and the like want it.
type call struct{ *stream }

// Method implements [grpc.ServerTransportStream].
func (c call) Method() string { return c.method.full }

// SetTrailer implements [grpc.ServerTransportStream].
func (c call) SetTrailer(md metadata.MD) error {
	c.stream.SetTrailer(md)
	return nil
}

// SetHeader implements [grpc.ServerStream].
func (s *stream) SetHeader(md metadata.MD) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.headed {
		return errors.New("the header has been sent")
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

// SendHeader implements [grpc.ServerStream].
func (s *stream) SendHeader(md metadata.MD) error {
	if err := s.SetHeader(md); err != nil {
		return err
	}
	s.conn.mu.Lock()
	s.sendHead()
	s.conn.mu.Unlock()
	s.conn.flush()
	return nil
}

// SetTrailer implements [grpc.ServerStream].
func (s *stream) SetTrailer(md metadata.MD) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.trailing = metadata.Join(s.trailing, md)
}
