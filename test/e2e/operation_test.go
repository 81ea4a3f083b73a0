package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestMetadata: on an allow and on a denial Envoy's access log gets the same id, route,
// reason and caller that gatehouse logs.
func TestMetadata(t *testing.T) {
	s := start(t)
	front := s.envoy.Address(t, "hardened")
	harness.Send(t, front, "GET /tenants/acme/orders", s.expand("authorization: Bearer $alice"))
	harness.Send(t, front, "GET /tenants/other/orders", s.expand("authorization: Bearer $alice"))

	for path, want := range map[string]map[string]any{
		"/tenants/acme/orders":  {"authz_route": "read-orders", "reason": "requirement_met", "subject": "u-1", "tenant": "acme", "status": 200.0},
		"/tenants/other/orders": {"authz_route": "read-orders", "reason": "requirement_not_met", "subject": "u-1", "tenant": "acme", "status": 403.0},
	} {
		harness.Eventually(t, settle, func() error {
			for _, entry := range s.envoy.AccessLog() {
				if entry["path"] != path {
					continue
				}
				for name, value := range want {
					if entry[name] != value {
						t.Errorf("%s: Envoy logs %s = %v, want %v", path, name, entry[name], value)
					}
				}
				return s.logged(entry["decision_id"], want["reason"])
			}
			return fmt.Errorf("%s is not in Envoy's access log", path)
		})
	}
}

// logged looks a decision up in gatehouse's log.
func (s *stack) logged(id, reason any) error {
	for _, decision := range s.gatehouse.Decisions() {
		if decision["decision_id"] == id {
			if decision["reason"] != reason {
				return fmt.Errorf("decision %v is logged with reason %v, want %v", id, decision["reason"], reason)
			}
			return nil
		}
	}
	return fmt.Errorf("decision %v is not in the log", id)
}

// TestOps: the port for operators answers without credentials, and nothing else does.
func TestOps(t *testing.T) {
	s := start(t)
	harness.Send(t, s.envoy.Address(t, "hardened"), "GET /me")
	for page, want := range map[string]string{
		"/livez":   "",
		"/readyz":  "",
		"/metrics": "gatehouse_",
	} {
		resp, err := http.Get("http://" + s.gatehouse.Ops + page)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("GET %s: status %d, %v: %.300s", page, resp.StatusCode, err, body)
		}
	}
	for _, page := range []string{"/metrics", "/readyz", "/livez"} {
		if answer := harness.Send(t, s.envoy.Address(t, "hardened"), "GET "+page); answer.Status != http.StatusForbidden {
			t.Errorf("GET %s through Envoy: status %d, want 403", page, answer.Status)
		}
	}
}

// TestNothingLeaks sends every credential, good and bad, and looks for it where operators
// and clients read.
func TestNothingLeaks(t *testing.T) {
	s := start(t)
	s.words["tampered"] = tamper(t, s.words["alice"])
	front := s.envoy.Address(t, "unhardened")
	answers := new(strings.Builder)
	for word, value := range s.words {
		for _, header := range []string{"authorization: Bearer " + value, "x-api-key: " + value, "cookie: access_token=" + value} {
			answer := harness.Send(t, front, "GET /elsewhere-"+word, header)
			fmt.Fprintln(answers, answer.Header, answer.Body)
			answer = harness.Send(t, front, "GET /me/", header, "x-two: 2", header)
			fmt.Fprintln(answers, answer.Header, answer.Body)
			answer = harness.Send(t, front, "GET /me", header)
			fmt.Fprintln(answers, answer.Header, answer.Body)
		}
	}
	metrics, err := http.Get("http://" + s.gatehouse.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Body.Close()
	page, err := io.ReadAll(metrics.Body)
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{
		"gatehouse's log":         s.gatehouse.Output(),
		"gatehouse's metrics":     string(page),
		"Envoy's access log":      s.envoy.Output(),
		"an answer to the client": answers.String(),
	} {
		for word, value := range s.words {
			// Of a token the signature alone is enough to complete it from elsewhere.
			secret := value[strings.LastIndex(value, ".")+1:]
			if strings.Contains(text, secret) {
				t.Errorf("%s holds the credential $%s", place, word)
			}
		}
	}
}
