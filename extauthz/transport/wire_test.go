package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// atOnce sends what talk writes so that the server reads it together.
func (r *raw) atOnce(talk func()) {
	r.t.Helper()
	var said bytes.Buffer
	line := r.Framer
	r.Framer = http2.NewFramer(&said, nil)
	r.AllowIllegalWrites = true
	talk()
	r.Framer = line
	if _, err := r.conn.Write(said.Bytes()); err != nil {
		r.t.Error(err)
	}
}

// TestTableSize: a client that takes room from the table of its decoder hears of it in the
// next block, and only there (RFC 9113 section 4.3.1). Its decoder may insist.
func TestTableSize(t *testing.T) {
	t.Parallel()
	r := start(t)
	blocks := func(c *raw) (all [][]byte) {
		c.ReadMetaHeaders = nil
		_ = c.WritePing(false, mark)
		c.listen(func(f http2.Frame) bool {
			if h, ok := f.(*http2.HeadersFrame); ok {
				all = append(all, bytes.Clone(h.HeaderBlockFragment()))
			}
			p, ok := f.(*http2.PingFrame)
			return ok && p.IsAck()
		})
		return all
	}
	for name, ask := range map[string]func(*raw, uint32){
		"an answer":      func(c *raw, id uint32) { c.call(id, "hello") },
		"an error":       func(c *raw, id uint32) { c.call(id, "fail x") },
		"a refusal":      func(c *raw, id uint32) { c.headers(id, true, request("/none")...) },
		"HTTP's refusal": func(c *raw, id uint32) { c.headers(id, true, request("/none", ":method", "GET")...) },
	} {
		c := greet(t, r.address, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 100})
		ask(c, 1)
		ask(c, 3)
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 4096})
		ask(c, 5)
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		ask(c, 7)
		got := blocks(c)
		if len(got) < 4 || got[0][0] != tableOfNothing {
			t.Errorf("%s: the blocks are %x (%q), want %x first", name, got, c.events, tableOfNothing)
			continue
		}
		for _, block := range got[1:] {
			if len(block) > 0 && block[0]&0xe0 == tableOfNothing {
				t.Errorf("%s: the size is told again: %x", name, block)
			}
		}
	}
}

