package serve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/metrics"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A reasonRow is one request, and the one reason for its answer.
type reasonRow struct {
	reason policy.Reason
	ask    question
}

// question is a request as Envoy describes it. Its zero value is GET http://example.com/.
type question struct {
	method, host, path string
	headers            []string // name, value, …
	context            map[string]string
	source, principal  string
	body               []byte
	tcp                bool // no HTTP part
}

func (q question) message() *authv3.CheckRequest {
	source := &authv3.AttributeContext_Peer{Principal: q.principal, Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
		SocketAddress: &corev3.SocketAddress{Address: or(q.source, "127.0.0.1")},
	}}}
	m := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Source: source, ContextExtensions: q.context}}
	if q.tcp {
		return m
	}
	list := map[string]string{}
	for i := 0; i < len(q.headers); i += 2 {
		list[q.headers[i]] = q.headers[i+1]
	}
	m.Attributes.Request = &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
		Method: or(q.method, "GET"), Host: or(q.host, "example.com"), Path: or(q.path, "/"), Headers: list, Scheme: "http",
		RawBody: q.body, Size: int64(len(q.body)),
	}}
	return m
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// An outcome is what a client got.
type outcome struct {
	id        string
	status    int
	challenge []string
	retry     string
}

func outcomeOf(resp *authv3.CheckResponse) outcome {
	o := outcome{status: http.StatusOK, id: resp.GetDynamicMetadata().GetFields()["decision_id"].GetStringValue()}
	if denied := resp.GetDeniedResponse(); denied != nil || resp.GetStatus().GetCode() != 0 {
		o.status = int(denied.GetStatus().GetCode())
		for _, h := range denied.GetHeaders() {
			o.note(h.GetHeader().GetKey(), h.GetHeader().GetValue())
		}
	}
	return o
}

func (o *outcome) note(name, value string) {
	switch strings.ToLower(name) {
	case extauthz.DecisionHeader:
		o.id = value
	case "www-authenticate":
		o.challenge = append(o.challenge, value)
	case "retry-after":
		o.retry = value
	}
}

// audit collects which reasons were seen, with all that belongs to them.
type audit struct {
	mu   sync.Mutex
	seen map[policy.Reason]bool
}

// judge holds an answer against its reason: one outcome, one status, a challenge where the
// client may try again with another credential, a time where it may try later; the same
// reason in the log's line and in the metric.
func (a *audit) judge(t *testing.T, reason policy.Reason, got outcome, log, metricsBefore, metricsAfter string) {
	t.Helper()
	want := map[policy.Outcome]int{policy.Allowed: 200, policy.Forbidden: 403, policy.Unauthenticated: 401, policy.Malformed: 400, policy.Unavailable: 503}[reason.Outcome()]
	if got.status != want {
		t.Errorf("%v: status %d, want %d", reason, got.status, want)
	}
	challenged := reason.Outcome() == policy.Unauthenticated || reason == policy.ReasonInsufficientScope
	if (len(got.challenge) > 0) != challenged {
		t.Errorf("%v: challenge %q, want one: %v", reason, got.challenge, challenged)
	}
	if reason == policy.ReasonInsufficientScope && !strings.Contains(strings.Join(got.challenge, ","), "insufficient_scope") {
		t.Errorf("%v: challenge %q", reason, got.challenge)
	}
	if (got.retry != "") != (reason.Outcome() == policy.Unavailable) {
		t.Errorf("%v: Retry-After %q", reason, got.retry)
	}
	if got.id == "" {
		t.Errorf("%v: the answer has no decision id", reason)
	}
	line := struct {
		Reason, Outcome string
		Status          int
	}{}
	for text := range strings.Lines(log) {
		if strings.Contains(text, got.id) {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Errorf("%v: line %q: %v", reason, text, err)
			}
		}
	}
	if line.Reason != reason.String() || line.Outcome != reason.Outcome().String() || line.Status != want {
		t.Errorf("%v: the log says %+v", reason, line)
	}
	if before, after := countOf(metricsBefore, reason), countOf(metricsAfter, reason); after != before+1 {
		t.Errorf("%v: gatehouse_decisions_total went from %d to %d, want one more", reason, before, after)
	}
	if t.Failed() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[reason] = true
}

var decisionsTotal = regexp.MustCompile(`(?m)^gatehouse_decisions_total\{outcome="([a-z]+)",reason="([a-z_]+)",route="[^"]*"\} (\d+)$`)

