package serve

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOps(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "gatehouse_test"}))
	good := Condition{"configuration", Good, "gatehouse.yaml"}
	down := Condition{"issuer corp", Degraded, "no keys yet"}
	none := Condition{"configuration", Failing, "not loaded"}
	for _, row := range []struct {
		name       string
		conditions []Condition
		target     string
		status     int
		want       string // the whole body; "~" before it: part of it
	}{
		{"alive though not ready", []Condition{none}, "/livez", 200, "ok\n"},
		{"ready", []Condition{good}, "/readyz", 200, "ok\n"},
		{"ready with an issuer down", []Condition{good, down}, "/readyz", 200, "ok\n"},
		{"and it is shown to who asks", []Condition{good, down}, "/readyz?verbose", 200, "[+]configuration: gatehouse.yaml\n[!]issuer corp: no keys yet\nready\n"},
		{"not ready says why", []Condition{none, down}, "/readyz", 503, "[-]configuration: not loaded\nnot ready\n"},
		{"not ready with everything", []Condition{none, down}, "/readyz?verbose=1", 503, "[-]configuration: not loaded\n[!]issuer corp: no keys yet\nnot ready\n"},
		{"metrics", nil, "/metrics", 200, "~gatehouse_test 0"},
		{"no profiles unless enabled", nil, "/debug/pprof/", 404, "~"},
		{"nothing else", nil, "/", 404, "~"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := httptest.NewServer(opsHandler(registry, func() []Condition { return row.conditions }, false))
			defer server.Close()
			resp, err := http.Get(server.URL + row.target)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			part, isPart := strings.CutPrefix(row.want, "~")
			if resp.StatusCode != row.status || (isPart && !strings.Contains(string(body), part)) || (!isPart && string(body) != row.want) {
				t.Errorf("GET %s = %d %q, want %d %q", row.target, resp.StatusCode, body, row.status, row.want)
			}
		})
	}
}

func TestOpsRefusesToBeChanged(t *testing.T) {
	w := httptest.NewRecorder()
	opsHandler(prometheus.NewRegistry(), func() []Condition { return nil }, false).ServeHTTP(w, httptest.NewRequest("POST", "/readyz", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz = %d, want 405", w.Code)
	}
}

func TestOpsProfiles(t *testing.T) {
	w := httptest.NewRecorder()
	opsHandler(prometheus.NewRegistry(), func() []Condition { return nil }, true).ServeHTTP(w, httptest.NewRequest("GET", "/debug/pprof/", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "goroutine") {
		t.Errorf("GET /debug/pprof/ = %d, want 200 and the index", w.Code)
	}
}
