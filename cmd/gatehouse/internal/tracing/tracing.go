// Package tracing makes a span of each decision that is sampled, and sends them to an
// OpenTelemetry collector. Spans of calls to providers are made by authn, below it. Start
// reading at [Tracer.Begin].
//
// A span never holds a credential, a path, or who called: traces are read by more people
// than decision logs.
package tracing

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// batchTimeout is how long spans wait for company.
	batchTimeout = time.Second

	// queueSpans is how many spans wait for the collector; more are dropped, since
	// decisions do not wait for it.
	queueSpans = 2048

	// exportTimeout is how long the collector may take.
	exportTimeout = 5 * time.Second

	// tracesPath is where a collector takes traces (OTLP/HTTP), unless the endpoint has a path.
	tracesPath = "/v1/traces"
)

// Options say where spans go.
type Options struct {
	Endpoint string  // http://collector:4318
	Sample   float64 // share of the requests without a trace that start one, 0 to 1
	Version  string  // of gatehouse
}

// A Tracer is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// New makes a tracer. Nothing is asked of the collector yet, and it may be down.
func New(ctx context.Context, o Options) (*Tracer, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("tracing: %q is not a URL", o.Endpoint)
	}
	if strings.Trim(endpoint.Path, "/") == "" {
		endpoint.Path = tracesPath
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()), otlptracehttp.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))),
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(batchTimeout), sdktrace.WithMaxQueueSize(queueSpans)),
		sdktrace.WithResource(Resource(o.Version)),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/gatehouse-authz/gatehouse")}, nil
}

// Resource says what sends: this version of gatehouse, unless the environment names and
// describes it in another way (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES).
func Resource(version string) *resource.Resource {
	ours := resource.NewSchemaless(attribute.String("service.name", "gatehouse"), attribute.String("service.version", version))
	theirs, err := resource.New(context.Background(), resource.WithFromEnv())
	if err != nil {
		return ours // what is malformed there describes nothing
	}
	merged, err := resource.Merge(ours, theirs)
	if err != nil {
		return ours
	}
	return merged
}

// Close sends what waits, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Join adds the span that a call belongs to: Envoy's, of which the metadata of the call
// tell, or else the headers of the request (W3C trace context).
func Join(ctx context.Context, c *extauthz.Call) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier{ctx, c})
}

// Begin starts the span of a call, below the one that it belongs to.
func (t *Tracer) Begin(ctx context.Context, c *extauthz.Call) context.Context {
	ctx, _ = t.tracer.Start(Join(ctx, c), "gatehouse.check", trace.WithSpanKind(trace.SpanKindServer))
	return ctx
}

// Attributes are what a span and a log record say of a decision: nothing of the caller but
// the authenticator.
func Attributes(r *extauthz.Record) []attribute.KeyValue {
	route := ""
	if r.Decision.Route != nil {
		route = r.Decision.Route.Name
	}
	return []attribute.KeyValue{
		attribute.String("gatehouse.decision_id", strings.Clone(r.ID)),
		attribute.String("gatehouse.route", route),
		attribute.String("gatehouse.outcome", r.Decision.Outcome.String()),
		attribute.String("gatehouse.reason", r.Decision.Reason.String()),
		attribute.String("gatehouse.authenticator", r.Authenticator),
		attribute.String("gatehouse.door", r.Door.String()),
		attribute.Int("http.response.status_code", r.Status),
	}
}

// End ends the span that a tracer began, if r has one. It may have been replaced since.
func End(r *extauthz.Record) {
	if r.Context == nil {
		return
	}
	span := trace.SpanFromContext(r.Context)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(Attributes(r)...)
	if r.Decision.Outcome == policy.Unavailable {
		span.SetStatus(codes.Error, r.Decision.Reason.String())
	}
	span.End()
}

// carrier reads trace context of a call: the metadata first, which are Envoy's own. A
// client can write the headers, but then only spans of its own making are added.
type carrier struct {
	ctx  context.Context
	call *extauthz.Call
}

var _ propagation.TextMapCarrier = carrier{}

// Get implements [propagation.TextMapCarrier].
func (c carrier) Get(name string) string {
	if md := metadata.ValueFromIncomingContext(c.ctx, "traceparent"); len(md) > 0 {
		if values := metadata.ValueFromIncomingContext(c.ctx, name); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	for i := range c.call.Headers {
		if c.call.Headers[i].Name == name {
			return strings.Clone(c.call.Headers[i].Value)
		}
	}
	return ""
}

// Set implements [propagation.TextMapCarrier]; nothing is written.
func (c carrier) Set(string, string) {}

// Keys implements [propagation.TextMapCarrier].
func (c carrier) Keys() []string { return []string{"traceparent", "tracestate"} }
