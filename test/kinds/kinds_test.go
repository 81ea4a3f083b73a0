package kinds

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/peersign"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

func TestKinds(t *testing.T) {
	mesh := newAuthority(t)
	s := start(t, mesh)
	t.Run("peer tokens", s.testPeerTokens)
	t.Run("peer signatures", s.testPeerSignatures)
	t.Run("signatures of others", s.testSignaturesOfOthers)
	t.Run("certificates", func(t *testing.T) { s.testCertificates(t, mesh) })
	t.Run("certificates beside users", func(t *testing.T) { s.testBeside(t, mesh) })
	t.Run("users", s.testUsers)
	t.Run("what is kept", s.testKept)
	t.Run("outages", s.testOutages) // last: it breaks the providers
}

// A row is one request with one header line, and what becomes of it.
type row struct {
	name, request, header string
	status                int
	seen                  string // by the upstream
}

func (s *stack) run(t *testing.T, rows []row) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var headers []string
			if row.header != "" {
				headers = strings.Split(row.header, "\n")
			}
			if status, seen := s.send(t, "bodies", row.request, headers...); status != row.status || seen != row.seen {
				t.Errorf("%s: %d, upstream saw %q, want %d, %q", row.request, status, seen, row.status, row.seen)
			}
		})
	}
}

func peerToken(t *testing.T, method jwt.SigningMethod, secret string, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return "authorization: Bearer " + token
}

func (s *stack) testPeerTokens(t *testing.T) {
	good := peerToken(t, jwt.SigningMethodHS256, peerSecret, jwt.MapClaims{"peer": "some.fqdn.com"})
	s.run(t, []row{
		{"a peer", "POST /synchronize", good + "\ncontent-length: 0", 200, "x-by: cluster; x-realm: cluster; x-user: some.fqdn.com"},
		{"a peer where only users are accepted", "GET /users", good, 401, ""},
		{"another secret", "POST /synchronize", peerToken(t, jwt.SigningMethodHS256, "x", jwt.MapClaims{"peer": "a"}) + "\ncontent-length: 0", 401, ""},
		{"HS512", "POST /synchronize", peerToken(t, jwt.SigningMethodHS512, peerSecret, jwt.MapClaims{"peer": "a"}) + "\ncontent-length: 0", 401, ""},
		{"no peer", "POST /synchronize", peerToken(t, jwt.SigningMethodHS256, peerSecret, jwt.MapClaims{"sub": "a"}) + "\ncontent-length: 0", 401, ""},
		{"expired", "POST /synchronize", peerToken(t, jwt.SigningMethodHS256, peerSecret, jwt.MapClaims{"peer": "a", "exp": time.Now().Unix() - 60}) + "\ncontent-length: 0", 401, ""},
		{"nothing", "POST /synchronize", "content-length: 0", 401, ""},
	})
	t.Run("from an address that begins alike", func(t *testing.T) {
		answer := harness.SendFrom(t, "127.0.0.12", s.envoy.Address(t, "bodies"), "POST /synchronize", good, "content-length: 0")
		if answer.Status != 403 || answer.Upstream != nil {
			t.Errorf("status %d", answer.Status)
		}
	})
}

func signer() *peersign.Signer { return &peersign.Signer{KeyID: "cluster", Secret: []byte(peerSecret)} }

// signedRequest makes a signed request to the peers.
func signedRequest(t *testing.T, by *peersign.Signer, method, target, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://peers.example"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := by.Sign(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *stack) testPeerSignatures(t *testing.T) {
	const target, body = "/synchronize?since=1&x=%2Fa", `{"hello": "world"}`
	old := signer()
	old.Now = func() time.Time { return time.Now().Add(-time.Minute) }
	for _, tt := range []struct {
		name, front string
		by          *peersign.Signer
		tamper      func(*http.Request)
		status      int
	}{
		{"as it was sent", "bodies", signer(), nil, 200},
		{"another secret", "bodies", &peersign.Signer{KeyID: "cluster", Secret: []byte("x")}, nil, 401},
		{"too old", "bodies", old, nil, 401},
		{"another method", "bodies", signer(), func(r *http.Request) { r.Method = "PUT" }, 401},
		{"another target", "bodies", signer(), func(r *http.Request) { r.URL.RawQuery += "&admin=1" }, 401},
		{"another host", "bodies", signer(), func(r *http.Request) { r.Host = "evil.example" }, 401},
		{"another body", "bodies", signer(), func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }, 401},
		{"a body that Envoy sends a part of", "short bodies", signer(), nil, 401},
		{"a body that Envoy does not send", "no bodies", signer(), nil, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := signedRequest(t, tt.by, "POST", target, body)
			if tt.tamper != nil {
				tt.tamper(r)
			}
			if got := s.do(t, tt.front, r, nil); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
		})
	}
	t.Run("without a body", func(t *testing.T) {
		for _, front := range []string{"bodies", "no bodies"} {
			if got := s.do(t, front, signedRequest(t, signer(), "GET", "/synchronize", ""), nil); got != 200 {
				t.Errorf("%s: status %d", front, got)
			}
		}
	})
	t.Run("replayed", func(t *testing.T) {
		first := signedRequest(t, signer(), "POST", target, body)
		again := first.Clone(t.Context())
		again.Body, _ = first.GetBody()
		again.URL.Host = first.URL.Host
		if got := s.do(t, "bodies", first, nil); got != 200 {
			t.Errorf("once: status %d", got)
		}
		if got := s.do(t, "bodies", again, nil); got != 401 {
			t.Errorf("twice: status %d", got)
		}
	})
}

