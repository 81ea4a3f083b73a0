package pg

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Cutter is a TCP proxy whose connections can be cut.
type Cutter struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// NewCutter listens on a free port and passes everything on to target.
func NewCutter(t testing.TB, target string) *Cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cutter{listener: listener, target: target, conns: map[net.Conn]bool{}}
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
	copyTo := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // ends when either side does
		done <- struct{}{}
	}
	go copyTo(near, far)
	go copyTo(far, near)
	<-done
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