// countOf sums the metric of one reason, which has its own outcome and no other.
func countOf(metrics string, reason policy.Reason) (n int) {
	for _, m := range decisionsTotal.FindAllStringSubmatch(metrics, -1) {
		if m[1] == reason.Outcome().String() && m[2] == reason.String() {
			count, _ := strconv.Atoi(m[3]) // digits
			n += count
		}
	}
	return n
}

// rows asks each question of a running service.
func (a *audit) rows(t *testing.T, r *running, rows []reasonRow) {
	for _, row := range rows {
		t.Run(row.reason.String(), func(t *testing.T) {
			_, before := r.get("/metrics")
			resp, err := r.checks.Check(t.Context(), row.ask.message())
			if err != nil {
				t.Fatal(err)
			}
			got := outcomeOf(resp)
			r.wrote(got.id)
			_, after := r.get("/metrics")
			a.judge(t, row.reason, got, r.log.String(), before, after)
		})
	}
}

// wrote waits until the log, which is buffered, has a decision.
func (r *running) wrote(id string) {
	r.t.Helper()
	r.eventually("line of the decision", func() bool { return strings.Contains(r.log.String(), id) })
}

// TestEveryReason produces every reason of the closed set by a request, and holds its
// status, challenge, line of the log and metric against the one outcome that it belongs
// to. A reason that is added to the set without a row here fails the test.
func TestEveryReason(t *testing.T) {
	a := &audit{seen: map[policy.Reason]bool{}}
	providers := newProviders(t)
	main := start(t, reasonsConfig(t, providers), func(o *Options) { o.Env = reasonsEnv })
	main.eventually("keys and the store", func() bool { code, _ := main.get("/readyz"); return code == 200 })
	t.Run("by one configuration", func(t *testing.T) {
		a.rows(t, main, plainReasons())
		a.rows(t, main, tokenReasons(t, providers))
		a.rows(t, main, providerReasons())
		a.rows(t, main, peerReasons(t))
		a.rows(t, main, storeReasons(t, main))
	})
	t.Run("by other configurations", func(t *testing.T) { otherReasons(t, a, providers) })
	t.Run("by hand", func(t *testing.T) { faults(t, a, main) })

	// Nothing is decided for this reason: it is what a decision says that nobody made.
	if d := (policy.Decision{}); d.Reason != policy.ReasonNone || d.Outcome != policy.Forbidden {
		t.Errorf("a decision that nobody made is %v %v", d.Outcome, d.Reason)
	}
	a.seen[policy.ReasonNone] = true
	for _, reason := range policy.Reasons() {
		if !a.seen[reason] {
			t.Errorf("no request was answered for reason %v", reason)
		}
	}
}

const (
	reasonsSecret = "0123456789abcdef0123456789abcdef"
	closedPort    = "http://127.0.0.1:1"
)

func reasonsEnv(name string) (string, bool) { return reasonsSecret, name == "SECRET" }

func reasonsConfig(t *testing.T, p *providers) string {
	t.Helper()
	password, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}, http: {address: "127.0.0.1:0"}}
trusted_proxies: [127.0.0.0/8]
store: {sqlite: {path: gatehouse.db}, poll: 10ms}
tenancy: {separator: ":", default: "_", wildcard: "*", select_header: x-tenant}
authenticators:
- name: corp
  jwt:
    issuer: %[1]q
    audiences: [orders]
    max_lifetime: 24h
    require: [{expression: "!('bad' in claims)", message: "bad"}]
    principal:
      username: {claim: email}
      tenant: {claim: tenant}
      roles: {claim: roles}
      scopes: {claim: scope}
      attributes: {department: {claim: department}, note: {claim: note}}
