// Package observability holds what watches gatehouse: alerts for Prometheus and a
// dashboard for Grafana, to be copied. There is no code but the test that they name
// metrics which exist, and that the alerts fire when they should and not before.
package observability

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/connections"
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
	m.Listens("grpc", connections.Bound(nil, connections.Limits{}, nil))
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
	asked := regexp.MustCompile(`\b(?:gatehouse|grpc_server|go|process)_[a-z_]+`)
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

// variables stand in for what Grafana puts into a query before Prometheus sees it.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h", "$job", "gatehouse", "${job}", "gatehouse")

// TestDashboardQueriesParse: Prometheus can read every query of the dashboard, once Grafana
// has filled in its variables.
func TestDashboardQueriesParse(t *testing.T) {
	content, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	// As rules, which promtool checks without a server.
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for i, panel := range dashboard.Panels {
		for j, target := range panel.Targets {
			expr := variables.Replace(target.Expr)
			if expr == "" || strings.Contains(expr, "$") {
				t.Errorf("panel %q asks for %q", panel.Title, target.Expr)
			}
			rules = append(rules, rule{fmt.Sprintf("panel%d:target%d", i+1, j+1), expr})
		}
	}
	if len(rules) == 0 {
		t.Fatal("the dashboard asks for nothing")
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
