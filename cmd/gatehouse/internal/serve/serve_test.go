package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

const (
	apiKey   = "0123456789abcdef0123456789abcdef"
	patience = 20 * time.Second
)

// configuration is a file with one API key and one issuer; role is what orders asks for.
func configuration(issuer, role string) string {
	return fmt.Sprintf(`version: 1
listen: {grpc: {address: "127.0.0.1:0"}, ops: {address: "127.0.0.1:0"}}
authenticators:
- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys: [{id: batch, secret: {env: API_KEY}, principal: {tenant: acme, roles: [service]}}]
- name: corp
  jwt: {issuer: %q, audiences: [orders], from: [{header: authorization, scheme: Bearer}]}
routes:
- {match: ["GET /{$}"], public: true}
- {match: ["/orders/"], name: orders, allow: [{roles: {all: [%s]}}]}
- {match: ["/me"], name: me, allow: [{authenticated: true}]}
`, issuer, role)
}

// running is a service in this process.
type running struct {
	t         *testing.T
	path      string
	log       *syncBuffer
	grpc, ops string
	stop      context.CancelFunc
	ended     chan error
	checks    authv3.AuthorizationClient
	health    healthpb.HealthClient
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func start(t *testing.T, content string, change func(*Options)) *running {
	t.Helper()
	r := &running{t: t, path: filepath.Join(t.TempDir(), "gatehouse.yaml"), log: &syncBuffer{}, ended: make(chan error, 1)}
	r.write(content)
	log, err := NewLog(r.log, "json", zapcore.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Config: r.path, Log: log, Err: r.log, Env: func(name string) (string, bool) {
		if name == "API_KEY" {
			return apiKey, true
		}
		return "", false
	}}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- Run(ctx, o) }()
	t.Cleanup(func() { cancel(); <-r.ended })
	r.eventually("addresses in the log", func() bool {
		for line := range strings.Lines(r.log.String()) {
			var said struct{ Msg, Listener, Address string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" {
				switch said.Listener {
				case "grpc":
					r.grpc = said.Address
				case "ops":
					r.ops = said.Address
				}
			}
		}
		return r.grpc != "" && r.ops != ""
	})
	conn, err := grpc.NewClient(r.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r.checks, r.health = authv3.NewAuthorizationClient(conn), healthpb.NewHealthClient(conn)
	return r
}

func (r *running) write(content string) {
	r.t.Helper()
	if err := os.WriteFile(r.path+".tmp", []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.path+".tmp", r.path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) eventually(what string, holds func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case err := <-r.ended:
			r.ended <- err
			r.t.Fatalf("ended with %v before %s:\n%s", err, what, r.log)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s within %v:\n%s", what, patience, r.log)
		}
	}
}

// check asks about GET path with headers "name", "value", …
func (r *running) check(path string, headers ...string) codes.Code {
	r.t.Helper()
	list := map[string]string{}
	for i := 0; i < len(headers); i += 2 {
		list[headers[i]] = headers[i+1]
	}
	resp, err := r.checks.Check(r.t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "192.0.2.1"}}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Host: "example.com", Path: path, Headers: list, Scheme: "http",
		}},
	}})
	if err != nil {
		r.t.Fatalf("Check is an RPC error, which it must never be: %v", err)
	}
	return codes.Code(resp.GetStatus().GetCode())
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	resp, err := http.Get("http://" + r.ops + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (r *running) servingStatus() healthpb.HealthCheckResponse_ServingStatus {
	resp, err := r.health.Check(r.t.Context(), &healthpb.HealthCheckRequest{Service: "envoy.service.auth.v3.Authorization"})
	if err != nil {
		return healthpb.HealthCheckResponse_UNKNOWN
	}
	return resp.Status
}

func (r *running) serving() {
	r.t.Helper()
	r.eventually("health", func() bool { return r.servingStatus() == healthpb.HealthCheckResponse_SERVING })
}

func newIssuer(t *testing.T) *authntest.Issuer {
	t.Helper()
	issuer, err := authntest.Start(authntest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

func TestServe(t *testing.T) {
	issuer := newIssuer(t)
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			r := start(t, configuration(issuer.URL(), "service"), func(o *Options) { o.Plain = plain })
			r.serving()
			for _, row := range []struct {
				name    string
				path    string
				headers []string
				want    codes.Code
			}{
				{"public", "/", nil, codes.OK},
				{"an API key", "/orders/1", []string{"x-api-key", apiKey}, codes.OK},
				{"a wrong API key", "/orders/1", []string{"x-api-key", "guess"}, codes.Unauthenticated},
				{"a token", "/me", []string{"authorization", "Bearer " + issuer.Token(nil)}, codes.OK},
				{"a token without the role", "/orders/1", []string{"authorization", "Bearer " + issuer.Token(nil)}, codes.PermissionDenied},
				{"nobody", "/me", nil, codes.Unauthenticated},
				{"two readings", "/a//b", nil, codes.InvalidArgument},
				{"no route", "/nowhere", nil, codes.PermissionDenied},
			} {
				if got := r.check(row.path, row.headers...); got != row.want {
					t.Errorf("%s: Check = %v, want %v", row.name, got, row.want)
				}
			}
			if status, body := r.get("/readyz?verbose"); status != 200 || !strings.Contains(body, "[+]issuer of corp: 1 keys") {
				t.Errorf("/readyz?verbose = %d %q", status, body)
			}
			if _, body := r.get("/metrics"); !strings.Contains(body, `gatehouse_decisions_total{outcome="forbidden",reason="requirement_not_met",route="orders"} 1`) {
				t.Errorf("the decisions are not in /metrics: %s", body)
			}
			r.eventually("decision lines", func() bool { return strings.Count(r.log.String(), `"msg":"decision"`) == 8 })
			for _, secret := range []string{apiKey, "guess", "Bearer", "eyJ"} {
				if strings.Contains(r.log.String(), secret) {
					t.Errorf("the log holds %q: %s", secret, r.log)
				}
			}
		})
	}
}

func TestBrokenConfigurationNeverStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nroutes:\n- {match: [\"/\"], alow: []}\n- {match: [\"nonsense\"], public: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log, err := NewLog(&out, "json", zapcore.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), Options{Config: path, Env: os.LookupEnv, Log: log, Err: &out})
	if !errors.Is(err, ErrConfiguration) {
		t.Errorf("Run = %v, want %v", err, ErrConfiguration)
	}
	for _, want := range []string{":3:", ":4:", "alow"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the errors lack %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "listening") {
		t.Errorf("it listens all the same:\n%s", out.String())
	}
}

// TestReload changes a rule, breaks the file, and mends it.
func TestReload(t *testing.T) {
	issuer := newIssuer(t)
	r := start(t, configuration(issuer.URL(), "service"), nil)
	r.serving()
	hangup := func(content, line string) {
		t.Helper()
		before := strings.Count(r.log.String(), line)
		r.write(content)
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		r.eventually(line, func() bool { return strings.Count(r.log.String(), line) > before })
	}
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.OK {
		t.Fatalf("before: %v", got)
	}
	hangup(configuration(issuer.URL(), "admin"), "configuration loaded")
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.PermissionDenied {
		t.Errorf("after a reload that asks for another role: %v, want PermissionDenied", got)
	}
	hangup("version: 1\nroutes: nonsense\n", "configuration not reloaded")
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.PermissionDenied {
		t.Errorf("after a broken reload: %v, want PermissionDenied as before", got)
	}
	if status, body := r.get("/readyz?verbose"); status != 200 || !strings.Contains(body, "[!]configuration: the file is broken") {
		t.Errorf("/readyz?verbose with a broken file = %d %q, want 200 and a warning", status, body)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, "gatehouse_config_last_reload_successful 0") || !strings.Contains(body, `gatehouse_reloads_total{result="failed"}`) || strings.Contains(body, `gatehouse_reloads_total{result="failed"} 0`) { // two where the file was seen to change before the signal
		t.Error("the broken reload is not in /metrics")
	}
	if !strings.Contains(r.log.String(), `"msg":"configuration error","position":"`+r.path+":2:9") {
		t.Errorf("the error is not in the log with its place: %s", r.log)
	}
	hangup(configuration(issuer.URL(), "service"), "configuration loaded")
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.OK {
		t.Errorf("after the file was mended: %v, want OK", got)
	}
	if _, body := r.get("/readyz?verbose"); !strings.Contains(body, "[+]configuration") {
		t.Errorf("/readyz?verbose after the file was mended: %q", body)
	}
}

// TestWatch: a changed file is loaded by itself, as is one that Kubernetes swaps in by a
// link.
func TestWatch(t *testing.T) {
	r := start(t, configuration("http://127.0.0.1:1", "service"), nil)
	r.serving()
	r.write(configuration("http://127.0.0.1:1", "admin"))
	r.eventually("the new rule", func() bool { return r.check("/orders/1", "x-api-key", apiKey) == codes.PermissionDenied })

	folder := filepath.Dir(r.path)
	swap := func(version, role string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(folder, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, version, "gatehouse.yaml"), []byte(configuration("http://127.0.0.1:1", role)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(version, filepath.Join(folder, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("..v1", "service")
	if err := os.Symlink("..data/gatehouse.yaml", r.path+".link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.path+".link", r.path); err != nil {
		t.Fatal(err)
	}
	r.eventually("the linked file", func() bool { return r.check("/orders/1", "x-api-key", apiKey) == codes.OK })
	swap("..v2", "admin")
	r.eventually("the swapped file", func() bool { return r.check("/orders/1", "x-api-key", apiKey) == codes.PermissionDenied })
}

// TestIssuerDownAtStart: up and serving everybody else, 503 for its tokens, and it
// recovers by itself.
func TestIssuerDownAtStart(t *testing.T) {
	// Take an address, and give it to the issuer later.
	first := newIssuer(t)
	url := first.URL()
	first.Break(authntest.Status500, authntest.Everywhere)
	r := start(t, configuration(url, "service"), nil)
	r.serving()
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.OK {
		t.Errorf("an API key while the issuer is down: %v, want OK", got)
	}
	token := first.Token(nil)
	if got := r.check("/me", "authorization", "Bearer "+token); got != codes.Unavailable {
		t.Errorf("a token while its issuer is down: %v, want Unavailable", got)
	}
	if status, body := r.get("/readyz?verbose"); status != 200 || !strings.Contains(body, "[!]issuer of corp: its tokens are answered 503") {
		t.Errorf("/readyz?verbose = %d %q, want 200 and the issuer", status, body)
	}
	first.Break(authntest.NoFault, authntest.Everywhere)
	r.eventually("recovery", func() bool { return r.check("/me", "authorization", "Bearer "+token) == codes.OK })
}

// TestDrain: health says so at once, checks are answered until the delay is over.
func TestDrain(t *testing.T) {
	r := start(t, configuration("http://127.0.0.1:1", "service"), func(o *Options) { o.DrainDelay = 300 * time.Millisecond })
	r.serving()
	r.stop()
	r.eventually("NOT_SERVING", func() bool { return r.servingStatus() == healthpb.HealthCheckResponse_NOT_SERVING })
	if got := r.check("/orders/1", "x-api-key", apiKey); got != codes.OK {
		t.Errorf("a check while draining: %v, want OK", got)
	}
	if status, body := r.get("/readyz"); status != 503 || !strings.Contains(body, "[-]draining") {
		t.Errorf("/readyz while draining = %d %q, want 503", status, body)
	}
	select {
	case err := <-r.ended:
		r.ended <- nil
		if err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
	if !strings.Contains(r.log.String(), `"reason":"requirement_met"`) {
		t.Errorf("the last decisions are not in the log: %s", r.log)
	}
}

// TestDecisionLog: a reload switches it on, and a refusal is in it.
func TestDecisionLog(t *testing.T) {
	r := start(t, configuration("http://127.0.0.1:1", "service"), nil)
	r.serving()
	file := filepath.Join(filepath.Dir(r.path), "decisions.log")
	r.write(configuration("http://127.0.0.1:1", "service") + "decision_log: {file: decisions.log, sample_allowed: 0}\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	// The file is there before the reload is through.
	r.eventually("the decision log", func() bool { return strings.Count(r.log.String(), "configuration loaded") == 2 })
	r.check("/orders/1", "x-api-key", apiKey)
	r.check("/orders/1", "x-api-key", "guess")
	r.eventually("a record", func() bool {
		content, _ := os.ReadFile(file)
		return strings.Contains(string(content), `"reason":"api_key_unknown"`)
	})
	content, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(content), "allowed") || strings.Contains(string(content), "guess") {
		t.Errorf("decisions.log = %s, %v; want the refusal only, and no credential", content, err)
	}
	// logrotate moves it away and sends SIGHUP.
	if err := os.Rename(file, file+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.eventually("the next load", func() bool { return strings.Count(r.log.String(), "configuration loaded") == 3 })
	r.check("/orders/2", "x-api-key", "guess")
	r.eventually("a record in a new file", func() bool {
		content, _ := os.ReadFile(file)
		return strings.Count(string(content), "\n") == 1 && strings.Contains(string(content), `"/orders/2"`)
	})
}

func TestShadowAll(t *testing.T) {
	r := start(t, configuration("http://127.0.0.1:1", "service"), func(o *Options) { o.ShadowAll = true })
	r.serving()
	if got := r.check("/orders/1"); got != codes.OK {
		t.Errorf("nobody with --shadow-all: %v, want OK", got)
	}
	if got := r.check("/a//b"); got != codes.InvalidArgument {
		t.Errorf("a malformed path with --shadow-all: %v, want InvalidArgument", got)
	}
	if _, body := r.get("/readyz?verbose"); !strings.Contains(body, "[!]shadow-all") {
		t.Errorf("/readyz?verbose = %q, want a warning", body)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, "gatehouse_shadow_routes 3") {
		t.Error("gatehouse_shadow_routes is not 3")
	}
	if !strings.Contains(r.log.String(), "shadow-all: what is forbidden") {
		t.Errorf("no warning in the log: %s", r.log)
	}
}

// The HTTP listener asks the same gate as Envoy does.
func TestHTTPListener(t *testing.T) {
	content := strings.Replace(configuration("http://127.0.0.1:1", "service"), `listen: {`, `trusted_proxies: [127.0.0.0/8]
listen: {http: {address: "127.0.0.1:0"}, `, 1)
	r := start(t, content, nil)
	address := ""
	r.eventually("the HTTP listener's address in the log", func() bool {
		for line := range strings.Lines(r.log.String()) {
			var said struct{ Msg, Listener, Address string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" && said.Listener == "http" {
				address = said.Address
			}
		}
		return address != ""
	})
	for key, want := range map[string]int{"": 401, "wrong": 401, apiKey: 200} {
		request, err := http.NewRequest("GET", "http://"+address+"/authorize", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Original-Url", "https://api.example.com/orders/7")
		request.Header.Set("X-Original-Method", "GET")
		if key != "" {
			request.Header.Set("X-Api-Key", key)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("with the key %q: %d, want %d", key, response.StatusCode, want)
		}
	}
}
