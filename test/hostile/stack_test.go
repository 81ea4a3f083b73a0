package hostile

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// config has every kind of credential that needs no provider, at places of every kind.
const config = `version: 1
listen:
  grpc: {address: "127.0.0.1:0"}
  ops: {address: "127.0.0.1:0"}

authenticators:
- name: machines
  realm: internal
  api_key:
    from: [{header: x-api-key}, {query: api_key}]
    keys:
    - {id: batch, secret: {env: BATCH_KEY}, principal: {tenant: "*", username: batch, roles: [service]}}
    - {id: acme, secret: {env: ACME_KEY}, principal: {tenant: acme, scopes: ["orders:read"]}}
- name: inside
  realm: inside
  only_from: [{sources: [10.0.0.0/8]}, {context: {listener: internal}}]
  impersonate: true
  api_key:
    from: [{header: x-inside-key}]
    keys: [{id: inside, secret: {env: INSIDE_KEY}, principal: {tenant: "*", roles: [service]}}]
- name: corp
  jwt:
    issuer: "${ISSUER}"
    audiences: [orders]
    algorithms: [RS256, PS256, ES256, ES384, EdDSA]
    from: [{header: authorization, scheme: Bearer}, {cookie: access_token}, {query: access_token}]
    keys: {refresh: 1s, unknown_kid_interval: 100ms}
    principal:
      username: {claim: email}
      tenant: {claim: tenant}
      roles: {claim: groups, map: [{from: ops-team, to: admin}], unmapped: keep}
      scopes: {claim: scope}
      attributes:
        department: {claim: department}
        amr: {claim: amr}
- name: console
  jwt:
    issuer: https://console.example
    shared_secret: {env: CONSOLE_SECRET}
    audiences: [orders]
    from: [{header: authorization, scheme: Bearer}]
- name: people
  realm: people
  unscoped: true
  basic:
    users:
    - {username: adam, password_hash: "${ADAM_HASH}", principal: {tenant: acme, roles: [user]}}
- name: mesh
  mtls:
    principals: [{match: "spiffe://cluster.local/ns/{namespace}/sa/{account}", principal: {subject: "{account}", tenant: "{namespace}", roles: [workload]}}]

tenancy: {separator: ":", default: "_", wildcard: "*", select_header: x-select-tenant, username_header: x-select-user}

routes:
- {match: ["GET /{$}", "GET /public/"], name: public, public: true}
- {match: ["GET /names/"], name: names, public: {identify: [machines]}}
- {match: ["POST /login"], name: login, public: {identify: []}, credentials: pass}
- match: ["GET /tenants/{tenant}/orders/"]
  name: read-orders
  allow: [{readable_tenant: "{path.tenant}", roles: {any: [reader, admin, service]}}]
- match: ["POST,PUT /tenants/{tenant}/orders/"]
  name: write-orders
  allow: [{tenant: "{path.tenant}", scopes: {all: ["orders:write"]}}]
- {match: ["/admin/"], name: admin, allow: [{roles: {all: [admin]}, when: '"amr" in principal.attributes && "mfa" in principal.attributes.amr'}], answers: {forbidden: 404}}
- {match: ["/me/"], name: me, allow: [{authenticated: true}]}
- {match: ["/keep/"], name: keep, allow: [{authenticated: true}], credentials: keep}
- {match: ["/users/{user}/"], name: own, allow: [{subject: "{path.user}", authenticators: [corp]}]}
- {match: ["/corp/"], name: corp-only, accept: [corp], allow: [{authenticated: true}]}
- {match: ["/mesh/"], name: mesh-only, accept: [mesh], allow: [{authenticated: true}]}
- {match: ["/sales/"], name: sales, allow: [{attributes: {department: {any: [sales, support]}}}]}
- {match: ["/broken/"], name: broken, allow: [{when: 'principal.attributes.department.startsWith("s")'}]}
- {match: ["/internal/"], name: internal, forbid: true}
- {match: ["PUT /cors/"], name: cors, allow: [{authenticated: true}], preflight: allow}
- {match: ["POST /orders.Orders/"], name: grpc, allow: [{roles: {any: [reader]}}]}
- {match: ["api.example.com/me/"], name: api-me, allow: [{roles: {any: [reader]}}]}
- {match: ["*.example.com/wild/"], name: wild, allow: [{authenticated: true}]}
- {match: ["ui.example.com/app/"], name: app, allow: [{authenticated: true}]}
- {match: ["GET ui.example.com/authenticate"], name: authenticate, public: {identify: []}}
- {name: by-name, allow: [{tenant: "{context.tenant}"}]}

sign_in:
- {hosts: [ui.example.com], url: "https://{host}/authenticate?redirect_uri={request_uri}", for: browsers}

forward:
  headers:
    x-tenant-id: "{tenant}"
    x-tenants: "{tenants}"
    x-user: "{username}"
    x-subject: "{subject}"
    x-roles: "{roles}"
    x-department: "{attributes.department}"
    x-scopes: {value: "{scopes}", list: json}
`

const (
	batchKey      = "batch-key-0123456789abcdef"
	acmeKey       = "acme-key-0123456789abcdef"
	insideKey     = "inside-key-0123456789abcdef"
	adamPassword  = "adams-password-0123"
	consoleSecret = "console-secret-0123456789abcdef0123456789"
)

// stack is an issuer and two gatehouses that trust it: one as it is shipped, one with
// --plain.
type stack struct {
	issuer  *authntest.Issuer
	servers []server
}

type server struct {
	name      string
	gatehouse *harness.Gatehouse
	conn      *grpc.ClientConn
}

func start(t *testing.T) *stack {
	t.Helper()
	issuer, err := authntest.Start(authntest.Options{Algorithm: "RS256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	hash, err := bcrypt.GenerateFromPassword([]byte(adamPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{issuer: issuer}
	for _, name := range []string{"default", "plain"} {
		options := []harness.Option{
			harness.Env("ISSUER=" + issuer.URL()), harness.Env("BATCH_KEY=" + batchKey), harness.Env("ACME_KEY=" + acmeKey),
			harness.Env("INSIDE_KEY=" + insideKey), harness.Env("CONSOLE_SECRET=" + consoleSecret),
			harness.Env("ADAM_HASH=" + string(hash)),
		}
		if name == "plain" {
			options = append(options, harness.Flag("--plain"))
		}
		g := harness.StartGatehouse(t, config, options...)
		g.WaitServing(t)
		s.servers = append(s.servers, server{name, g, harness.Dial(t, g.GRPC)})
	}
	good := s.bearer(s.token(nil))
	for _, server := range s.servers {
		harness.Eventually(t, eventually, func() error {
			if a := server.ask(t, get("/me/", good...).mapForm()); a.status != 200 {
				return fmt.Errorf("a good token is refused: %s", a)
			}
			return nil
		})
	}
	return s
}

// log is everything that both gatehouses have said.
func (s *stack) log() string {
	var all strings.Builder
	for _, server := range s.servers {
		all.WriteString(server.gatehouse.Output())
	}
	return all.String()
}
