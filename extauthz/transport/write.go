package transport

import (
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// writeSize is how much may wait to be written before it is.
	writeSize = 32 << 10

	// heldMost is how many bytes of messages that no handler has taken one connection may
	// make us keep.
	heldMost = 32 << 20
)

// flush writes what there is to write, unless somebody does: that one takes it along. It
// waits while that is too much. false: the connection has ended.
func (c *conn) flush() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && len(c.out) > writeSize && !c.closed {
		c.written.Wait()
	}
	if c.writing || c.closed {
		return !c.closed
	}
	return c.write()
}

// flushAside is flush for who looks after all connections, and must not wait for one.
func (c *conn) flushAside() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A connection that is to end, and has nothing to say any more, ends with a flush, too.
	if c.writing || c.closed || !c.ready || len(c.out) == 0 && c.refused == 0 {
		return
	}
	c.server.running.Add(1)
	go func() {
		defer c.server.running.Done()
		c.flush()
	}()
}

// write writes all that there is. It is called with c.mu held, which it gives up meanwhile.
func (c *conn) write() bool {
	if c.finished {
		c.out = c.out[:0]
		return true
	}
	c.writing = true
	for len(c.out) > 0 && !c.closed {
		full := c.out
		c.out, c.spare = c.spare[:0], nil
		c.writingSince = time.Now()
		c.mu.Unlock()
		_, err := c.nc.Write(full)
		c.mu.Lock()
		if cap(full) <= 2*writeSize {
			c.spare = full[:0]
		}
		c.written.Broadcast()
		if err != nil && !c.closed {
			c.mu.Unlock()
			c.close()
			c.mu.Lock()
		}
	}
	c.writing = false
	if c.refused != 0 && len(c.streams) == 0 && c.handlers == 0 && !c.closed {
		c.finished = true // it was asked to end, and has
		c.mu.Unlock()
		if !c.halfClose() {
			c.close()
		}
		c.mu.Lock()
	}
	return !c.closed
}

// halfClose says that no more is written, and gives the client some time to read the rest:
// closing while it still sends would take back what it has not read. false: that is not
// possible here.
func (c *conn) halfClose() bool {
	half, ok := c.nc.(interface{ CloseWrite() error })
	for below := c.nc; !ok; half, ok = below.(interface{ CloseWrite() error }) {
		wrapped, is := below.(interface{ NetConn() net.Conn })
		if !is {
			return false
		}
		below = wrapped.NetConn()
	}
	return half.CloseWrite() == nil && c.nc.SetReadDeadline(time.Now().Add(lingering)) == nil
}

// sendHead sends the head of an answer if that has not been done.
func (s *stream) sendHead() {
	if s.headed || s.conn.streams[s.id] != s {
		return
	}
	s.headed = true
	c := s.conn
	at := len(c.out)
	c.out = appendFrame(c.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.id)
	c.out = append(c.out, answerHead...)
	c.out = appendMetadata(c.out, s.header)
	setLength(c.out, at)
}

// send sends a message; last says that it is the only one, and OK. It is called with the
// connection's lock held, for a stream that is open.
func (s *stream) send(v any, last bool) error {
	c := s.conn
	s.sendHead()
	at := len(c.out)
	out := appendFrame(c.out, 0, http2.FrameData, 0, s.id)
	out = append(out, 0, 0, 0, 0, 0)
	out, err := c.server.options.Codec.Append(out, v)
	if err != nil {
		err = status.Errorf(codes.Internal, "writing the message: %v", err)
		if last {
			s.finish(err)
		}
		return err
	}
	n := len(out) - at - frameHeaderLen
	length := n - prefixLen
	prefix := out[at+frameHeaderLen:]
	prefix[1], prefix[2], prefix[3], prefix[4] = byte(length>>24), byte(length>>16), byte(length>>8), byte(length)
	if n > c.frameSize || int64(n) > c.sendWindow || int64(n) > s.sendWindow || len(c.blocked) > 0 {
		// It goes in pieces, when the client takes them.
		s.waiting = append(s.waiting, out[at+frameHeaderLen:]...)
		c.out = out[:at]
		if last {
			s.trailer = s.trailers(nil)
		}
		c.wait(s)
		return nil
	}
	setLength(out, at)
	c.out = out
	c.sendWindow -= int64(n)
	s.sendWindow -= int64(n)
	if last {
		s.close(s.trailers(nil))
	}
	return nil
}

