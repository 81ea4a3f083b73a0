package serve

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// collector receives spans as an OpenTelemetry collector does (OTLP/HTTP).
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracev1.Span
	raw   []byte // everything that came
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
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
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// of gives the spans of a trace, by name.
func (c *collector) of(traceID string) map[string]*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := map[string]*tracev1.Span{}
	for _, span := range c.spans {
		if hex.EncodeToString(span.GetTraceId()) == traceID {
			spans[span.GetName()] = span
		}
	}
	return spans
}

const (
	sampledTrace   = "0af7651916cd43dd8448eb211c80319c"
	unsampledTrace = "1af7651916cd43dd8448eb211c80319c"
	envoySpan      = "b7ad6b7169203331"
	opaqueToken    = "an-opaque-token-that-nobody-may-see"
)

// TestTracing: what Envoy samples has a span below Envoy's, and below that one of the call
// to a provider; what it does not sample has none. Spans hold no credential, and a slow
// bucket leads to the trace.
func TestTracing(t *testing.T) {
	c := newCollector(t)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"active": true, "sub": "alice"}`)
	}))
	t.Cleanup(provider.Close)
	r := start(t, fmt.Sprintf(`version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
tracing: {otlp_endpoint: %q}
authenticators:
- name: opaque
  introspection:
    url: %q
    client_id: gatehouse
    client_secret: {env: API_KEY}
    from: [{header: authorization, scheme: Bearer}]
    cache_for: 60s
    principal: {subject: {claim: sub}}
routes:
- {match: ["/me"], name: me, allow: [{authenticated: true}]}
`, c.URL, provider.URL+"/introspect"), nil)
	r.serving()
	ask := func(traceparent string) {
		t.Helper()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", traceparent)
		response, err := r.checks.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Host: "example.com", Path: "/me", Headers: map[string]string{"authorization": "Bearer " + opaqueToken},
			}},
		}})
		if err != nil || response.GetStatus().GetCode() != 0 {
			t.Fatalf("Check = %v, %v", response, err)
		}
	}
	ask("00-" + sampledTrace + "-" + envoySpan + "-01")
	ask("00-" + unsampledTrace + "-" + envoySpan + "-00")
	r.eventually("two spans", func() bool { return len(c.of(sampledTrace)) == 2 })

	spans := c.of(sampledTrace)
	check, asked := spans["gatehouse.check"], spans["gatehouse.ask"]
	if check == nil || asked == nil {
		t.Fatalf("spans %v, want of the check and of the call to the provider", spans)
	}
	if got := hex.EncodeToString(check.GetParentSpanId()); got != envoySpan {
		t.Errorf("the check's parent is %s, want Envoy's span", got)
	}
	if string(asked.GetParentSpanId()) != string(check.GetSpanId()) {
		t.Error("the call to the provider is not below the check")
	}
	attributes := map[string]string{}
	for _, a := range check.GetAttributes() {
		attributes[a.GetKey()] = a.GetValue().GetStringValue()
	}
	for key, want := range map[string]string{"gatehouse.route": "me", "gatehouse.outcome": "allowed", "gatehouse.authenticator": "opaque"} {
		if attributes[key] != want {
			t.Errorf("attribute %s is %q, want %q", key, attributes[key], want)
		}
	}
	if got := c.of(unsampledTrace); len(got) != 0 {
		t.Errorf("of what Envoy does not sample: %v", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, secret := range []string{opaqueToken, apiKey, "alice"} {
		if strings.Contains(string(c.raw), secret) {
			t.Errorf("spans hold %q", secret)
		}
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.ops+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(page), `trace_id="`+sampledTrace+`"`) {
		t.Errorf("no bucket leads to the trace: %v", err)
	}
}

// TestTracingCollectorDown: decisions neither wait for the collector nor fail without it.
func TestTracingCollectorDown(t *testing.T) {
	content := configuration("http://127.0.0.1:1", "service") + "tracing: {otlp_endpoint: \"http://127.0.0.1:1\", sample: 1}\n"
	r := start(t, content, nil)
	r.serving()
	for range 100 {
		if got := r.check("/orders/1", "x-api-key", apiKey); got != 0 {
			t.Fatalf("Check = %v", got)
		}
	}
}
