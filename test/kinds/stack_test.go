package kinds

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}

authenticators:
- name: cluster
  peer:
    secret: {env: PEER_SECRET}
    peers: ["127.0.0.1", "gone.invalid"]
    principal: {roles: [peer]}
- name: signers
  peer:
    signature: {key_id: cluster, secret: {env: PEER_SECRET}}
    peers: ["127.0.0.0/31"]
    principal: {roles: [peer]}
- name: corp
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    keys: {refresh: 1s}
    principal: {subject: {expression: "'sub' in claims ? claims.sub : claims.client_id"}}
- name: people
  realm: ecmwf
  basic:
    realm_header: x-auth-realm
    users: [{username: adam, password_hash: '${ADAM_ECMWF}'}]
- name: others
  realm: other
  basic:
    realm_header: x-auth-realm
    users: [{username: adam, password_hash: '${ADAM_OTHER}'}]
- name: cli
  client_credentials: {verify_with: corp}
- name: opaque
  introspection:
    url: "${ISSUER}/token/introspection"
    client_id: gatehouse
    client_secret: {env: INTROSPECTION_SECRET}
    cache_for: 1s
    principal: {subject: {claim: sub}}
- name: whoami
  realm: ecmwf
  lookup:
    url: "${WHOAMI}/who-am-i?token={token}"
    prefix: ec_
    cache_for: 1s
    principal: {subject: {claim: uid}, attributes: {email: {claim: email}}}
- name: inside
  only_from: [{principals: ["spiffe://cluster.local/ns/{namespace}/sa/gateway"]}]
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    from: [{header: x-inside}]
    keys: {refresh: 1s}
- name: mesh
  mtls:
    principals:
    - {match: "spiffe://cluster.local/ns/{namespace}/sa/{account}", principal: {subject: "{account}", tenant: "{namespace}", roles: [service]}}

routes:
- match: ["/kept/"]
  allow: [{authenticated: true}]
  forward: {credentials: keep, headers: {x-user: "{subject}", x-by: "{authenticator}", x-realm: "{realm}"}}
- match: ["/synchronize/"]
  accept: [cluster, signers]
  allow: [{roles: {all: [peer]}}]
- match: ["/users/"]
  accept: [corp, people, others, cli, opaque, whoami]
  allow: [{authenticated: true}]
- match: ["/mesh/"]
  accept: [mesh]
  allow: [{roles: {all: [service]}}]
- match: ["/inside/"]
  accept: [inside]
  allow: [{authenticated: true}]
- match: ["/any/"]
  allow: [{authenticated: true}]
- match: ["/open/"]
  public: true

forward:
  headers: {x-user: "{subject}", x-by: "{authenticator}", x-realm: "{realm}", x-tenant: "{tenant}", x-email: "{attributes.email}"}
