package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// FuzzConn lets a client say anything. Whatever it is, the connection ends when the client
// does, nothing of it is left, and what is written are frames.
func FuzzConn(f *testing.F) {
	record := func(talk func(*raw)) []byte {
		var said bytes.Buffer
		r := &raw{Framer: http2.NewFramer(&said, nil), body: map[uint32]int{}}
		r.AllowIllegalWrites = true
		r.hpack = hpack.NewEncoder(&r.block)
		_ = r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20})
		talk(r)
		return said.Bytes()
	}
	f.Add(record(func(r *raw) {
		r.call(1, "hello")
		r.call(3, "wait")
		r.call(5, "fail x")
		_ = r.WriteWindowUpdate(1, 10)
	}))
	f.Add(record(func(r *raw) {
		for i, method := range []string{inlineEcho, plainEcho, bothWays, upload, download, "/none"} {
			id := uint32(2*i + 1)
			r.headers(id, false, request(method, "grpc-timeout", "9m")...)
			_ = r.WriteData(id, false, message("hello"))
			_ = r.WriteData(id, i%2 == 0, message("large 100ns")[:3])
			_ = r.WriteWindowUpdate(id, 7)
		}
		_ = r.WriteWindowUpdate(0, 1000)
		_ = r.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 20_000})
		_ = r.WritePing(true, drainPing)
		_ = r.WriteRSTStream(5, http2.ErrCodeCancel)
		_ = r.WritePriority(7, http2.PriorityParam{StreamDep: 1})
		_ = r.WriteGoAway(0, http2.ErrCodeNo, nil)
	}))
	f.Add(record(func(r *raw) {
		block := r.encode(request(inlineEcho, "content-length", "5", "x-bin", "AAA"))
		_ = r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:3], PadLength: 3})
		_ = r.WriteContinuation(1, true, block[3:])
		_ = r.WriteDataPadded(1, false, message(""), []byte{0})
		r.headers(1, true, "x-end", "1")
	}))
	o := usual()
	o.MessageBytes, o.Streams = 100_000, 4
	server := unserved(f, o)
	f.Fuzz(func(t *testing.T, said []byte) {
		client, ours := net.Pipe()
		server.open(ours)
		heard := make(chan error, 1)
		go func() {
			r := http2.NewFramer(nil, client)
			r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			r.SetMaxReadFrameSize(64 << 10)
			for {
				if _, err := r.ReadFrame(); err != nil {
					heard <- err
					return
				}
			}
		}()
		_ = client.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(client, http2.ClientPreface)
		_, _ = client.Write(said)
		if len(said)%2 == 0 {
			for _, c := range server.connections() {
				c.mu.Lock()
				c.drain()
				c.mu.Unlock()
				c.look(time.Now().Add(2 * tick)) // it does not wait for the echo
			}
		}
		client.Close()
		if err := <-heard; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("what is written is not HTTP/2: %v", err)
		}
		ended := make(chan struct{})
		go func() { server.running.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Error("goroutines are left")
		}
		if len(server.connections()) != 0 {
			t.Error("the connection is left")
		}
	})
}

