package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

const (
	readBuffer = 32 << 10

	// batchTime is how long answers wait for those of what was read with them. Cheap ones
	// are written together; those that take long are not.
	batchTime = 250 * time.Microsecond

	// maxNoise is how much a client may send within a tick, and without a call to answer,
	// of what costs us more than it costs the client: frames like PING, SETTINGS and empty
	// DATA. Resets count for less: an Envoy that was given too much to do resets thousands
	// of calls at once, whose time is over, and must not lose its connection for that.
	maxNoise   = 20_000
	usualNoise = 10
	resetNoise = 1

	// lingering is how long what a client still sends is thrown away when its connection
	// has ended with an error, so that it gets to read which.
	lingering     = time.Second
	lingeringMost = 1 << 20

	// leftMost is how many streams we know to have ended before the client did. What it
	// had sent until it heard of that is no fault of its.
	leftMost = 64

	// tableSize is what the dynamic table of a decoder of header blocks begins with.
	tableSize = 4096
)

// A conn is one connection. Its frames are read by one goroutine at a time: that of
// [conn.read], or one that the reader left the reading to because it had to wait.
type conn struct {
	server  *Server
	line    net.Conn        // what was accepted
	nc      net.Conn        // what is spoken over it: line itself, or TLS
	context context.Context // of all its calls: it knows the peer
	began   time.Time
	maxAge  time.Duration // 0: no limit

	// These belong to whoever reads.
	clock   clock
	reader  *bufio.Reader
	framer  *http2.Framer
	hpack   *hpack.Decoder
	head    head
	heading uint32    // the stream whose header block goes on; 0: none
	ends    bool      // that block ends the client's side of the stream
	block   int       // bytes of that block so far
	greeted bool      // the client's settings were there
	flushed time.Time // when what was answered while a batch was read was written last
	full    bool      // what waits to be written is enough to write it before more is read
	window  int64     // what the client may still send on the connection

	mu           sync.Mutex // guards what follows, and what streams say that it guards
	ready        bool       // our settings are on their way
	last         uint32     // the highest stream that the client began; written by whoever reads
	streams      map[uint32]*stream
	held         int64  // bytes of metadata, of messages that no handler has taken, and of answers that wait
	handlers     int    // that run, whether or not their stream is still open
	sendWindow   int64  // what we may still send on the connection
	streamWindow int64  // what we may send on a stream that begins
	frameSize    int    // the largest payload of a frame that the client takes
	tableSize    uint32 // of the client's decoder of header blocks, as far as it knows that we know
	resize       bool   // the next header block has to say that we use none of it
	out          []byte // what is to be written
	spare        []byte // the buffer that out had before
	writing      bool
	writingSince time.Time
	written      sync.Cond // when what was in out has been written, or never will be
	blocked      []*stream // whose answers wait for a window, in their order
	stalledSince time.Time // when the first of blocked could not go on
	noise        int
	left         [leftMost]uint32 // streams that we ended before the client did, the last of them
	leaving      int              // where the next goes
	idleSince    time.Time        // zero: there are streams
	draining     bool             // the client was told to begin no more calls
	drainedAt    time.Time
	refusing     bool // it knows that: calls above refused are ignored
	refused      uint32
	failed       bool // the client broke a rule: nothing but which is written any more
	hungUp       bool // our side has ended
	closed       bool
}

func newConn(s *Server, nc net.Conn) *conn {
	now := time.Now()
	c := &conn{
		server: s, line: nc, nc: nc, began: now, maxAge: jittered(s.options.MaxAge),
		streams:    map[uint32]*stream{},
		sendWindow: minWindow, streamWindow: minWindow, frameSize: ourFrameSize, tableSize: tableSize,
		window:    connWindow,
		idleSince: now,
		clock:     clock{Conn: nc, drained: true, read: now},
	}
	c.written.L = &c.mu
	return c
}

// begin shakes hands and reads.
func (c *conn) begin() {
	deadline := time.Now().Add(c.server.options.ConnectTimeout)
	if c.nc.SetDeadline(deadline) != nil || !c.secure() || !c.greet() {
		c.close()
		c.server.running.Done()
		return
	}
	c.read()
}

// secure does the handshake of TLS, if there is any.
func (c *conn) secure() bool {
	remote := &peer.Peer{Addr: c.nc.RemoteAddr(), LocalAddr: c.nc.LocalAddr(), AuthInfo: plaintext{}}
	if tls := c.server.options.Credentials; tls != nil {
		nc, info, err := tls.ServerHandshake(&c.clock)
		if err != nil {
			return false
		}
		c.nc, remote.AuthInfo = nc, info
	}
	c.context = peer.NewContext(context.Background(), remote)
	return true
}

