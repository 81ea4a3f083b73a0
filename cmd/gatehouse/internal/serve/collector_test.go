package serve

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	logsv1 "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// logCollector receives log records as an OpenTelemetry collector does (OTLP/HTTP).
type logCollector struct {
	*httptest.Server
	mu     sync.Mutex
	traces map[string]string // of each record, by its path
}

func newLogCollector(t *testing.T) *logCollector {
	t.Helper()
	c := &logCollector{traces: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request logsv1.ExportLogsServiceRequest
		if r.URL.Path != "/v1/logs" || err != nil || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceLogs() {
			for _, scope := range resource.GetScopeLogs() {
				for _, record := range scope.GetLogRecords() {
					_, rest, _ := strings.Cut(record.GetBody().GetStringValue(), `"path":"`)
					path, _, _ := strings.Cut(rest, `"`)
					c.traces[path] = hex.EncodeToString(record.GetTraceId())
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// has tells whether the record of a path came, and its trace.
func (c *logCollector) has(path string) (trace string, came bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	trace, came = c.traces[path]
	return trace, came
}

// TestDecisionsReachTheCollector: with the trace that Envoy tells of though gatehouse makes
// no spans, across a reload to another collector, and to the last one before the end.
func TestDecisionsReachTheCollector(t *testing.T) {
	first, second := newLogCollector(t), newLogCollector(t)
	to := func(endpoint string) string {
		return configuration("http://127.0.0.1:1", "service") + fmt.Sprintf("decision_log: {file: none, otlp_endpoint: %q}\n", endpoint)
	}
	r := start(t, to(first.URL), nil)
	r.serving()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+sampledTrace+"-"+envoySpan+"-01")
	if _, err := r.checks.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Host: "example.com", Path: "/orders/1"}},
	}}); err != nil {
		t.Fatal(err)
	}
	r.eventually("the first record", func() bool { _, came := first.has("/orders/1"); return came })
	if trace, _ := first.has("/orders/1"); trace != sampledTrace {
		t.Errorf("the record's trace is %q, want Envoy's", trace)
	}

	reload := func(content string) {
		t.Helper()
		before := strings.Count(r.log.String(), "configuration loaded")
		r.write(content)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		r.eventually("a reload", func() bool { return strings.Count(r.log.String(), "configuration loaded") > before })
	}
	kept := to(first.URL) + "anonymous: {tenant: nobody}\n"
	reload(kept) // the same collector goes on
	reload(to(second.URL))
	r.check("/orders/3", "x-api-key", apiKey)
	r.eventually("a record in the second", func() bool { _, came := second.has("/orders/3"); return came })

	r.check("/orders/4", "x-api-key", apiKey)
	reload(to(first.URL)) // and back at the very end
	r.check("/orders/5", "x-api-key", apiKey)
	r.stop()
	err := <-r.ended
	r.ended <- err
	if err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, came := second.has("/orders/4"); !came {
		t.Error("a decision before the change of collectors was lost")
	}
	if _, came := first.has("/orders/5"); !came {
		t.Error("the last decision was not sent before the end")
	}
}

// TestCollectorDown: decisions neither wait nor fail, and the loss is counted.
func TestCollectorDown(t *testing.T) {
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer down.Close()
	r := start(t, configuration("http://127.0.0.1:1", "service")+fmt.Sprintf("decision_log: {otlp_endpoint: %q}\n", down.URL), nil)
	r.serving()
	for range 100 {
		if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.OK {
			t.Fatalf("Check = %v", got)
		}
	}
	r.eventually("the count of what is lost", func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, "gatehouse_decision_log_dropped_total 100")
	})
	if !strings.Contains(r.log.String(), "decisions are not recorded") || strings.Count(r.log.String(), `"snapshot":`) < 100 {
		t.Error("the log does not say so, or standard error did not get the records")
	}
}
