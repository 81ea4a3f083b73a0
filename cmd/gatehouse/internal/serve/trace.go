package serve

import (
	"context"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/tracing"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// traceCloseTimeout is how long spans that wait may take to be sent when nobody makes
// more of them.
const traceCloseTimeout = 5 * time.Second

// trace begins the span of a call, or finds the one that it belongs to where no span is
// made but records go to a collector.
func (s *service) trace(ctx context.Context, c *extauthz.Call) (context.Context, bool) {
	if tracer := s.tracer.Load(); tracer != nil {
		return tracer.Begin(ctx, c), true
	}
	if s.collects.Load() {
		return tracing.Join(ctx, c), true
	}
	return ctx, false
}

// useTracing traces as t says from now on; before is what was said so far, and nil is
// not at all.
func (s *service) useTracing(before, t *configv1.Tracing) error {
	if proto.Equal(before, t) {
		return nil
	}
	var tracer *tracing.Tracer
	if t != nil {
		var err error
		tracer, err = tracing.New(context.Background(), tracing.Options{Endpoint: t.GetOtlpEndpoint(), Sample: t.GetSample(), Version: s.options.Build.Version})
		if err != nil {
			return err
		}
	}
	if old := s.tracer.Swap(tracer); old != nil {
		// Decisions that it has begun to trace end with it.
		time.AfterFunc(closeDelay, func() { s.closeTracer(old) })
	}
	return nil
}

func (s *service) closeTracer(t *tracing.Tracer) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), traceCloseTimeout)
	defer cancel()
	if err := t.Close(ctx); err != nil {
		s.log.Warn("spans are lost", zap.Error(err))
	}
}
