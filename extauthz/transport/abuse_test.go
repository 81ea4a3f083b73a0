package transport

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestWindows: no more is sent than the client takes, and all of it when it takes more.
func TestWindows(t *testing.T) {
	t.Parallel()
	r := start(t)
	answer := len(message("hello"))
	c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for _, id := range []uint32{1, 3, 5} {
		c.call(id, "hello")
	}
	c.settle()
	if len(c.events) != 0 || c.body[1] != 0 {
		t.Fatalf("without a window %q and %d bytes come", c.events, c.body[1])
	}
	_ = c.WriteWindowUpdate(3, 4)
	c.settle()
	if c.body[3] != 4 || len(c.events) != 0 {
		t.Errorf("with a window of 4, %d bytes come, and %q", c.body[3], c.events)
	}
	_ = c.WriteWindowUpdate(3, 1000)
	c.settle()
	if c.body[3] != answer || !slices.Equal(c.events, []string{"3: grpc 0"}) {
		t.Errorf("with a window of 1004, %d bytes come, and %q", c.body[3], c.events)
	}
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	c.settle()
	if c.body[1] != 3 || c.body[5] != 3 {
		t.Errorf("with settings of 3, %d and %d bytes come", c.body[1], c.body[5])
	}
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}) // windows are -2 now
	_ = c.WriteWindowUpdate(1, 3)
	c.settle()
	if c.body[1] != 4 {
		t.Errorf("with settings of 1 and 3 more, %d bytes come, want 4", c.body[1])
	}
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	c.settle()
	if c.body[1] != answer || c.body[5] != answer || len(c.events) != 3 {
		t.Errorf("with settings of 100, %d and %d bytes come, and %q", c.body[1], c.body[5], c.events)
	}

	// The connection's window is 65,535, less what was sent.
	left := minWindow - 3*answer
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.call(7, "large 100000ns")
	c.settle()
	if c.body[7] != left {
		t.Errorf("%d bytes come, want the %d that the window has", c.body[7], left)
	}
	c.call(9, "hello") // behind it
	_ = c.WriteWindowUpdate(0, 1<<20)
	c.settle()
	if c.body[7] < 100_000 || c.body[9] != answer || !slices.Contains(c.events, "7: grpc 0") || !slices.Contains(c.events, "9: grpc 0") {
		t.Errorf("then %d and %d bytes come, and %q", c.body[7], c.body[9], c.events)
	}
	r.idle(t)
}

// TestFrameSizes: frames are no larger than the client takes, which may change.
func TestFrameSizes(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = c.WriteWindowUpdate(0, 1<<20)
	for i, size := range []uint32{16 << 10, 40_000, 16 << 10} {
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: size})
		c.SetMaxReadFrameSize(size)
		id := uint32(2*i + 1)
		c.call(id, "large 200000ns")
		c.settle()
		if c.body[id] < 200_000 || !slices.Contains(c.events, fmt.Sprintf("%d: grpc 0", id)) {
			t.Errorf("with frames of %d: %d bytes, %q", size, c.body[id], c.events)
		}
	}
}

// TestStalledClients: answers that nobody takes are not kept for long, be it that the client
// gives no windows or that it does not read; and what it makes us keep is bounded.
func TestStalledClients(t *testing.T) {
	t.Parallel()
	t.Run("no window", func(t *testing.T) {
		t.Parallel()
		r := impatient(t)
		c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		c.call(1, "hello")
		c.call(3, "hello")
		_ = c.WriteWindowUpdate(3, 100)
		c.listen(func(f http2.Frame) bool { _, ok := f.(*http2.RSTStreamFrame); return ok })
		if !slices.Equal(c.events, []string{"3: grpc 0", "1: CANCEL"}) {
			t.Errorf("%q comes", c.events)
		}
		r.idle(t)
	})
	t.Run("no reading", func(t *testing.T) {
		t.Parallel()
		r := impatient(t)
		c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		_ = c.WriteWindowUpdate(0, 1<<31-1-minWindow)
		_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		most := 0
		for id := uint32(1); ; id += 2 {
			c.block.Reset()
			block := c.encode(request(inlineEcho))
			if c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil || c.WriteData(id, true, message("large 10000ns")) != nil {
				break // cut off
			}
			for _, conn := range r.connections() {
				conn.mu.Lock()
				most = max(most, len(conn.out)+len(conn.spare))
				conn.mu.Unlock()
			}
		}
		if most > 4*writeSize {
			t.Errorf("%d bytes waited to be written", most)
		}
		eventually(t, func() string {
			if len(r.connections()) != 0 {
				return "its connection is left"
			}
			return ""
		})
	})
}

