package record

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// receiver takes logs as an OpenTelemetry collector does.
type receiver struct {
	collectorv1.UnimplementedLogsServiceServer

	answer func() // before each answer; nil: at once
	status int    // over HTTP; 0: 200

	mu       sync.Mutex
	records  []*logsv1.LogRecord
	services []string // service.name of each request
	tenants  []string // header x-scope of each request
}

func (v *receiver) take(request *collectorv1.ExportLogsServiceRequest, tenant string) {
	if v.answer != nil {
		v.answer()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tenants = append(v.tenants, tenant)
	for _, logs := range request.GetResourceLogs() {
		for _, a := range logs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				v.services = append(v.services, a.GetValue().GetStringValue())
			}
		}
		for _, scope := range logs.GetScopeLogs() {
			v.records = append(v.records, scope.GetLogRecords()...)
		}
	}
}

// Export implements the service over gRPC.
func (v *receiver) Export(ctx context.Context, request *collectorv1.ExportLogsServiceRequest) (*collectorv1.ExportLogsServiceResponse, error) {
	v.take(request, strings.Join(metadata.ValueFromIncomingContext(ctx, "x-scope"), ","))
	return &collectorv1.ExportLogsServiceResponse{}, nil
}

// ServeHTTP implements the service over HTTP.
func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collectorv1.ExportLogsServiceRequest
	if v.status != 0 || r.URL.Path != "/v1/logs" || err != nil || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(max(v.status, http.StatusBadRequest))
		return
	}
	v.take(&request, r.Header.Get("x-scope"))
}

func (v *receiver) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.records)
}

// http gives the endpoint of a server of the receiver.
func (v *receiver) http(t *testing.T) string {
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	return server.URL
}

func (v *receiver) grpc(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	collectorv1.RegisterLogsServiceServer(server, v)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return "grpc://" + listener.Addr().String()
}

// losses is what the owner of a collector is told.
type losses struct {
	mu      sync.Mutex
	dropped int
	why     []error
}

func (l *losses) options(endpoint string) CollectorOptions {
	return CollectorOptions{
		Endpoint: endpoint, Resource: resource.NewSchemaless(attribute.String("service.name", "gatehouse")),
		Dropped: func(n int) { l.mu.Lock(); l.dropped += n; l.mu.Unlock() },
		Failed:  func(err error) { l.mu.Lock(); l.why = append(l.why, err); l.mu.Unlock() },
	}
}

func collect(t *testing.T, o CollectorOptions) *Collector {
	t.Helper()
	c, err := NewCollector(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCollectorGetsTheRecord: over either protocol the body is the line of the decision
// log, pseudonyms included, beside what one filters by and the span that it belongs to.
func TestCollectorGetsTheRecord(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=team-a")
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3}, TraceFlags: trace.FlagsSampled, Remote: true})
	for _, row := range []struct {
		name     string
		endpoint func(*receiver, *testing.T) string
	}{{"OTLP/HTTP", (*receiver).http}, {"OTLP/gRPC", (*receiver).grpc}} {
		t.Run(row.name, func(t *testing.T) {
			v, lost := &receiver{}, &losses{}
			c := collect(t, lost.options(row.endpoint(v, t)))
			l, out := open(t, func(o *Options) { o.Collector, o.PseudonymKey = c, "key-one-0123456789" })
			r := sample(policy.ReasonMet)
			r.Context = trace.ContextWithSpanContext(context.Background(), span)
			l.Write(r)
			l.Write(sample(policy.ReasonKeysUnavailable))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(v.records) != 2 || lost.dropped != 0 {
				t.Fatalf("%d records, %d dropped (%v), want 2 and none", len(v.records), lost.dropped, lost.why)
			}
			first, second := v.records[0], v.records[1]
			if body := first.GetBody().GetStringValue() + "\n" + second.GetBody().GetStringValue() + "\n"; body != out.String() || strings.Contains(body, "eve") {
				t.Errorf("bodies:\n%swant the lines of the decision log:\n%s", body, out)
			}
			if first.GetEventName() != "gatehouse.decision" || first.GetTimeUnixNano() != uint64(r.Time.UnixNano()) ||
				first.GetSeverityNumber() != logsv1.SeverityNumber_SEVERITY_NUMBER_INFO || second.GetSeverityNumber() != logsv1.SeverityNumber_SEVERITY_NUMBER_WARN {
				t.Errorf("records = %v\n%v", first, second)
			}
			if hex.EncodeToString(first.GetTraceId()) != span.TraceID().String() || hex.EncodeToString(first.GetSpanId()) != span.SpanID().String() || len(second.GetTraceId()) != 0 {
				t.Errorf("traces %x/%x and %x, want %v/%v and none", first.GetTraceId(), first.GetSpanId(), second.GetTraceId(), span.TraceID(), span.SpanID())
			}
			attributes := map[string]string{}
			for _, a := range first.GetAttributes() {
				attributes[a.GetKey()] = a.GetValue().GetStringValue()
			}
			want := map[string]string{
				"gatehouse.decision_id": "d1", "gatehouse.route": "orders", "gatehouse.outcome": "allowed", "gatehouse.reason": "requirement_met",
				"gatehouse.authenticator": "corp", "gatehouse.door": "grpc", "http.response.status_code": "",
			}
			if diff := cmp.Diff(want, attributes); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if v.services[0] != "gatehouse" || v.tenants[0] != "team-a" {
				t.Errorf("service %q, header %q; want gatehouse, and the header that the environment says", v.services[0], v.tenants[0])
			}
		})
	}
}

