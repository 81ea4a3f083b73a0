package live

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// afterwards are policies of Istio's own: they hold after gatehouse has been asked.
const afterwards = `
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: people, namespace: demo}
spec:
  selector: {matchLabels: {app: echo}}
  jwtRules:
  - issuer: %q
    jwks: %q
    forwardOriginalToken: true
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: secret, namespace: demo}
spec:
  selector: {matchLabels: {app: echo}}
  action: DENY
  rules: [{to: [{operation: {paths: ["/api/secret*"]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: demo}
spec:
  selector: {matchLabels: {app: echo}}
  action: ALLOW
  rules: [{when: [{key: "request.auth.claims[groups]", values: [reader]}]}]
`

// order proves what README.md says about CUSTOM, RequestAuthentication, DENY and ALLOW.
func (m *mesh) order(t *testing.T) {
	documents := fmt.Sprintf(afterwards, m.issuer.URL(), m.keySet(t))
	m.applyText(t, documents)
	plain := shipped(t, istioFolder, "gatehouse.yaml")
	const workload = "ns/billing/sa/reports"
	reader, writer := meshtest.Bearer(m.alice("reader")), meshtest.Bearer(m.alice("writer"))
	rbac := func(name, request string, header http.Header) meshtest.Row {
		return meshtest.NewRow(name, meshtest.Sidecar, workload, request, header, 403)
	}
	m.until(t, rbac("the policies have arrived", "GET /api/secret", reader))
	m.until(t, rbac("all of them", "GET /api/orders", nil))

	for _, row := range []struct {
		name, request string
		header        http.Header
		credentials   string // what gatehouse does with the token
		status        int
		istio         bool   // the answer is Istio's own
		outcome       string // what gatehouse decided
	}{
		{"DENY refuses what gatehouse allows", "GET /api/secret", reader, "keep", 403, true, "allowed"},
		{"ALLOW refuses what gatehouse allows", "GET /api/orders", nil, "keep", 403, true, "allowed"},
		{"ALLOW refuses a token of another group", "GET /api/orders", writer, "keep", 403, true, "allowed"},
		{"ALLOW cannot allow what gatehouse refuses", "POST /api/orders", reader, "keep", 403, false, "forbidden"},
		{"gatehouse sees a token before RequestAuthentication does", "GET /api/orders", meshtest.Bearer(m.alice("reader") + "x"), "keep", 401, false, "unauthenticated"},
		{"all three agree, and gatehouse has left the token", "GET /api/orders", reader, "keep", 200, false, "allowed"},
		{"without credentials: keep the token is gone before Istio looks", "GET /api/orders", reader, "strip", 403, true, "allowed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			m.configure(t, replaced(t, plain, "forward:\n", "forward:\n  credentials: "+row.credentials+"\n"))
			began := time.Now()
			method, target, _ := strings.Cut(row.request, " ")
			got, err := m.client.Ask(t, meshtest.Sidecar, workload, method, target, row.header.Clone())
			if err != nil {
				t.Fatal(err)
			}
			if got.Status != row.status || (got.Upstream != nil) != (row.status == 200) || strings.Contains(got.Body, "RBAC: access denied") != row.istio {
				t.Errorf("status %d, want %d, from Istio: %t: %s", got.Status, row.status, row.istio, got.Body)
			}
			harness.Eventually(t, changeTimeout, func() error {
				// The log is buffered: decisions before this may come only now.
				decisions := slices.DeleteFunc(m.gatehouse.Decisions(), func(d map[string]any) bool {
					at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(d["time"]))
					return err != nil || at.Before(began)
				})
				if len(decisions) != 1 || decisions[0]["outcome"] != row.outcome {
					return fmt.Errorf("gatehouse decided %v, want once %s", decisions, row.outcome)
				}
				return nil
			})
		})
	}
	m.configure(t, plain)
	m.kubectl(t, "delete", "--namespace", "demo", "requestauthentication/people", "authorizationpolicy/secret", "authorizationpolicy/readers")
	m.until(t, meshtest.NewRow("the policies are gone", meshtest.Sidecar, workload, "GET /api/secret", nil, 200))
}

// keySet are the keys of the issuer, as text.
func (m *mesh) keySet(t testing.TB) string {
	t.Helper()
	response, err := http.Get(m.issuer.URL() + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var discovery struct {
		Keys string `json:"jwks_uri"`
	}
	if err := json.NewDecoder(response.Body).Decode(&discovery); err != nil {
		t.Fatal(err)
	}
	keys, err := http.Get(discovery.Keys)
	if err != nil {
		t.Fatal(err)
	}
	defer keys.Body.Close()
	text, err := io.ReadAll(keys.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
