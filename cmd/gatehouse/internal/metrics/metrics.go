// Package metrics counts what the gate decides and how it fares, in a registry of its
// own. What is done per Check is two atomic loads and two atomic adds: no label is
// looked up and nothing is allocated. Start reading at [Metrics.Observe].
//
// Cardinality is bounded: labels are names from the configuration file and closed sets,
// never anything that a client sends. Of the routes, the first maxRoutes have a label of
// their own; what a reload drops from the file is dropped from the registry.
package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxRoutes is how many routes get a label of their own. A route has a series for each
// reason that was seen, a handful usually, and Prometheus is comfortable with some ten
// thousand series from one target.
const maxRoutes = 1000

// Values of the label route for what is no single route. Names in parentheses cannot
// be confused with those of a file that a person wrote.
const (
	noRoute    = "(none)"  // no route covers the request
	otherRoute = "(other)" // one beyond maxRoutes
)

// classicBuckets are upper bounds in seconds: a hot Check takes some 20 µs, a token whose
// key has to be fetched up to Envoy's timeout.
var classicBuckets = []float64{0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}

// Metrics are the numbers of one process. They are safe for concurrent use.
type Metrics struct {
	Registry *prometheus.Registry

	decisions *prometheus.CounterVec
	duration  prometheus.Histogram
	ignored   *prometheus.CounterVec
	shadow    *prometheus.CounterVec
	panics    prometheus.Counter
	unlogged  prometheus.Counter
	unsent    prometheus.Counter
	refused   *prometheus.CounterVec // connections

	reloads      *prometheus.CounterVec
	reloadOK     prometheus.Gauge
	snapshotInfo *prometheus.GaugeVec
	loadedAt     prometheus.Gauge
	routes       prometheus.Gauge
	shadowRoutes prometheus.Gauge

	grpc  grpcMetrics
	store storeMetrics

	using   sync.Mutex // held by Use
	current atomic.Pointer[counters]
}

// counters are the resolved decision counters of one snapshot.
type counters struct {
	snapshot *extauthz.Snapshot
	none     *perReason
	other    *perReason                  // of the routes from maxRoutes on
	routes   []atomic.Pointer[perReason] // of the others, by policy.Route.Index; nil until the first decision
}

// perReason holds the counters of one route. Of all the reasons most routes ever have one
// or two, so that those are looked through.
type perReason struct {
	label string
	known atomic.Pointer[[]reasonCounter] // replaced as a whole when one is added
}

type reasonCounter struct {
	reason  policy.Reason
	counter prometheus.Counter
}

// Build is what gatehouse_build_info says.
type Build struct{ Version, Revision, Go string }

// New registers everything, also Go's and the process's own metrics.
func New(build Build) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_decisions_total",
			Help: "Decisions by the route that covers the request, outcome and reason.",
		}, []string{"route", "outcome", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                            "gatehouse_check_duration_seconds",
			Help:                            "Time from the first byte of a question to its answer, without gRPC.",
			Buckets:                         classicBuckets,
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		ignored: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_public_credentials_ignored_total",
			Help: "Credentials that were not good and counted as none because the route is public.",
		}, []string{"reason"}),
		shadow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_shadow_decisions_total",
			Help: "What routes in shadow mode would have decided, or what --shadow-all let pass.",
		}, []string{"route", "outcome"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_panics_total",
			Help: "Faults of gatehouse while deciding; each was answered 503.",
		}),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_decision_log_failures_total",
			Help: "Times that records of decisions could not be written, and were lost.",
		}),
		unsent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gatehouse_decision_log_dropped_total",
			Help: "Records of decisions that the OpenTelemetry collector did not get: it was down, refused them or was too slow.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_reloads_total",
			Help: "Loads of the configuration, the first included, by result: ok or failed.",
		}, []string{"result"}),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_config_last_reload_successful",
			Help: "1 if the configuration in use is the one on disk when last read, 0 if that one was broken.",
		}),
		snapshotInfo: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_snapshot_info",
			Help: "1; the label is the hash of the configuration in use.",
		}, []string{"hash"}),
		loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_snapshot_loaded_timestamp_seconds",
			Help: "When the configuration in use was loaded.",
		}),
		routes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_routes",
			Help: "Routes of the configuration in use, those in shadow mode included.",
		}),
		shadowRoutes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gatehouse_shadow_routes",
			Help: "Routes in shadow mode; all of them with --shadow-all.",
		}),
		refused: newRefusedConnections(),
		grpc:    newGRPCMetrics(),
		store:   newStoreMetrics(),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "gatehouse_build_info",
		Help:        "1; the labels say what was built.",
		ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Revision, "goversion": build.Go},
	})
	info.Set(1)
	m.Registry.MustRegister(m.decisions, m.duration, m.ignored, m.shadow, m.panics, m.unlogged, m.unsent, m.reloads, m.reloadOK,
		m.snapshotInfo, m.loadedAt, m.routes, m.shadowRoutes, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Registry.MustRegister(m.grpc.collectors()...)
	m.Registry.MustRegister(m.store.lag, m.store.asked, m.refused)
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("failed")
	m.current.Store(newCounters(nil))
	return m
}

