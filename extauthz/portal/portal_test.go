package portal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/extauthz/portal"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

const secret = "0123456789abcdef0123456789abcdef"

const file = `
version: 1
store: {sqlite: {path: gatehouse.db}, poll: 50ms}
directory: {}
admin: {roles: [ops]}
authenticators:
- name: corp
  jwt:
    issuer: https://idp.example.com
    any_audience: true
    shared_secret: {env: SECRET}
    principal:
      username: {claim: email}
      tenant: {claim: tenant}
      roles: {claim: roles}
      scopes: {claim: scope}
- name: ours
  token: {}
routes:
- match: ["POST /gatehouse.admin.v1.Tokens/"]
  allow: [{authenticated: true}]
- match: ["POST /gatehouse.admin.v1.Directory/", "POST /gatehouse.admin.v1.Service/"]
  allow: [{roles: {any: [ops]}}]
- match: ["/orders/"]
  name: orders
  allow: [{scopes: {all: ["orders:read"]}}]
`

// world is a gate and its admin API, on a TCP port and a Unix socket.
type world struct {
	gate   *extauthz.Gate
	view   *tokens.View
	tcp    string
	socket string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, report := config.Load(path, func(string) (string, bool) { return secret, true }, nil)
	if loaded == nil {
		t.Fatal(report)
	}
	loaded.Start()
	t.Cleanup(loaded.Close)
	w := &world{gate: extauthz.NewGate(extauthz.Options{}), view: loaded.Store, socket: filepath.Join(dir, "admin.sock")}
	w.gate.Swap(loaded.Snapshot)
	if err := w.view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler: portal.New(portal.Options{
			Gate: w.gate, View: func() *tokens.View { return w.view }, Roles: loaded.AdminRoles,
		}),
		ConnContext: portal.ConnContext, Protocols: protocols,
	}
	t.Cleanup(func() { _ = server.Close() })
	for _, at := range [][2]string{{"tcp", "127.0.0.1:0"}, {"unix", w.socket}} {
		listener, err := net.Listen(at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		if at[0] == "tcp" {
			w.tcp = listener.Addr().String()
		}
		go func() { _ = server.Serve(listener) }()
	}
	return w
}

// user is a JWT of somebody.
func user(t *testing.T, name string, roles []string, scope string) string {
	t.Helper()
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": "https://idp.example.com", "sub": name, "email": name + "@example.com", "tenant": "acme",
		"roles": roles, "scope": scope, "iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(), "jti": name,
	}).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// post calls a method with JSON, and gives the status and what came back.
func (w *world) post(t *testing.T, token, method, body string) (int, map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.tcp+"/gatehouse.admin.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return send(t, http.DefaultClient, request)
}

func send(t *testing.T, client *http.Client, request *http.Request) (int, map[string]any) {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&answer); err != nil {
		t.Fatalf("%s: %d %q: %v", request.URL.Path, response.StatusCode, text, err)
	}
	return response.StatusCode, answer
}

// orders asks the gate for what the token opens.
func (w *world) orders(t *testing.T, token string) policy.Reason {
	t.Helper()
	answer := w.gate.Check(t.Context(), &extauthz.Call{
		HTTP: true, Method: "GET", Host: "api.example.com", Target: "/orders/1", Scheme: "https",
		Headers: []policy.Pair{{Name: "authorization", Value: "Bearer " + token}},
	})
	return answer.Decision.Reason
}