- {name: typed, jwt: {issuer: %[1]q, audiences: [orders], types: [at+jwt], from: [{header: x-typed}]}}
- {name: cli, client_credentials: {verify_with: corp, token_url: "%[2]s/token", from: [{header: x-client, scheme: Basic}]}}
- {name: cli-typed, client_credentials: {verify_with: typed, token_url: "%[2]s/token", from: [{header: x-typed-client, scheme: Basic}]}}
- {name: gone, jwt: {issuer: "%[3]s/realms/gone", any_audience: true, from: [{header: x-gone}]}}
- {name: people, realm: staff, basic: {realm_header: x-realm, users: [{username: adam, password_hash: %[4]q}]}}
- {name: machines, api_key: {from: [{header: x-api-key}], keys: [{id: batch, secret: {env: SECRET}, principal: {tenant: acme, roles: [reader]}}]}}
- {name: inner, only_from: [{sources: [10.0.0.0/8]}], api_key: {from: [{header: x-inner-key}], keys: [{id: inner, sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}]}}
- {name: query, api_key: {from: [{query: key}], keys: [{id: query, sha256: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"}]}}
- {name: opaque, introspection: {url: "%[2]s/introspect", client_id: gatehouse, client_secret: {env: SECRET}, from: [{header: x-opaque}], principal: {subject: {claim: sub}}}}
- {name: whoami, lookup: {url: "%[2]s/who?token={token}", from: [{header: x-who}], principal: {subject: {claim: uid}}}}
- {name: dead, lookup: {url: "%[3]s/who?token={token}", from: [{header: x-dead}], principal: {subject: {claim: uid}}}}
- {name: ours, token: {from: [{header: x-ours}]}}
- {name: cluster, peer: {secret: {env: SECRET}, from: [{header: x-peer}], peers: ["127.0.0.1"], signature: {key_id: cluster, secret: {env: SECRET}}, principal: {roles: [reader]}}}
- {name: mesh, mtls: {principals: [{match: "spiffe://cluster.local/ns/{namespace}/sa/{account}", principal: {subject: "{account}"}}]}}
routes:
- {match: ["GET /{$}"], name: landing, public: true}
- {match: ["/orders/"], name: orders, allow: [{roles: {any: [reader]}}]}
- {match: ["/scoped/"], name: scoped, allow: [{scopes: {all: ["orders:write"]}}]}
- {match: ["/expression/"], name: expression, allow: [{when: 'principal.attributes.department == "sales"'}]}
- {match: ["/me/"], name: me, allow: [{authenticated: true}]}
- {match: ["/internal/"], name: internal, forbid: true}
- {match: ["PUT /cors/"], name: cors, preflight: allow, allow: [{authenticated: true}]}
forward: {headers: {x-user: "{username}", x-note: "{attributes.note}"}}
`, p.issuer.URL(), p.server.URL, closedPort, password)
}

// providers are an issuer, and the endpoints of others.
type providers struct {
	issuer *authntest.Issuer
	server *httptest.Server
	hung   chan struct{} // the who-am-I service has one more who waits
	hang   chan struct{} // and answers them when this is closed
}

func newProviders(t *testing.T) *providers {
	t.Helper()
	p := &providers{issuer: newIssuer(t), hung: make(chan struct{}, 2), hang: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		token := ""
		switch client, _, _ := r.BasicAuth(); client {
		case "typed":
			token = p.issuer.Token(nil)
		case "other-issuer":
			token = p.issuer.Token(map[string]any{"iss": "https://other.example.com"})
		case "other-algorithm":
			token, _ = jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(p.issuer.Claims(nil))).SignedString([]byte(reasonsSecret))
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error": "invalid_client"}`)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer", "expires_in": 300}`, token)
	})
	mux.HandleFunc("/introspect", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"active": false}`)
	})
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.FormValue("token"), "slow") {
			p.hung <- struct{}{}
			<-p.hang
		}
		w.WriteHeader(http.StatusForbidden)
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

// plainReasons need no credential, or one of the file.
func plainReasons() []reasonRow {
	key := []string{"x-api-key", reasonsSecret}
	basic := func(user string) []string {
		return []string{"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user))}
	}
	return []reasonRow{
		{policy.ReasonPublic, question{}},
		{policy.ReasonMet, question{path: "/orders/1", headers: key}},
		{policy.ReasonPreflight, question{method: "OPTIONS", path: "/cors/1", headers: []string{"origin", "https://ui.example.com", "access-control-request-method", "PUT"}}},

		{policy.ReasonNoRoute, question{path: "/nowhere", headers: key}},
		{policy.ReasonRouteUnknown, question{path: "/orders/1", headers: key, context: map[string]string{"gatehouse.route": "nobody"}}},
		{policy.ReasonRouteMismatch, question{path: "/orders/1", headers: key, context: map[string]string{"gatehouse.route": "me"}}},
		{policy.ReasonRouteForbids, question{path: "/internal/1", headers: key}},
		{policy.ReasonInsufficientScope, question{path: "/scoped/1", headers: key}},
		{policy.ReasonExpressionError, question{path: "/expression/1", headers: key}},
		{policy.ReasonNotHTTP, question{tcp: true}},

		{policy.ReasonNoCredential, question{path: "/me"}},
		{policy.ReasonCredentialMalformed, question{path: "/me", headers: []string{"authorization", "Basic %%%"}}},
		{policy.ReasonWrongPlace, question{path: "/me", headers: []string{"x-inner-key", "test"}}},
		{policy.ReasonKeyUnknown, question{path: "/me", headers: []string{"x-api-key", "guess"}}},
		{policy.ReasonPasswordWrong, question{path: "/me", headers: basic("adam:wrong")}},
		{policy.ReasonRealmUnknown, question{path: "/me", headers: append(basic("adam:right"), "x-realm", "nowhere")}},
		{policy.ReasonTenantNotSelectable, question{path: "/me", headers: append([]string{"x-tenant", "globex"}, key...)}},
		{policy.ReasonCertificateUnmatched, question{path: "/me", principal: "spiffe://evil.local/ns/acme/sa/orders"}},

		{policy.ReasonPathNotCanonical, question{path: "/a//b"}},
		{policy.ReasonHostInvalid, question{host: "a,b"}},
		{policy.ReasonMethodInvalid, question{method: "GE T"}},
		{policy.ReasonCredentialRepeated, question{path: "/me", headers: []string{"authorization", "Bearer a,Bearer b"}}},
		{policy.ReasonSelectionRepeated, question{path: "/me", headers: append([]string{"x-tenant", "acme,acme"}, key...)}},
		{policy.ReasonHeadersTooLarge, question{headers: []string{"x-large", strings.Repeat("a", 100<<10)}}},
	}
}

// tokenReasons are those of JWTs.
func tokenReasons(t *testing.T, p *providers) []reasonRow {
	t.Helper()
	now := time.Now().Unix()
	bearer := func(path, token string) question {
		return question{path: path, headers: []string{"authorization", "Bearer " + token}}
	}
	with := func(path string, claims map[string]any) question { return bearer(path, p.issuer.Token(claims)) }
	forger, err := authntest.NewKey(p.issuer.Current().ID, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := authntest.NewKey("a-key-of-nobody", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	header := func(more map[string]any) string {
		h := map[string]any{"alg": "ES256", "kid": p.issuer.Current().ID}
		for name, value := range more {
			h[name] = value
		}
		return p.issuer.Current().Sign(h, p.issuer.Claims(nil))
	}
	return []reasonRow{
		{policy.ReasonRequirement, with("/orders/1", map[string]any{"roles": []string{"writer"}})},
		{policy.ReasonInvalidIdentity, with("/me", map[string]any{"email": "a\nb"})},
		{policy.ReasonIdentityTooLarge, with("/me", map[string]any{"note": strings.Repeat("a", 9<<10)})},

		{policy.ReasonUnknownIssuer, with("/me", map[string]any{"iss": "https://other.example.com"})},
		{policy.ReasonUnknownKey, bearer("/me", stranger.Token(p.issuer.Claims(nil)))},
		{policy.ReasonKeyUnsuitable, bearer("/me", header(map[string]any{"jwk": p.issuer.Current().JWK()}))},
		{policy.ReasonTokenMalformed, bearer("/me", "not-a-token")},
		{policy.ReasonTokenTooLarge, bearer("/me", "eyJ"+strings.Repeat("a", 20<<10))},
		{policy.ReasonTokenEncrypted, bearer("/me", header(nil)+".a.b")},
		{policy.ReasonCriticalHeader, bearer("/me", header(map[string]any{"crit": []string{"exp"}}))},
		{policy.ReasonSignatureInvalid, bearer("/me", forger.Token(p.issuer.Claims(nil)))},
		{policy.ReasonExpired, with("/me", map[string]any{"exp": now - 1, "iat": now - 60})},
		{policy.ReasonNotYetValid, with("/me", map[string]any{"nbf": now + 60})},
		{policy.ReasonIssuedInFuture, with("/me", map[string]any{"iat": now + 60})},
		{policy.ReasonExpiryMissing, with("/me", map[string]any{"exp": nil})},
		{policy.ReasonLifetimeTooLong, with("/me", map[string]any{"exp": now + 48*3600})},
		{policy.ReasonAudienceMismatch, with("/me", map[string]any{"aud": "billing"})},
		{policy.ReasonClaimMissing, with("/me", map[string]any{"sub": nil})},
		{policy.ReasonClaimType, with("/me", map[string]any{"tenant": 7})},
		{policy.ReasonRequireFailed, with("/me", map[string]any{"bad": true})},
	}
}

// providerReasons are what providers say, or that they say nothing.
func providerReasons() []reasonRow {
	client := func(header, id string) question {
		return question{path: "/me", headers: []string{header, "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":secret"))}}
	}
	return []reasonRow{
		{policy.ReasonExchangeRefused, client("x-client", "unknown")},
		{policy.ReasonIssuerMismatch, client("x-client", "other-issuer")},
		{policy.ReasonAlgorithmRefused, client("x-client", "other-algorithm")},
		{policy.ReasonTypeRefused, client("x-typed-client", "typed")},
		{policy.ReasonTokenInactive, question{path: "/me", headers: []string{"x-opaque", "anything"}}},
		{policy.ReasonProviderRefused, question{path: "/me", headers: []string{"x-who", "anything"}}},
		{policy.ReasonProviderUnavailable, question{path: "/me", headers: []string{"x-dead", "anything"}}},
		{policy.ReasonKeysUnavailable, question{path: "/me", headers: []string{"x-gone", goneToken()}}},
	}
}

// goneToken is of an issuer that nobody has heard of since the start.
func goneToken() string {
	parts := []string{`{"alg":"ES256","kid":"k"}`, `{"iss":"` + closedPort + `/realms/gone","exp":4102444800}`, "signature"}
	for i, part := range parts {
		parts[i] = base64.RawURLEncoding.EncodeToString([]byte(part))
	}
	return strings.Join(parts, ".")
}

// peerReasons are those of signed requests.
func peerReasons(t *testing.T) []reasonRow {
	t.Helper()
	signed := func(signer *peersign.Signer, change func(*question)) question {
		const body = "hello"
		r, err := http.NewRequest(http.MethodPost, "http://example.com/orders/1", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		signer.KeyID, signer.Secret = "cluster", []byte(reasonsSecret)
		if err := signer.Sign(r); err != nil {
			t.Fatal(err)
		}
		q := question{method: r.Method, path: "/orders/1", body: []byte(body)}
		for name, values := range r.Header {
			q.headers = append(q.headers, strings.ToLower(name), values[0])
		}
		if change != nil {
			change(&q)
		}
		return q
	}
	twice := func() string { return "a nonce that is used twice" }
	return []reasonRow{
		{policy.ReasonMet, signed(&peersign.Signer{Nonce: twice}, nil)},
		{policy.ReasonPeerReplayed, signed(&peersign.Signer{Nonce: twice}, nil)},
		{policy.ReasonOriginRefused, signed(&peersign.Signer{}, func(q *question) { q.source = "127.0.0.2" })},
		{policy.ReasonPeerSignature, signed(&peersign.Signer{}, func(q *question) { q.method = "PUT" })},
		{policy.ReasonPeerStale, signed(&peersign.Signer{Now: func() time.Time { return time.Now().Add(-time.Hour) }}, nil)},
		{policy.ReasonDigestMismatch, signed(&peersign.Signer{}, func(q *question) { q.body = []byte("other") })},
		{policy.ReasonBodyPartial, signed(&peersign.Signer{}, func(q *question) {
			q.headers, q.body = append(q.headers, "x-envoy-auth-partial-body", "true"), q.body[:2]
		})},
	}
}

// storeReasons are those of our own tokens and the directory.
func storeReasons(t *testing.T, r *running) []reasonRow {
	t.Helper()
	store, err := tokens.OpenSQLite(filepath.Join(filepath.Dir(r.path), "gatehouse.db"), tokens.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	by := tokens.Actor{Owner: tokens.Owner{Issuer: tokens.Operator, Subject: "test"}}
	make := func(subject string) tokens.Credential {
		t.Helper()
		_, credential, err := store.Create(t.Context(), tokens.Token{Kind: tokens.APIToken, Owner: tokens.Owner{Issuer: "i", Subject: subject}}, by)
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	revoked, disabled := make("alice"), make("mallory")
	if _, err := store.Revoke(t.Context(), revoked.ID(), by); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Disable(t.Context(), tokens.Owner{Issuer: "i", Subject: "mallory"}, by); err != nil {
		t.Fatal(err)
	}
	ours := func(text string) question { return question{path: "/me", headers: []string{"x-ours", text}} }
	return []reasonRow{
		{policy.ReasonMet, ours(make("alice").Reveal())},
		{policy.ReasonTokenUnknown, ours(tokens.NewCredential().Reveal())},
		{policy.ReasonTokenRevoked, ours(revoked.Reveal())},
		{policy.ReasonPrincipalDisabled, ours(disabled.Reveal())},
	}
}

// otherReasons need a configuration or a state of their own.
func otherReasons(t *testing.T, a *audit, p *providers) {
	key := []string{"x-api-key", reasonsSecret}
	const listen = `version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}, http: {address: "127.0.0.1:0"}}
