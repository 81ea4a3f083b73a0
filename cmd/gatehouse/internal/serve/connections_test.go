package serve

import (
	"bytes"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/connections"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

func TestConnectionLimits(t *testing.T) {
	all := func(most uint32) *configv1.Listen {
		return &configv1.Listen{
			Grpc: &configv1.Listener{MaxConnections: most}, Http: &configv1.Listener{},
			Admin: &configv1.Listener{}, Ops: &configv1.Listener{},
		}
	}
	for _, row := range []struct {
		name        string
		listen      *configv1.Listen
		descriptors uint64
		want        connectionLimits
		cut         []string
	}{
		{"nothing is said", nil, 1 << 20, connectionLimits{"grpc": {Total: 8192, PerSource: 4096}, "ops": {Total: 64, PerSource: 32}}, nil},
		{
			"all listeners", all(0), 1 << 20,
			connectionLimits{"grpc": {Total: 8192, PerSource: 4096}, "http": {Total: 4096, PerSource: 2048}, "admin": {Total: 64, PerSource: 32}, "ops": {Total: 64, PerSource: 32}}, nil,
		},
		{
			"as configured", &configv1.Listen{Grpc: &configv1.Listener{MaxConnections: 20000, MaxConnectionsPerSource: 20000}, Ops: &configv1.Listener{MaxConnections: 1}}, 1 << 20,
			connectionLimits{"grpc": {Total: 20000, PerSource: 20000}, "ops": {Total: 1, PerSource: 1}}, nil,
		},
		{
			"a source may have no more than all", &configv1.Listen{Grpc: &configv1.Listener{MaxConnectionsPerSource: 9000}}, 1 << 20,
			connectionLimits{"grpc": {Total: 8192, PerSource: 8192}, "ops": {Total: 64, PerSource: 32}}, nil,
		},
		{
			"few descriptors are shared, and operators keep theirs", all(0), 4096,
			connectionLimits{"grpc": {Total: 2474, PerSource: 1237}, "http": {Total: 1237, PerSource: 618}, "admin": {Total: 64, PerSource: 32}, "ops": {Total: 64, PerSource: 32}},
			[]string{"grpc", "http"},
		},
		{
			"no descriptor limit is too low to begin with", all(0), 96,
			connectionLimits{"grpc": {Total: 24, PerSource: 12}, "http": {Total: 12, PerSource: 6}, "admin": {Total: 6, PerSource: 3}, "ops": {Total: 6, PerSource: 3}},
			[]string{"admin", "ops", "grpc", "http"},
		},
		{
			"what was configured is cut as well", all(100000), 65536,
			connectionLimits{"grpc": {Total: 62588, PerSource: 31294}, "http": {Total: 2563, PerSource: 1281}, "admin": {Total: 64, PerSource: 32}, "ops": {Total: 64, PerSource: 32}},
			[]string{"grpc", "http"},
		},
		{"no limit at all", nil, 1<<64 - 1, connectionLimits{"grpc": {Total: 8192, PerSource: 4096}, "ops": {Total: 64, PerSource: 32}}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, cut := newConnectionLimits(row.listen, row.descriptors)
			if !maps.Equal(got, row.want) || !slices.Equal(cut, row.cut) {
				t.Errorf("limits %v, cut %v; want %v, cut %v", got, cut, row.want, row.cut)
			}
			sum := uint64(0)
			for _, l := range got {
				sum += uint64(l.Total)
			}
			if sum >= row.descriptors {
				t.Errorf("%d connections with %d descriptors", sum, row.descriptors)
			}
		})
	}
}

// newTestLog is a log that a test reads.
func newTestLog(t *testing.T) (*Log, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	log, err := NewLog(&out, "json", zapcore.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log, &out
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	log, out := newTestLog(t)
	report := &refusalReport{log: log.Logger}
	began := time.Now()
	for i := range 1000 {
		report.add(connections.Full, &net.TCPAddr{}, began.Add(time.Duration(i)*refusalsEvery/500))
	}
	if lines := strings.Count(out.String(), "connections are refused"); lines != 2 || !strings.Contains(out.String(), `"refused":500`) {
		t.Errorf("in two minutes the log has %d lines: %s", lines, out)
	}
}

func TestFullListenersAreDegraded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounded := connections.Bound(l, connections.Limits{Total: 1}, func(connections.Reason, net.Addr) {})
	defer bounded.Close()
	list := []boundedListener{{"grpc", bounded}}
	if got := fullListeners(list); len(got) != 0 {
		t.Errorf("with nobody there: %v", got)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := fullListeners(list); len(got) != 1 || got[0].State != Degraded {
		t.Errorf("with all places taken: %v", got)
	}
	_ = conn.Close()
	if got := fullListeners(list); len(got) != 0 {
		t.Errorf("with nobody there any more: %v", got)
	}
}

// TestComplaintsAreFew: a flood of handshakes that fail does not fill the log, and hides no
// fault of ours.
func TestComplaintsAreFew(t *testing.T) {
	log, out := newTestLog(t)
	logger := log.HTTP("ops")
	now := time.Now()
	logger.Writer().(*complaints).now = func() time.Time { return now }
	for range 100 {
		logger.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	}
	logger.Print("http: panic serving 192.0.2.1:1: a mistake")
	now = now.Add(time.Minute)
	logger.Print("http: TLS handshake error from 192.0.2.1:1: EOF")
	for text, want := range map[string]int{"handshake": complaintsPerMinute + 1, "a mistake": 1, `"lines":90`: 1} {
		if got := strings.Count(out.String(), text); got != want {
			t.Errorf("%q is %d times in the log, want %d: %s", text, got, want, out)
		}
	}
}

// TestEveryLimitOfHTTPIsSet: what is not, net/http lets grow or last without end.
func TestEveryLimitOfHTTPIsSet(t *testing.T) {
	log, _ := newTestLog(t)
	s := &service{log: log}
	for _, name := range []string{"http", "admin", "ops"} {
		server := s.newHTTPServer(name, nil, http.NotFoundHandler())
		if server.ReadHeaderTimeout <= 0 || server.ReadTimeout <= 0 || server.WriteTimeout <= 0 || server.IdleTimeout <= 0 || server.MaxHeaderBytes <= 0 ||
			server.HTTP2.MaxConcurrentStreams <= 0 || server.HTTP2.WriteByteTimeout <= 0 || server.HTTP2.SendPingTimeout <= 0 || server.ConnState == nil {
			t.Errorf("%s: %+v", name, server)
		}
	}
}
