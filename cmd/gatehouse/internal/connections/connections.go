// Package connections bounds how many connections a listener has open, so that whoever
// floods it costs a known amount of memory and descriptors, and leaves places for others.
// It knows nothing of what is spoken on them. Start reading at [Bound].
package connections

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long a new connection keeps its place on a full listener although it has
// said nothing: clients that all come at once, as after a restart, need some time for
// their handshakes, and would else only ever displace each other.
const grace = time.Second

// Limits are of one listener.
type Limits struct {
	Total     int // connections that may be open at once
	PerSource int // of these, from one address, or one /64 of IPv6; 0: as many
}

// A Reason says why a connection was closed before it was served.
type Reason string

const (
	Full       Reason = "full"        // the listener has all its connections
	SourceFull Reason = "source_full" // its source has all that are for one
	Displaced  Reason = "displaced"   // it had not said hello, and made room for another
)

// Reasons are all of them.
func Reasons() []Reason { return []Reason{Full, SourceFull, Displaced} }

// A Listener accepts no more connections than its limits say. What it gives is a [Conn].
type Listener struct {
	net.Listener
	limits  Limits
	refused func(Reason, net.Addr)

	mu        sync.Mutex
	open      int
	sources   map[netip.Prefix]int
	strangers *list.List // of *Conn that have not said hello, oldest first
}

// Bound makes a Listener of l. One connection too many is accepted and closed at once: left
// waiting, its client would take the silence for slowness, and a load balancer would not
// try another replica.
//
// refused is told of each connection that is closed like that, and of who made it. It is
// called while nobody else is accepted, so it must not wait.
func Bound(l net.Listener, limits Limits, refused func(Reason, net.Addr)) *Listener {
	return &Listener{Listener: l, limits: limits, refused: refused, sources: map[netip.Prefix]int{}, strangers: list.New()}
}

// Open is how many connections are open.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Limits are those given to [Bound].
func (l *Listener) Limits() Limits { return l.limits }

// Accept waits for the next connection for which there is a place.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c, displaced, reason := l.admit(conn, time.Now())
		if c == nil {
			abort(conn)
			l.refused(reason, conn.RemoteAddr())
			continue
		}
		if displaced != nil {
			abort(displaced.Conn)
			l.refused(Displaced, displaced.RemoteAddr())
		}
		return c, nil
	}
}

// admit gives conn a place, perhaps that of another, or tells why there is none.
func (l *Listener) admit(conn net.Conn, now time.Time) (c, displaced *Conn, reason Reason) {
	source := sourceOf(conn.RemoteAddr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if source.IsValid() && l.limits.PerSource > 0 && l.sources[source] >= l.limits.PerSource {
		return nil, nil, SourceFull
	}
	if l.open >= l.limits.Total {
		first := l.strangers.Front()
		if first == nil || now.Sub(first.Value.(*Conn).since) < grace {
			return nil, nil, Full
		}
		displaced = first.Value.(*Conn)
		l.leave(displaced)
	}
	c = &Conn{Conn: conn, listener: l, source: source, since: now}
	c.place = l.strangers.PushBack(c)
	l.open++
	if source.IsValid() {
		l.sources[source]++
	}
	return c, displaced, ""
}

// leave takes the place of c away, once. The caller holds mu.
func (l *Listener) leave(c *Conn) {
	if c.left {
		return
	}
	c.left = true
	l.open--
	if c.place != nil {
		l.strangers.Remove(c.place)
		c.place = nil
	}
	if c.source.IsValid() {
		if l.sources[c.source]--; l.sources[c.source] == 0 {
			delete(l.sources, c.source)
		}
	}
}

// abort closes a connection without the wait that TCP has for what is under way: those
// would hold the ports of a flood for a minute each.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it is closed either way
	}
	_ = conn.Close()
}

// sourceOf is whom a connection counts for. An address of this machine is nobody's: all
// that runs beside us has it, a proxy in front of us included.
func sourceOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	if !ip.IsValid() || ip.IsLoopback() {
		return netip.Prefix{}
	}
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64 // one host has as many addresses as it likes there
	}
	prefix, _ := ip.Prefix(bits) // the length fits
	return prefix
}

// A Conn has a place until it is closed. Until it is known to have said hello, it may
// lose it to another.
type Conn struct {
	net.Conn
	listener *Listener
	source   netip.Prefix // zero: counts for nobody
	since    time.Time
	known    atomic.Bool

	place *list.Element // among the strangers; guarded by listener.mu, as the next
	left  bool
}

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Close implements [net.Conn].
func (c *Conn) Close() error {
	c.listener.mu.Lock()
	c.listener.leave(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// SetDeadline implements [net.Conn]. A server of grpc-go sets one for the handshake and
// the client's preface, and lifts it when both are there.
func (c *Conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.greeted()
	}
	return c.Conn.SetDeadline(t)
}

// greeted makes c known.
func (c *Conn) greeted() {
	if c.known.Swap(true) {
		return
	}
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	if c.place != nil {
		c.listener.strangers.Remove(c.place)
		c.place = nil
	}
}

// State is for [http.Server.ConnState]: a client has said hello when its first request,
// or the preface of HTTP/2, is there.
func State(conn net.Conn, state http.ConnState) {
	if state != http.StateActive {
		return
	}
	for {
		switch c := conn.(type) {
		case *Conn:
			c.greeted()
			return
		case interface{ NetConn() net.Conn }: // of TLS
			conn = c.NetConn()
		default:
			return
		}
	}
}
