package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// authenticators reads the state of the authenticators in use when it is asked: what
// they count themselves costs nothing between scrapes. Counters start anew when a reload
// changes the authenticator.
type authenticators struct {
	set func() *authn.Set // nil result: none yet
	now func() time.Time

	keysReady, keysAge, keys, fetches *prometheus.Desc
	hits, misses, verified, cached    *prometheus.Desc
}

// Authenticators registers metrics of the authenticators of the set that is in use when
// Prometheus asks.
func (m *Metrics) Authenticators(set func() *authn.Set, now func() time.Time) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"authenticator"}, labels...), nil)
	}
	m.Registry.MustRegister(&authenticators{
		set: set, now: now,
		keysReady: desc("gatehouse_keyset_ready", "1 if tokens of the issuer can be verified."),
		keysAge:   desc("gatehouse_keyset_age_seconds", "Time since the issuer's keys were last fetched; absent until they were."),
		keys:      desc("gatehouse_keyset_keys", "Usable keys of the issuer."),
		fetches:   desc("gatehouse_keyset_fetches_total", "Fetches of the issuer's keys, by result: ok or failed.", "result"),
		hits:      desc("gatehouse_token_cache_hits_total", "Tokens that were verified or refused before."),
		misses:    desc("gatehouse_token_cache_misses_total", "Tokens that were not seen before."),
		verified:  desc("gatehouse_token_verifications_total", "Signatures that were checked."),
		cached:    desc("gatehouse_token_cache_entries", "Tokens remembered, by what they turned out to be: verified or refused.", "kind"),
	})
}

// Describe implements [prometheus.Collector].
func (a *authenticators) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{a.keysReady, a.keysAge, a.keys, a.fetches, a.hits, a.misses, a.verified, a.cached} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector].
func (a *authenticators) Collect(metrics chan<- prometheus.Metric) {
	set := a.set()
	if set == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, entry := range set.Entries() {
		var j *authn.JWT
		switch a := entry.Authenticator.(type) {
		case *authn.JWT:
			j = a
		case *authn.KeyClaim:
			j = a.Token()
		default:
			continue
		}
		stats := j.Stats()
		counter(a.hits, stats.Hits, entry.Name)
		counter(a.misses, stats.Misses, entry.Name)
		counter(a.verified, stats.Verifications, entry.Name)
		gauge(a.cached, float64(stats.Cached), entry.Name, "verified")
		gauge(a.cached, float64(stats.Refused), entry.Name, "refused")
		if j.Keys() == nil { // a shared secret
			continue
		}
		state := j.Keys().State()
		ready := 0.0
		if state.Ready {
			ready = 1
		}
		gauge(a.keysReady, ready, entry.Name)
		gauge(a.keys, float64(state.Keys), entry.Name)
		if !state.LastSuccess.IsZero() {
			gauge(a.keysAge, a.now().Sub(state.LastSuccess).Seconds(), entry.Name)
		}
		counter(a.fetches, state.Successes, entry.Name, "ok")
		counter(a.fetches, state.Failures, entry.Name, "failed")
	}
}
