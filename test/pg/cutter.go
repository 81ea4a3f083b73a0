package pg

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A Cutter is a TCP proxy whose connections can be cut, slowed down and held up.
type Cutter struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	cut     bool
	conns   map[net.Conn]bool
	delay   time.Duration
	changed chan struct{} // closed when delay changes
}

// NewCutter listens on a free port and passes everything on to target.
func NewCutter(t testing.TB, target string) *Cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cutter{listener: listener, target: target, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	go c.serve()
	t.Cleanup(func() {
		_ = listener.Close()
		c.Cut()
	})
	return c
}

// Addr is where it listens.
func (c *Cutter) Addr() string { return c.listener.Addr().String() }

// Cut breaks all connections, and new ones at once.
func (c *Cutter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

// Mend lets new connections pass again.
func (c *Cutter) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

// Slow lets everything that the target says arrive so much later, what is under way
// included; 0 is at once again.
func (c *Cutter) Slow(delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.delay = delay
	close(c.changed)
	c.changed = make(chan struct{})
}

// wait holds up what was just said for as long as Slow wants it, from began.
func (c *Cutter) wait(began time.Time) {
	for {
		c.mu.Lock()
		left, changed := c.delay-time.Since(began), c.changed
		c.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		case <-time.After(left):
		case <-changed:
		}
	}
}

func (c *Cutter) serve() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return
		}
		go c.pass(near)
	}
}

func (c *Cutter) pass(near net.Conn) {
	defer near.Close() //nolint:errcheck // either side may have closed it
	far, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer far.Close() //nolint:errcheck // either side may have closed it
	if !c.hold(near, far) {
		return
	}
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(far, near) // ends when either side does
		done <- struct{}{}
	}()
	go func() {
		c.answer(near, far)
		done <- struct{}{}
	}()
	<-done
}

// answer passes on what the target says until either side ends.
func (c *Cutter) answer(near, far net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := far.Read(buffer)
		began := time.Now()
		c.wait(began)
		if _, failed := near.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

func (c *Cutter) hold(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return false
	}
	for _, conn := range conns {
		c.conns[conn] = true
	}
	return true
}
