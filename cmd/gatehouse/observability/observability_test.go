// Package observability holds what watches gatehouse: alerts for Prometheus and a
// dashboard for Grafana, to be copied. There is no code but the test that they name
// metrics which exist, and that the alerts fire when they should and not before.
package observability

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/metrics"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// TestAlerts: promtool finds the rules correct, and they fire as alerts_test.yaml says.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestMetricsExist: alerts and dashboard ask for nothing that gatehouse does not count.
func TestMetricsExist(t *testing.T) {
	m := metrics.New(metrics.Build{})
	m.Authenticators(func() *authn.Set { return nil }, nil)
	known := map[string]bool{}
	descs := make(chan *prometheus.Desc)
	go func() {
		m.Registry.Describe(descs)
		close(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for desc := range descs {
		known[name.FindStringSubmatch(desc.String())[1]] = true
	}
	asked := regexp.MustCompile(`\b(?:gatehouse|grpc_server)_[a-z_]+`)
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := asked.FindAllString(string(content), -1)
		if len(names) == 0 {
			t.Errorf("%s asks for nothing", file)
		}
		for _, metric := range names {
			if !known[metric] && !known[strings.TrimSuffix(metric, "_bucket")] {
				t.Errorf("%s asks for %s, which gatehouse does not have", file, metric)
			}
		}
	}
}

// TestDashboardIsJSON: Grafana would say so too late.
func TestDashboardIsJSON(t *testing.T) {
	content, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	for i, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			if target.Expr == "" {
				t.Errorf("panel %d asks for nothing", i+1)
			}
		}
	}
}
