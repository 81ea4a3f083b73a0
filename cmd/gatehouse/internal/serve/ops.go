package serve

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A State is how a thing fares that answers depend on. Its zero value fails.
type State uint8

const (
	Failing  State = iota // not ready: send the requests to another replica
	Degraded              // ready, and an operator should look
	Good
)

// The marks are those of Kubernetes' /readyz?verbose, and one for what is in between.
var stateMarks = [...]string{Failing: "[-]", Degraded: "[!]", Good: "[+]"}

// A Condition is one line of /readyz?verbose.
type Condition struct {
	Name   string
	State  State
	Detail string // may be empty; never a secret
}

// maxScrapes is how many may read the metrics at once: each gathers all of them, some
// megabytes with a thousand routes. One more gets a 503.
const maxScrapes = 8

// opsHandler serves /metrics, /livez and /readyz. It asks for no credentials: what it
// shows is for operators, and its listener is theirs to keep private.
func opsHandler(registry *prometheus.Registry, conditions func() []Condition, profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		// Whoever answers is alive: everything else is a matter of readiness, which a
		// restart would not better.
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		body, ready := readiness(conditions(), r.URL.Query().Has("verbose"))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(body)) // the client went away: nobody is left to tell
	})
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// readiness is ready unless a condition fails. Without verbose only what fails is shown.
func readiness(conditions []Condition, verbose bool) (body string, ready bool) {
	var b strings.Builder
	ready = true
	for _, c := range conditions {
		if c.State == Failing {
			ready = false
		} else if !verbose {
			continue
		}
		b.WriteString(stateMarks[c.State])
		b.WriteString(c.Name)
		if c.Detail != "" {
			b.WriteString(": " + c.Detail)
		}
		b.WriteByte('\n')
	}
	switch {
	case !ready:
		b.WriteString("not ready\n")
	case verbose:
		b.WriteString("ready\n")
	default:
		b.WriteString("ok\n")
	}
	return b.String(), ready
}
