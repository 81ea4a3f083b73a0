package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/connections"
)

func newRefusedConnections() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_connections_refused_total",
		Help: "Connections that were closed before they were served, by listener and reason: full, source_full or displaced.",
	}, []string{"listener", "reason"})
}

// Listens shows how many connections a listener has open, and may have. It is called once
// for each.
func (m *Metrics) Listens(listener string, l *connections.Listener) {
	labels := prometheus.Labels{"listener": listener}
	m.Registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_connections", Help: "Connections that are open, by listener.", ConstLabels: labels,
		}, func() float64 { return float64(l.Open()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gatehouse_connections_limit", Help: "Connections that may be open, by listener.", ConstLabels: labels,
		}, func() float64 { return float64(l.Limits().Total) }))
	for _, reason := range connections.Reasons() {
		m.refused.WithLabelValues(listener, string(reason))
	}
}

// ConnectionRefused counts one that was closed before it was served.
func (m *Metrics) ConnectionRefused(listener string, reason connections.Reason) {
	m.refused.WithLabelValues(listener, string(reason)).Inc()
}
