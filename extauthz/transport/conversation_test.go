package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A side is what a client knows of one of its streams.
type side struct {
	ended   bool  // it says no more
	reset   bool  // it wants to hear no more
	allowed int64 // bytes that it is ready to take, with those that it has; settings may lower that
	granted int64 // the most that this ever was
	got     int64
	headed  bool
	done    bool // the server has ended or reset it
	body    []byte
}

// A conversation is one client's, which keeps the rules, whatever it chooses to say.
type conversation struct {
	t      *testing.T
	server *Server
	conn   *conn
	raw    *raw
	dice   []byte

	mu      sync.Mutex
	streams map[uint32]*side
	order   []uint32
	granted int64 // as of a side, for the connection
	got     int64
	window  int64 // of a stream that begins
	frame   int   // the largest frame
	last    int64 // of the last GOAWAY; -1: none
	failed  http2.ErrCode
	closed  bool
	heard   sync.Cond
}

// allow lets the server send n bytes more of a stream.
func (s *side) allow(n int64) {
	s.allowed += n
	s.granted = max(s.granted, s.allowed)
}

// roll takes the next choice out of n.
func (c *conversation) roll(n int) int {
	if len(c.dice) == 0 {
		return 0
	}
	d := int(c.dice[0])
	c.dice = c.dice[1:]
	if n > 256 && len(c.dice) > 0 {
		d = d<<8 | int(c.dice[0])
		c.dice = c.dice[1:]
	}
	return d % n
}

// pick gives a stream that the client has begun.
func (c *conversation) pick() (uint32, *side) {
	if len(c.order) == 0 {
		return 0, nil
	}
	id := c.order[len(c.order)-1-c.roll(min(len(c.order), 6))]
	return id, c.streams[id]
}

// say says one thing.
func (c *conversation) say() {
	texts := []string{"hello", "wait", "fail x", "error y", "large 30000ns", "large 100ns", "header x", "", "late"}
	windows := []int{0, 1, 3, 100, 5000, 60_000}
	methods := []string{inlineEcho, inlineEcho, plainEcho, bothWays, upload, download, "/none"}
	r := c.raw
	data := func(end bool, b []byte) {
		if id, s := c.pick(); s != nil && !s.ended && !s.reset {
			s.ended = end
			c.unlocked(func() { _ = r.WriteData(id, end, b) })
		}
	}
	switch c.roll(16) {
	case 0, 1, 2:
		id := uint32(2*len(c.order) + 1)
		s := &side{ended: c.roll(8) == 0}
		s.allow(c.window)
		c.streams[id] = s
		c.order = append(c.order, id)
		fields := request(methods[c.roll(len(methods))])
		if c.roll(16) == 0 {
			fields = append(fields, "grpc-timeout", fmt.Sprint(c.roll(9), "m"))
		}
		c.unlocked(func() { r.headers(id, s.ended, fields...) })
	case 3, 4, 5:
		data(c.roll(4) != 0, message(texts[c.roll(len(texts))]))
	case 6:
		m := message(texts[c.roll(len(texts))])
		data(c.roll(16) == 0, m[:c.roll(len(m))])
	case 7:
		data(c.roll(2) == 0, nil)
	case 8:
		data(false, append([]byte{0, 0, 1, byte(c.roll(256)), 0}, make([]byte, c.roll(16_000))...))
	case 9:
		if id, s := c.pick(); s != nil {
			s.reset = true
			c.unlocked(func() { _ = r.WriteRSTStream(id, http2.ErrCodeCancel) })
		}
	case 10:
		n := windows[1:][c.roll(len(windows)-1)]
		c.granted += int64(n)
		c.unlocked(func() { _ = r.WriteWindowUpdate(0, uint32(n)) })
	case 11:
		if id, s := c.pick(); s != nil {
			n := windows[1:][c.roll(len(windows)-1)]
			s.allow(int64(n))
			c.unlocked(func() { _ = r.WriteWindowUpdate(id, uint32(n)) })
		}
	case 12:
		window := int64(windows[c.roll(len(windows))])
		for _, s := range c.streams {
			s.allow(window - c.window)
		}
		c.window = window
		frame, table := 16<<10+c.roll(60_000), c.roll(8192)
		c.frame = max(c.frame, frame)
		c.unlocked(func() {
			_ = r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(window)},
				http2.Setting{ID: http2.SettingMaxFrameSize, Val: uint32(frame)}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(table)})
		})
	case 13:
		ack := c.roll(4) == 0
		c.unlocked(func() { _ = r.WritePing(ack, drainPing) })
	case 14:
		if id, s := c.pick(); s != nil && !s.ended && !s.reset {
			s.ended = true
			c.unlocked(func() { r.headers(id, true, "x-end", "1") })
		}
	case 15:
		drain := c.roll(16) == 0
		c.unlocked(func() {
			if drain {
				c.conn.mu.Lock()
				c.conn.drain()
				c.conn.mu.Unlock()
			}
			c.conn.look(time.Now())
		})
	}
}

// unlocked writes while what comes is read.
func (c *conversation) unlocked(write func()) {
	c.mu.Unlock()
	write()
	c.mu.Lock()
}

// listen reads what comes, and holds it against what may.
func (c *conversation) listen(client net.Conn) {
	r := http2.NewFramer(nil, client)
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.SetMaxReadFrameSize(1 << 20)
	for {
		f, err := r.ReadFrame()
		c.mu.Lock()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.ErrUnexpectedEOF) {
				c.t.Errorf("what comes is not HTTP/2: %v", err)
			}
			c.closed = true
			c.heard.Broadcast()
			c.mu.Unlock()
			return
		}
		c.take(f)
		c.heard.Broadcast()
		c.mu.Unlock()
	}
}

