package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A raw client writes the frames that it is told.
type raw struct {
	*http2.Framer
	t     testing.TB
	conn  net.Conn
	block bytes.Buffer
	hpack *hpack.Encoder

	begun  []uint32       // streams
	body   map[uint32]int // bytes of data that came, by stream
	events []string       // what else came
}

// rawDial connects. Without a preface nothing is sent.
func rawDial(t testing.TB, address string, preface string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return rawOver(t, conn, preface)
}

func rawOver(t testing.TB, conn net.Conn, preface string) *raw {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := &raw{t: t, conn: conn, Framer: http2.NewFramer(conn, conn), body: map[uint32]int{}}
	r.AllowIllegalWrites = true
	r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.hpack = hpack.NewEncoder(&r.block)
	_, _ = io.WriteString(conn, preface)
	return r
}

// greet is what a client says first.
func greet(t testing.TB, address string, settings ...http2.Setting) *raw {
	t.Helper()
	r := rawDial(t, address, http2.ClientPreface)
	_ = r.WriteSettings(settings...)
	return r
}

// request are the fields of a call, with those given in addition, or instead if they have
// the name of one; without a value that one is left out.
func request(method string, more ...string) []string {
	fields := []string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "content-type", "application/grpc", "te", "trailers"}
	for i := 0; i < len(more); i += 2 {
		at := -1
		for j := 0; j < len(fields); j += 2 {
			if fields[j] == more[i] {
				at = j
			}
		}
		switch {
		case at >= 0 && more[i+1] == "":
			fields = slices.Delete(fields, at, at+2)
		case at >= 0:
			fields[at+1] = more[i+1]
		default:
			fields = append(fields, more[i], more[i+1])
		}
	}
	return fields
}

func (r *raw) encode(fields []string) []byte {
	r.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = r.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.block.Bytes())
}

func (r *raw) headers(id uint32, end bool, fields ...string) {
	r.begun = append(r.begun, id)
	_ = r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.encode(fields), EndHeaders: true, EndStream: end})
}

// message is a message with its prefix.
func message(text string) []byte {
	body, err := proto.Marshal(&wrapperspb.BytesValue{Value: []byte(text)})
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

func (r *raw) call(id uint32, text string) {
	r.headers(id, false, request(inlineEcho)...)
	_ = r.WriteData(id, true, message(text))
}

var mark = [8]byte{'m', 'a', 'r', 'k'}

// settle sends a ping and notes what comes before its echo, or before the end.
func (r *raw) settle() {
	_ = r.WritePing(false, mark)
	r.listen(func(f http2.Frame) bool {
		p, ok := f.(*http2.PingFrame)
		return ok && p.IsAck() && p.Data == mark
	})
}

// listen notes what comes until last, or until the end.
func (r *raw) listen(last func(http2.Frame) bool) {
	for {
		f, err := r.ReadFrame()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.t.Errorf("nothing came after %q", r.events)
			}
			r.events = append(r.events, "closed")
			return
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status := f.PseudoValue("status")
			for _, field := range f.RegularFields() {
				if field.Name == "grpc-status" {
					status = "grpc " + field.Value
				}
			}
			if f.StreamEnded() || status != "200" {
				r.events = append(r.events, fmt.Sprintf("%d: %s", f.StreamID, status))
			}
		case *http2.DataFrame:
			r.body[f.StreamID] += len(f.Data())
		case *http2.RSTStreamFrame:
			r.events = append(r.events, fmt.Sprintf("%d: %v", f.StreamID, f.ErrCode))
		case *http2.GoAwayFrame:
			r.events = append(r.events, fmt.Sprintf("GOAWAY %v", f.ErrCode))
		}
		if last(f) {
			return
		}
	}
}

