package kinds

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

// gridConfig has each kind of credential once, at a place of its own.
const gridConfig = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
store: {postgres: {url: {env: DATABASE_URL}}, stale_for: 2s, poll: 50ms}

authenticators:
- name: jwt
  jwt: {issuer: "${ISSUER}", audiences: [orders], from: [{header: x-jwt}], principal: {username: {claim: sub}}}
- name: jwt-gone
  jwt: {issuer: "http://127.0.0.1:1/gone", audiences: [orders], from: [{header: x-jwt-gone}]}
- name: api_key
  api_key: {from: [{header: x-api-key}], store: true, keys: [{id: file, secret: {env: FILE_KEY}, principal: {username: file}}]}
- name: basic
  basic: {users: [{username: adam, password_hash: '${ADAM}'}]}
- name: client_credentials
  client_credentials: {verify_with: jwt, token_url: "${PROVIDER}/token", from: [{header: x-client, scheme: Basic}]}
- name: token
  token: {from: [{header: x-token}]}
- name: introspection
  introspection:
    url: "${PROVIDER}/introspect"
    client_id: gatehouse
    client_secret: {env: PROVIDER_SECRET}
    audiences: [orders]
    from: [{header: x-opaque}]
    principal: {subject: {claim: sub}, username: {claim: sub}}
- name: refresh_token
  refresh_token:
    verify_with: jwt
    client_id: gatehouse
    client_secret: {env: PROVIDER_SECRET}
    required_scope: offline_access
    token_url: "${PROVIDER}/token"
    introspection_url: "${PROVIDER}/introspect"
    from: [{header: x-offline}]
- name: lookup
  lookup: {url: "${PROVIDER}/who?token={token}", cache_for: 1s, from: [{header: x-who}], principal: {subject: {claim: uid}, username: {claim: uid}}}
- name: peer
  peer: {secret: {env: PEER_SECRET}, from: [{header: x-peer}], peers: ["127.0.0.1", "gone.invalid"], principal: {}}
- name: peer-signature
  peer: {signature: {key_id: cluster, secret: {env: PEER_SECRET}}, peers: ["127.0.0.1"], principal: {}}
- name: mtls
  mtls: {principals: [{match: "spiffe://cluster.local/ns/{namespace}/sa/{account}", principal: {subject: "{account}", username: "{account}"}}]}
- name: api_key_claim
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    from: [{header: x-key-claim}]
    principal: {username: {claim: sub}}
    api_key_claim: {claim: apikey, authenticator: api_key}

routes:
- match: ["/"]
  name: all
  allow: [{authenticated: true}]

forward:
  headers: {x-user: "{username}", x-subject: "{subject}", x-by: "{authenticator}"}