func TestTokensThroughTheGate(t *testing.T) {
	w := newWorld(t)
	alice := user(t, "alice", []string{"user"}, "orders:read gatehouse:tokens")
	bob := user(t, "bob", []string{"user"}, "orders:read")
	admin := user(t, "root", []string{"ops"}, "")

	if code, answer := w.post(t, "", "Tokens/Create", "{}"); code != 401 || answer["code"] != "unauthenticated" {
		t.Errorf("without a credential: %d %v", code, answer)
	}
	code, made := w.post(t, alice, "Tokens/Create", `{"name": "laptop", "scopes": ["orders:read"], "ttl": "3600s"}`)
	if code != 200 {
		t.Fatalf("creating: %d %v", code, made)
	}
	token, record := made["token"].(string), made["record"].(map[string]any)
	id := record["id"].(string)
	if record["tenant"] != "acme" || record["username"] != "alice@example.com" || record["owner"].(map[string]any)["subject"] != "alice" {
		t.Errorf("the record is %v", record)
	}
	if reason := w.orders(t, token); reason != policy.ReasonMet {
		t.Errorf("the new token: %v", reason)
	}

	for _, row := range []struct {
		name, token, method, body string
		code                      int
		want                      string
	}{
		// More than the owner has.
		{"a scope that the owner lacks", alice, "Tokens/Create", `{"scopes": ["orders:write"]}`, 403, "permission_denied"},
		{"a role that the owner lacks", alice, "Tokens/Create", `{"roles": ["ops"]}`, 403, "permission_denied"},
		{"another tenant", alice, "Tokens/Create", `{"tenant": "other"}`, 403, "permission_denied"},
		{"another's attributes", alice, "Tokens/Create", `{"attributes": {"x": {"values": ["y"]}}}`, 403, "permission_denied"},
		{"a token for somebody else", alice, "Tokens/Create", `{"owner": {"issuer": "https://idp.example.com", "subject": "bob"}}`, 403, "permission_denied"},
		{"an API key by a user", alice, "Tokens/Create", `{"kind": "KIND_API_KEY"}`, 403, "permission_denied"},
		{"roles that nobody knows, by an administrator", admin, "Tokens/Create", `{"owner": {"issuer": "i", "subject": "stranger"}, "roles": ["ops"]}`, 403, "permission_denied"},
		// What is not one's own does not exist.
		{"another's token", bob, "Tokens/Get", `{"id": "` + id + `"}`, 404, "not_found"},
		{"revoking another's token", bob, "Tokens/Revoke", `{"id": "` + id + `"}`, 404, "not_found"},
		{"rotating another's token", bob, "Tokens/Rotate", `{"id": "` + id + `"}`, 404, "not_found"},
		{"listing another's tokens", bob, "Tokens/List", `{"owner": {"issuer": "https://idp.example.com", "subject": "alice"}}`, 403, "permission_denied"},
		{"revoking everything", bob, "Tokens/RevokeAll", `{"everything": true}`, 403, "permission_denied"},
		{"the directory", bob, "Directory/List", `{}`, 403, "permission_denied"},
		{"the audit log", bob, "Service/Audit", `{}`, 403, "permission_denied"},
		// Our own tokens.
		{"a token without the scope", token, "Tokens/List", `{}`, 403, "permission_denied"},
		// Requests that make no sense.
		{"an unknown field", alice, "Tokens/Create", `{"scope": "x"}`, 400, "invalid_argument"},
		{"no JSON", alice, "Tokens/Create", `{`, 400, "invalid_argument"},
		{"a negative lifetime", alice, "Tokens/Create", `{"ttl": "-1s"}`, 400, "invalid_argument"},
		{"an empty scope", alice, "Tokens/Create", `{"scopes": [""]}`, 400, "invalid_argument"},
		{"a page that no list gave", alice, "Tokens/List", `{"page_token": "x"}`, 400, "invalid_argument"},
		{"a grace of a year", alice, "Tokens/Rotate", `{"id": "` + id + `", "grace": "31536000s"}`, 400, "invalid_argument"},
		{"a revocation of nothing", admin, "Tokens/RevokeAll", `{}`, 400, "invalid_argument"},
		{"an unknown id", admin, "Tokens/Get", `{"id": "nobody"}`, 404, "not_found"},
		{"an unknown method", alice, "Tokens/Nothing", `{}`, 404, "unimplemented"},
	} {
		if code, answer := w.post(t, row.token, row.method, row.body); code != row.code || answer["code"] != row.want {
			t.Errorf("%s: %d %v, want %d %s", row.name, code, answer, row.code, row.want)
		}
	}

	code, rotated := w.post(t, alice, "Tokens/Rotate", `{"id": "`+id+`"}`)
	if code != 200 || rotated["token"] == token {
		t.Fatalf("rotating: %d %v", code, rotated)
	}
	if old, renewed := w.orders(t, token), w.orders(t, rotated["token"].(string)); old != policy.ReasonTokenUnknown || renewed != policy.ReasonMet {
		t.Errorf("after rotating: old %v, new %v", old, renewed)
	}
	code, list := w.post(t, bob, "Tokens/List", `{}`)
	if code != 200 || list["tokens"] != nil {
		t.Errorf("bob's own: %d %v", code, list)
	}
	code, list = w.post(t, admin, "Tokens/List", `{"active": true}`)
	if code != 200 || len(list["tokens"].([]any)) != 1 {
		t.Errorf("all: %d %v", code, list)
	}
	if code, answer := w.post(t, admin, "Tokens/Revoke", `{"id": "`+id+`"}`); code != 200 || answer["revoked_at"] == nil {
		t.Errorf("revoking: %d %v", code, answer)
	}
	if reason := w.orders(t, rotated["token"].(string)); reason != policy.ReasonTokenRevoked {
		t.Errorf("after revoking: %v", reason)
	}
	code, audit := w.post(t, admin, "Service/Audit", `{"target": "`+id+`"}`)
	var actions []string
	for _, entry := range audit["entries"].([]any) {
		actions = append(actions, entry.(map[string]any)["action"].(string))
	}
	if code != 200 || !slices.Equal(actions, []string{"revoke", "rotate", "create"}) {
		t.Errorf("the audit log has %d %q", code, actions)
	}
	if code, answer := w.post(t, admin, "Service/Status", `{}`); code != 200 || answer["store"].(map[string]any)["ready"] != true {
		t.Errorf("status: %d %v", code, answer)
	}
}