// greet sends our settings and waits for the client's preface.
func (c *conn) greet() bool {
	o := &c.server.options
	c.mu.Lock()
	c.out = appendSettings(c.out,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: o.Streams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: o.Window},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: o.HeaderBytes})
	c.out = appendWindowUpdate(c.out, 0, connWindow-minWindow)
	c.ready = true
	c.mu.Unlock()
	if !c.flush() {
		return false
	}
	var from io.Reader = c.nc
	if c.nc == c.line {
		from = &c.clock
	}
	c.reader = bufio.NewReaderSize(from, readBuffer)
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.reader, preface[:]); err != nil || string(preface[:]) != http2.ClientPreface {
		return false
	}
	c.head.limit = o.HeaderBytes
	c.hpack = hpack.NewDecoder(tableSize, c.head.add)
	c.hpack.SetMaxStringLength(2 * int(o.HeaderBytes)) // more than the list may have: see fragment
	c.framer = http2.NewFramer(nil, c.reader)
	c.framer.SetMaxReadFrameSize(ourFrameSize)
	c.framer.SetReuseFrames()
	return true
}

// plaintext is what there is to know of a peer without TLS.
type plaintext struct{ credentials.CommonAuthInfo }

// AuthType implements [credentials.AuthInfo].
func (plaintext) AuthType() string { return "insecure" }

// A clock is the line, and notes since when its reader may have been behind. It is below
// TLS, which takes records off the line long before it is asked for what is in them.
type clock struct {
	net.Conn
	drained bool      // the last read took all there was
	read    time.Time // when it returned
	arrived time.Time // no byte of what was read last was there before that
}

// Read implements [net.Conn].
func (c *clock) Read(p []byte) (int, error) {
	asked := time.Now()
	n, err := c.Conn.Read(p)
	now := time.Now()
	if c.drained {
		// What is read came after the last read, while we worked, or while this one waited.
		c.arrived = now.Add(c.read.Sub(asked))
	}
	c.drained, c.read = n < len(p), now
	return n, err
}

// read reads frames until the connection ends, or until somebody else reads on.
func (c *conn) read() {
	defer c.server.running.Done()
	for {
		if c.full || !c.buffered() {
			c.full = false
			if !c.flush() {
				c.close()
				return
			}
		}
		passed := false
		f, err := c.next()
		if err == nil {
			passed, err = c.frame(f)
		}
		if passed || err != nil && !c.fail(err) {
			return
		}
	}
}

// buffered tells whether the next frame is there, so that reading it does not wait.
func (c *conn) buffered() bool {
	n := c.reader.Buffered()
	if n < frameHeaderLen {
		return false
	}
	h, err := c.reader.Peek(3)
	return err == nil && n >= frameHeaderLen+(int(h[0])<<16|int(h[1])<<8|int(h[2]))
}

// next reads a frame.
func (c *conn) next() (http2.Frame, error) {
	h, err := c.framer.ReadFrameHeader()
	if err != nil {
		return nil, err
	}
	f, err := c.framer.ReadFrameForHeader(h)
	if h.Type == http2.FrameHeaders && errors.As(err, new(http2.StreamError)) {
		err = http2.ConnectionError(http2.ErrCodeProtocol) // what its block says is lost
	}
	return f, err
}

// fail ends the stream or the connection that went wrong, and tells whether to read on.
func (c *conn) fail(err error) bool {
	c.mu.Lock()
	var ofStream http2.StreamError
	if errors.As(err, &ofStream) {
		if err = c.abort(ofStream); err == nil {
			c.mu.Unlock()
			return true
		}
	}
	var ofConn http2.ConnectionError
	switch {
	case errors.As(err, &ofConn):
	case errors.Is(err, http2.ErrFrameTooLarge):
		ofConn = http2.ConnectionError(http2.ErrCodeFrameSize)
	default: // the line is gone
		c.mu.Unlock()
		c.close()
		return false
	}
	if c.hungUp || c.closed {
		c.mu.Unlock()
		c.close()
		return false
	}
	c.failed = true
	c.out = appendGoAway(c.out, c.last, http2.ErrCode(ofConn), "")
	c.removeAll()
	c.mu.Unlock()
	c.end()
	return false
}

// abort ends a stream with an error. It gives that of the connection if it has none: a
// stream that was never begun cannot end.
func (c *conn) abort(e http2.StreamError) error {
	if c.idle(e.StreamID) {
		return http2.ConnectionError(e.Code)
	}
	c.reset(e.StreamID, e.Code)
	return c.heard()
}

// reset ends a stream, whether or not it is still known.
func (c *conn) reset(id uint32, code http2.ErrCode) {
	c.out = appendReset(c.out, id, code)
	s := c.streams[id]
	if s == nil || !s.ended {
		c.leave(id)
	}
	if s != nil {
		c.remove(s)
		s.cancel()
	}
}

// idle tells whether a stream was never begun.
func (c *conn) idle(id uint32) bool { return id > c.last || id%2 == 0 }

// leave notes that a stream ended before the client had said all that it has to say.
func (c *conn) leave(id uint32) {
	c.left[c.leaving] = id
	c.leaving = (c.leaving + 1) % leftMost
}

// hasLeft tells whether what comes for a stream is to be ignored: the client cannot know
// yet that nobody listens. ended says that it ends its side now.
func (c *conn) hasLeft(id uint32, ended bool) bool {
	if c.refusing && id > c.refused {
		return true
	}
	i := slices.Index(c.left[:], id)
	if i >= 0 && ended {
		c.left[i] = 0
	}
	return i >= 0
}

// end writes what there is to write and closes, when the client had time to read it.
func (c *conn) end() {
	defer c.close()
	if c.flush() && c.nc.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.CopyN(io.Discard, c.reader, lingeringMost)
	}
}