`

// world is a gatehouse that has every kind of credential, and all that they depend on.
type world struct {
	issuer    *authntest.Issuer
	forger    *authntest.Key // a key that claims to be the issuer's
	provider  *provider
	postgres  *pg.Server
	store     *tokens.Store
	mesh      *authority
	gatehouse *harness.Gatehouse
	envoy     *harness.Envoy
}

func startWorld(t *testing.T) *world {
	t.Helper()
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	w := &world{mesh: newAuthority(t), postgres: pg.Start(t)}
	if w.issuer, err = authntest.Start(authntest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.issuer.Close)
	if w.forger, err = authntest.NewKey(w.issuer.Current().ID, "ES256"); err != nil {
		t.Fatal(err)
	}
	w.provider = newProvider(t, w.issuer, w.forger)
	database := w.postgres.Database(t)
	if w.store, err = tokens.OpenPostgres(database, tokens.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.store.Close() })
	if err := w.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.gatehouse = harness.StartGatehouse(t, gridConfig,
		harness.Env("DATABASE_URL="+database), harness.Env("ISSUER="+w.issuer.URL()), harness.Env("PROVIDER="+w.provider.server.URL),
		harness.Env("FILE_KEY="+fileKey), harness.Env("PROVIDER_SECRET="+providerSecret), harness.Env("PEER_SECRET="+peerSecret),
		harness.Env("ADAM="+hash(t, "right")))
	harness.Eventually(t, time.Minute, func() error {
		response, err := http.Get("http://" + w.gatehouse.Ops + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(response.Body)
			return fmt.Errorf("readyz: %s", body)
		}
		return nil
	})
	replicas := []string{w.gatehouse.GRPC}
	w.envoy = harness.StartEnvoy(t, upstream.Address(),
		harness.Front{Name: "plain", Gatehouse: replicas, Changes: []harness.Change{patient, withBody(1 << 16)}},
		harness.Front{Name: "certificates", Gatehouse: replicas, Changes: []harness.Change{withCertificates(w.mesh)}},
	)
	return w
}

const (
	fileKey        = "the-key-of-the-file-0123456789"
	providerSecret = "the secret of our client at the provider"
)

// give makes a token or a key in the store.
func (w *world) give(t *testing.T, kind tokens.Kind, subject string, expires time.Time) tokens.Credential {
	t.Helper()
	_, credential, err := w.store.Create(t.Context(), tokens.Token{
		Kind: kind, Owner: tokens.Owner{Issuer: "i", Subject: subject}, Username: subject, ExpiresAt: expires,
	}, operator)
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

var operator = tokens.Actor{Owner: tokens.Owner{Issuer: tokens.Operator, Subject: "test"}}

// A provider has the endpoints that gatehouse asks: for tokens, for introspection and who
// somebody is. What a credential is called says what becomes of it.
type provider struct {
	issuer *authntest.Issuer
	forger *authntest.Key
	server *httptest.Server
	broken atomic.Bool

	mu     sync.Mutex
	asked  map[string]int    // by credential
	issued map[string]string // offline tokens, by name
}

func newProvider(t *testing.T, issuer *authntest.Issuer, forger *authntest.Key) *provider {
	p := &provider{issuer: issuer, forger: forger, asked: map[string]int{}, issued: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/introspect", p.introspect)
	mux.HandleFunc("/who", p.who)
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	return p
}

// note counts what was asked about a credential, and tells how often it was before.
func (p *provider) note(credential string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[credential]++
	return p.asked[credential] - 1
}

func (p *provider) times(credential string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[credential]
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the other side may be gone
}

// token is the token endpoint (RFC 6749).
func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("refresh_token")
	if name == "" {
		name, _, _ = r.BasicAuth()
	} else {
		name = p.offlineName(name)
	}
	p.note("token " + name)
	claims := p.issuer.Claims(map[string]any{"sub": name})
	key := p.issuer.Current()
	switch {
	case strings.HasPrefix(name, "unknown"):
		answer(w, http.StatusBadRequest, map[string]any{"error": map[string]string{"client_credentials": "invalid_client", "refresh_token": "invalid_grant"}[r.FormValue("grant_type")]})
		return
	case strings.HasPrefix(name, "forged"):
		key = p.forger
	case strings.HasPrefix(name, "expired"):
		claims["iat"], claims["exp"] = time.Now().Unix()-60, time.Now().Unix()-1
	}
	answer(w, http.StatusOK, map[string]any{"access_token": key.Token(claims), "token_type": "Bearer", "expires_in": 300})
}

// offline is a refresh token as Keycloak makes them: a JWT that only the provider reads.
func (p *provider) offline(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.issued[name] == "" {
		p.issued[name] = p.issuer.Current().Token(map[string]any{"iss": p.issuer.URL(), "sub": name, "typ": "Offline"})
	}
	return p.issued[name]
}

func (p *provider) offlineName(token string) string {
	claims := map[string]any{}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "unknown"
	}
	if err := json.Unmarshal(decode(parts[1]), &claims); err != nil {
		return "unknown"
	}
	return fmt.Sprint(claims["sub"])
}

// introspect is the introspection endpoint (RFC 7662).
func (p *provider) introspect(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("token")
	body := map[string]any{"active": true, "sub": name, "aud": "orders", "exp": time.Now().Add(time.Hour).Unix()}
	if r.FormValue("token_type_hint") == "refresh_token" || strings.HasPrefix(name, "ey") {
		name = p.offlineName(name)
		body["sub"], body["scope"] = name, "openid offline_access"
	}
	p.note("introspect " + name)
	switch {
	case strings.HasPrefix(name, "inactive"):
		body = map[string]any{"active": false}
	case strings.HasPrefix(name, "ended"):
		body["exp"] = time.Now().Unix() - 1
	case strings.HasPrefix(name, "elsewhere"):
		body["aud"] = "billing"
	case strings.HasPrefix(name, "narrow"):
		body["scope"] = "openid offline_access_not"
	}
	answer(w, http.StatusOK, body)
}

// who is a "who am I" service. It forgets fleeting credentials once it was asked about them.
func (p *provider) who(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("token")
	before := p.note("who " + name)
	if strings.HasPrefix(name, "unknown") || strings.HasPrefix(name, "fleeting") && before > 0 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer(w, http.StatusOK, map[string]any{"uid": name})
}
