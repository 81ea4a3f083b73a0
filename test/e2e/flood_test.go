package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

const (
	// attackers is how many connections a flood has at once.
	attackers = 4

	// burst is how many frames an attacker sends between two breaths. Without these the
	// test would measure who gets the two processors that all share, and no more.
	burst, breath = 16, 4 * time.Millisecond

	// floodMemory is GOMEMLIMIT under a flood, mostMemory what the process may then have in
	// use, in bytes.
	floodMemory, mostMemory = 256 << 20, 512 << 20

	// longFlood is how long a flood lasts for acceptance.
	longFlood = 5 * time.Second

	// mostStreams is how many streams of one connection may be open at once: more than
	// the service announces for as few processors as tests run on.
	mostStreams = 32 << 10
)

// A target is a listener, and a request that it serves.
type target struct {
	name         string
	dial         func(protocol string) (net.Conn, error) // "h2" or "http/1.1", for TLS
	method, path string
}

// grpcTarget is the gRPC listener without TLS.
func grpcTarget(address string) target {
	return target{"grpc", func(string) (net.Conn, error) { return net.DialTimeout("tcp", address, time.Second) }, http.MethodPost, "/envoy.service.auth.v3.Authorization/Check"}
}

// An attack is one abuse of a listener.
type attack struct {
	name string

	// begin prepares a connection; nil for nothing.
	begin func(*attacker) error

	// send writes one blow. It is called until the connection ends.
	send func(*attacker) error

	// ends is how the service ends such a connection: with a GOAWAY of this code, or, where
	// it is "cut", with any or none; "" if it just bears it.
	ends string

	// http1 makes connections that send no preface of HTTP/2.
	http1 bool
}

// attacks are the known ones: CVE-2023-44487 (rapid reset), CVE-2019-9511 to 9518 (data,
// ping, reset, settings, empty frames, zero-length headers), CVE-2024-27316 (continuation).
var attacks = []attack{
	{"streams that are reset at once", nil, func(a *attacker) error {
		id := a.next()
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}, "", false},
	{"checks that are reset at once", nil, func(a *attacker) error {
		id := a.next()
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteData(id, true, a.message), a.framer.WriteRSTStream(id, http2.ErrCodeCancel))
	}, "", false},
	{"streams that make the service reset them", nil, func(a *attacker) error {
		id := a.next()
		// A window that overflows is an error of the stream (RFC 9113 §6.9.1).
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteWindowUpdate(id, 1<<31-1), a.framer.WriteWindowUpdate(id, 1<<31-1))
	}, "", false},
	{"headers without end", func(a *attacker) error {
		return a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: a.next(), BlockFragment: a.block})
	}, func(a *attacker) error {
		return a.framer.WriteContinuation(a.id, false, a.large)
	}, "cut", false},
	{"headers that are too large", nil, func(a *attacker) error {
		id := a.next()
		err := a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.block})
		for range 3 { // 24 KiB; 16 are the limit
			err = errors.Join(err, a.framer.WriteContinuation(id, false, a.large))
		}
		return errors.Join(err, a.framer.WriteContinuation(id, true, nil))
	}, "", false},
	{"settings", nil, func(a *attacker) error {
		return a.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	}, "", false},
	{"settings whose answers nobody reads", func(a *attacker) error {
		a.deaf.Store(true)
		return nil
	}, func(a *attacker) error {
		return a.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	}, "", false},
	{"pings", nil, func(a *attacker) error {
		return a.framer.WritePing(false, [8]byte{1})
	}, "ENHANCE_YOUR_CALM", false},
	{"empty data", func(a *attacker) error {
		return a.headers(a.next(), a.block, false)
	}, func(a *attacker) error {
		return a.framer.WriteData(a.id, false, nil)
	}, "", false},
	{"priorities", func(a *attacker) error {
		return a.headers(a.next(), a.block, false)
	}, func(a *attacker) error {
		return a.framer.WritePriority(a.id, http2.PriorityParam{Weight: 1})
	}, "", false},
	{"streams that stay open", nil, func(a *attacker) error {
		return a.headers(a.next(), a.block, false)
	}, "", false},
	{"checks whose answers nobody takes", func(a *attacker) error {
		return a.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	}, func(a *attacker) error {
		id := a.next()
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteData(id, true, a.message))
	}, "", false},
	{"messages that are announced and never come", nil, func(a *attacker) error {
		id := a.next()
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteData(id, false, []byte{0, 0, 0x3f, 0xff, 0xff}))
	}, "", false},
	{"messages that are too long", nil, func(a *attacker) error {
		id := a.next()
		return errors.Join(a.headers(id, a.block, false), a.framer.WriteData(id, false, []byte{0, 0x7f, 0xff, 0xff, 0xff}))
	}, "", false},
	{"frames of no known type", nil, func(a *attacker) error {
		return a.framer.WriteRawFrame(0xfa, 0, 0, a.large)
	}, "", false},
	{"bytes that are no frames", nil, func(a *attacker) error {
		_, err := a.conn.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 64))
		return err
	}, "cut", false},
}