// FuzzHead compares which heads are good with what the reading of golang.org/x/net finds,
// which knows the same rules, but for those of requests alone.
func FuzzHead(f *testing.F) {
	for _, fields := range [][]string{
		request(inlineEcho), request(inlineEcho, "x-y", "z"), request(inlineEcho, "X-Y", "z"), request(inlineEcho, "x-y", "a\x00"), request(inlineEcho, "te", "x"),
	} {
		f.Add(strings.Join(fields, "\x1f"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields := strings.Split(text, "\x1f")
		if len(fields)%2 != 0 {
			return
		}
		var block, frames bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		if block.Len() > ourFrameSize {
			return
		}
		framer := http2.NewFramer(&frames, &frames)
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_, err := framer.ReadFrame()

		for _, again := range []bool{false, true} { // the second time the fields are known
			h := &head{limit: 1 << 20, length: -1}
			decoder := hpack.NewDecoder(4096, h.add)
			if _, err := decoder.Write(block.Bytes()); err != nil {
				t.Fatal(err)
			}
			if again {
				good := !h.malformed
				h.reset()
				for i := 0; i < len(fields); i += 2 {
					h.add(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
				}
				if good == h.malformed {
					t.Errorf("%q is good once and not again", fields)
				}
			}
			if err != nil && !h.malformed {
				t.Errorf("%q is taken, and x/net says %v", fields, err)
			}
			if err == nil && h.malformed && !ofRequestsOnly(fields) {
				t.Errorf("%q is refused, and x/net takes it", fields)
			}
		}
	})
}

// ofRequestsOnly tells whether fields break a rule that x/net does not look at when it reads
// a block of which it does not know what it is.
func ofRequestsOnly(fields []string) bool {
	lengths := map[string]bool{}
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			return true
		case "te":
			if fields[i+1] != "trailers" {
				return true
			}
		case ":status", ":protocol":
			return true
		case "content-length":
			lengths[fields[i+1]] = true
		}
	}
	if len(lengths) > 1 {
		return true
	}
	for n := range lengths {
		if strings.Trim(n, "0123456789") != "" || n == "" || len(n) > 18 {
			return true
		}
	}
	return false
}

// FuzzTimeout: no text makes a timeout that is negative or without end.
func FuzzTimeout(f *testing.F) {
	for _, text := range []string{"", "1", "S", "1S", "99999999H", "00000001n", "100000000n", "-1S", "1s", "20m", "5u", "3M"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		timeout, ok := parseTimeout(text)
		if timeout < 0 || timeout > longestTimeout || !ok && timeout != 0 {
			t.Errorf("%q is %v, %v", text, timeout, ok)
		}
		if at := after(time.Now(), timeout); at.Before(time.Now().Add(-time.Second)) {
			t.Errorf("%q ends at %v", text, at)
		}
	})
}

// TestLikeGRPCGo: a client sees the same of grpc-go's server and of this one.
func TestLikeGRPCGo(t *testing.T) {
	direct := start(t)
	close(direct.tester.release)
	theirs := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 20))
	theirs.RegisterService(direct.tester.desc(), direct.tester)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = theirs.Serve(l) }()
	t.Cleanup(theirs.Stop)
	ours, other := direct.dial(t, grpc.WithAuthority("there")), (&rig{address: l.Addr().String()}).dial(t, grpc.WithAuthority("there"))
	random := rand.New(rand.NewPCG(1, 2))
	type outcome struct{ text, status, header, trailer string }
	see := func(conn *grpc.ClientConn, ctx context.Context, method, text string) outcome {
		var header, trailer metadata.MD
		got, err := ask(ctx, conn, method, text, grpc.Header(&header), grpc.Trailer(&trailer))
		st := status.Convert(err)
		return outcome{got, fmt.Sprint(st.Code(), st.Message(), st.Details()), fmt.Sprint(header), fmt.Sprint(trailer)}
	}
	texts := []string{
		"hello", "wait", "fail a%b\n", "fail \xff€\xe2\x82", "error €", "metadata x-a", "metadata x-b-bin", "metadata user-agent", "everything",
		"header x", "late", "gone", "details €", "large 30000ns", "large 900000ns", "",
	}
	for i := range 300 {
		text := texts[random.IntN(len(texts))]
		if random.IntN(3) == 0 && text == "hello" {
			text = strings.Repeat("x", random.IntN(200_000))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		bytes := make([]byte, random.IntN(100))
		for j := range bytes {
			bytes[j] = byte(random.IntN(256))
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "x-a", strings.Repeat("a", random.IntN(50)), "x-a", "b", "x-b-bin", string(bytes))
		method := append(unaries, "/"+serviceName+"/None", "/x", bothWays)[random.IntN(5)]
		if method == bothWays {
			text = "fail of a stream"
		}
		mine, yours := see(ours, ctx, method, text), see(other, ctx, method, text)
		cancel()
		if strings.HasPrefix(mine.status, "Unimplemented") && strings.HasPrefix(yours.status, "Unimplemented") {
			mine.status, yours.status = "", "" // there is no method, in other words
		}
		if mine != yours {
			t.Errorf("%d: %s %.40q: %.200q, and grpc-go %.200q", i, method, text, mine, yours)
		}
	}
}