func TestTokensOfTokens(t *testing.T) {
	w := newWorld(t)
	alice := user(t, "alice", []string{"user"}, "orders:read gatehouse:tokens")
	code, made := w.post(t, alice, "Tokens/Create", `{"scopes": ["orders:read", "gatehouse:tokens"], "ttl": "3600s"}`)
	if code != 200 {
		t.Fatalf("creating: %d %v", code, made)
	}
	parent := made["token"].(string)
	code, child := w.post(t, parent, "Tokens/Create", `{"scopes": ["orders:read"]}`)
	if code != 200 {
		t.Fatalf("creating with a token that may: %d %v", code, child)
	}
	if got, limit := child["record"].(map[string]any)["expires_at"], made["record"].(map[string]any)["expires_at"]; got != limit {
		t.Errorf("the child expires at %v, its parent at %v", got, limit)
	}
	if code, answer := w.post(t, parent, "Tokens/Create", `{"scopes": ["gatehouse:admin"]}`); code != 403 {
		t.Errorf("more than the parent has: %d %v", code, answer)
	}
	// Nor does it get there by the secret of another token of its owner.
	id := func(token, body string) string {
		t.Helper()
		code, made := w.post(t, token, "Tokens/Create", body)
		if code != 200 {
			t.Fatalf("creating %s: %d %v", body, code, made)
		}
		return made["record"].(map[string]any)["id"].(string)
	}
	code, made = w.post(t, alice, "Tokens/Create", `{"scopes": ["gatehouse:tokens"], "no_roles": true, "ttl": "3600s"}`)
	if code != 200 {
		t.Fatalf("creating: %d %v", code, made)
	}
	narrow := made["token"].(string)
	for _, row := range []struct {
		name, body string
		by         string
		want       int
	}{
		{"a token with another scope", `{"scopes": ["orders:read"], "no_roles": true, "ttl": "60s"}`, narrow, 403},
		{"a token with another role", `{"roles": ["user"], "ttl": "60s"}`, narrow, 403},
		{"a token that outlives it", `{"no_roles": true, "ttl": "7200s"}`, narrow, 403},
		{"a token that never ends", `{"no_roles": true}`, narrow, 403},
		{"a token with no more than it has", `{"scopes": ["gatehouse:tokens"], "no_roles": true, "ttl": "60s"}`, narrow, 200},
		{"by its owner", `{"scopes": ["orders:read"]}`, alice, 200},
		{"by its owner, who has lost the scope", `{"scopes": ["orders:read"]}`, user(t, "alice", []string{"user"}, "gatehouse:tokens"), 403},
		{"by its owner, who has lost the role", `{"roles": ["user"]}`, user(t, "alice", nil, ""), 403},
	} {
		if code, answer := w.post(t, row.by, "Tokens/Rotate", `{"id": "`+id(alice, row.body)+`"}`); code != row.want {
			t.Errorf("rotating %s: %d %v, want %d", row.name, code, answer, row.want)
		}
	}
	// It may still end them: that gives it nothing.
	if code, answer := w.post(t, narrow, "Tokens/Revoke", `{"id": "`+id(alice, `{"scopes": ["orders:read"]}`)+`"}`); code != 200 {
		t.Errorf("revoking: %d %v", code, answer)
	}
}

