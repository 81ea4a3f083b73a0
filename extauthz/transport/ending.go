package transport

import (
	"time"

	"golang.org/x/net/http2"
)

// look ends what has lasted too long.
func (c *conn) look(now time.Time) {
	c.mu.Lock()
	c.noise = 0
	if c.closed || c.writing && now.Sub(c.writingSince) > c.server.patience {
		c.mu.Unlock()
		c.close()
		return
	}
	stalled := !c.stalledSince.IsZero() && now.Sub(c.stalledSince) > c.server.patience
	for _, s := range c.streams {
		if s.overdue(now) || s.blocked && stalled {
			c.remove(s)
			c.out = appendReset(c.out, s.id, http2.ErrCodeCancel)
			s.cancel()
		}
	}
	idle := c.server.options.IdleTimeout
	aged := c.maxAge > 0 && now.Sub(c.began) > c.maxAge
	idled := idle > 0 && !c.idleSince.IsZero() && now.Sub(c.idleSince) > idle
	if c.draining && c.refused == 0 && now.Sub(c.drainedAt) > c.server.tick {
		c.refuseMore()
	}
	c.mu.Unlock()
	if aged || idled {
		c.drain()
	} else {
		c.flushAside()
	}
}

// drainPing tells by its echo that the client has heard that it is to begin no more calls.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// drain lets the calls that there are end, and then the connection.
func (c *conn) drain() {
	c.mu.Lock()
	if !c.ready {
		c.mu.Unlock()
		c.close()
		return
	}
	if !c.draining {
		c.draining, c.drainedAt = true, time.Now()
		c.out = appendGoAway(c.out, 1<<31-1, http2.ErrCodeNo, "")
		c.out = appendPing(c.out, 0, drainPing)
	}
	c.mu.Unlock()
	c.flushAside()
}

// refuseMore ignores calls that begin from now on: the client knows. What it began before
// it knew is answered.
func (c *conn) refuseMore() {
	c.refused = max(c.last, 1)
	c.out = appendGoAway(c.out, c.refused, http2.ErrCodeNo, "")
}

// close ends the connection and the contexts of its calls.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	_ = c.nc.Close()
	c.server.forget(c)
	for _, s := range c.streams {
		s.cancel()
	}
	clear(c.streams)
	c.blocked = nil
	c.written.Broadcast()
}