// TestFloods: whatever an HTTP/2 client does to the gRPC listener, Envoy's Checks are
// answered as ever, and what the client costs is bounded and given back.
func TestFloods(t *testing.T) {
	f := startFaulty(t, harness.Env(fmt.Sprintf("GOMEMLIMIT=%d", floodMemory)))
	for _, attack := range attacks {
		calm := resourcesOf(t, f.gatehouse)
		storm := &storm{attack: attack, target: grpcTarget(f.gatehouse.GRPC), attackers: attackers, ends: map[string]int{}}
		watch := watchResources(f.gatehouse)
		f.duringFor(t, attack.name, min(lasts(), longFlood), storm.begin, storm.end)
		peak := watch.end()
		f.nearlyAsEver(t)
		t.Logf("%s: %d blows over %d connections, ended by %v; %v before, at most %v", attack.name,
			storm.blows.Load(), storm.connections, storm.ends, calm, peak)
		if peak.memory > mostMemory || peak.goroutines > attackers*mostStreams {
			t.Errorf("%s: %v in use", attack.name, peak)
		}
		if attack.ends != "" && storm.endedAsMeant() == 0 {
			t.Errorf("%s: connections ended by %v, want %s", attack.name, storm.ends, attack.ends)
		}
		harness.Eventually(t, settle, func() error {
			if now := resourcesOf(t, f.gatehouse); now.goroutines > calm.goroutines+moreGoroutines || now.descriptors > calm.descriptors+moreDescriptors {
				return fmt.Errorf("%s: %v left over of %v", attack.name, now, peak)
			}
			return nil
		})
	}
}

// nearlyAsEver is asEver for a machine that is full, where gatehouse tells some that it is
// (503): nine of ten answers are right, and nobody passes who should not.
func (f *faulty) nearlyAsEver(t *testing.T) {
	t.Helper()
	for _, l := range f.traffic.lanes {
		right := fmt.Sprint(l.status)
		f.only(t, l.front, l.name, right, "503")
		saw := f.traffic.saw(l.front, l.name)
		if wrong := saw["503"]; wrong > saw[right]/9 {
			t.Errorf("%s at %s: %d times 503, and right only %d times", l.name, l.front, wrong, saw[right])
		}
	}
	f.traffic.neverAllowed(t, "fail open")
}

// A storm is an attack by several connections, each of which comes again when it was cut.
type storm struct {
	attack    attack
	target    target
	attackers int

	stop  chan struct{}
	tasks sync.WaitGroup
	blows atomic.Int64

	mu          sync.Mutex
	connections int
	ends        map[string]int // how connections ended, and how often
}

func (s *storm) begin() {
	s.stop = make(chan struct{})
	for range s.attackers {
		s.tasks.Go(func() {
			for !s.over() {
				how := s.connection()
				s.mu.Lock()
				s.connections++
				s.ends[how]++
				s.mu.Unlock()
			}
		})
	}
}

func (s *storm) end() {
	close(s.stop)
	s.tasks.Wait()
}

// awaitEnd waits until a connection has ended as it should, for as long as that may take on
// a busy machine.
func (s *storm) awaitEnd() {
	tick := time.NewTicker(breath)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < settle; <-tick.C {
		s.mu.Lock()
		seen := s.attack.ends == "" || s.endedAsMeant() > 0
		s.mu.Unlock()
		if seen && s.blows.Load() > 0 {
			return
		}
	}
}

// endedAsMeant counts the connections that the service ended as it should.
func (s *storm) endedAsMeant() (n int) {
	if s.attack.ends != "cut" {
		return s.ends[s.attack.ends]
	}
	for how, times := range s.ends {
		if how != "us" {
			n += times
		}
	}
	return n
}

