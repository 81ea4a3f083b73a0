package transport

import (
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// writeSize is how much may wait to be written before it is.
	writeSize = 32 << 10

	// heldMost is how many bytes of metadata, of messages that no handler has taken, and of
	// answers that the client does not take, one connection may make us keep.
	heldMost = 32 << 20

	// muchProgress is how many bytes of an answer have to go for a window to be no noise.
	muchProgress = 1 << 10
)

// flush writes what there is to write, unless somebody does: that one takes it along. It
// waits while that is too much. false: the connection has ended.
func (c *conn) flush() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && len(c.out) > writeSize && !c.closed {
		c.written.Wait()
	}
	if !c.writing && !c.closed {
		c.write()
	}
	return !c.closed
}

// flushAside is flush for who must not wait for the client. It is called with c.mu held.
func (c *conn) flushAside() {
	// A connection that is to end, and has nothing to say any more, ends with a flush, too.
	if c.writing || c.closed || !c.ready || len(c.out) == 0 && !c.refusing {
		return
	}
	c.server.running.Add(1)
	go func() {
		defer c.server.running.Done()
		c.flush()
	}()
}

// write writes all that there is. It is called with c.mu held, which it gives up meanwhile.
func (c *conn) write() {
	c.writing = true
	for len(c.out) > 0 && !c.closed {
		full := c.out
		c.out, c.spare = c.spare[:0], nil
		if c.hungUp {
			continue
		}
		c.writingSince = time.Now()
		c.mu.Unlock()
		_, err := c.nc.Write(full)
		c.mu.Lock()
		if cap(full) <= 2*writeSize {
			c.spare = full[:0]
		}
		c.written.Broadcast()
		if err != nil {
			c.shut()
		}
	}
	over := c.failed || c.refusing && len(c.streams) == 0 && c.handlers == 0
	if over && !c.hungUp && !c.closed {
		c.hangUp()
	}
	c.writing = false
}

// hangUp ends our side when all is said, and lets the client read it: were the line closed
// while something that it sent is unread, it might not get to. Whoever reads closes.
func (c *conn) hangUp() {
	c.hungUp = true
	c.writingSince = time.Now()
	c.mu.Unlock()
	half, ok := c.nc.(interface{ CloseWrite() error })
	ok = ok && half.CloseWrite() == nil && c.nc.SetReadDeadline(time.Now().Add(lingering)) == nil
	c.mu.Lock()
	c.written.Broadcast()
	if !ok {
		c.shut()
	}
}

// openBlock begins a header block that is one frame, and tells where it is.
func (c *conn) openBlock(id uint32, flags http2.Flags) (at int) {
	at = len(c.out)
	c.out = appendFrame(c.out, 0, http2.FrameHeaders, flags, id)
	if c.resize {
		c.out = append(c.out, tableOfNothing)
		c.resize = false
	}
	return at
}

// sendHead sends the head of an answer if that has not been done.
func (s *stream) sendHead() {
	if s.headed || s.conn.streams[s.id] != s {
		return
	}
	s.headed = true
	c := s.conn
	at := c.openBlock(s.id, http2.FlagHeadersEndHeaders)
	c.out = append(c.out, answerHead...)
	if s.header != nil {
		c.out = append(c.out, appendMetadata(nil, s.header)...)
	}
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
	if n > c.frameSize || int64(n) > c.sendWindow || int64(n) > s.sendWindow {
		// It goes in pieces, when the client takes them.
		s.waiting = append(s.waiting, out[at+frameHeaderLen:]...)
		s.hold(n)
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
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	return appendMetadata(s.appendStatus(st), s.trailing)
}

// appendStatus is what tells of st. Its details are left out where they would not fit.
func (s *stream) appendStatus(st *status.Status) []byte {
	block := appendStatus(nil, st.Code(), st.Message())
	if p := st.Proto(); len(p.GetDetails()) > 0 {
		details, err := s.conn.server.options.Codec.Append(nil, p)
		if err == nil && len(details) <= maxStatusText/2 {
			block = appendField(block, "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(details))
		}
	}
	return block
}

var okTrailer = []byte(grpcStatusOK)

// close ends an answer of which nothing waits.
func (s *stream) close(trailer []byte) {
	c := s.conn
	at := c.openBlock(s.id, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream)
	if !s.headed { // nothing but trailers
		c.out = append(append(c.out, answerHead...), appendMetadata(nil, s.header)...)
	}
	c.out = append(c.out, trailer...)
	setLength(c.out, at)
	if !s.ended {
		c.out = appendReset(c.out, s.id, http2.ErrCodeNo)
		c.leave(s.id)
	}
	c.remove(s)
}

// refuse ends a call that no handler sees.
func (c *conn) refuse(s *stream, r *refusal) {
	if r.http == 0 {
		s.close(appendStatus(nil, r.code, r.text))
		return
	}
	at := c.openBlock(s.id, http2.FlagHeadersEndHeaders)
	c.out = append(appendHTTPStatus(c.out, r.http), textContent...)
	setLength(c.out, at)
	s.headed = true
	s.waiting, s.trailer = append([]byte(r.text), '\n'), []byte{}
	s.hold(len(s.waiting))
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
	s.body, s.waiting = nil, nil
	s.more.Broadcast()
	if len(c.streams) == 0 {
		c.idleSince = time.Now()
	}
}

// wait lets the answer of a stream wait for a window, as far as there is none.
func (c *conn) wait(s *stream) {
	progress := c.sendSome(s)
	if len(s.waiting) == 0 {
		s.sent()
		return
	}
	s.blocked = true
	c.blocked = append(c.blocked, s)
	if progress || c.stalledSince.IsZero() {
		c.stalledSince = time.Now()
	}
}

// sendSome sends as much of what waits as the windows let, and tells whether that is any.
func (c *conn) sendSome(s *stream) (any bool) {
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
		s.hold(-int(n))
		if n >= muchProgress {
			c.noise = 0
		}
		any = true
	}
	return any
}

// sent goes on when nothing waits any more.
func (s *stream) sent() {
	s.waiting = nil
	if s.trailer != nil {
		s.close(s.trailer)
		return
	}
	s.more.Broadcast()
}

// sendBlocked sends what the windows let.
func (c *conn) sendBlocked() {
	if len(c.blocked) == 0 {
		return
	}
	kept := c.blocked[:0]
	progress := false
	for _, s := range c.blocked {
		if c.sendSome(s) {
			progress = true
		}
		if len(s.waiting) > 0 {
			kept = append(kept, s)
			continue
		}
		s.blocked = false
		s.sent()
	}
	clear(c.blocked[len(kept):])
	c.blocked = kept
	switch {
	case len(kept) == 0:
		c.stalledSince = time.Time{}
	case progress:
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