// TestWhatWasOnItsWay: what a client sends before it hears that its call has been answered
// is no fault of its, be it data or trailers; what it sends when it has ended is one.
func TestWhatWasOnItsWay(t *testing.T) {
	t.Parallel()
	r := forgetless(t)
	for _, row := range []struct {
		name string
		send func(*raw)
		want string
	}{
		{"data", func(c *raw) {
			c.headers(1, false, request("/none")...)
			_ = c.WriteData(1, false, message("x"))
			_ = c.WriteData(1, true, message("y"))
		}, "1: grpc 12, 1: NO_ERROR"},
		{"data after its end", func(c *raw) {
			c.headers(1, false, request("/none")...)
			_ = c.WriteData(1, true, message("x"))
			_ = c.WriteData(1, true, message("y"))
		}, "1: grpc 12, 1: NO_ERROR, 1: STREAM_CLOSED"},
		{"data after its reset", func(c *raw) {
			c.headers(1, false, request("/none")...)
			_ = c.WriteRSTStream(1, http2.ErrCodeCancel)
			_ = c.WriteData(1, true, message("y"))
		}, "1: grpc 12, 1: NO_ERROR, 1: STREAM_CLOSED"},
		{"trailers", func(c *raw) {
			c.headers(1, false, request("/none")...)
			_ = c.WriteData(1, false, message("x"))
			c.headers(1, true, "x-end", "1")
		}, "1: grpc 12, 1: NO_ERROR"},
		{"trailers after its end", func(c *raw) {
			c.headers(1, false, request("/none")...)
			c.headers(1, true, "x-end", "1")
			c.headers(1, true, "x-end", "1")
		}, "1: grpc 12, 1: NO_ERROR, GOAWAY STREAM_CLOSED, closed"},
		{"data of a malformed call", func(c *raw) {
			c.headers(1, false, request(inlineEcho, ":path", "")...)
			_ = c.WriteData(1, true, message("x"))
		}, "1: PROTOCOL_ERROR"},
		{"more data of a message that is too long", func(c *raw) {
			c.headers(1, false, request(inlineEcho)...)
			_ = c.WriteData(1, false, []byte{0, 0xff, 0, 0, 0})
			_ = c.WriteData(1, false, make([]byte, 10_000))
			_ = c.WriteData(1, true, nil)
		}, "1: grpc 8, 1: NO_ERROR"},
		{"a second message", func(c *raw) {
			c.headers(1, false, request(inlineEcho)...)
			_ = c.WriteData(1, false, append(message("x"), message("y")...))
			_ = c.WriteData(1, true, nil)
		}, "1: grpc 13, 1: NO_ERROR"},
		{"data of an even stream", func(c *raw) { c.call(5, "x"); _ = c.WriteData(2, true, nil) }, "5: grpc 0, GOAWAY PROTOCOL_ERROR, closed"},
		{"a reset of an even stream", func(c *raw) { c.call(5, "x"); _ = c.WriteRSTStream(2, 0) }, "5: grpc 0, GOAWAY PROTOCOL_ERROR, closed"},
		{"a window of an even stream", func(c *raw) { c.call(5, "x"); _ = c.WriteWindowUpdate(2, 1) }, "5: grpc 0, GOAWAY PROTOCOL_ERROR, closed"},
		{"a window without growth of an even stream", func(c *raw) { c.call(5, "x"); _ = c.WriteWindowUpdate(2, 0) }, "5: grpc 0, GOAWAY PROTOCOL_ERROR, closed"},
		{"a field longer than the list may be", func(c *raw) {
			c.headers(1, true, request(inlineEcho, "x-long", strings.Repeat("x", 17_000))...)
		}, "1: 431, 1: "},
		{"a field of the table told ten thousand times", func(c *raw) {
			block := c.encode(request(inlineEcho, "x-bomb", strings.Repeat("x", 3900)))
			block = append(block, bytes.Repeat([]byte{0x80 | 62}, 10_000)...) // the newest in the table
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true, EndStream: true})
		}, "1: 431, 1: "},
		{"a content-length with a sign", func(c *raw) { c.headers(1, true, request(inlineEcho, "content-length", "+0")...) }, "1: PROTOCOL_ERROR"},
		{"too many windows", func(c *raw) {
			for range 2500 {
				_ = c.WriteWindowUpdate(0, 1)
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"too many settings", func(c *raw) {
			for range 2500 {
				_ = c.WriteSettings()
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"too many priorities", func(c *raw) {
			for range 2500 {
				_ = c.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"too many unknown frames", func(c *raw) {
			for range 2500 {
				_ = c.WriteRawFrame(0x77, 0, 1, nil)
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"too many refusals", func(c *raw) {
			for i := range uint32(2500) {
				c.headers(2*i+1, true, request("/none/"+strings.Repeat("€", 300))...)
			}
			c.events = nil
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
	} {
		c := greet(t, r.address)
		c.atOnce(func() { row.send(c) })
		c.settle()
		if row.name == "too many refusals" {
			c.events = slices.DeleteFunc(c.events, func(e string) bool { return strings.HasSuffix(e, ": grpc 12") })
		}
		if got := strings.Join(c.events, ", "); got != row.want {
			t.Errorf("%s: %q comes, want %q", row.name, got, row.want)
		}
	}
	r.idle(t)
}

// TestLastWords: who is sent away gets to read why, and all that was answered, though it
// goes on to send: nothing takes back what is on its way.
func TestLastWords(t *testing.T) {
	t.Parallel()
	talk := func(c *raw) {
		for range 400 {
			_ = c.WriteRawFrame(0x77, 0, 0, make([]byte, 1000))
		}
	}
	// heard reads late, and to the end.
	heard := func(c *raw, name string) (codes []string) {
		for {
			f, err := c.ReadFrame()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%s: it ends with %v, want %v", name, err, io.EOF)
				}
				return codes
			}
			switch f := f.(type) {
			case *http2.GoAwayFrame:
				codes = append(codes, fmt.Sprint(f.LastStreamID, " ", f.ErrCode))
			case *http2.MetaHeadersFrame:
				if f.StreamEnded() {
					codes = append(codes, fmt.Sprint(f.StreamID, " ended"))
				}
			}
		}
	}

	r := start(t)
	c := greet(t, r.address)
	c.atOnce(func() {
		c.call(1, "large 50000ns")
		_ = c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		talk(c)
	})
	if got := heard(c, "an error"); !slices.Equal(got, []string{"1 ended", "1 PROTOCOL_ERROR"}) {
		t.Errorf("an error: %q comes", got)
	}

	c = greet(t, r.address)
	c.call(1, "large 50000ns")
	c.settle()
	if !slices.Equal(c.events, []string{"1: grpc 0"}) {
		t.Errorf("%q comes", c.events)
	}
	stopped := make(chan struct{})
	go func() { r.GracefulStop(); close(stopped) }()
	c.listen(func(f http2.Frame) bool { _, ok := f.(*http2.PingFrame); return ok })
	c.atOnce(func() {
		_ = c.WritePing(true, drainPing)
		talk(c)
		c.call(3, "too late") // or, if it is read with the echo, refused
	})
	if got := heard(c, "draining"); len(got) != 1 || !strings.HasSuffix(got[0], "NO_ERROR") {
		t.Errorf("draining: %q comes", got)
	}
	c.conn.Close()
	<-stopped
}

// TestStopBetweenCalls: of calls that were read before the end and not begun, none begins,
// whose context nobody would end.
func TestStopBetweenCalls(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.tester.waiting = make(chan context.Context, 1)
	c := greet(t, r.address)
	c.atOnce(func() {
		c.call(1, "block") // and nothing is read meanwhile
		for id := range uint32(20) {
			c.headers(2*id+3, false, request(bothWays)...)
		}
	})
	<-r.tester.waiting
	r.Stop()
	r.running.Wait()
}

// TestGreetingLate: a connection that is drained before its client says anything ends.
func TestGreetingLate(t *testing.T) {
	t.Parallel()
	r := impatient(t)
	c := rawDial(t, r.address, "")
	c.listen(func(f http2.Frame) bool { _, ok := f.(*http2.SettingsFrame); return ok })
	began := time.Now()
	go func() {
		c.listen(func(f http2.Frame) bool { g, ok := f.(*http2.GoAwayFrame); return ok && g.LastStreamID == 0 })
		_, _ = io.WriteString(c.conn, http2.ClientPreface)
		_ = c.WriteSettings()
	}()
	r.GracefulStop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestPipelinedMetadata: metadata of an answer are there however much waits to be written.
func TestPipelinedMetadata(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := greet(t, r.address)
	const calls = 40
	c.atOnce(func() {
		for i := range uint32(calls) {
			c.call(2*i+1, "header "+strings.Repeat("x", 300))
		}
	})
	header, trailer := 0, 0
	c.listen(func(f http2.Frame) bool {
		h, ok := f.(*http2.MetaHeadersFrame)
		if !ok {
			return false
		}
		for _, field := range h.RegularFields() {
			switch field.Name {
			case "x-set":
				header++
			case "x-end":
				trailer++
			}
		}
		return h.StreamEnded() && h.StreamID == 2*calls-1
	})
	if header != calls || trailer != calls {
		t.Errorf("%d headers and %d trailers are there, want %d", header, trailer, calls)
	}
}

// TestPatienceLost: a client that resets all its calls at once keeps its connection.
func TestPatienceLost(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Streams = 3000 })
	c := greet(t, r.address)
	const calls = 2500
	c.atOnce(func() {
		for i := range uint32(calls) {
			c.call(2*i+1, "wait")
		}
	})
	eventually(t, func() string {
		for _, conn := range r.connections() {
			conn.mu.Lock()
			defer conn.mu.Unlock()
			if conn.handlers == calls {
				return ""
			}
		}
		return "the calls are not worked on"
	})
	c.atOnce(func() {
		for i := range uint32(calls) {
			_ = c.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}
		c.call(9001, "hello")
	})
	c.settle()
	if got := strings.Join(c.events, ", "); got != "9001: grpc 0" {
		t.Errorf("%.200q comes", got)
	}
	r.idle(t)
}

// TestAnswersNobodyTakes are bounded for each connection: calls are turned away when there
// are too many.
func TestAnswersNobodyTakes(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const calls = 40
	for i := range uint32(calls) {
		c.call(2*i+1, "large 1000000ns")
	}
	c.settle()
	if n := len(c.events); n < calls-heldMost/1_000_000-2 || c.events[n-1] != fmt.Sprintf("%d: ENHANCE_YOUR_CALM", 2*calls-1) {
		t.Errorf("of %d calls some %d are turned away: %q", calls, n, c.events)
	}
	_ = c.WriteWindowUpdate(1, 1<<20) // one is taken, the others are given up
	for i := range uint32(calls - 1) {
		_ = c.WriteRSTStream(2*i+3, http2.ErrCodeCancel)
	}
	_ = c.WriteWindowUpdate(0, 1<<20)
	c.call(1001, "hello")
	_ = c.WriteWindowUpdate(1001, 100)
	c.settle()
	if !slices.Contains(c.events, "1: grpc 0") || !slices.Contains(c.events, "1001: grpc 0") {
		t.Errorf("then %q comes", c.events)
	}
	r.idle(t)
}

// TestSlowTaker: an answer that is taken in small windows is no flood of those.
func TestSlowTaker(t *testing.T) {
	t.Parallel()
	r := start(t)
	c := greet(t, r.address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.call(1, "large 1048576ns")
	c.call(3, "large 1048576ns")
	c.atOnce(func() {
		for range 1050 { // and as many for the stream
			_ = c.WriteWindowUpdate(0, muchProgress)
			_ = c.WriteWindowUpdate(1, muchProgress)
		}
	})
	c.settle()
	if !slices.Equal(c.events, []string{"1: grpc 0"}) {
		t.Errorf("%q and %d bytes come", c.events, c.body[1])
	}
}
