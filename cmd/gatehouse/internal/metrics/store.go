package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics are of the store that keeps tokens and people.
type storeMetrics struct {
	lag   prometheus.Histogram
	asked *prometheus.HistogramVec
}

func newStoreMetrics() storeMetrics {
	return storeMetrics{
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatehouse_revocation_lag_seconds",
			Help:    "Time from a change in the store, such as a revocation, until it took effect here.",
			Buckets: classicBuckets,
		}),
		asked: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gatehouse_store_lookup_duration_seconds",
			Help:    "Look-ups of tokens and people that had to read the store, by result: ok or failed.",
			Buckets: classicBuckets,
		}, []string{"result"}),
	}
}

// Heard counts a change of the store that took effect.
func (m *Metrics) Heard(lag time.Duration) { m.store.lag.Observe(lag.Seconds()) }

// Asked counts a look-up that read the store. What is not there is an answer as well.
func (m *Metrics) Asked(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.store.asked.WithLabelValues(result).Observe(took.Seconds())
}