// TestOnlyTheCollector: a log without a file and without a writer.
func TestOnlyTheCollector(t *testing.T) {
	v, lost := &receiver{}, &losses{}
	c := collect(t, lost.options(v.http(t)))
	l, _ := open(t, func(o *Options) { o.Collector, o.Out, o.SampleAllowed = c, nil, 0 })
	l.Write(sample(policy.ReasonMet)) // not sampled
	l.Write(sample(policy.ReasonExpired))
	_ = l.Close()
	if l.Write(sample(policy.ReasonExpired)) {
		t.Error("a closed log takes a record")
	}
	if err := c.Close(t.Context()); err != nil || v.count() != 1 {
		t.Errorf("%d records, %v, want the refusal", v.count(), err)
	}
}

// TestSlowCollector: nobody waits for a collector that does not answer, what does not fit
// is counted, and nothing is lost that is not counted.
func TestSlowCollector(t *testing.T) {
	for _, row := range []struct {
		name     string
		path     string // of each record, bounds the bytes
		writes   int
		atLeast  int // dropped
		endpoint func(*receiver, *testing.T) string
	}{
		{"more records than the queue holds", "/", 3 * queueRecords, 2 * queueRecords, (*receiver).http},
		{"more bytes than the queue holds", "/" + strings.Repeat("x", 60<<10), 600, 600 - queueBytes/(60<<10), (*receiver).http},
		{"over gRPC", "/", 2 * queueRecords, queueRecords, (*receiver).grpc},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			slow := make(chan struct{})
			v, lost := &receiver{answer: func() { <-slow }}, &losses{}
			c := collect(t, lost.options(row.endpoint(v, t)))
			l, _ := open(t, func(o *Options) { o.Collector, o.Out = c, nil })
			r := sample(policy.ReasonMet)
			r.Request.Path = row.path
			begun := time.Now()
			for range row.writes {
				l.Write(r)
			}
			if took := time.Since(begun); took > 3*time.Second { // the collector would take 5 for each of many batches
				t.Errorf("%d records took %v", row.writes, took)
			}
			lost.mu.Lock()
			dropped := lost.dropped
			lost.mu.Unlock()
			if dropped < row.atLeast {
				t.Errorf("%d of %d records are dropped, want at least %d", dropped, row.writes, row.atLeast)
			}
			close(slow)
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if got := v.count() + lost.dropped; got != row.writes {
				t.Errorf("%d arrived and %d were dropped, of %d", v.count(), lost.dropped, row.writes)
			}
			if len(lost.why) != 1 || !strings.Contains(lost.why[0].Error(), "slower than decisions") {
				t.Errorf("told %v, want one line that says so", lost.why)
			}
			if c.records.Load() != 0 || c.bytes.Load() != 0 {
				t.Errorf("%d records and %d bytes still count as waiting", c.records.Load(), c.bytes.Load())
			}
		})
	}
}

// TestCollectorThatRefuses: what it refuses is counted, and why is told.
func TestCollectorThatRefuses(t *testing.T) {
	v, lost := &receiver{status: http.StatusForbidden}, &losses{}
	c := collect(t, lost.options(v.http(t)))
	l, _ := open(t, func(o *Options) { o.Collector = c })
	for range 3 {
		l.Write(sample(policy.ReasonMet))
	}
	if err := c.Close(t.Context()); err != nil || lost.dropped != 3 || len(lost.why) != 1 || !strings.Contains(lost.why[0].Error(), "403") {
		t.Errorf("Close = %v, %d dropped, told %v; want 3, and the one reason", err, lost.dropped, lost.why)
	}
}

// TestCollectorThatHangsAtTheEnd: Close keeps its deadline and says what is lost.
func TestCollectorThatHangsAtTheEnd(t *testing.T) {
	slow := make(chan struct{})
	v, lost := &receiver{answer: func() { <-slow }}, &losses{}
	c := collect(t, lost.options(v.grpc(t)))
	t.Cleanup(func() { close(slow) })
	l, _ := open(t, func(o *Options) { o.Collector = c })
	l.Write(sample(policy.ReasonMet))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Close(ctx); err == nil {
		t.Error("Close says that all was sent")
	}
	lost.mu.Lock()
	defer lost.mu.Unlock()
	if lost.dropped != 1 {
		t.Errorf("%d records are dropped, want the one", lost.dropped)
	}
}

func TestCollectorEndpointIsRefused(t *testing.T) {
	for _, endpoint := range []string{"", "collector:4318", "http://", ":"} {
		if _, err := NewCollector(t.Context(), CollectorOptions{Endpoint: endpoint}); err == nil {
			t.Errorf("NewCollector(%q) succeeds", endpoint)
		}
	}
}

func BenchmarkWriteToCollector(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&bytes.Buffer{}, r.Body) }))
	defer server.Close()
	dropped := 0
	c, err := NewCollector(b.Context(), CollectorOptions{
		Endpoint: server.URL, Resource: resource.Empty(), Dropped: func(n int) { dropped += n }, Failed: func(error) {},
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(Options{Collector: c, SampleAllowed: 1, Failed: func(error) {}})
	if err != nil {
		b.Fatal(err)
	}
	r := sample(policy.ReasonMet)
	b.ReportAllocs()
	for b.Loop() {
		l.Write(r)
	}
	b.ReportMetric(float64(dropped)/float64(b.N), "dropped/op")
	_ = l.Close()
	_ = c.Close(context.Background())
}