`

// slow is how long a provider may take, well within Envoy's timeout.
const slow = 600 * time.Millisecond

const peerSecret = "abracadabra"

// stack is everything between a client and the upstream.
type stack struct {
	upstream  *echo.Server
	provider  *idp.Provider
	gatehouse *harness.Gatehouse
	envoy     *harness.Envoy
	whoami    *httptest.Server
	broken    atomic.Bool // the who-am-I service
}

// patient has Envoy wait for passwords that are hashed on a busy machine.
func patient(p harness.Parts) {
	p.ExtAuthz["grpc_service"].(map[string]any)["timeout"] = "20s"
}

// withBody has Envoy send bodies of up to max bytes.
func withBody(max int) harness.Change {
	return func(p harness.Parts) {
		p.ExtAuthz["with_request_body"] = map[string]any{"max_request_bytes": max, "allow_partial_message": true, "pack_as_bytes": true}
	}
}

// withCertificates has Envoy ask clients for certificates of an authority, and tell
// gatehouse whose they are.
func withCertificates(a *authority) harness.Change {
	return func(p harness.Parts) {
		certificate, key := a.pem(leaf("envoy", nil))
		p.ExtAuthz["include_peer_certificate"] = true
		chain := p.Listener["filter_chains"].([]any)[0].(map[string]any)
		chain["transport_socket"] = map[string]any{
			"name": "envoy.transport_sockets.tls",
			"typed_config": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
				"common_tls_context": map[string]any{
					"tls_certificates":   []any{map[string]any{"certificate_chain": map[string]any{"inline_string": certificate}, "private_key": map[string]any{"inline_string": key}}},
					"validation_context": map[string]any{"trusted_ca": map[string]any{"inline_string": a.certificatePEM()}},
				},
			},
		}
	}
}

// start runs the whole stack.
func start(t *testing.T, a *authority) *stack {
	t.Helper()
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	s := &stack{upstream: upstream, provider: idp.Start(t)}
	s.whoami = httptest.NewServer(http.HandlerFunc(s.whoAmI))
	t.Cleanup(s.whoami.Close)
	s.gatehouse = harness.StartGatehouse(t, config,
		harness.Env("PEER_SECRET="+peerSecret), harness.Env("ISSUER="+s.provider.Issuer), harness.Env("WHOAMI="+s.whoami.URL),
		harness.Env("INTROSPECTION_SECRET="+idp.IntrospectionSecret),
		harness.Env("ADAM_ECMWF="+hash(t, "admin")), harness.Env("ADAM_OTHER="+hash(t, "other")))
	s.gatehouse.WaitServing(t)
	replicas := []string{s.gatehouse.GRPC}
	s.envoy = harness.StartEnvoy(t, upstream.Address(),
		harness.Front{Name: "bodies", Gatehouse: replicas, Changes: []harness.Change{patient, withBody(1 << 16)}},
		harness.Front{Name: "short bodies", Gatehouse: replicas, Changes: []harness.Change{withBody(4)}},
		harness.Front{Name: "no bodies", Gatehouse: replicas},
		harness.Front{Name: "certificates", Gatehouse: replicas, Changes: []harness.Change{withCertificates(a)}},
	)
	token := s.provider.Token(t, idp.Claims{"sub": "alice"})
	harness.Eventually(t, time.Minute, func() error {
		answer, err := harness.TrySend(s.envoy.Address(t, "bodies"), "GET /users", "authorization: Bearer "+token)
		if err == nil && answer.Status != 200 {
			err = fmt.Errorf("status %d: %s", answer.Status, answer.Body)
		}
		return err
	})
	return s
}

// hash is one that a busy machine can afford.
func hash(t *testing.T, password string) string {
	t.Helper()
	text, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// whoAmI knows one token, which has to be escaped on its way.
func (s *stack) whoAmI(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.broken.Load():
		w.WriteHeader(http.StatusBadGateway)
	case r.URL.Query().Get("token") == "ec_slow":
		time.Sleep(slow)
		fmt.Fprint(w, `{"uid": "sid"}`)
	case r.URL.Query().Get("token") == "ec_a+b/c=":
		fmt.Fprint(w, `{"uid": "erika", "email": "erika@example.com"}`)
	default:
		w.WriteHeader(http.StatusForbidden)
	}
}

// seen is what the upstream learned of who calls; "" if the request did not get there.
func seen(a harness.Answer) string {
	if a.Upstream == nil {
		return ""
	}
	headers := harness.Folded(a.Upstream, "x-user", "x-by", "x-realm", "x-tenant", "x-email", "authorization", "cookie")
	slices.Sort(headers)
	return strings.Join(headers, "; ")
}

// send sends one request to a front and gives the status and what the upstream learned.
func (s *stack) send(t *testing.T, front, request string, headers ...string) (int, string) {
	t.Helper()
	answer := harness.Send(t, s.envoy.Address(t, front), request, headers...)
	return answer.Status, seen(answer)
}

// do sends a request of Go's client to a front, whatever host it names.
func (s *stack) do(t *testing.T, front string, r *http.Request, certificate *tls.Certificate) int {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.URL.Host = s.envoy.Address(t, front)
	if certificate != nil {
		transport.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, InsecureSkipVerify: true}
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
