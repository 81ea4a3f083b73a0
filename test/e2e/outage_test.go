package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// errNotLogged says that what is looked for has not been logged yet.
var errNotLogged = errors.New("not logged")

// settle is how long gatehouse may take to notice a change at the provider; its key set is
// refreshed every second here.
const settle = 20 * time.Second

// TestIssuerDownAtStart starts gatehouse before its issuer exists: everything else works,
// its tokens are answered with 503 and not with 401, and it recovers by itself.
func TestIssuerDownAtStart(t *testing.T) {
	upstream := startEcho(t)
	port := idp.FreePort(t)
	issuer := fmt.Sprintf("http://127.0.0.1:%d", port)
	gatehouse := startGatehouse(t, config, issuer)
	gatehouse.WaitServing(t)
	replicas := []string{gatehouse.GRPC}
	envoy := harness.StartEnvoy(t, upstream.Address(),
		harness.Front{Name: "hardened", Gatehouse: replicas},
		harness.Front{Name: "fail open", Gatehouse: replicas, Changes: []harness.Change{harness.Unhardened, harness.FailOpen}})

	// A token that nobody can verify now, whoever signed it.
	unverifiable := forge(t, &idp.Provider{Issuer: issuer}, jwt.SigningMethodES256, newKey(t))
	for _, front := range []string{"hardened", "fail open"} {
		address := envoy.Address(t, front)
		answer := harness.Send(t, address, "GET /me", "authorization: Bearer "+unverifiable)
		if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: a token of the issuer that is down: status %d, Retry-After %q, want 503 and a number: %s", front, answer.Status, answer.Header.Get("Retry-After"), answer.Body)
		}
		for request, credential := range map[string]string{
			"GET /tenants/acme/orders": "x-api-key: " + batchKey,
			"GET /assets/logo":         "authorization: Bearer " + unverifiable,
		} {
			if answer := harness.Send(t, address, request, credential); answer.Status != http.StatusOK {
				t.Errorf("%s: %s: status %d, want 200: %s", front, request, answer.Status, answer.Body)
			}
		}
		if answer := harness.Send(t, address, "GET /me"); answer.Status != http.StatusUnauthorized {
			t.Errorf("%s: no credential: status %d, want 401", front, answer.Status)
		}
	}

	provider := idp.StartAt(t, port)
	token := provider.Token(t, alice)
	harness.Eventually(t, settle, func() error { return wantStatus(envoy.Address(t, "hardened"), token, http.StatusOK) })
	if err := wantStatus(envoy.Address(t, "hardened"), unverifiable, http.StatusUnauthorized); err != nil {
		t.Errorf("the forged token, now that keys are there: %v", err)
	}
}

// TestKeyRotation: a new key is found when its first token comes, a withdrawn one stops
// counting although its tokens were verified before, and an outage of the issuer changes
// nothing for those whose keys are known.
func TestKeyRotation(t *testing.T) {
	s := start(t)
	front := s.envoy.Address(t, "hardened")
	old := s.words["alice"]

	s.provider.AddKey(t, "rsa-2", "RS256")
	fresh := s.provider.Token(t, alice)
	if err := wantStatus(front, fresh, http.StatusOK); err != nil {
		t.Errorf("the first token of a new key: %v", err)
	}
	if err := wantStatus(front, old, http.StatusOK); err != nil {
		t.Errorf("a token of the old key, still published: %v", err)
	}

	s.provider.WithdrawKey(t, "rsa-1")
	harness.Eventually(t, settle, func() error { return wantStatus(front, old, http.StatusUnauthorized) })
	if err := wantStatus(front, fresh, http.StatusOK); err != nil {
		t.Errorf("a token of the new key after the old one went: %v", err)
	}

	unseen := s.provider.Token(t, root)
	s.provider.SetOutage(t, http.StatusInternalServerError)
	asked := s.provider.Requests(t)["/jwks"]
	harness.Eventually(t, settle, func() error { // the refresh has failed at least once
		if now := s.provider.Requests(t); now["/jwks"] > asked || now["/.well-known/openid-configuration"] > asked+1 {
			return nil
		}
		return errors.New("no refresh")
	})
	for name, token := range map[string]string{"verified before": fresh, "never seen": unseen} {
		if err := wantStatus(front, token, http.StatusOK); err != nil {
			t.Errorf("during an outage, a token %s: %v", name, err)
		}
	}
}

// TestFailOpenNeverOpens: failure_mode_allow: true concerns what gatehouse cannot answer.
// Whatever it can answer stays refused.
func TestFailOpenNeverOpens(t *testing.T) {
	s := start(t)
	front := s.envoy.Address(t, "fail open")
	s.words["tampered"] = tamper(t, s.words["alice"])
	for _, row := range []struct {
		name, request string
		headers       []string
		status        int
	}{
		{"malformed", "GET /assets/../admin", nil, 400},
		{"a path of nonsense", "GET /%zz", nil, 400},
		{"unauthenticated", "GET /me", nil, 401},
		{"a bad token", "GET /me", []string{"authorization: Bearer $tampered"}, 401},
		{"forbidden", "GET /internal/x", []string{"authorization: Bearer $alice"}, 403},
		{"no route", "GET /elsewhere", nil, 403},
	} {
		var headers []string
		for _, header := range row.headers {
			headers = append(headers, s.expand(header))
		}
		answer := harness.Send(t, front, row.request, headers...)
		if answer.Status != row.status {
			t.Errorf("%s: status %d, want %d: %s", row.name, answer.Status, row.status, answer.Body)
		}
	}
}

// TestGatehouseKilled: with nobody there the shipped configuration answers 503.
func TestGatehouseKilled(t *testing.T) {
	s := start(t)
	s.gatehouse.Kill()
	harness.Eventually(t, settle, func() error {
		return wantStatus(s.envoy.Address(t, "hardened"), s.words["alice"], http.StatusServiceUnavailable)
	})
}

// wantStatus sends GET /me with a token.
func wantStatus(front, token string, want int) error {
	answer, err := harness.TrySend(front, "GET /me", "authorization: Bearer "+token)
	if err == nil && answer.Status != want {
		err = fmt.Errorf("status %d, want %d: %s", answer.Status, want, answer.Body)
	}
	return err
}