// finish ends the answer: with err, or, if that is nil, with OK.
func (s *stream) finish(err error) {
	trailer := s.trailers(err)
	if len(s.waiting) > 0 {
		s.trailer = trailer
		return
	}
	s.close(trailer)
}

// trailers are the fields that end an answer.
func (s *stream) trailers(err error) []byte {
	if err == nil && s.trailing == nil {
		return okTrailer
	}
	st := status.Convert(err)
	return appendMetadata(appendStatus(nil, st.Code(), st.Message()), s.trailing)
}

var okTrailer = []byte(grpcStatusOK)

// close ends an answer of which nothing waits.
func (s *stream) close(trailer []byte) {
	c := s.conn
	at := len(c.out)
	c.out = appendFrame(c.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, s.id)
	if !s.headed { // nothing but trailers
		c.out = append(append(c.out, answerHead...), appendMetadata(nil, s.header)...)
	}
	c.out = append(c.out, trailer...)
	setLength(c.out, at)
	if !s.ended {
		c.out = appendReset(c.out, s.id, http2.ErrCodeNo)
	}
	c.remove(s)
}

// refuse ends a call that no handler sees.
func (c *conn) refuse(s *stream, r *refusal) {
	if r.http == 0 {
		s.close(appendStatus(nil, r.code, r.text))
		return
	}
	at := len(c.out)
	c.out = appendFrame(c.out, 0, http2.FrameHeaders, http2.FlagHeadersEndHeaders, s.id)
	c.out = append(appendHTTPStatus(c.out, r.http), textContent...)
	setLength(c.out, at)
	s.headed = true
	s.waiting, s.trailer = append([]byte(r.text), '\n'), []byte{}
	c.wait(s)
}

// remove forgets a stream. Its handler, if it still runs, writes nothing any more.
func (c *conn) remove(s *stream) {
	delete(c.streams, s.id)
	if s.blocked {
		i := slices.Index(c.blocked, s)
		s.blocked, c.blocked = false, slices.Delete(c.blocked, i, i+1)
		if len(c.blocked) == 0 {
			c.stalledSince = time.Time{}
		}
	}
	s.hold(-int(s.held))
	s.body, s.inbox, s.waiting = nil, nil, nil
	s.more.Broadcast()
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
	}
}

// wait lets the answer of a stream wait for a window.
func (c *conn) wait(s *stream) {
	if !s.blocked {
		s.blocked = true
		c.blocked = append(c.blocked, s)
	}
	c.sendBlocked()
}

// sendBlocked sends what the windows let.
func (c *conn) sendBlocked() {
	kept := c.blocked[:0]
	progress := false
	for _, s := range c.blocked {
		for len(s.waiting) > 0 {
			n := min(int64(len(s.waiting)), int64(c.frameSize), c.sendWindow, s.sendWindow)
			if n <= 0 {
				break
			}
			c.out = appendFrame(c.out, int(n), http2.FrameData, 0, s.id)
			c.out = append(c.out, s.waiting[:n]...)
			s.waiting = s.waiting[n:]
			c.sendWindow -= n
			s.sendWindow -= n
			progress = true
		}
		s.blocked = len(s.waiting) > 0
		switch {
		case s.blocked:
			kept = append(kept, s)
		case s.trailer != nil:
			s.waiting = nil
			s.close(s.trailer)
		default:
			s.waiting = nil
			s.more.Broadcast()
		}
	}
	clear(c.blocked[len(kept):])
	c.blocked = kept
	switch {
	case len(kept) == 0:
		c.stalledSince = time.Time{}
	case progress || c.stalledSince.IsZero():
		c.stalledSince = time.Now()
	}
}

// jittered is age and up to a tenth more or less, so that clients that came together do
// not come again together.
func jittered(age time.Duration) time.Duration {
	if age <= 0 {
		return 0
	}
	return age + time.Duration((rand.Float64()*2-1)/10*float64(age))
}
