package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	logscollectorv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/otel"
)

// A collector receives spans and records as an OpenTelemetry collector does (OTLP/HTTP),
// Envoy's and gatehouse's.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   map[string][]*tracev1.Span // by service
	records []*logsv1.LogRecord
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string][]*tracev1.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := readAll(r)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.URL.Path {
		case "/v1/traces":
			err = errors.Join(err, c.addSpans(body))
		case "/v1/logs":
			err = errors.Join(err, c.addRecords(body))
		default:
			err = errors.New("no OTLP")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// readAll reads what is sent, compressed or not.
func readAll(r *http.Request) ([]byte, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		body = unzipped
	}
	return io.ReadAll(body)
}

func (c *collector) addSpans(body []byte) error {
	var request collectorv1.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	for _, resource := range request.GetResourceSpans() {
		service := serviceOf(resource.GetResource())
		for _, scope := range resource.GetScopeSpans() {
			c.spans[service] = append(c.spans[service], scope.GetSpans()...)
		}
	}
	return nil
}

func (c *collector) addRecords(body []byte) error {
	var request logscollectorv1.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	for _, resource := range request.GetResourceLogs() {
		if service := serviceOf(resource.GetResource()); service != "gatehouse" {
			return fmt.Errorf("records of service %q", service)
		}
		for _, scope := range resource.GetScopeLogs() {
			c.records = append(c.records, scope.GetLogRecords()...)
		}
	}
	return nil
}

func serviceOf(resource *resourcev1.Resource) string {
	for _, a := range resource.GetAttributes() {
		if a.GetKey() == "service.name" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// reasonsOf gives the reasons of the decisions that were recorded in a trace.
func (c *collector) reasonsOf(traceID string) (reasons []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, record := range c.records {
		if hex.EncodeToString(record.GetTraceId()) != traceID {
			continue
		}
		for _, a := range record.GetAttributes() {
			if a.GetKey() == "gatehouse.reason" && strings.HasPrefix(record.GetBody().GetStringValue(), "{") {
				reasons = append(reasons, a.GetValue().GetStringValue())
			}
		}
	}
	return reasons
}

// of gives the spans of a trace that a service made.
func (c *collector) of(service, traceID string) (spans []*tracev1.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans[service] {
		if hex.EncodeToString(span.GetTraceId()) == traceID {
			spans = append(spans, span)
		}
	}
	return spans
}

// TestTracing: Envoy's own tracer and gatehouse's spans make one trace: gatehouse's hang
// below the span of Envoy's call, and a slow bucket of the metrics leads to it. What Envoy
// does not sample has none, and no span holds a credential or who called. The record of the
// decision is in the same trace.
//
// For acceptance it all goes through the real OpenTelemetry collector as well.
func TestTracing(t *testing.T) {
	t.Run("a collector in the test", func(t *testing.T) {
		c := newCollector(t)
		traced(t, c, c.URL, c.URL)
	})
	if acceptance() {
		t.Run("the OpenTelemetry collector", func(t *testing.T) {
			c := newCollector(t)
			through := otel.Start(t, c.URL)
			traced(t, c, "http://"+through.HTTP, "grpc://"+through.GRPC)
		})
	}
}

// traced tells one endpoint of spans and the other of records, and looks for both in c.
func traced(t *testing.T, c *collector, spans, records string) {
	t.Helper()
	gatehouse := startGatehouse(t, config+fmt.Sprintf("tracing: {otlp_endpoint: %q}\ndecision_log: {file: none, otlp_endpoint: %q}\n", spans, records), "http://127.0.0.1:1")
	gatehouse.WaitServing(t)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{
		Name: "traced", Gatehouse: []string{gatehouse.GRPC}, Changes: []harness.Change{harness.Traced("envoy", strings.TrimPrefix(spans, "http://"))},
	})
	front := envoy.Address(t, "traced")

	const sampled, unsampled = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"
	key := "x-api-key: " + batchKey
	answer := harness.Send(t, front, "GET /me", key, "traceparent: 00-"+sampled+"-b7ad6b7169203331-01")
	if got := harness.Folded(answer.Upstream, "traceparent"); len(got) != 1 || !strings.Contains(got[0], sampled) {
		t.Errorf("the upstream saw %q, want the client's trace", got)
	}
	harness.Send(t, front, "GET /me", key, "traceparent: 00-"+unsampled+"-b7ad6b7169203331-00")
	own := harness.Folded(harness.Send(t, front, "GET /tenants/acme/orders", key).Upstream, "traceparent")
	if len(own) != 1 || len(strings.Split(own[0], "-")) != 4 {
		t.Fatalf("the upstream saw %q, want a trace of Envoy's own", own)
	}
	for name, traceID := range map[string]string{"the client's": sampled, "Envoy's own": strings.Split(own[0], "-")[1]} {
		harness.Eventually(t, settle, func() error {
			checks := c.of("gatehouse", traceID)
			if len(checks) != 1 || checks[0].GetName() != "gatehouse.check" {
				return fmt.Errorf("%s trace has spans of gatehouse %v", name, checks)
			}
			if got := c.reasonsOf(traceID); len(got) != 1 || got[0] != "requirement_met" {
				return fmt.Errorf("%s trace has records with reasons %v", name, got)
			}
			for _, span := range c.of("envoy", traceID) {
				if string(span.GetSpanId()) == string(checks[0].GetParentSpanId()) {
					return nil
				}
			}
			return fmt.Errorf("%s trace: gatehouse's span hangs below none of Envoy's %d", name, len(c.of("envoy", traceID)))
		})
	}
	if spans := c.of("gatehouse", unsampled); len(spans) != 0 {
		t.Errorf("of what the client does not sample there are spans: %v", spans)
	}

	harness.Eventually(t, settle, func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+gatehouse.Ops+"/metrics", nil)
		if err != nil {
			return err
		}
		request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(page), `trace_id="`) {
			err = errors.New("no bucket leads to a trace")
		}
		return err
	})
	gatehouse.Stop() // sends what waits
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans["gatehouse"] {
		for _, secret := range []string{batchKey, "batch", "acme"} {
			if strings.Contains(span.String(), secret) {
				t.Errorf("a span holds %q: %v", secret, span)
			}
		}
	}
}