`
	const machines = `- {name: machines, api_key: {from: [{header: x-api-key}, {query: key}], keys: [{id: batch, secret: {env: SECRET}, principal: {roles: [reader]}}]}}
`
	env := func(o *Options) { o.Env = reasonsEnv }

	closed := start(t, listen+`store: {sqlite: {path: gatehouse.db}}
directory: {provision: false}
authenticators:
- {name: corp, jwt: {issuer: `+strconv.Quote(p.issuer.URL())+`, any_audience: true}}
`+machines+`routes: [{match: ["/"], allow: [{authenticated: true}]}]
`, env)
	closed.eventually("readiness", func() bool { code, _ := closed.get("/readyz"); return code == 200 })
	a.rows(t, closed, []reasonRow{
		{policy.ReasonPrincipalUnknown, question{headers: []string{"authorization", "Bearer " + p.issuer.Token(nil)}}},
	})
	forward := func(r *running, reason policy.Reason, headers ...string) {
		t.Run(reason.String(), func(t *testing.T) {
			_, before := r.get("/metrics")
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.web()+"/authorize", nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(headers); i += 2 {
				request.Header.Set(headers[i], headers[i+1])
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			got := outcome{status: response.StatusCode}
			for name, values := range response.Header {
				for _, value := range values {
					got.note(name, value)
				}
			}
			r.wrote(got.id)
			_, after := r.get("/metrics")
			a.judge(t, reason, got, r.log.String(), before, after)
		})
	}
	forward(closed, policy.ReasonProxyUntrusted, "x-api-key", reasonsSecret)
	trusting := start(t, listen+"trusted_proxies: [127.0.0.0/8]\nauthenticators:\n"+machines+`routes: [{match: ["/"], allow: [{authenticated: true}]}]
