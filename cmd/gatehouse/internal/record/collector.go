package record

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/tracing"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// queueRecords and queueBytes bound what waits for the collector; more is dropped,
	// since decisions do not wait for it. A path may have 60 KiB, hence the second.
	queueRecords = 4096
	queueBytes   = 16 << 20

	// batchRecords are sent at once, or what came within batchInterval.
	batchRecords  = 512
	batchInterval = time.Second

	// requestTimeout is how long the collector may take to answer, sendTimeout how long
	// a batch is tried again before it is given up.
	requestTimeout = 5 * time.Second
	sendTimeout    = 15 * time.Second

	// logsPath is where a collector takes logs (OTLP/HTTP), unless the endpoint has a path.
	logsPath = "/v1/logs"

	// eventName tells our records from other logs.
	eventName = "gatehouse.decision"
)

// CollectorOptions say where log records go.
type CollectorOptions struct {
	Endpoint string // http://collector:4318 or https (OTLP/HTTP), grpc://collector:4317 or grpcs (OTLP/gRPC)
	Resource *resource.Resource

	// Dropped is told of records that the collector did not get, Failed why, at most
	// once a batch.
	Dropped func(records int)
	Failed  func(error)
}

// A Collector sends decisions to an OpenTelemetry collector, as log records (OTLP). It
// never makes a decision wait: what does not fit into its queue is dropped and counted.
// Headers, certificates and compression come from the environment, as OpenTelemetry
// names it (OTEL_EXPORTER_OTLP_HEADERS and its like). It is safe for concurrent use.
type Collector struct {
	options  CollectorOptions
	provider *sdklog.LoggerProvider
	logger   log.Logger

	records, bytes atomic.Int64 // that wait or are being sent
	overflow       atomic.Int64 // dropped since Failed was told last
}

// NewCollector prepares to send. Nothing is asked of the collector yet, and it may be down.
func NewCollector(ctx context.Context, o CollectorOptions) (*Collector, error) {
	exporter, err := newExporter(ctx, o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("sending decisions to a collector: %w", err)
	}
	c := &Collector{options: o}
	c.provider = sdklog.NewLoggerProvider(
		sdklog.WithResource(o.Resource),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(&counted{exporter, c},
			sdklog.WithMaxQueueSize(queueRecords), sdklog.WithExportMaxBatchSize(batchRecords),
			sdklog.WithExportInterval(batchInterval), sdklog.WithExportTimeout(sendTimeout))),
	)
	c.logger = c.provider.Logger("github.com/gatehouse-authz/gatehouse")
	return c, nil
}

// Endpoint is where the records go.
func (c *Collector) Endpoint() string { return c.options.Endpoint }

func newExporter(ctx context.Context, endpoint string) (sdklog.Exporter, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL", endpoint)
	}
	if secure, isGRPC := map[string]string{"grpc": "http", "grpcs": "https"}[u.Scheme]; isGRPC {
		u.Scheme = secure // as the package tells whether to encrypt
		return otlploggrpc.New(ctx, otlploggrpc.WithEndpointURL(u.String()), otlploggrpc.WithTimeout(requestTimeout))
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = logsPath
	}
	return otlploghttp.New(ctx, otlploghttp.WithEndpointURL(u.String()), otlploghttp.WithTimeout(requestTimeout))
}

// emit queues a record whose line of the decision log is line.
func (c *Collector) emit(r *extauthz.Record, line []byte) {
	line = line[:len(line)-1] // the line break
	records, bytes := c.records.Add(1), c.bytes.Add(int64(len(line)))
	if records > queueRecords || bytes > queueBytes {
		c.done(1, len(line))
		c.overflow.Add(1)
		c.options.Dropped(1)
		return
	}
	var out log.Record
	out.SetEventName(eventName)
	out.SetTimestamp(r.Time)
	severity := severityOf(r)
	out.SetSeverity(severity)
	out.SetSeverityText(severity.String())
	out.SetBody(attribute.StringValue(string(line)))
	out.AddAttributes(tracing.Attributes(r)...)
	ctx := r.Context // whose span is the record's
	if ctx == nil {
		ctx = context.Background()
	}
	c.logger.Emit(ctx, out)
}

// severityOf says which records ask for an operator, as in the log of the process.
func severityOf(r *extauthz.Record) log.Severity {
	switch {
	case r.Panic != nil:
		return log.SeverityError
	case r.Decision.Outcome == policy.Unavailable:
		return log.SeverityWarn
	}
	return log.SeverityInfo
}

func (c *Collector) done(records, bytes int) {
	c.records.Add(-int64(records))
	c.bytes.Add(-int64(bytes))
}

// Close sends what waits, until ctx ends; what is left then is dropped.
func (c *Collector) Close(ctx context.Context) error {
	err := c.provider.Shutdown(ctx)
	if left := c.records.Load(); left > 0 {
		c.options.Dropped(int(left))
		err = errors.Join(err, fmt.Errorf("%d decisions did not reach the collector", left))
	}
	return err
}

// counted is an exporter that tells the collector's owner what was lost, where the SDK
// would tell a global handler.
type counted struct {
	sdklog.Exporter
	collector *Collector
}

// Export implements [sdklog.Exporter].
func (e *counted) Export(ctx context.Context, records []sdklog.Record) error {
	c := e.collector
	bytes := 0
	for i := range records {
		bytes += len(records[i].Body().AsString())
	}
	defer c.done(len(records), bytes)
	if err := e.Exporter.Export(ctx, records); err != nil {
		c.options.Dropped(len(records))
		c.options.Failed(fmt.Errorf("sending %d decisions to the collector: %w", len(records), err))
	}
	if n := c.overflow.Swap(0); n > 0 {
		c.options.Failed(fmt.Errorf("the collector is slower than decisions are made: %d of them did not wait for it", n))
	}
	return nil
}
