package transport

import (
	"net"
	"time"

	"golang.org/x/net/http2"
)

// frame does what a frame says. It tells whether somebody else reads on.
func (c *conn) frame(f http2.Frame) (passed bool, err error) {
	if !c.greeted {
		s, ok := f.(*http2.SettingsFrame)
		if !ok || s.IsAck() {
			return false, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if err := c.greetedBack(); err != nil {
			return false, err
		}
	}
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.headers(f)
	case *http2.ContinuationFrame:
		return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		return c.data(f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := f.(type) {
	case *http2.WindowUpdateFrame:
		return false, c.windowUpdate(f)
	case *http2.SettingsFrame:
		if !f.IsAck() {
			if err := c.settings(f); err != nil {
				return false, err
			}
		}
	case *http2.PingFrame:
		if f.IsAck() {
			if c.draining && !c.refusing && f.Data == drainPing {
				c.refuseMore()
			}
			break
		}
		c.out = appendPing(c.out, http2.FlagPingAck, f.Data)
	case *http2.RSTStreamFrame:
		if c.idle(f.StreamID) {
			return false, http2.ConnectionError(http2.ErrCodeProtocol)
		}
		if s := c.streams[f.StreamID]; s != nil {
			c.remove(s)
			s.cancel()
		} else {
			c.hasLeft(f.StreamID, true)
		}
		return false, c.heardOf(resetNoise)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return false, http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.GoAwayFrame: // the client ends the connection when it has its answers
	case *http2.PushPromiseFrame:
		return false, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return false, c.heard()
}

// greetedBack lifts the deadline of the greeting, unless there is another one by now.
func (c *conn) greetedBack() error {
	c.greeted = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hungUp {
		return nil
	}
	return c.nc.SetDeadline(time.Time{})
}

// heard counts a frame that asks for no answer. It is called by whoever reads.
func (c *conn) heard() error { return c.heardOf(usualNoise) }

func (c *conn) heardOf(noise int) error {
	if len(c.out) > writeSize {
		c.full = true
	}
	if c.noise += noise; c.noise > maxNoise {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

func (c *conn) settings(f *http2.SettingsFrame) error {
	// Of a value that is set several times the last counts: each change costs a look at
	// every stream, and a frame has room for thousands.
	window := c.streamWindow
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			window = int64(s.Val)
		case http2.SettingHeaderTableSize:
			// We use no table, but where the client takes room away it waits to hear that
			// we know (RFC 9113 section 4.3.1).
			if s.Val < c.tableSize {
				c.tableSize, c.resize = 0, true
			}
		case http2.SettingMaxFrameSize:
			c.frameSize = min(int(s.Val), 64<<10)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if more := window - c.streamWindow; more != 0 {
		c.streamWindow = window
		for _, open := range c.streams {
			if open.sendWindow += more; open.sendWindow > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
		}
	}
	c.out = appendSettingsAck(c.out)
	c.sendBlocked()
	return nil
}

func (c *conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.sendWindow += int64(f.Increment); c.sendWindow > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.sendBlocked()
		return c.heard()
	}
	if c.idle(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if s := c.streams[f.StreamID]; s != nil {
		if s.sendWindow += int64(f.Increment); s.sendWindow > maxWindow {
			return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
		}
		c.sendBlocked()
	}
	return c.heard()
}

// headers begins a header block.
func (c *conn) headers(f *http2.HeadersFrame) (bool, error) {
	if f.StreamID%2 == 0 {
		return false, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.heading, c.block, c.ends = f.StreamID, 0, f.StreamEnded()
	c.head.reset()
	if f.HasPriority() && f.Priority.StreamDep == f.StreamID {
		c.head.malformed = true
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// fragment reads a part of a header block.
func (c *conn) fragment(part []byte, ended bool) (bool, error) {
	// Whatever is too much for the list is read nevertheless, as what follows depends on
	// it; but not without end.
	if c.block += frameHeaderLen + len(part); c.block > 2*int(c.head.limit) {
		return false, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if _, err := c.hpack.Write(part); err != nil {
		return false, http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !ended {
		return false, nil
	}
	if err := c.hpack.Close(); err != nil {
		return false, http2.ConnectionError(http2.ErrCodeCompression)
	}
	id := c.heading
	c.heading = 0
	if id <= c.last {
		return c.trailers(id)
	}
	return c.request(id)
}

// trailers ends the client's side of a stream by a second header block.
func (c *conn) trailers(id uint32) (bool, error) {
	c.mu.Lock()
	s := c.streams[id]
	var err error
	switch {
	case s == nil && !c.hasLeft(id, c.ends):
		err = http2.ConnectionError(http2.ErrCodeStreamClosed)
	case s != nil && s.ended:
		err = http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	case !c.ends || c.head.malformed || c.head.pseudo != 0:
		err = http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	case s == nil:
		err = c.heard()
	default:
		return c.received(s, nil, true)
	}
	c.mu.Unlock()
	return false, err
}

// request begins a call.
func (c *conn) request(id uint32) (bool, error) {
	h := &c.head
	s := &stream{conn: c, id: id, ended: c.ends, expect: h.length, arrived: c.clock.arrived}
	c.mu.Lock()
	c.last = id
	switch {
	case c.closed: // what was read before is nobody's business any more
		c.mu.Unlock()
		return false, net.ErrClosed
	case c.refusing: // the client knew, or another connection will answer
		defer c.mu.Unlock()
		return false, c.heard()
	case !h.truncated && !h.complete():
		c.mu.Unlock()
		return false, http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	case uint32(len(c.streams)) >= c.server.options.Streams || uint32(c.handlers) >= c.server.options.Streams:
		defer c.mu.Unlock()
		c.reset(id, http2.ErrCodeRefusedStream)
		return false, c.heard()
	case c.held > heldMost:
		c.mu.Unlock()
		return false, http2.StreamError{StreamID: id, Code: http2.ErrCodeEnhanceYourCalm}
	}
	s.sendWindow = c.streamWindow
	c.streams[id] = s
	c.idleSince = time.Time{}
	s.hold(int(min(h.size, h.limit)))
	if refusal := s.accept(h, c.server); refusal != nil {
		defer c.mu.Unlock()
		c.refuse(s, refusal)
		return false, c.heard()
	}
	if !s.method.inline {
		c.handlers++
		c.server.running.Add(1)
		go s.serve()
	}
	if s.ended {
		return c.received(s, nil, true)
	}
	c.mu.Unlock()
	return false, nil
}

// data takes a part of a message.
func (c *conn) data(f *http2.DataFrame) (bool, error) {
	id, n := f.StreamID, int64(f.Length)
	if c.idle(id) {
		return false, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if c.window -= n; c.window < 0 {
		return false, http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false, net.ErrClosed
	}
	if c.window < connWindow/2 {
		c.out = appendWindowUpdate(c.out, 0, uint32(connWindow-c.window))
		c.window = connWindow
	}
	s := c.streams[id]
	if s == nil || s.ended {
		defer c.mu.Unlock()
		if s == nil && c.hasLeft(id, f.StreamEnded()) {
			return false, c.heard()
		}
		return false, http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
	}
	if s.taken += n; s.taken > int64(c.server.options.Window) {
		c.mu.Unlock()
		return false, http2.StreamError{StreamID: id, Code: http2.ErrCodeFlowControl}
	}
	data := f.Data()
	if len(data) == 0 && !f.StreamEnded() {
		if err := c.heard(); err != nil {
			c.mu.Unlock()
			return false, err
		}
	}
	return c.received(s, data, f.StreamEnded())
}

// received takes what came of a call; ended says that no more will. It is called with
// c.mu held, and gives it up.
func (c *conn) received(s *stream, data []byte, ended bool) (bool, error) {
	s.length += int64(len(data))
	if s.expect >= 0 && (s.length > s.expect || ended && s.length != s.expect) {
		c.mu.Unlock()
		return false, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeProtocol}
	}
	if c.held+int64(len(data)) > heldMost {
		c.mu.Unlock()
		return false, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeEnhanceYourCalm}
	}
	s.ended = ended
	switch {
	case s.trailer != nil: // it has been answered; the client has only not taken it all
	case !s.method.inline:
		s.deliver(data)
	case !ended:
		err := s.collect(data)
		if err == nil {
			break
		}
		defer c.mu.Unlock() // nothing that follows makes it good
		s.finish(err)
		return false, c.heard()
	default:
		c.handlers++
		if len(s.body) > 0 { // it came in pieces
			data = append(s.body, data...)
		}
		c.mu.Unlock()
		return s.answer(data), nil
	}
	c.mu.Unlock()
	return false, nil
}
