package serve

import (
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/connections"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

const (
	// defaultConnections of the gRPC listener are more than twice those of a hundred
	// Envoys with 32 worker threads each; measured, all of them cost 160 MiB, and 370 with
	// TLS. Those of the HTTP listener are a question each, where a proxy keeps none open.
	defaultConnections     = 8192
	defaultHTTPConnections = 4096

	// defaultOperatorConnections of the admin and ops listeners are for scrapers, probes
	// and people, each of whom needs one.
	defaultOperatorConnections = 64

	// reservedDescriptors are for all that is no connection of a client: files, the
	// store, providers, collectors.
	reservedDescriptors = 256

	// refusalsEvery is how often the log says that a listener refuses connections.
	refusalsEvery = time.Minute
)

// connectionLimits are those of all listeners, by name.
type connectionLimits map[string]connections.Limits

// newConnectionLimits are what the configuration says, or the defaults, cut down to what
// the process may have in descriptors. cut names the listeners that have fewer now.
//
// What is for operators is cut last: they have to see that the others are full.
func newConnectionLimits(listen *configv1.Listen, descriptors uint64) (limits connectionLimits, cut []string) {
	limits = connectionLimits{}
	public, operators := 0, 0
	for _, l := range []struct {
		name     string
		listener *configv1.Listener
		most     int
		present  bool
	}{
		{"grpc", listen.GetGrpc(), defaultConnections, true},
		{"http", listen.GetHttp(), defaultHTTPConnections, listen.GetHttp() != nil},
		{"admin", listen.GetAdmin(), defaultOperatorConnections, listen.GetAdmin() != nil},
		{"ops", listen.GetOps(), defaultOperatorConnections, true},
	} {
		if !l.present {
			continue
		}
		if configured := int(l.listener.GetMaxConnections()); configured > 0 {
			l.most = configured
		}
		limits[l.name] = connections.Limits{Total: l.most, PerSource: int(l.listener.GetMaxConnectionsPerSource())}
		if isForOperators(l.name) {
			operators += l.most
		} else {
			public += l.most
		}
	}
	reserved := min(reservedDescriptors, descriptors/2)
	available := int(min(descriptors-reserved, 1<<30))
	if public+operators > available {
		// Operators get what they ask for, up to a quarter.
		forOperators := min(operators, available/4)
		cut = limits.scale(cut, true, forOperators, operators)
		cut = limits.scale(cut, false, available-forOperators, public)
	}
	for name, l := range limits {
		if l.PerSource == 0 {
			l.PerSource = l.Total / 2
		}
		l.PerSource = max(1, min(l.PerSource, l.Total))
		limits[name] = l
	}
	return limits, cut
}

func isForOperators(listener string) bool { return listener == "admin" || listener == "ops" }

// scale makes available of wanted, if that is less, on the listeners of operators or on
// the others.
func (c connectionLimits) scale(cut []string, operators bool, available, wanted int) []string {
	for _, name := range []string{"grpc", "http", "admin", "ops"} {
		l, ok := c[name]
		if !ok || isForOperators(name) != operators || wanted <= available {
			continue
		}
		l.Total = max(1, l.Total*available/wanted)
		c[name] = l
		cut = append(cut, name)
	}
	return cut
}

// limitConnections sets the limits of all listeners, and warns where they are lower than
// what was asked for.
func (s *service) limitConnections(listen *configv1.Listen) {
	descriptors := descriptorLimit()
	var cut []string
	s.limits, cut = newConnectionLimits(listen, descriptors)
	for _, name := range cut {
		s.log.Warn("fewer connections are accepted than configured: raise the limit of descriptors (ulimit -n)",
			zap.String("listener", name), zap.Int("max_connections", s.limits[name].Total), zap.Uint64("descriptors", descriptors))
	}
}

// bound limits the connections of a listener, and counts and logs those refused.
func (s *service) bound(name string, l net.Listener) net.Listener {
	report := &refusalReport{log: s.log.With(zap.String("listener", name)), limits: s.limits[name]}
	bounded := connections.Bound(l, s.limits[name], func(reason connections.Reason, from net.Addr) {
		s.metrics.ConnectionRefused(name, reason)
		report.add(reason, from, time.Now())
	})
	s.metrics.Listens(name, bounded)
	s.bounded = append(s.bounded, boundedListener{name, bounded})
	return bounded
}

// A boundedListener is one of the service's, by its name.
type boundedListener struct {
	name string
	*connections.Listener
}

// A refusalReport says in the log that connections are refused, once in refusalsEvery.
type refusalReport struct {
	log    *zap.Logger
	limits connections.Limits

	mu      sync.Mutex
	said    time.Time
	refused int // since then
}

func (r *refusalReport) add(reason connections.Reason, from net.Addr, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
	if now.Sub(r.said) < refusalsEvery {
		return
	}
	r.log.Warn("connections are refused", zap.String("reason", string(reason)), zap.String("from", from.String()),
		zap.Int("refused", r.refused), zap.Int("max_connections", r.limits.Total), zap.Int("max_connections_per_source", r.limits.PerSource))
	r.said, r.refused = now, 0
}

// fullListeners are lines of /readyz?verbose. A process that is full answers those that it
// has: others would find no better one if it said that it is not ready.
func fullListeners(listeners []boundedListener) []Condition {
	var conditions []Condition
	for _, l := range listeners {
		if open, most := l.Open(), l.Limits().Total; open >= most {
			conditions = append(conditions, Condition{"connections of " + l.name, Degraded, fmt.Sprintf("all %d are taken: new ones are refused", most)})
		}
	}
	return conditions
}
