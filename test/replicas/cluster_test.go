package replicas

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:${PORT}"}
  http: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}
  admin: {address: "unix://${SOCKET}"}
store: {postgres: {url: {env: DATABASE_URL}}, hash_key: {env: HASH_KEY}}
directory: {}

authenticators:
- name: ours
  token: {}
- name: corp
  jwt:
    issuer: https://idp.example.com
    any_audience: true
    shared_secret: {env: JWT_SECRET}
    principal: {username: {claim: sub}, tenant: {claim: tenant}, roles: {claim: roles}}
- name: cluster
  peer:
    signature: {key_id: cluster, secret: {env: PEER_SECRET}}
    peers: ["127.0.0.1"]
    principal: {roles: [peer]}

routes:
- match: ["/synchronize/"]
  name: synchronize
  accept: [cluster]
  allow: [{roles: {all: [peer]}}]
- match: ["/editors/"]
  name: editors
  allow: [{roles: {any: [editor]}}]
- match: ["/"]
  name: all
  allow: [{authenticated: true}]

forward:
  headers: {x-user: "{username}", x-by: "{authenticator}"}
  identity_token: {header: x-identity, issuer: "https://gatehouse.example.com", audience: things}
`

const (
	issuer     = "https://idp.example.com"
	jwtSecret  = "0123456789abcdef0123456789abcdef"
	peerSecret = "abracadabra"
	hashKey    = "fedcba9876543210fedcba9876543210"

	// promised is how soon a change at one replica counts at the other.
	promised = time.Second
)

// A replica is one gatehouse, which can be killed and started again at the same place.
type replica struct {
	*harness.Gatehouse
	options []harness.Option
	admin   *http.Client // its JSON admin API, as the operator
}

func newReplica(t *testing.T, database string) *replica {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	r := &replica{
		options: []harness.Option{
			harness.Env(fmt.Sprintf("PORT=%d", idp.FreePort(t))), harness.Env("SOCKET=" + socket), harness.Env("DATABASE_URL=" + database),
			harness.Env("HASH_KEY=" + hashKey), harness.Env("JWT_SECRET=" + jwtSecret), harness.Env("PEER_SECRET=" + peerSecret),
		},
		admin: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}},
	}
	r.start(t)
	return r
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	r.Gatehouse = harness.StartGatehouse(t, config, r.options...)
}

// waitReady waits until /readyz says that all is well, the store included: Envoy asks a
// replica before that, whose answer about tokens is 503.
func (r *replica) waitReady(t *testing.T) {
	t.Helper()
	harness.Eventually(t, 30*time.Second, func() error {
		code, body, err := r.readiness()
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("readyz: %d %s", code, body)
		}
		return err
	})
	r.WaitServing(t)
}

func (r *replica) readiness() (int, string, error) { return get("http://" + r.Ops + "/readyz?verbose") }

func get(url string) (int, string, error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// object is JSON that a test looks at.
type object map[string]any

// call calls a method of the admin API.
func (r *replica) call(method string, request object) (object, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	response, err := r.admin.Post("http://gatehouse/gatehouse.admin.v1."+method, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s", method, response.StatusCode, text)
	}
	var answer object
	return answer, json.Unmarshal(text, &answer)
}

// must is call for what has to succeed.
func (r *replica) must(t *testing.T, method string, request object) object {
	t.Helper()
	answer, err := r.call(method, request)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// made is a token that somebody was given.
type made struct{ id, text string }

// create makes a token for somebody.
func (r *replica) create(subject, tenant string) (made, error) {
	answer, err := r.call("Tokens/Create", object{"owner": object{"issuer": issuer, "subject": subject}, "tenant": tenant})
	if err != nil {
		return made{}, err
	}
	return made{id: answer["record"].(map[string]any)["id"].(string), text: answer["token"].(string)}, nil
}

// cluster is two replicas on one database, and one Envoy with a door to each of them and
// one to both.
type cluster struct {
	postgres *pg.Server
	replicas [2]*replica
	envoy    *harness.Envoy
}

// doors are the fronts of the Envoy: to the first replica, to the second, to whichever
// answers.
var doors = [...]string{"here", "there", "both"}

func start(t *testing.T) *cluster {
	t.Helper()
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	c := &cluster{postgres: pg.Start(t)}
	database := c.postgres.Database(t)
	for i := range c.replicas {
		c.replicas[i] = newReplica(t, database)
	}
	for _, r := range c.replicas {
		r.waitReady(t)
	}
	here, there := c.replicas[0].GRPC, c.replicas[1].GRPC
	c.envoy = harness.StartEnvoy(t, upstream.Address(),
		harness.Front{Name: "here", Gatehouse: []string{here}},
		harness.Front{Name: "there", Gatehouse: []string{there}},
		harness.Front{Name: "both", Gatehouse: []string{here, there}})
	return c
}

// ask sends a request with a bearer token to a door.
func (c *cluster) ask(t testing.TB, door, path, token string) (harness.Answer, error) {
	return harness.TrySend(c.envoy.Address(t, door), "GET "+path, "authorization: Bearer "+token)
}

// status is that of the answer, 0 if there was none.
func (c *cluster) status(t testing.TB, door, path, token string) int {
	answer, err := c.ask(t, door, path, token)
	if err != nil {
		return 0
	}
	return answer.Status
}

// reaches fails the test unless the upstream hears of the user, from the authenticator.
func (c *cluster) reaches(t *testing.T, door, token, user, by string) {
	t.Helper()
	answer, err := c.ask(t, door, "/x", token)
	if err != nil || answer.Status != http.StatusOK || answer.Upstream == nil {
		t.Fatalf("at %q: %d %s, %v, want 200", door, answer.Status, answer.Body, err)
	}
	want := "x-user: " + user + ", x-by: " + by
	if got := strings.Join(harness.Folded(answer.Upstream, "x-user", "x-by", "authorization"), ", "); got != want && got != "x-by: "+by+", x-user: "+user {
		t.Errorf("at %q the upstream saw %q, want %q", door, got, want)
	}
}

// jwtOf is a token of the issuer's for somebody.
func jwtOf(t *testing.T, subject, tenant, jti string) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": issuer, "sub": subject, "tenant": tenant, "jti": jti,
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