`, env)
	forward(trusting, policy.ReasonCredentialStays, "X-Original-URL", "http://example.com/?key="+reasonsSecret, "X-Original-Method", "GET")

	shadow := start(t, listen+"authenticators:\n"+machines+`routes: [{match: ["/"], forbid: true}]
`, func(o *Options) { o.Env, o.ShadowAll = reasonsEnv, true })
	a.rows(t, shadow, []reasonRow{{policy.ReasonShadowed, question{headers: key}}})

	unstored := start(t, listen+`store: {postgres: {url: {env: SECRET}}}
authenticators: [{name: ours, token: {}}]
routes: [{match: ["/"], allow: [{authenticated: true}]}]
`, func(o *Options) {
		o.Env = func(string) (string, bool) { return "postgres://app@127.0.0.1:1/gone?sslmode=disable", true }
	})
	a.rows(t, unstored, []reasonRow{
		{policy.ReasonStoreUnavailable, question{headers: []string{"authorization", "Bearer " + tokens.NewCredential().Reveal()}}},
	})

	guessed := start(t, reasonsConfig(t, p), env)
	guess := func(n int) question {
		return question{path: "/me", headers: []string{"authorization", "Basic " + base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "adam:guess-%d", n))}}
	}
	n := 0
	guessed.eventually("limit", func() bool {
		n++
		resp, err := guessed.checks.Check(t.Context(), guess(n).message())
		return err == nil && resp.GetDynamicMetadata().GetFields()["reason"].GetStringValue() == policy.ReasonTooManyFailures.String()
	})
	a.rows(t, guessed, []reasonRow{{policy.ReasonTooManyFailures, guess(n + 1)}})

	busy := start(t, listen+`limits: {concurrent: 1, queue: 1}