func (s *storm) over() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// connection attacks by one connection until it is cut or the storm is over, and tells how
// it ended.
func (s *storm) connection() string {
	a, err := dialAttacker(s.target, s.attack.http1)
	if err != nil {
		return err.Error()
	}
	defer a.conn.Close()
	if s.attack.begin != nil {
		err = s.attack.begin(a)
	}
	tick := time.NewTicker(breath)
	defer tick.Stop()
	for err == nil && !s.over() {
		for range burst {
			if err = s.attack.send(a); err != nil {
				break
			}
			s.blows.Add(1)
		}
		if err == nil {
			err = a.out.flush()
		}
		<-tick.C
	}
	_ = a.conn.Close()
	return a.ended(err == nil)
}

// An attacker is one HTTP/2 connection that heeds no rule.
type attacker struct {
	conn   net.Conn
	out    *lineBuffer
	framer *http2.Framer
	path   string // of a request that is served
	id     uint32
	deaf   atomic.Bool // reads nothing more

	block   []byte // good headers of a Check
	large   []byte // 8 KiB of further headers
	message []byte // a good Check, as a gRPC message

	read chan string // how the connection ended, as the service says
}

// lineBuffer gathers what is written between two flushes.
type lineBuffer struct {
	conn net.Conn
	buf  bytes.Buffer
}

func (b *lineBuffer) Write(p []byte) (int, error) { return b.buf.Write(p) }

func (b *lineBuffer) flush() error {
	_, err := b.buf.WriteTo(b.conn)
	return err
}

func dialAttacker(t target, http1 bool) (*attacker, error) {
	protocol := "h2"
	if http1 {
		protocol = "http/1.1"
	}
	conn, err := t.dial(protocol)
	if err != nil {
		return nil, errors.New("not connected")
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a service that reads nothing more holds nobody for good
	a := &attacker{conn: conn, path: t.path, out: &lineBuffer{conn: conn}, read: make(chan string, 1)}
	a.framer = http2.NewFramer(a.out, conn)
	a.framer.AllowIllegalWrites = true

	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	encoder.SetMaxDynamicTableSize(0) // blocks that can be sent again and again
	for _, field := range [][2]string{
		{":method", t.method}, {":scheme", "http"}, {":path", t.path},
		{":authority", "gatehouse"}, {"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	a.block = bytes.Clone(block.Bytes())
	block.Reset()
	_ = encoder.WriteField(hpack.HeaderField{Name: "x-large", Value: strings.Repeat("~", 6<<10), Sensitive: true})
	a.large = bytes.Clone(block.Bytes())
	check := []byte("\x0a\x0b\x22\x09\x12\x07\x12\x03GET\x22\x00") // attributes.request.http.method
	a.message = append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(check))), check...)

	if http1 {
		go a.swallow()
		return a, nil
	}
	go a.listen()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, errors.New("not connected")
	}
	return a, errors.Join(a.framer.WriteSettings(), a.out.flush())
}

// listen reads what the service says.
func (a *attacker) listen() {
	end := ""
	for !a.deaf.Load() {
		frame, err := a.framer.ReadFrame()
		if err != nil {
			break
		}
		if away, ok := frame.(*http2.GoAwayFrame); ok {
			end = away.ErrCode.String()
		}
	}
	a.read <- end
}

// swallow reads what is answered to HTTP/1.
func (a *attacker) swallow() {
	_, _ = io.Copy(io.Discard, a.conn) // until either side ends
	a.read <- ""
}

// ended is the code of the service's GOAWAY, else who cut the connection.
func (a *attacker) ended(byUs bool) string {
	switch said := <-a.read; {
	case said != "":
		return said
	case byUs:
		return "us"
	default:
		return "cut"
	}
}

// next is the number of a new stream.
func (a *attacker) next() uint32 {
	if a.id == 0 {
		a.id = 1
	} else {
		a.id += 2
	}
	return a.id
}

func (a *attacker) headers(id uint32, block []byte, end bool) error {
	return a.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

// resourceWatch keeps the most that a process has had.
type resourceWatch struct {
	stop chan struct{}
	most chan resources
}

func watchResources(g *harness.Gatehouse) *resourceWatch {
	w := &resourceWatch{stop: make(chan struct{}), most: make(chan resources)}
	go func() {
		var most resources
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := readResources(g); err == nil {
				most = resources{max(most.goroutines, now.goroutines), max(most.descriptors, now.descriptors), max(most.memory, now.memory), max(most.heap, now.heap)}
			}
			select {
			case <-w.stop:
				w.most <- most
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *resourceWatch) end() resources {
	close(w.stop)
	return <-w.most
}