// TestRules: what a client can do wrong, and what comes of it: the answer, the reset of the
// stream, or the end of the connection (RFC 9113, by section).
func TestRules(t *testing.T) {
	t.Parallel()
	r := forgetless(t, func(o *Options) { o.Streams = 3 })
	good := request(inlineEcho)
	malformed := func(fields ...string) func(*raw) {
		return func(c *raw) { c.headers(1, true, fields...) }
	}
	for _, row := range []struct {
		name string
		send func(*raw)
		want string // what comes, but for the answers of streams that are told to be OK
	}{
		{"a call", func(c *raw) { c.call(1, "x") }, "1: grpc 0"},
		{"a call in pieces", func(c *raw) {
			c.headers(1, false, good...)
			for _, b := range message("hello") {
				_ = c.WriteData(1, false, []byte{b})
			}
			_ = c.WriteData(1, true, nil)
		}, "1: grpc 0"},
		{"a padded call", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good), EndHeaders: true, PadLength: 100, Priority: http2.PriorityParam{Weight: 3}})
			_ = c.WriteDataPadded(1, true, message("hello"), make([]byte, 200))
		}, "1: grpc 0"},
		{"a head in pieces", func(c *raw) {
			block := c.encode(good)
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
			_ = c.WriteContinuation(1, false, block[1:10])
			_ = c.WriteContinuation(1, true, block[10:])
			_ = c.WriteData(1, true, message("x"))
		}, "1: grpc 0"},
		{"trailers", func(c *raw) {
			c.headers(1, false, good...)
			_ = c.WriteData(1, false, message("x"))
			c.headers(1, true, "x-end", "yes")
		}, "1: grpc 0"},
		{"frames of unknown types", func(c *raw) { _ = c.WriteRawFrame(0xf0, 0xff, 77, []byte("what")); c.call(1, "x") }, "1: grpc 0"},
		{"5.1.1: an even stream", func(c *raw) { c.call(2, "x") }, "GOAWAY PROTOCOL_ERROR, closed"},
		{"5.1.1: a stream before the last", func(c *raw) { c.call(5, "x"); c.call(3, "x") }, "5: grpc 0, GOAWAY STREAM_CLOSED, closed"},
		{"5.1: data of an idle stream", func(c *raw) { _ = c.WriteData(1, true, message("x")) }, "GOAWAY PROTOCOL_ERROR, closed"},
		{"5.1: data after the end", func(c *raw) { c.call(1, "x"); _ = c.WriteData(1, true, message("x")) }, "1: grpc 0, 1: STREAM_CLOSED"},
		{"5.1: a window of an idle stream", func(c *raw) { _ = c.WriteWindowUpdate(1, 1) }, "GOAWAY PROTOCOL_ERROR, closed"},
		{"5.1: a window of a closed stream", func(c *raw) { c.call(1, "x"); _ = c.WriteWindowUpdate(1, 1) }, "1: grpc 0"},
		{"5.1: a reset of an idle stream", func(c *raw) { _ = c.WriteRSTStream(1, http2.ErrCodeCancel) }, "GOAWAY PROTOCOL_ERROR, closed"},
		{"5.1: a reset of a closed stream", func(c *raw) { c.call(1, "x"); _ = c.WriteRSTStream(1, http2.ErrCodeCancel) }, "1: grpc 0"},
		{"5.1.2: more streams than there may be", func(c *raw) {
			for id := range uint32(4) {
				c.headers(2*id+1, false, good...)
			}
			_ = c.WriteData(1, true, message("x"))
		}, "7: REFUSED_STREAM, 1: grpc 0"},
		{"5.3.1: a stream that depends on itself", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good), EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1}})
		}, "1: PROTOCOL_ERROR"},
		{"6.1: padding longer than the frame", func(c *raw) {
			c.headers(1, false, good...)
			_ = c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 0})
		}, "GOAWAY PROTOCOL_ERROR, closed"},
		{"6.2: padding longer than the head", func(c *raw) {
			_ = c.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{9, 0x82})
		}, "GOAWAY PROTOCOL_ERROR, closed"},
		{"6.5.3: settings without end of their values", func(c *raw) {
			for i := range uint32(10) {
				_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000 * i}, http2.Setting{ID: 0x99, Val: 7})
			}
			c.call(1, "x")
		}, "1: grpc 0"},
		{"6.6: a push", func(c *raw) {
			_ = c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 3, EndHeaders: true})
		}, "GOAWAY PROTOCOL_ERROR, closed"},
		{"6.9: a window that does not grow", func(c *raw) { c.headers(1, false, good...); _ = c.WriteWindowUpdate(1, 0) }, "1: PROTOCOL_ERROR"},
		{"6.9.1: a stream's window that overflows", func(c *raw) { c.headers(1, false, good...); _ = c.WriteWindowUpdate(1, 1<<31-1) }, "1: FLOW_CONTROL_ERROR"},
		{"6.9.1: a connection's window that overflows", func(c *raw) { _ = c.WriteWindowUpdate(0, 1<<31-1) }, "GOAWAY FLOW_CONTROL_ERROR, closed"},
		{"6.9.1: more data than the window", func(c *raw) {
			c.headers(1, false, request(bothWays)...)
			_ = c.WriteData(1, false, append(message("wait"), message(strings.Repeat("x", 16_000))[:16_000]...)) // taken, and more than half
			for range 4 {
				_ = c.WriteData(1, false, make([]byte, 16_000))
			}
		}, "1: FLOW_CONTROL_ERROR"},
		{"6.10: another frame within a head", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			_ = c.WritePing(false, mark)
		}, "GOAWAY PROTOCOL_ERROR, closed"},
		{"8.1.1: content-length is not what comes", func(c *raw) {
			c.headers(1, false, request(inlineEcho, "content-length", "3")...)
			_ = c.WriteData(1, true, message("x"))
		}, "1: PROTOCOL_ERROR"},
		{"8.1.1: less comes than content-length", func(c *raw) { c.headers(1, true, request(inlineEcho, "content-length", "3")...) }, "1: PROTOCOL_ERROR"},
		{"8.1.1: content-length is no number", malformed(request(inlineEcho, "content-length", "many")...), "1: PROTOCOL_ERROR"},
		{"8.1.1: two content-lengths", malformed(append(request(inlineEcho, "content-length", "8"), "content-length", "9")...), "1: PROTOCOL_ERROR"},
		{"8.1: trailers with more to come", func(c *raw) { c.headers(1, false, good...); c.headers(1, false, "x-end", "yes") }, "1: PROTOCOL_ERROR"},
		{"8.1: trailers with pseudo-headers", func(c *raw) { c.headers(1, false, good...); c.headers(1, true, ":path", "/") }, "1: PROTOCOL_ERROR"},
		{"8.2.1: capitals", malformed(request(inlineEcho, "X-Capital", "x")...), "1: PROTOCOL_ERROR"},
		{"8.2.1: a name that is none", malformed(request(inlineEcho, "x y", "x")...), "1: PROTOCOL_ERROR"},
		{"8.2.1: a value with a line break", malformed(request(inlineEcho, "x-y", "x\ny")...), "1: PROTOCOL_ERROR"},
		{"8.2.2: connection", malformed(request(inlineEcho, "connection", "close")...), "1: PROTOCOL_ERROR"},
		{"8.2.2: transfer-encoding", malformed(request(inlineEcho, "transfer-encoding", "chunked")...), "1: PROTOCOL_ERROR"},
		{"8.2.2: te", malformed(request(inlineEcho, "te", "gzip")...), "1: PROTOCOL_ERROR"},
		{"8.3: no path", malformed(request(inlineEcho, ":path", "")...), "1: PROTOCOL_ERROR"},
		{"8.3: no method", malformed(request(inlineEcho, ":method", "")...), "1: PROTOCOL_ERROR"},
		{"8.3: no scheme", malformed(request(inlineEcho, ":scheme", "")...), "1: PROTOCOL_ERROR"},
		{"8.3: two paths", malformed(append([]string{":path", "/"}, good...)...), "1: PROTOCOL_ERROR"},
		{"8.3: an unknown pseudo-header", malformed(append([]string{":status", "200"}, good...)...), "1: PROTOCOL_ERROR"},
		{"8.3: a pseudo-header behind a field", malformed(append([]string{"x-y", "x"}, good...)...), "1: PROTOCOL_ERROR"},
		{"10.5.1: too long a head", malformed(request(inlineEcho, "x-long", strings.Repeat("x", 9000), "x-longer", strings.Repeat("y", 9000))...), "1: 431, 1: "},
		{"10.5.1: a head without end", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good)})
			for i := range 20 {
				_ = c.WriteContinuation(1, false, c.encode([]string{"x-more", fmt.Sprint(i, strings.Repeat("\x01", 4000))}))
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"a head of empty pieces", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(good)})
			for range 5000 {
				_ = c.WriteContinuation(1, false, nil)
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"RFC 7541: an index that is not in the table", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0x20}, EndHeaders: true})
		}, "GOAWAY COMPRESSION_ERROR, closed"},
		{"RFC 7541: a table larger than allowed", func(c *raw) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xff, 0xff, 0x03}, EndHeaders: true})
		}, "GOAWAY COMPRESSION_ERROR, closed"},
		{"gRPC: not by POST", malformed(request(inlineEcho, ":method", "GET")...), "1: 405, 1: "},
		{"gRPC: another content type", malformed(request(inlineEcho, "content-type", "application/grpcx")...), "1: 415, 1: "},
		{"gRPC: no content type", malformed(request(inlineEcho, "content-type", "")...), "1: 415, 1: "},
		{"gRPC: a timeout that is none", malformed(request(inlineEcho, "grpc-timeout", "soon")...), "1: grpc 13"},
		{"gRPC: no message", malformed(good...), "1: grpc 13"},
		{"gRPC: half a message", func(c *raw) { c.headers(1, false, good...); _ = c.WriteData(1, true, message("x")[:6]) }, "1: grpc 13"},
		{"gRPC: two messages", func(c *raw) {
			c.headers(1, false, good...)
			_ = c.WriteData(1, true, append(message("x"), message("y")...))
		}, "1: grpc 13"},
		{"gRPC: a message that is too long", func(c *raw) {
			c.headers(1, false, good...)
			_ = c.WriteData(1, true, []byte{0, 0xff, 0xff, 0xff, 0xff})
		}, "1: grpc 8"},
		{"gRPC: a message that is compressed", func(c *raw) { c.headers(1, false, good...); _ = c.WriteData(1, true, []byte{1, 0, 0, 0, 0}) }, "1: grpc 12"},
		{"a frame that is too large", func(c *raw) { _ = c.WriteRawFrame(0xf0, 0, 0, make([]byte, ourFrameSize+1)) }, "GOAWAY FRAME_SIZE_ERROR, closed"},
		{"too many resets", func(c *raw) {
			c.atOnce(func() {
				for id := uint32(1); id < 45_000; id += 2 {
					c.headers(id, false, good...)
					_ = c.WriteRSTStream(id, http2.ErrCodeCancel)
				}
			})
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"resets of calls that were answered, as after a pause of ours", func(c *raw) {
			var late strings.Builder
			w := http2.NewFramer(&late, nil)
			for range 5000 {
				_ = w.WriteRSTStream(1, http2.ErrCodeCancel)
			}
			c.call(1, "x")
			_, _ = io.WriteString(c.conn, late.String())
		}, "1: grpc 0"},
		{"too many pings", func(c *raw) {
			for range 2500 {
				_ = c.WritePing(false, [8]byte{})
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
		{"too much empty data", func(c *raw) {
			c.headers(1, false, good...)
			for range 2500 {
				_ = c.WriteData(1, false, nil)
			}
		}, "GOAWAY ENHANCE_YOUR_CALM, closed"},
	} {
		c := greet(t, r.address)
		row.send(c)
		c.settle()
		if got := strings.Join(c.events, ", "); got != row.want {
			t.Errorf("%s: %q comes, want %q", row.name, got, row.want)
		}
		if !strings.Contains(row.want, "closed") { // the others of the connection go on
			c.events = nil
			for _, id := range c.begun {
				_ = c.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			c.call(101, "hello")
			c.settle()
			if !slices.Contains(c.events, "101: grpc 0") || c.body[101] != len(message("hello")) {
				t.Errorf("%s: then a call is answered with %q, %d bytes", row.name, c.events, c.body[101])
			}
		}
		c.conn.Close()
	}
	r.idle(t)
}
