package serve

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/tracing"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// sayLostEvery is how often the log says that records are being lost; the metric counts
// every time.
const sayLostEvery = time.Minute

// collectorCloseTimeout is how long records that wait may take to be sent when no more
// of them come.
const collectorCloseTimeout = 5 * time.Second

// openRecords opens the decision log; nil without one. A reload opens it anew, so that
// one that was moved away is made again. A collector whose endpoint is the one before
// goes on.
func (s *service) openRecords(l *config.DecisionLog, before *record.Collector) (*record.Log, *record.Collector, error) {
	if l == nil {
		return nil, nil, nil
	}
	var out io.Writer
	if !l.CollectorOnly {
		out = s.options.Err
	}
	collector, err := s.openCollector(l.Endpoint, before)
	if err != nil {
		return nil, nil, err
	}
	records, err := record.Open(record.Options{
		File: l.File, Out: out, Collector: collector, SampleAllowed: l.SampleAllowed, PseudonymKey: l.PseudonymKey.Reveal(),
		MaxBytes: l.MaxBytes, Keep: l.Keep, Failed: s.recordsLost,
	})
	if err != nil && collector != before {
		err = errors.Join(err, s.closeCollector(collector))
	}
	return records, collector, err
}

func (s *service) openCollector(endpoint string, before *record.Collector) (*record.Collector, error) {
	switch {
	case endpoint == "":
		return nil, nil
	case before != nil && before.Endpoint() == endpoint:
		return before, nil
	}
	return record.NewCollector(context.Background(), record.CollectorOptions{
		Endpoint: endpoint, Resource: tracing.Resource(s.options.Build.Version),
		Dropped: s.metrics.RecordsDropped, Failed: s.recordsLost,
	})
}

// closeCollector sends what waits.
func (s *service) closeCollector(c *record.Collector) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), collectorCloseTimeout)
	defer cancel()
	return c.Close(ctx)
}

// useRecords writes to records from now on, and sends to collector; either may be nil.
func (s *service) useRecords(records *record.Log, collector *record.Collector) {
	if err := s.closeRecords(s.records.Swap(records)); err != nil {
		s.log.Error("decision log", zap.Error(err))
	}
	old := s.collector
	s.collector = collector
	s.collects.Store(collector != nil)
	if old == nil || old == collector {
		return
	}
	// What was decided before the change may still be on its way to it.
	s.retiring.Go(func() {
		select {
		case <-time.After(closeDelay):
		case <-s.ending:
		}
		if err := s.closeCollector(old); err != nil {
			s.recordsLost(err)
		}
	})
}

func (s *service) closeRecords(l *record.Log) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

func (s *service) recordsLost(err error) {
	s.metrics.LogFailed()
	now := time.Now()
	s.mu.Lock()
	say := now.Sub(s.lostAt) >= sayLostEvery
	if say {
		s.lostAt = now
	}
	s.mu.Unlock()
	if say {
		s.log.Error("decisions are not recorded", zap.Error(err))
	}
}
