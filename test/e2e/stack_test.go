package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// config is what gatehouse runs with unless a test says otherwise; $ISSUER is the
// provider's.
const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}

authenticators:
- name: machines
  realm: internal
  api_key:
    from: [{header: x-api-key}]
    keys:
    - {id: batch, secret: {env: BATCH_KEY}, principal: {tenant: acme, username: batch, roles: [service]}}
    - {id: batch-next, secret: {env: BATCH_KEY_NEXT}, principal: {tenant: acme, username: batch, roles: [service]}}
- name: corp
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    algorithms: [RS256, ES256, EdDSA]
    from: [{header: authorization, scheme: Bearer}, {cookie: access_token}]
    keys: {refresh: 1s, unknown_kid_interval: 100ms}
    principal:
      username: {claim: email}
      tenant: {path: ["https://api.example.com/claims", tenant_id]}
      roles: {claim: groups, map: [{from: ops-team, to: admin}], unmapped: keep}
      scopes: {claim: scope}
      attributes:
        department: {claim: department}

routes:
- match: ["GET /assets/"]
  name: assets
  public: true
- match: ["GET /tenants/{tenant}/orders/"]
  name: read-orders
  allow:
  - {tenant: "{path.tenant}", roles: {any: [reader, admin]}}
  - {tenant: "{path.tenant}", authenticators: [machines]}
- match: ["POST /tenants/{tenant}/orders/"]
  name: write-orders
  allow: [{tenant: "{path.tenant}", scopes: {all: ["orders:write"]}}]
- match: ["/admin/"]
  name: admin
  allow: [{roles: {all: [admin]}}]
  answers: {forbidden: 404}
- match: ["/me/"]
  name: me
  allow: [{authenticated: true}]
- match: ["/internal/"]
  name: internal
  forbid: true
- match: ["POST /orders.Orders/"]
  name: grpc
  allow: [{roles: {any: [reader]}}]

forward:
  headers:
    x-tenant-id: "{tenant}"
    x-user: "{username}"
    x-roles: "{roles}"
    x-department: "{attributes.department}"