authenticators: [{name: whoami, lookup: {url: "`+p.server.URL+`/who?token={token}", timeout: 30s, principal: {subject: {claim: uid}}}}]
routes: [{match: ["/"], allow: [{authenticated: true}]}]
`, env)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer close(p.hang)
	slow := func(name string) {
		asking.Go(func() {
			_, _ = busy.checks.Check(t.Context(), question{headers: []string{"authorization", "Bearer " + name}}.message())
		})
	}
	slow("slow-1") // is worked on
	<-p.hung
	slow("slow-2") // waits
	busy.eventually("full queue", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // it may come before the one that waits
		defer cancel()
		resp, err := busy.checks.Check(ctx, question{}.message())
		return err == nil && outcomeOf(resp).status == http.StatusServiceUnavailable
	})
	a.rows(t, busy, []reasonRow{{policy.ReasonOverloaded, question{}}})
}

// web is the address of the HTTP listener.
func (r *running) web() (address string) {
	r.t.Helper()
	r.eventually("address of the HTTP listener", func() bool {
		for line := range strings.Lines(r.log.String()) {
			var said struct{ Msg, Listener, Address string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" && said.Listener == "http" {
				address = said.Address
			}
		}
		return address != ""
	})
	return address
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (raw) Name() string                    { return "proto" }

// panics is an authenticator with a fault.
type panics struct{}

func (panics) Authenticate(context.Context, *authn.Input) authn.Result { panic("a fault of ours") }

// faults are answered by hand: bytes that are no Check, a gate without a configuration, and
// an authenticator that panics.
func faults(t *testing.T, a *audit, r *running) {
	t.Run(policy.ReasonRequestUndecodable.String(), func(t *testing.T) {
		conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, before := r.get("/metrics")
		var resp authv3.CheckResponse
		if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, []byte("\xff\xff\xff"), &resp, grpc.ForceCodec(raw{})); err != nil {
			t.Fatal(err)
		}
		got := outcomeOf(&resp)
		r.wrote(got.id)
		_, after := r.get("/metrics")
		a.judge(t, policy.ReasonRequestUndecodable, got, r.log.String(), before, after)
	})
	for reason, config := range map[policy.Reason]*extauthz.Config{policy.ReasonNotReady: nil, policy.ReasonInternal: faulty(t)} {
		t.Run(reason.String(), func(t *testing.T) {
			out := &syncBuffer{}
			log, err := NewLog(out, "json", 0)
			if err != nil {
				t.Fatal(err)
			}
			s := &service{log: log, metrics: metrics.New(metrics.Build{})}
			s.gate = extauthz.NewGate(extauthz.Options{Observe: s.observe})
			if config != nil {
				snapshot, err := extauthz.NewSnapshot(config)
				if err != nil {
					t.Fatal(err)
				}
				s.gate.Swap(snapshot)
			}
			answer := s.gate.Check(t.Context(), &extauthz.Call{HTTP: true, Method: "GET", Host: "example.com", Target: "/", Scheme: "http",
				Headers: []policy.Pair{{Name: "authorization", Value: "Bearer x"}}})
			got := outcome{status: answer.Status}
			for _, h := range answer.Headers() {
				got.note(h.Name, h.Value)
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			ops := httptest.NewServer(opsHandler(s.metrics.Registry, s.conditions, false))
			defer ops.Close()
			r := &running{t: t, ops: strings.TrimPrefix(ops.URL, "http://")}
			_, after := r.get("/metrics")
			a.judge(t, reason, got, out.String(), "", after)
		})
	}
}

// faulty is a configuration whose only authenticator panics.
func faulty(t *testing.T) *extauthz.Config {
	t.Helper()
	set, err := authn.NewSet([]authn.Entry{{
		Name: "corp", Realm: "corp", Kind: authn.KindLookup, Authenticator: panics{},
		Places: []authn.Place{{Kind: authn.InHeader, Name: "authorization", Scheme: "Bearer"}},
	}}, authn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	patterns, err := policy.ParsePattern("/")
	if err != nil {
		t.Fatal(err)
	}
	route := &policy.Route{Name: "all", Patterns: patterns, Allow: []policy.Requirement{{Authenticated: &policy.Flag{}}}}
	table, problems := policy.NewTable([]*policy.Route{route}, nil)
	if table == nil {
		t.Fatal(problems)
	}
	return &extauthz.Config{Set: set, Table: table, Routes: []extauthz.Route{{Policy: route, Forward: &extauthz.Forward{}}}, Forward: &extauthz.Forward{}}
}