//go:embed sign.py
var signingProgram string

//go:embed requirements.txt
var requirements []byte

// testSignaturesOfOthers takes what a signer that others wrote has signed.
func (s *stack) testSignaturesOfOthers(t *testing.T) {
	modules, err := tools.PythonModules(t.Context(), "http-message-signatures", requirements)
	if err != nil {
		t.Fatal(err)
	}
	const url, body = "http://peers.example/synchronize?since=1&x=%2Fa", `{"hello": "world"}`
	for _, tt := range []struct {
		name, secret, nonce, body string
		status                    int
	}{
		{"as it was sent", peerSecret, "python-1", body, 200},
		{"the nonce again", peerSecret, "python-1", body, 401},
		{"another secret", "x", "python-2", body, 401},
		{"another body", peerSecret, "python-3", "{}", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			python := exec.CommandContext(t.Context(), "python3", "-c", signingProgram, "POST", url, "cluster", tt.secret, tt.nonce)
			python.Env = append(os.Environ(), "PYTHONPATH="+modules)
			python.Stdin = strings.NewReader(body)
			out, err := python.Output()
			if err != nil {
				t.Fatal(err)
			}
			var headers map[string]string
			if err := json.Unmarshal(out, &headers); err != nil {
				t.Fatal(err)
			}
			r, err := http.NewRequest("POST", url, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range headers {
				r.Header.Set(name, value)
			}
			if got := s.do(t, "bodies", r, nil); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
		})
	}
}

func (s *stack) testCertificates(t *testing.T, mesh *authority) {
	for _, tt := range []struct {
		name, certificate, target string
		status                    int
	}{
		{"of a service", "spiffe://cluster.local/ns/acme/sa/orders", "/mesh", 200},
		{"of another trust domain", "spiffe://evil.local/ns/acme/sa/orders", "/mesh", 401},
		{"of no pattern", "spiffe://cluster.local/ns/acme", "/mesh", 401},
		{"none", "", "/mesh", 401},
		{"where only users are accepted", "spiffe://cluster.local/ns/acme/sa/orders", "/users", 401},
		{"a forged header is no certificate", "", "/mesh", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequest("GET", "https://mesh.example"+tt.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-Client-Cert", `By=spiffe://x;URI=spiffe://cluster.local/ns/acme/sa/orders`)
			certificate := mesh.client("urn:nobody")
			if tt.certificate != "" {
				certificate = mesh.client(tt.certificate)
			}
			if got := s.do(t, "certificates", r, certificate); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
		})
	}
}

// testBeside: the token of a user counts only beside a certificate of the gateway.
func (s *stack) testBeside(t *testing.T, mesh *authority) {
	const gateway = "spiffe://cluster.local/ns/edge/sa/gateway"
	good := s.provider.Token(t, idp.Claims{"sub": "alice"})
	header, payload, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(payload, ".")
	for _, tt := range []struct {
		name, certificate, token string
		status                   int
	}{
		{"of the gateway, with a user", gateway, good, 200},
		{"of the gateway, without a user", gateway, "", 401},
		{"of the gateway, with a forged user", gateway, header + "." + payload + "." + strings.Repeat("A", len(signature)), 401},
		{"of another service, with a user", "spiffe://cluster.local/ns/edge/sa/orders", good, 401},
		{"of another trust domain, with a user", "spiffe://evil.local/ns/edge/sa/gateway", good, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequest("GET", "https://mesh.example/inside", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.token != "" {
				r.Header.Set("X-Inside", tt.token)
			}
			if got := s.do(t, "certificates", r, mesh.client(tt.certificate)); got != tt.status {
				t.Errorf("status %d, want %d", got, tt.status)
			}
		})
	}
	t.Run("none, with a user", func(t *testing.T) {
		if status, seen := s.send(t, "bodies", "GET /inside", "x-inside: "+good); status != 401 || seen != "" {
			t.Errorf("status %d, upstream saw %q", status, seen)
		}
	})
}

func basicHeader(user string) string {
	return "authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user))
}

