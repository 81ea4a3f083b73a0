package transport

import (
	"time"

	"golang.org/x/net/http2"
)

// look ends what has lasted too long. It waits for nobody.
func (c *conn) look(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noise = 0
	if c.writing && now.Sub(c.writingSince) > c.server.patience {
		c.shut()
	}
	if c.closed {
		return
	}
	stalled := !c.stalledSince.IsZero() && now.Sub(c.stalledSince) > c.server.patience
	for _, s := range c.streams {
		if s.overdue(now) || s.blocked && stalled {
			c.reset(s.id, http2.ErrCodeCancel)
		}
	}
	idle := c.server.options.IdleTimeout
	aged := c.maxAge > 0 && now.Sub(c.began) > c.maxAge
	idled := idle > 0 && !c.idleSince.IsZero() && now.Sub(c.idleSince) > idle
	if aged || idled {
		c.drain()
	}
	if c.draining && !c.refusing && now.Sub(c.drainedAt) > c.server.tick {
		c.refuseMore()
	}
	c.flushAside()
}

// drainPing tells by its echo that the client has heard that it is to begin no more calls.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// drain lets the calls that there are end, and then the connection. It is called with
// c.mu held.
func (c *conn) drain() {
	switch {
	case c.draining || c.closed:
	case !c.ready:
		c.shut()
	default:
		c.draining, c.drainedAt = true, time.Now()
		c.out = appendGoAway(c.out, 1<<31-1, http2.ErrCodeNo, "")
		c.out = appendPing(c.out, 0, drainPing)
		c.flushAside()
	}
}

// refuseMore ignores calls that begin from now on: the client knows. What it began before
// it knew is answered.
func (c *conn) refuseMore() {
	c.refusing, c.refused = true, c.last
	c.out = appendGoAway(c.out, c.refused, http2.ErrCodeNo, "")
}

// close ends the connection and the contexts of its calls.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut()
}

// shut is [conn.close] for whoever holds c.mu. TLS does not say good-bye here, as that
// could wait for the client.
func (c *conn) shut() {
	if c.closed {
		return
	}
	c.closed = true
	_ = c.line.Close()
	c.server.forget(c)
	c.removeAll()
	c.written.Broadcast()
}

// removeAll forgets all streams.
func (c *conn) removeAll() {
	for _, s := range c.blocked {
		s.blocked = false
	}
	c.blocked, c.stalledSince = nil, time.Time{}
	for _, s := range c.streams {
		c.remove(s)
		s.cancel()
	}
}