// TestHalfAFrame: answers do not wait for a frame that does not come.
func TestHalfAFrame(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, length := range []int{1, 9, 13, 1000} {
		c := greet(t, r.address)
		var frames strings.Builder
		w := http2.NewFramer(&frames, nil)
		block := c.encode(request(inlineEcho))
		_ = w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
		_ = w.WriteData(1, true, message("hello"))
		_ = w.WriteData(3, false, make([]byte, length))
		half := frames.String()[:frames.Len()-1] // with its header, which says that it is longer
		if _, err := io.WriteString(c.conn, half); err != nil {
			t.Fatal(err)
		}
		c.listen(func(f http2.Frame) bool {
			h, ok := f.(*http2.MetaHeadersFrame)
			return ok && h.StreamEnded()
		})
		if !slices.Equal(c.events, []string{"1: grpc 0"}) {
			t.Errorf("before the last of %d bytes %q comes", length, c.events)
		}
	}
}

// TestRapidReset (CVE-2023-44487): calls that were reset count for as long as their handlers
// run, so that no more of those run than there may be streams; and so do calls that the client
// makes us reset (CVE-2025-8671).
func TestRapidReset(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]func(*raw, uint32){
		"by the client": func(c *raw, id uint32) { _ = c.WriteRSTStream(id, http2.ErrCodeCancel) },
		"by us":         func(c *raw, id uint32) { _ = c.WriteWindowUpdate(id, 0) },
	} {
		for _, method := range unaries {
			r := start(t, func(o *Options) { o.Streams = 5 })
			r.tester.waiting = make(chan context.Context, 100)
			// These handlers do not look whether anybody waits.
			c := greet(t, r.address)
			for i := range uint32(50) {
				id := 2*i + 1
				c.headers(id, false, request(method)...)
				_ = c.WriteData(id, true, message("stay"))
				reset(c, id)
			}
			c.settle()
			if n := len(r.tester.waiting); n > 5 {
				t.Errorf("%s: %s: %d handlers run, want 5 at most", name, method, n)
			}
			refused := 0
			for _, e := range c.events {
				if strings.HasSuffix(e, "REFUSED_STREAM") {
					refused++
				}
			}
			if method == inlineEcho && refused < 40 { // the others hear of the reset, some of them in time
				t.Errorf("%s: %s: %d calls were refused of 50", name, method, refused)
			}
			close(r.tester.release)
			r.idle(t)
			c.events = nil
			c.call(1001, "hello")
			c.settle()
			if !slices.Contains(c.events, "1001: grpc 0") {
				t.Errorf("%s: %s: afterwards %q comes", name, method, c.events)
			}
		}
	}
}

// TestUnfinishedMessages are bounded for each connection, and end at their deadline.
func TestUnfinishedMessages(t *testing.T) {
	t.Parallel()
	r := impatient(t, func(o *Options) { o.MessageBytes, o.Window = 32<<20, 1<<20 })
	c := greet(t, r.address)
	for i := range uint32(40) {
		id := 2*i + 1
		c.headers(id, false, request(inlineEcho)...)
		_ = c.WriteData(id, false, []byte{0, 1, 0xf0, 0, 0})
		for range 61 {
			_ = c.WriteData(id, false, make([]byte, ourFrameSize))
		}
	}
	c.settle()
	if !slices.ContainsFunc(c.events, func(e string) bool { return strings.HasSuffix(e, "ENHANCE_YOUR_CALM") }) {
		t.Errorf("forty messages of a megabyte that do not end: %q", c.events)
	}
	for _, conn := range r.connections() {
		conn.mu.Lock()
		if conn.held > heldMost {
			t.Errorf("%d bytes are held", conn.held)
		}
		conn.mu.Unlock()
	}
	c.conn.Close()
	r.idle(t)

	c = greet(t, r.address)
	c.headers(1, false, request(inlineEcho, "grpc-timeout", "50m")...)
	c.listen(func(f http2.Frame) bool { _, ok := f.(*http2.RSTStreamFrame); return ok })
	if !slices.Equal(c.events, []string{"1: CANCEL"}) {
		t.Errorf("a call that is over its deadline: %q", c.events)
	}
	r.idle(t)
}

