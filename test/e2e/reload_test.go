package e2e

import (
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestReload swaps the configuration under load: no request notices, a good file takes
// effect as a whole, a broken one not at all.
func TestReload(t *testing.T) {
	s := start(t)
	front := s.envoy.Address(t, "hardened")
	load := startLoad(t, "http://"+front+"/me", "authorization", s.expand("Bearer $alice"))
	load.more(t, 100)

	status := func(request string) int {
		t.Helper()
		return harness.Send(t, front, request).Status
	}
	if got := status("GET /elsewhere"); got != 403 {
		t.Fatalf("before: status %d, want 403", got)
	}

	opened := strings.Replace(config, "- match: [\"/internal/\"]", "- match: [\"GET /elsewhere\"]\n  public: true\n- match: [\"/internal/\"]", 1)
	s.gatehouse.Configure(t, opened)
	s.gatehouse.Reload(t, reloaded)
	load.more(t, 100)
	if got := status("GET /elsewhere"); got != 200 {
		t.Errorf("after a good file: status %d, want 200", got)
	}

	for name, broken := range map[string]string{
		"no YAML":                    "version: 1\n\troutes",
		"an unknown field":           strings.Replace(config, "public: true", "pubic: true", 1),
		"an empty file":              "",
		"a table with a conflict":    strings.Replace(config, "- match: [\"/internal/\"]", "- match: [\"GET /{x}/orders\"]\n  public: true\n- match: [\"GET /tenants/{y}\"]\n  public: true\n- match: [\"/internal/\"]", 1),
		"an API key that is not set": strings.Replace(config, "BATCH_KEY}", "NOT_SET}", 1),
	} {
		s.gatehouse.Configure(t, broken)
		s.gatehouse.Reload(t, reloadRefused)
		load.more(t, 50)
		if got := status("GET /elsewhere"); got != 200 {
			t.Errorf("after %s: status %d, want 200 as before", name, got)
		}
	}

	s.gatehouse.Configure(t, config)
	s.gatehouse.Reload(t, reloaded)
	if got := status("GET /elsewhere"); got != 403 {
		t.Errorf("after the first file again: status %d, want 403", got)
	}
	load.end(t)
}

// TestBrokenConfigurationNeverStarts: the process ends, and says where the mistake is.
func TestBrokenConfigurationNeverStarts(t *testing.T) {
	for name, test := range map[string]struct{ config, want string }{
		"an unknown field":     {strings.Replace(config, "public: true", "pubic: true", 1), "gatehouse.yaml:"},
		"an unset variable":    {strings.Replace(config, "${ISSUER}", "${NOT_SET}", 1), "NOT_SET"},
		"an empty file":        {"", "gatehouse.yaml"},
		"two documents":        {config + "---\nversion: 1\n", "gatehouse.yaml:"},
		"a route without ways": {strings.Replace(config, "  public: true\n", "", 1), "gatehouse.yaml:"},
	} {
		t.Run(name, func(t *testing.T) {
			p := harness.RunGatehouse(t, test.config, harness.Env("ISSUER=http://127.0.0.1:1"), harness.Env("BATCH_KEY="+batchKey), harness.Env("BATCH_KEY_NEXT="+batchKeyNext))
			if code := p.ExitCode(); code != 1 {
				t.Errorf("status %d, want 1", code)
			}
			if !strings.Contains(p.Output(), test.want) {
				t.Errorf("said %q, want in it %q", p.Output(), test.want)
			}
		})
	}
}

// What the log says about a reload.
const (
	reloaded      = "configuration loaded"
	reloadRefused = "the one before stays"
)
