package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// A collector receives spans as an OpenTelemetry collector does (OTLP/HTTP), Envoy's and
// gatehouse's.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans map[string][]*tracev1.Span // by service
	raw   []byte                     // everything that came
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string][]*tracev1.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectorv1.ExportTraceServiceRequest
		if r.URL.Path != "/v1/traces" || err != nil || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, body...)
		for _, resource := range request.GetResourceSpans() {
			service := ""
			for _, a := range resource.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					service = a.GetValue().GetStringValue()
				}
			}
			for _, scope := range resource.GetScopeSpans() {
				c.spans[service] = append(c.spans[service], scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
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
// does not sample has none, and no span holds a credential or who called.
func TestTracing(t *testing.T) {
	c := newCollector(t)
	gatehouse := startGatehouse(t, config+fmt.Sprintf("tracing: {otlp_endpoint: %q}\n", c.URL), "http://127.0.0.1:1")
	gatehouse.WaitServing(t)
	envoy := harness.StartEnvoy(t, startEcho(t).Address(), harness.Front{
		Name: "traced", Gatehouse: []string{gatehouse.GRPC}, Changes: []harness.Change{harness.Traced("envoy", strings.TrimPrefix(c.URL, "http://"))},
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