`

const (
	batchKey     = "batch-key-0123456789"
	batchKeyNext = "batch-key-9876543210"
)

// owned are, with config, the headers that reach the upstream from gatehouse or not at all:
// what forward.headers names, and every place a credential may be in.
var owned = []string{"x-tenant-id", "x-user", "x-roles", "x-department", "authorization", "x-api-key", "cookie"}

// The claims that the provider signs for the people in the rows.
var (
	alice = idp.Claims{
		"sub": "u-1", "email": "alice@acme.example", "groups": []string{"reader"}, "department": "sales",
		"https://api.example.com/claims": map[string]string{"tenant_id": "acme"},
	}
	root = idp.Claims{
		"sub": "u-2", "email": "root@acme.example", "groups": []string{"ops-team"},
		"https://api.example.com/claims": map[string]string{"tenant_id": "acme"},
	}
	nobody = idp.Claims{"sub": "u-3"}
)

// The identity that the upstream sees of them.
var (
	seenAlice = []string{"x-department: sales", "x-roles: reader", "x-tenant-id: acme", "x-user: alice@acme.example"}
	seenRoot  = []string{"x-roles: admin", "x-tenant-id: acme", "x-user: root@acme.example"}
	seenBatch = []string{"x-roles: service", "x-tenant-id: acme", "x-user: batch"}
)

// stack is everything between a client and the upstream.
type stack struct {
	upstream  *echo.Server
	provider  *idp.Provider
	gatehouse *harness.Gatehouse
	envoy     *harness.Envoy
	words     map[string]string // that rows may use in headers as $word
	owned     []string          // headers that reach the upstream from gatehouse or not at all
}

// fronts are the doors that every row is sent to: gatehouse must be safe behind all.
var fronts = []string{"hardened", "unhardened", "raw headers"}

// start runs the whole stack with config.
func start(t *testing.T) *stack {
	t.Helper()
	s := &stack{upstream: startEcho(t), provider: idp.Start(t), owned: owned}
	s.gatehouse = startGatehouse(t, config, s.provider.Issuer)
	s.gatehouse.WaitServing(t)
	replicas := []string{s.gatehouse.GRPC}
	s.envoy = harness.StartEnvoy(t, s.upstream.Address(),
		harness.Front{Name: "hardened", Gatehouse: replicas},
		harness.Front{Name: "unhardened", Gatehouse: replicas, Changes: []harness.Change{harness.Unhardened}},
		harness.Front{Name: "raw headers", Gatehouse: replicas, Changes: []harness.Change{harness.Unhardened, harness.RawHeaders}},
		harness.Front{Name: "fail open", Gatehouse: replicas, Changes: []harness.Change{harness.Unhardened, harness.FailOpen}},
		harness.Front{Name: "tcp", Gatehouse: replicas, Changes: []harness.Change{harness.TCP}},
	)
	s.words = map[string]string{
		"key":      batchKey,
		"nextkey":  batchKeyNext,
		"alice":    s.provider.Token(t, alice),
		"root":     s.provider.Token(t, root),
		"nobody":   s.provider.Token(t, nobody),
		"expired":  s.provider.Token(t, alice.With(idp.Claims{"exp": time.Now().Add(-time.Hour).Unix()})),
		"stranger": s.provider.Token(t, alice.With(idp.Claims{"iss": "https://elsewhere.example"})),
		"billing":  s.provider.Token(t, alice.With(idp.Claims{"aud": "billing"})),
	}
	s.waitForKeys(t, "hardened")
	return s
}

// waitForKeys waits until alice's token is good: key sets are fetched in the background.
func (s *stack) waitForKeys(t *testing.T, front string) {
	t.Helper()
	harness.Eventually(t, settle, func() error {
		answer, err := harness.TrySend(s.envoy.Address(t, front), "GET /me", s.expand("authorization: Bearer $alice"))
		if err == nil && answer.Status != 200 {
			err = fmt.Errorf("status %d: %s", answer.Status, answer.Body)
		}
		return err
	})
}

func startEcho(t *testing.T) *echo.Server {
	t.Helper()
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	return upstream
}

func startGatehouse(t *testing.T, config, issuer string, options ...harness.Option) *harness.Gatehouse {
	t.Helper()
	options = append(options, harness.Env("ISSUER="+issuer), harness.Env("BATCH_KEY="+batchKey), harness.Env("BATCH_KEY_NEXT="+batchKeyNext))
	return harness.StartGatehouse(t, config, options...)
}

// expand replaces the $words of a header.
func (s *stack) expand(header string) string {
	return os.Expand(header, func(word string) string {
		value, ok := s.words[word]
		if !ok {
			panic("no word $" + word)
		}
		return value
	})
}

// row is one request and what becomes of it. Its name is the sentence it proves.
type row struct {
	name    string
	request string   // METHOD TARGET
	headers []string // "name: value", with $words

	status int
	answer []string // headers of the answer, "name: value", "name:" for one that must be absent

	// upstream is every owned header that reached the upstream, in any spelling, sorted.
	// Of a refusal nothing may reach it.
	upstream []string

	// hardened is the status where the hardened front refuses the request itself, before
	// gatehouse is asked; 0 where it does not.
	hardened int

	// reason is what gatehouse gives in its log and to Envoy; "" is not looked at.
	reason string
}

// run sends the rows to every front.
func (s *stack) run(t *testing.T, rows []row) {
	t.Helper()
	for _, front := range fronts {
		t.Run(front, func(t *testing.T) {
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) { s.runRow(t, front, row) })
			}
		})
	}
}

func (s *stack) runRow(t *testing.T, front string, row row) {
	t.Helper()
	var headers []string
	for _, header := range row.headers {
		headers = append(headers, s.expand(header))
	}
	served := s.upstream.Served()
	answer := harness.Send(t, s.envoy.Address(t, front), row.request, headers...)
	if answer.Upstream == nil && answer.Status == 200 {
		t.Fatalf("%s %v: 200 without an answer of the upstream: %s", row.request, row.headers, answer.Body)
	}

	want := row.status
	byEnvoy := front == "hardened" && row.hardened != 0
	if byEnvoy {
		want = row.hardened
	}
	if answer.Status != want {
		t.Fatalf("%s %v: status %d, want %d\n%s", row.request, row.headers, answer.Status, want, answer.Body)
	}
	if want != 200 {
		if reached := s.upstream.Served() - served; reached != 0 {
			t.Errorf("%s: refused, and the upstream received it", row.request)
		}
		if byEnvoy {
			return
		}
	} else {
		got := harness.Folded(answer.Upstream, s.owned...)
		slices.Sort(got)
		if !slices.Equal(got, row.upstream) {
			t.Errorf("%s: the upstream saw %q, want %q", row.request, got, row.upstream)
		}
	}
	for _, line := range row.answer {
		name, value, _ := strings.Cut(line, ":")
		if got := strings.Join(answer.Header.Values(name), " | "); got != strings.TrimSpace(value) {
			t.Errorf("%s: answered with %s %q, want %q", row.request, name, got, strings.TrimSpace(value))
		}
	}
	if row.reason != "" {
		s.checkReason(t, row, answer)
	}
}

// checkReason looks the decision up by the id that the client got.
func (s *stack) checkReason(t *testing.T, row row, answer harness.Answer) {
	t.Helper()
	id := decisionID(t, answer)
	harness.Eventually(t, 10*time.Second, func() error {
		for _, entry := range s.envoy.AccessLog() {
			if entry["decision_id"] != id {
				continue
			}
			if entry["reason"] != row.reason {
				t.Errorf("%s: Envoy was told the reason %v, want %s", row.request, entry["reason"], row.reason)
			}
			return nil
		}
		return fmt.Errorf("decision %s is not in Envoy's access log", id)
	})
}

// decisionID is that of a refusal.
func decisionID(t *testing.T, answer harness.Answer) string {
	t.Helper()
	id := answer.Header.Get("X-Gatehouse-Decision-Id")
	if id == "" {
		t.Fatalf("a %d without a decision id: %v %s", answer.Status, answer.Header, answer.Body)
	}
	return id
}