func (s *stack) testUsers(t *testing.T) {
	opaque := "authorization: Bearer " + s.provider.OpaqueToken(t, idp.Claims{"sub": "bob"})
	s.run(t, []row{
		{"a password", "GET /users", basicHeader("adam:admin"), 200, "x-by: people; x-realm: ecmwf; x-user: adam"},
		{"a password of the other realm", "GET /users", basicHeader("adam:other"), 200, "x-by: others; x-realm: other; x-user: adam"},
		{"Plain is Basic", "GET /users", strings.Replace(basicHeader("adam:admin"), "Basic", "plain", 1), 200, "x-by: people; x-realm: ecmwf; x-user: adam"},
		{"a password in the wrong realm", "GET /users", basicHeader("adam:admin") + "\nx-auth-realm: other", 401, ""},
		{"a password in its realm", "GET /users", basicHeader("adam:admin") + "\nx-auth-realm: ecmwf", 200, "x-by: people; x-realm: ecmwf; x-user: adam"},
		{"no base64", "GET /users", "authorization: Basic %%%", 401, ""},
		{"a client", "GET /users", basicHeader("cli:cli-secret"), 200, "x-by: cli; x-realm: cli; x-user: cli"},
		{"a client with a wrong secret", "GET /users", basicHeader("cli:wrong"), 401, ""},
		{"an opaque token", "GET /users", opaque, 200, "x-by: opaque; x-realm: opaque; x-user: bob"},
		{"an unknown opaque token", "GET /users", "authorization: Bearer unknown", 401, ""},
		{"a token of the remote service", "GET /users", "authorization: Bearer ec_a+b/c=", 200, "x-by: whoami; x-email: erika@example.com; x-realm: ecmwf; x-user: erika"},
		{"a token that it is slow to know", "GET /users", "authorization: Bearer ec_slow", 200, "x-by: whoami; x-realm: ecmwf; x-user: sid"},
		{"a token that it refuses", "GET /users", "authorization: Bearer ec_x", 401, ""},
		{"two credentials", "GET /users", basicHeader("adam:admin") + "\n" + opaque, 400, ""},
		{"a wrong password on a public route", "GET /open", basicHeader("adam:wrong"), 200, ""},
		{"an opaque token on a public route is not looked at", "GET /open", opaque, 200, ""},
	})
}

func (s *stack) testKept(t *testing.T) {
	for _, tt := range []struct{ name, header, prefix string }{
		{"of a client the issuer's token", basicHeader("cli:cli-secret"), "authorization: Bearer ey"},
		{"of a user the password", basicHeader("adam:admin"), basicHeader("adam:admin")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := harness.Send(t, s.envoy.Address(t, "bodies"), "GET /kept", tt.header)
			if answer.Status != 200 {
				t.Fatalf("status %d: %s", answer.Status, answer.Body)
			}
			if got := harness.Folded(answer.Upstream, "authorization"); len(got) != 1 || !strings.HasPrefix(got[0], tt.prefix) {
				t.Errorf("the upstream saw %q", got)
			}
		})
	}
}

// testOutages proves that a provider that is out of order is 503, not remembered, and
// nobody else's problem.
func (s *stack) testOutages(t *testing.T) {
	opaque := "authorization: Bearer " + s.provider.OpaqueToken(t, idp.Claims{"sub": "bob"})
	s.provider.SetOutage(t, 500)
	s.broken.Store(true)
	s.run(t, []row{
		{"of the introspection", "GET /users", opaque, 503, ""},
		{"of the token endpoint", "GET /users", basicHeader("other-client:secret"), 503, ""},
		{"of the remote service", "GET /users", "authorization: Bearer ec_new", 503, ""},
		{"a password is known here", "GET /users", basicHeader("adam:admin"), 200, "x-by: people; x-realm: ecmwf; x-user: adam"},
		{"a client that was exchanged before", "GET /users", basicHeader("cli:cli-secret"), 200, "x-by: cli; x-realm: cli; x-user: cli"},
	})
	t.Run("503 says when to come again", func(t *testing.T) {
		answer := harness.Send(t, s.envoy.Address(t, "bodies"), "GET /users", opaque)
		if answer.Status != 503 || answer.Header.Get("Retry-After") == "" || answer.Header.Get("Www-Authenticate") != "" {
			t.Errorf("status %d, %v", answer.Status, answer.Header)
		}
	})
	s.provider.SetOutage(t, 0)
	s.broken.Store(false)
	s.run(t, []row{
		{"the introspection afterwards", "GET /users", opaque, 200, "x-by: opaque; x-realm: opaque; x-user: bob"},
		{"the token endpoint afterwards", "GET /users", basicHeader("other-client:secret"), 401, ""},
		{"the remote service afterwards", "GET /users", "authorization: Bearer ec_new", 401, ""},
	})
}
