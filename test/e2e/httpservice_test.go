package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// startOverHTTP runs the shipped configuration that asks over HTTP, with the identity
// headers of config in its list.
func startOverHTTP(t *testing.T) *stack {
	t.Helper()
	s := &stack{upstream: startEcho(t), provider: idp.Start(t), owned: owned}
	listening := strings.Replace(config, "listen:\n", "trusted_proxies: [127.0.0.0/8]\nlisten:\n  http: {address: \"127.0.0.1:0\"}\n", 1)
	s.gatehouse = startGatehouse(t, listening, s.provider.Issuer)
	s.gatehouse.WaitServing(t)
	shipped, err := os.ReadFile("../../envoy/envoy-http.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const listed = "{exact: x-tenants, ignore_case: true}"
	text := strings.Replace(string(shipped), listed, "{exact: x-department, ignore_case: true}", 1)
	if text == string(shipped) {
		t.Fatalf("envoy-http.yaml has no %s", listed)
	}
	path := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.envoy = harness.StartEnvoyFile(t, path, s.gatehouse.HTTP, s.upstream.Address())
	s.words = map[string]string{
		"key": batchKey, "alice": s.provider.Token(t, alice), "root": s.provider.Token(t, root),
		"nobody": s.provider.Token(t, nobody),
	}
	s.waitForKeys(t, "front")
	return s
}

// TestEnvoyOverHTTP sends what the gRPC door is sent through Envoy's HTTP ext_authz: the
// client and the upstream see the same.
func TestEnvoyOverHTTP(t *testing.T) {
	s := startOverHTTP(t)
	for _, row := range []row{
		{name: "a reader reads her tenant's orders", request: "GET /tenants/acme/orders/7", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "the query stays", request: "GET /tenants/acme/orders/7?a=%2F&b", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "not another's", request: "GET /tenants/globex/orders/7", headers: []string{"authorization: Bearer $alice"}, status: 403},
		{name: "a POST with a body", request: "POST /me", headers: []string{"authorization: Bearer $alice", "content-length: 0"}, status: 200, upstream: seenAlice},
		{name: "the method counts", request: "POST /assets/x", headers: []string{"content-length: 0"}, status: 403},
		{name: "an API key", request: "GET /me", headers: []string{"x-api-key: $key"}, status: 200, upstream: seenBatch},
		{name: "a cookie, and the others stay", request: "GET /me", headers: []string{"cookie: theme=dark; access_token=$alice"}, status: 200, upstream: with(seenAlice, "cookie: theme=dark")},
		{name: "two tokens", request: "GET /me", headers: []string{"authorization: Bearer $alice", "authorization: Bearer $root"}, status: 400},
		{name: "no credential is challenged", request: "GET /me", status: 401, answer: []string{`www-authenticate: Bearer realm="internal", Bearer realm="corp"`, "content-type: application/problem+json", "cache-control: no-store"}},
		{name: "plain text for who prefers it", request: "GET /me", headers: []string{"accept: text/plain"}, status: 401, answer: []string{"content-type: text/plain; charset=utf-8"}},
		{name: "a wrong token", request: "GET /me", headers: []string{"authorization: Bearer e30.e30."}, status: 401},
		{name: "a hidden route", request: "GET /admin", headers: []string{"authorization: Bearer $alice"}, status: 404},
		{name: "a forged identity is replaced", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-user: mallory", "X-Roles: admin"}, status: 200, upstream: seenAlice},
		{name: "and removed where nobody is known", request: "GET /assets/x", headers: []string{"x-user: mallory", "x-department: board", "x-tenant-id: other", "authorization: Bearer junk", "x-api-key: wrong"}, status: 200},
		{name: "a path that has two readings", request: "GET /tenants/acme;x/orders", headers: []string{"authorization: Bearer $alice"}, status: 400},
		{name: "no path below the door's own", request: "GET /authorize/envoy/assets/x", status: 403},
		{name: "a client that asks for another request harms itself", request: "GET /assets/x", headers: []string{"x-original-method: DELETE", "x-original-uri: /admin"}, status: 400},
		{name: "in any dialect", request: "GET /assets/x", headers: []string{"x-forwarded-uri: /admin", "x-forwarded-method: DELETE"}, status: 400},
	} {
		t.Run(row.name, func(t *testing.T) { s.runRow(t, "front", row) })
	}
	refused := harness.Send(t, s.envoy.Address(t, "front"), "GET /internal/x")
	id := decisionID(t, refused)
	if !strings.Contains(refused.Body, id) {
		t.Errorf("the body lacks the decision id %s: %s", id, refused.Body)
	}
	harness.Eventually(t, settle, func() error {
		for _, entry := range s.gatehouse.Decisions() {
			if entry["decision_id"] == id {
				return nil
			}
		}
		return fmt.Errorf("gatehouse has no decision %s", id)
	})
}