// TestHellos: who does not speak HTTP/2, or says nothing, is cut off.
func TestHellos(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.ConnectTimeout = 200 * time.Millisecond })
	for _, row := range []struct{ name, says, want string }{
		{"nothing", "", "closed"},
		{"half a preface", http2.ClientPreface[:10], "closed"},
		{"HTTP/1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "closed"},
		{"no settings", http2.ClientPreface, "closed"},
		{"another frame before settings", http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", "GOAWAY PROTOCOL_ERROR, closed"},
		{"an acknowledgement before settings", http2.ClientPreface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00", "GOAWAY PROTOCOL_ERROR, closed"},
	} {
		c := rawDial(t, r.address, row.says)
		c.listen(func(http2.Frame) bool { return false })
		if got := strings.Join(c.events, ", "); got != row.want {
			t.Errorf("%s: %q comes, want %q", row.name, got, row.want)
		}
	}
	eventually(t, func() string {
		if len(r.connections()) != 0 {
			return "connections are left"
		}
		return ""
	})
}

// TestDraining: a client hears twice that it is to begin no more calls: at once, and, when
// it has heard that, which was the last to be answered. What it began between is answered.
func TestDraining(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		r := forgetless(t) // and waits for the echo
		if deaf {
			r = impatient(t)
		}
		r.tester.waiting = make(chan context.Context, 1)
		c := greet(t, r.address)
		c.call(1, "wait")
		<-r.tester.waiting
		stopped := make(chan struct{})
		go func() { r.GracefulStop(); close(stopped) }()
		var ping *http2.PingFrame
		c.listen(func(f http2.Frame) bool {
			p, ok := f.(*http2.PingFrame)
			if ok {
				ping = p
			}
			return ok
		})
		c.call(3, "hello")
		if !deaf {
			_ = c.WritePing(true, ping.Data)
		}
		last := uint32(0)
		c.listen(func(f http2.Frame) bool {
			g, ok := f.(*http2.GoAwayFrame)
			if ok {
				last = g.LastStreamID
			}
			return ok
		})
		if !deaf && last != 3 {
			t.Errorf("the last call to be answered is %d, want 3", last)
		}
		c.call(5, "too late")
		c.settle()
		close(r.tester.release)
		c.listen(func(http2.Frame) bool { return false })
		<-stopped
		if slices.Contains(c.events, "5: grpc 0") || !slices.Contains(c.events, "1: grpc 0") || c.events[len(c.events)-1] != "closed" {
			t.Errorf("deaf %v: %q comes", deaf, c.events)
		}
	}
}

// TestContexts: what is derived from the context of a call ends with it.
func TestContexts(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.tester.waiting = make(chan context.Context, 1)
	conn := r.dial(t)
	at, answered := r.oneWaits(t, conn, inlineEcho)
	if _, ok := at.Deadline(); ok || at.Err() != nil || at.Value("nothing") != nil {
		t.Errorf("the context has a deadline, an error or a value that nobody gave it: %v", at.Err())
	}
	child, cancel := context.WithCancelCause(at)
	defer cancel(nil)
	grandchild, stop := context.WithTimeout(child, time.Hour)
	defer stop()
	after := make(chan struct{})
	context.AfterFunc(at, func() { close(after) })
	close(r.tester.release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	<-at.Done()
	<-grandchild.Done()
	<-after
	if at.Err() != context.Canceled || grandchild.Err() != context.Canceled {
		t.Errorf("they end with %v and %v", at.Err(), grandchild.Err())
	}
	late, stopLate := context.WithCancel(at)
	defer stopLate()
	if late.Err() != context.Canceled {
		t.Error("a context that is derived later has not ended")
	}
}

// TestErrorsOfStreams: a handler in a goroutine of its own learns that its client broke off.
func TestErrorsOfStreams(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := greet(t, r.address)
	c.headers(1, false, request(upload)...)
	_ = c.WriteData(1, true, []byte{0, 0, 0, 0, 9})
	c.listen(func(f http2.Frame) bool { h, ok := f.(*http2.MetaHeadersFrame); return ok && h.StreamEnded() })
	if want := fmt.Sprintf("1: grpc %d", codes.Internal); !slices.Contains(c.events, want) {
		t.Errorf("half a message: %q, want %q (%v)", c.events, want, status.Code(errNoMessage))
	}
	r.idle(t)
}
