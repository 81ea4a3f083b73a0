package serve

import (
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// sayLostEvery is how often the log says that records are being lost; the metric counts
// every time.
const sayLostEvery = time.Minute

// openRecords opens the decision log; nil without one. A reload opens it anew, so that
// one that was moved away is made again.
func (s *service) openRecords(l *config.DecisionLog) (*record.Log, error) {
	if l == nil {
		return nil, nil
	}
	return record.Open(record.Options{
		File: l.File, Out: s.options.Err, SampleAllowed: l.SampleAllowed, PseudonymKey: l.PseudonymKey.Reveal(),
		MaxBytes: l.MaxBytes, Keep: l.Keep, Failed: s.recordsLost,
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