func TestDisabledEverywhere(t *testing.T) {
	w := newWorld(t)
	alice := user(t, "alice", []string{"user"}, "orders:read")
	admin := user(t, "root", []string{"ops"}, "")
	_, made := w.post(t, alice, "Tokens/Create", `{"scopes": ["orders:read"]}`)
	token := made["token"].(string)
	who := `{"owner": {"issuer": "https://idp.example.com", "subject": "alice"}}`
	code, list := w.post(t, admin, "Directory/List", `{"username": "alice@example.com"}`)
	if code != 200 || len(list["people"].([]any)) != 1 {
		t.Fatalf("the directory: %d %v", code, list)
	}
	if code, answer := w.post(t, admin, "Directory/Disable", who); code != 200 || answer["disabled_at"] == nil {
		t.Fatalf("disabling: %d %v", code, answer)
	}
	for name, credential := range map[string]string{"JWT": alice, "token": token} {
		if reason := w.orders(t, credential); reason != policy.ReasonPrincipalDisabled {
			t.Errorf("her %s: %v", name, reason)
		}
	}
	if code, _ := w.post(t, admin, "Directory/Disable", `{"owner": {"issuer": "https://idp.example.com", "subject": "root"}}`); code != 400 {
		t.Errorf("disabling oneself: %d", code)
	}
	if code, answer := w.post(t, admin, "Directory/Enable", who); code != 200 || answer["disabled_at"] != nil {
		t.Errorf("enabling: %d %v", code, answer)
	}
	if reason := w.orders(t, alice); reason != policy.ReasonMet {
		t.Errorf("her JWT after enabling: %v", reason)
	}
	if code, _ := w.post(t, admin, "Tokens/RevokeAll", `{"issuer": "https://idp.example.com", "token_id": "alice"}`); code != 200 {
		t.Errorf("revoking a JWT: %d", code)
	}
	if jwt, ours := w.orders(t, alice), w.orders(t, token); jwt != policy.ReasonTokenRevoked || ours != policy.ReasonMet {
		t.Errorf("after revoking the JWT by its jti: JWT %v, token %v", jwt, ours)
	}
}

func TestHTTPForm(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name, method, contentType string
		want                      int
	}{
		{"GET", http.MethodGet, "application/json", 405},
		{"a form, as another site could send", http.MethodPost, "application/x-www-form-urlencoded", 415},
		{"no type", http.MethodPost, "", 415},
		{"JSON with a charset", http.MethodPost, "application/json; charset=utf-8", 200},
	} {
		request, err := http.NewRequestWithContext(t.Context(), row.method, "http://gatehouse/gatehouse.admin.v1.Tokens/List", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", row.contentType)
		if code, answer := send(t, w.operator(), request); code != row.want {
			t.Errorf("%s: %d %v, want %d", row.name, code, answer, row.want)
		}
	}
}

// operator speaks to the Unix socket.
func (w *world) operator() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.socket)
	}}}
}

func TestOperator(t *testing.T) {
	w := newWorld(t)
	conn, err := grpc.NewClient("unix://"+w.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := adminv1.NewTokensClient(conn)
	made, err := client.Create(t.Context(), &adminv1.CreateTokenRequest{
		Owner: &adminv1.Owner{Subject: "adam"}, Realm: "ecmwf", Scopes: []string{"orders:read"}, Roles: []string{"user"}, Tenant: "t",
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := made.GetRecord(); r.GetOwner().GetIssuer() != "realm:ecmwf" || r.GetUsername() != "adam" || r.GetTenant() != "t" ||
		r.GetCreatedBy().GetIssuer() != tokens.Operator {
		t.Errorf("the record is %v", r)
	}
	if reason := w.orders(t, made.GetToken()); reason != policy.ReasonMet {
		t.Errorf("the token: %v", reason)
	}
	// With a credential, even the operator is whoever the credential says.
	bob := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+user(t, "bob", nil, ""))
	if _, err := client.Get(bob, &adminv1.GetTokenRequest{Id: made.GetRecord().GetId()}); status.Code(err) != codes.NotFound {
		t.Errorf("bob on the socket: %v", err)
	}
	wrong := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer wrong")
	if _, err := client.List(wrong, &adminv1.ListTokensRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong credential on the socket: %v", err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || len(answer.GetListServicesResponse().GetService()) < 3 {
		t.Errorf("reflection: %v, %v", answer, err)
	}
	// The same, from another machine, without a credential.
	remote, err := grpc.NewClient(w.tcp, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	if _, err := adminv1.NewTokensClient(remote).List(t.Context(), &adminv1.ListTokensRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a credential: %v", err)
	}
}