func (c *conversation) take(f http2.Frame) {
	h := f.Header()
	if int(h.Length) > c.frame {
		c.t.Errorf("a frame has %d bytes, more than %d", h.Length, c.frame)
	}
	if g, ok := f.(*http2.GoAwayFrame); ok {
		c.last, c.failed = int64(g.LastStreamID), g.ErrCode
	}
	s := c.streams[h.StreamID]
	if s == nil {
		if h.StreamID != 0 {
			c.t.Errorf("%v for a stream that is none", h)
		}
		return
	}
	_, reset := f.(*http2.RSTStreamFrame)
	_, window := f.(*http2.WindowUpdateFrame)
	if s.done && !reset && !s.reset {
		c.t.Errorf("%v after the end", h)
	}
	switch f := f.(type) {
	case *http2.RSTStreamFrame:
		s.done = true
	case *http2.MetaHeadersFrame:
		if s.headed && !f.StreamEnded() {
			c.t.Errorf("%v: a second head", h)
		}
		s.headed, s.done = true, f.StreamEnded()
	case *http2.DataFrame:
		n := int64(f.Length)
		if s.got, c.got = s.got+n, c.got+n; s.got > s.granted || c.got > c.granted {
			c.t.Errorf("%v: %d bytes of %d came, %d of %d in all", h, s.got, s.granted, c.got, c.granted)
		}
		if !s.headed {
			c.t.Errorf("%v without a head", h)
		}
		s.body = append(s.body, f.Data()...)
	default:
		if !window {
			c.t.Errorf("%v for a stream", h)
		}
	}
	if s.done {
		for b := s.body; len(b) > 0 && !reset && f.Header().StreamID == h.StreamID; {
			if len(b) < prefixLen || len(b)-prefixLen < int(binary.BigEndian.Uint32(b[1:])) {
				c.t.Errorf("%v: it ends with half a message: %x", h, b[:min(len(b), 20)])
				return
			}
			b = b[prefixLen+int(binary.BigEndian.Uint32(b[1:])):]
		}
	}
}

// settle ends all calls, takes all answers, and waits for them.
func (c *conversation) settle() {
	for _, id := range c.order {
		if s := c.streams[id]; !s.ended && !s.reset {
			s.ended = true
			c.unlocked(func() { _ = c.raw.WriteData(id, true, nil) })
		}
	}
	for _, s := range c.streams {
		s.allow(1<<20 + minWindow)
	}
	c.granted += 1 << 28
	c.unlocked(func() {
		_ = c.raw.WriteWindowUpdate(0, 1<<28)
		for _, id := range c.order {
			if len(c.order)%2 == 0 { // one of the ways to grow windows has to do
				_ = c.raw.WriteWindowUpdate(id, 1<<20)
			}
		}
		if len(c.order)%2 == 1 {
			_ = c.raw.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		}
	})
	late := time.AfterFunc(10*time.Second, func() {
		c.mu.Lock()
		c.t.Error("answers do not come")
		c.closed = true
		c.heard.Broadcast()
		c.mu.Unlock()
	})
	defer late.Stop()
	for _, id := range c.order {
		s := c.streams[id]
		for !s.done && !s.reset && !c.closed && c.failed == 0 && (c.last < 0 || int64(id) <= c.last) {
			c.heard.Wait()
		}
		if c.closed && c.failed == 0 && !s.done && !s.reset && int64(id) <= c.last {
			c.t.Errorf("stream %d has not been answered, and GOAWAY says that it would be", id)
		}
	}
}

// FuzzConversation lets a client that keeps the rules say what it likes, and holds what
// comes against them: windows, the order of frames, and an answer to every call. What is
// left in the end is nothing.
func FuzzConversation(f *testing.F) {
	random := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		dice := make([]byte, 20+random.IntN(400))
		for i := range dice {
			dice[i] = byte(random.IntN(256))
		}
		f.Add(dice)
	}
	o := usual()
	o.MessageBytes, o.Streams = 100_000, 6
	server := unserved(f, o)
	f.Fuzz(func(t *testing.T, dice []byte) {
		if len(dice) > 2000 {
			return
		}
		client, ours := net.Pipe()
		_ = client.SetWriteDeadline(time.Now().Add(20 * time.Second))
		before := map[*conn]bool{}
		for _, other := range server.connections() {
			before[other] = true
		}
		server.open(ours)
		c := &conversation{t: t, server: server, dice: dice, streams: map[uint32]*side{}, granted: minWindow, window: minWindow, frame: 16 << 10, last: -1}
		c.heard.L = &c.mu
		for _, one := range server.connections() {
			if !before[one] {
				c.conn = one
			}
		}
		c.raw = &raw{t: t, conn: client, Framer: http2.NewFramer(client, nil), block: bytes.Buffer{}}
		c.raw.hpack = hpack.NewEncoder(&c.raw.block)
		go c.listen(client)
		_, _ = io.WriteString(client, http2.ClientPreface)
		if len(dice)%4 != 0 {
			c.window = int64(len(dice) % 40)
		}
		_ = c.raw.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.window)})
		c.mu.Lock()
		for len(c.dice) > 0 && !c.closed {
			c.say()
		}
		c.settle()
		if c.failed != 0 {
			t.Errorf("the connection ends with %v", c.failed)
		}
		c.mu.Unlock()
		client.Close()
		server.running.Wait()
		if n := len(c.conn.streams) + c.conn.handlers + len(c.conn.blocked) + int(c.conn.held); n != 0 || !c.conn.stalledSince.IsZero() {
			t.Errorf("%d streams, %d handlers, %d blocked and %d bytes are left", len(c.conn.streams), c.conn.handlers, len(c.conn.blocked), c.conn.held)
		}
	})
}