func newCounters(s *extauthz.Snapshot) *counters {
	c := &counters{snapshot: s, none: &perReason{label: noRoute}, other: &perReason{label: otherRoute}}
	if s != nil {
		c.routes = make([]atomic.Pointer[perReason], min(len(s.Config().Routes), maxRoutes))
	}
	return c
}

// Use says that s decides from now on. shadowAll is whether --shadow-all is given.
func (m *Metrics) Use(s *extauthz.Snapshot, shadowAll bool, now time.Time) {
	m.using.Lock()
	defer m.using.Unlock()
	before := m.current.Load()
	m.current.Store(newCounters(s))

	routes := s.Config().Routes
	kept := make(map[string]bool, len(routes))
	shadow := 0
	for i := range routes {
		kept[labelOf(i, routes[i].Policy.Name)] = true
		if routes[i].Policy.Shadow || shadowAll {
			shadow++
		}
	}
	if before.snapshot != nil {
		for i, r := range before.snapshot.Config().Routes {
			if label := labelOf(i, r.Policy.Name); !kept[label] {
				m.forget(label)
			}
		}
	}
	m.snapshotInfo.Reset()
	m.snapshotInfo.WithLabelValues(s.Config().Hash).Set(1)
	m.loadedAt.Set(float64(now.UnixNano()) / 1e9)
	m.routes.Set(float64(len(routes)))
	m.shadowRoutes.Set(float64(shadow))
	m.reloads.WithLabelValues("ok").Inc()
	m.reloadOK.Set(1)
}

// forget drops the series of a route that is gone. DeletePartialMatch would look at every
// series for every route: half a minute for a thousand of them.
func (m *Metrics) forget(route string) {
	for _, reason := range policy.Reasons() {
		outcome := reason.Outcome().String()
		m.decisions.DeleteLabelValues(route, outcome, reason.String())
		m.shadow.DeleteLabelValues(route, outcome)
	}
}

// ReloadFailed says that the file on disk is broken and the snapshot before it stays.
func (m *Metrics) ReloadFailed() {
	m.reloads.WithLabelValues("failed").Inc()
	m.reloadOK.Set(0)
}

// LogFailed says that records of decisions were lost.
func (m *Metrics) LogFailed() { m.unlogged.Inc() }

// RecordsDropped says that n records did not reach the collector.
func (m *Metrics) RecordsDropped(n int) { m.unsent.Add(float64(n)) }

// labelOf is the label of the i-th route.
func labelOf(i int, name string) string {
	if i >= maxRoutes {
		return otherRoute
	}
	return name
}

// Observe counts one decision.
func (m *Metrics) Observe(r *extauthz.Record) {
	c := m.current.Load()
	if c.snapshot != r.Snapshot { // decided by the snapshot before; its routes have other numbers
		m.decisions.WithLabelValues(routeLabel(r.Decision.Route), r.Decision.Outcome.String(), r.Decision.Reason.String()).Inc()
	} else {
		c.counter(m.decisions, r.Decision.Route, r.Decision.Reason).Inc()
	}
	m.observeDuration(r)
	if r.Ignored != policy.ReasonNone {
		m.ignored.WithLabelValues(r.Ignored.String()).Inc()
	}
	if r.Shadow != nil {
		m.shadow.WithLabelValues(routeLabel(r.Shadow.Route), r.Shadow.Outcome.String()).Inc()
	}
	if r.Panic != nil {
		m.panics.Inc()
	}
}

// observeDuration adds the trace's id where there is one, so that a slow bucket leads to
// an example of it.
func (m *Metrics) observeDuration(r *extauthz.Record) {
	if r.Context != nil {
		if span := trace.SpanContextFromContext(r.Context); span.IsSampled() {
			if exemplars, ok := m.duration.(prometheus.ExemplarObserver); ok {
				exemplars.ObserveWithExemplar(r.Latency.Seconds(), prometheus.Labels{"trace_id": span.TraceID().String()})
				return
			}
		}
	}
	m.duration.Observe(r.Latency.Seconds())
}

// counter finds the resolved counter, or resolves it when it is needed first.
func (c *counters) counter(decisions *prometheus.CounterVec, route *policy.Route, reason policy.Reason) prometheus.Counter {
	per := c.none
	switch {
	case route == nil:
	case route.Index >= len(c.routes):
		per = c.other
	default:
		if per = c.routes[route.Index].Load(); per == nil {
			c.routes[route.Index].CompareAndSwap(nil, &perReason{label: route.Name})
			per = c.routes[route.Index].Load()
		}
	}
	return per.counter(decisions, reason)
}

func (p *perReason) counter(decisions *prometheus.CounterVec, reason policy.Reason) prometheus.Counter {
	for {
		known := p.known.Load()
		var list []reasonCounter
		if known != nil {
			list = *known
		}
		for i := range list {
			if list[i].reason == reason {
				return list[i].counter
			}
		}
		counter := decisions.WithLabelValues(p.label, reason.Outcome().String(), reason.String())
		longer := append(list[:len(list):len(list)], reasonCounter{reason, counter})
		if p.known.CompareAndSwap(known, &longer) {
			return counter
		}
	}
}

func routeLabel(r *policy.Route) string {
	if r == nil {
		return noRoute
	}
	return labelOf(r.Index, r.Name)
}
