package main

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/protobuf/proto"
)

const (
	issuer = "https://idp.example.com/realms/corp"
	keyID  = "bench-2026"
	secret = "bench-0123456789abcdef0123456789abcdef"
)

// A lab holds what all scenarios share.
type lab struct {
	opts   options
	dir    string
	binary string
	key    *rsa.PrivateKey
	floor  *process
	listen string // of the do-nothing server
	fresh  int    // never-seen tokens signed so far
}

func newLab(dir string, opts options) (*lab, error) {
	l := &lab{opts: opts, dir: dir, binary: filepath.Join(dir, "gatehouse")}
	if out, err := exec.Command("go", "build", "-o", l.binary, "github.com/gatehouse-authz/gatehouse/cmd/gatehouse").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building gatehouse: %w\n%s", err, out)
	}
	var err error
	if l.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if err := l.writeKeys(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if l.listen, err = freeAddress(); err != nil {
		return nil, err
	}
	l.floor, err = start(dir, self, nil, "floor", l.listen)
	return l, err
}

func (l *lab) close() { l.floor.stop() }

func (l *lab) writeKeys() error {
	jwk, err := jwkset.NewJWKFromKey(l.key.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: keyID, ALG: jwkset.AlgRS256, USE: jwkset.UseSig}})
	if err != nil {
		return err
	}
	set := jwkset.NewMemoryStorage()
	if err := set.KeyWrite(context.Background(), jwk); err != nil {
		return err
	}
	text, err := set.JSONPublic(context.Background())
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.dir, "jwks.json"), text, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "api-key"), []byte(secret), 0o600)
}

// config writes a configuration with s.routes routes that listens on the two addresses.
func (l *lab) config(s scenario, grpc, ops string) (string, error) {
	keys, algorithm := "jwks.json", "RS256"
	if s.load == freshES256 {
		keys, algorithm = "es256.json", "ES256"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `version: 1
listen:
  grpc: {address: %q}
  ops: {address: %q%s}
authenticators:
- name: machines
  api_key: {from: [{header: x-api-key}], keys: [{id: ci, secret: {file: api-key}, principal: {tenant: acme, roles: [reader]}}]}
- name: corp
  jwt:
    issuer: %s
    jwks_file: %s
    audiences: [orders]
    algorithms: [%s]
    principal: {username: {claim: email}, tenant: {claim: tenant}, roles: {claim: roles}}
%sforward:
  headers: {x-tenant-id: "{tenant}", x-user: "{username}"}
`, grpc, ops, map[bool]string{true: ", pprof: true"}[l.opts.profile != ""], issuer, keys, algorithm,
		l.more(s.load))
	if s.load == opaqueToken {
		fmt.Fprintf(&b, "store: {sqlite: {path: %q}}\n", filepath.Join(l.dir, "store.db"))
	}
	if s.log {
		fmt.Fprintf(&b, "decision_log: {file: %q}\n", filepath.Join(l.dir, "decisions.jsonl"))
	}
	b.WriteString(`routes:
- match: ["GET /tenants/{tenant}/orders/{id}"]
  name: read-orders
  allow: [{roles: {any: [reader]}}]
- match: ["GET /public/"]
  public: true
`)
	for i := 2; i < s.routes; i++ {
		fmt.Fprintf(&b, "- {match: [\"GET /service-%d/{tenant}/items/{id}\"], allow: [{tenant: \"{path.tenant}\", roles: {any: [reader, writer]}}]}\n", i)
	}
	path := filepath.Join(l.dir, "gatehouse.yaml")
	return path, os.WriteFile(path, []byte(b.String()), 0o600)
}

// more are the authenticators that only one kind of load needs.
func (l *lab) more(work load) string {
	switch work {
	case opaqueToken:
		return "- name: own\n  token: {}\n"
	case passwords:
		hash := passwordHash()
		var b strings.Builder
		b.WriteString("- name: people\n  basic:\n    users:\n")
		for i := range overloadPeople {
			fmt.Fprintf(&b, "    - {username: %s, password_hash: %q, principal: {tenant: acme, roles: [%s]}}\n", person(i), hash, overloadRole(i))
		}
		return b.String()
	}
	return ""
}

// token signs the n-th token.
func (l *lab) token(n int, role string) (string, error) {
	return signedToken(jwt.SigningMethodRS256, l.key, n, role)
}

func signedToken(method jwt.SigningMethod, key any, n int, role string) (string, error) {
	t := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": issuer, "aud": []string{"orders", "account"}, "sub": fmt.Sprintf("5f0c9b1e-7a55-4f0d-9c1a-%012d", n), "email": fmt.Sprintf("user%d@example.com", n),
		"tenant": "acme", "roles": []string{"user", role}, "scope": "openid email profile", "typ": "Bearer", "azp": "web", "acr": "1",
		"session_state": "0b3f6c0e-41d8-4a2c-8a50-2b6d6c4c6f10", "name": "Ada Example", "given_name": "Ada", "family_name": "Example",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "jti": fmt.Sprintf("2f0f8c1c-0000-4000-8000-%012d", n),
		"realm_access": map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-corp"}},
	})
	t.Header["kid"] = keyID
	return t.SignedString(key)
}

// opaque has the command line make a token in the store of config.
func (l *lab) opaque(config string) (string, error) {
	out, err := exec.Command(l.binary, "tokens", "create", "--config", config, "--owner", "bench", "--realm", "machines", "--tenant", "acme", "--role", "reader", "--output", "json").Output()
	if err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	var made struct{ Token string }
	if err := json.Unmarshal(out, &made); err != nil || made.Token == "" {
		return "", fmt.Errorf("making a token: it printed %q", out)
	}
	return made.Token, nil
}

// messages are the Checks of a scenario, marshalled.
func (l *lab) messages(s scenario, config string, n int) ([][]byte, error) {
	out := make([][]byte, 0, n)
	for range n {
		headers := map[string]string{}
		path := "/tenants/acme/orders/4711?expand=items&lang=en"
		switch s.load {
		case apiKey:
			headers["x-api-key"] = secret
		case opaqueToken:
			token, err := l.opaque(config)
			if err != nil {
				return nil, err
			}
			headers["authorization"] = "Bearer " + token
		case publicPage:
			path = "/public/index.html"
		case noPlace:
		default:
			role := "reader"
			if s.load == wrongRole {
				role = "guest"
			}
			token, err := l.token(l.fresh, role)
			if err != nil {
				return nil, err
			}
			l.fresh++
			headers["authorization"] = "Bearer " + token
		}
		text, err := proto.Marshal(check(path, headers))
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}

// check is a Check as Envoy sends it for a browser's request.
func check(path string, extra map[string]string) *authv3.CheckRequest {
	headers := map[string]string{
		":authority": "api.example.com", ":method": "GET", ":path": path, ":scheme": "https",
		"accept": "application/json, text/plain, */*", "accept-encoding": "gzip, deflate, br, zstd", "accept-language": "en-GB,en;q=0.9,de;q=0.8",
		"user-agent":      "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
		"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https", "x-request-id": "7f6f6a3e-2f6d-4a55-9d0e-3d3f4d5a6b7c",
		"referer": "https://app.example.com/orders", "cookie": "theme=dark; consent=1",
	}
	for k, v := range extra {
		headers[k] = v
	}
	peer := func(address string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("203.0.113.7", 50312), Destination: peer("192.0.2.10", 8443),
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: "14711031553279213117", Method: "GET", Headers: headers, Path: path, Host: "api.example.com", Scheme: "https", Protocol: "HTTP/2", Size: -1,
		}},
	}}
}

// A match is the two servers that get the same load in turns.
type match struct {
	server      *process
	ops         string // where the server tells of itself; "": nowhere
	floor, gate client
}

// begin starts gatehouse for s and asks both servers once. It gives how many milliseconds
// the first correct Check took.
func (l *lab) begin(ctx context.Context, s scenario, config, grpc, ops string, warm []byte) (*match, float64, error) {
	args, binary := l.serve(config), l.binary
	if s.load == bare {
		self, err := os.Executable()
		if err != nil {
			return nil, 0, err
		}
		args, binary, ops = []string{"bare", grpc}, self, ""
	}
	server, err := start(l.dir, binary, nil, args...)
	if err != nil {
		return nil, 0, err
	}
	m := &match{server: server, ops: ops}
	if m.floor, err = dial(l.listen, l.opts.connections); err == nil {
		m.gate, err = dial(grpc, l.opts.connections)
	}
	if err != nil {
		m.end()
		return nil, 0, err
	}
	if err := m.gate.first(ctx, warm, s.want()); err != nil {
		m.end()
		return nil, 0, fmt.Errorf("the first Check: %w\n%s", err, server.output())
	}
	millis := float64(time.Since(server.started).Milliseconds())
	if err := m.floor.first(ctx, warm, codeOK); err != nil {
		m.end()
		return nil, 0, fmt.Errorf("the do-nothing server: %w", err)
	}
	return m, millis, nil
}

func (m *match) end() {
	m.floor.close()
	m.gate.close()
	m.server.stop()
}

// measure runs one scenario: a fresh gatehouse, then the same load on both servers in turns.
func (l *lab) measure(ctx context.Context, s scenario) (Figures, error) {
	f := Figures{Scenario: s.name, Target: s.target}
	grpc, err := freeAddress()
	if err != nil {
		return f, err
	}
	ops, err := freeAddress()
	if err != nil {
		return f, err
	}
	config, err := l.config(s, grpc, ops)
	if err != nil {
		return f, err
	}
	calls, distinct := l.opts.calls, s.tokens
	if s.load == neverSeen {
		calls = max(1000, calls/8) // each must be signed first
		distinct = calls * l.opts.rounds
	}
	messages, err := l.messages(s, config, distinct)
	if err != nil {
		return f, err
	}
	warm := messages[:1]
	if s.load == neverSeen {
		if warm, err = l.messages(s, config, 1); err != nil {
			return f, err
		}
	}
	m, millis, err := l.begin(ctx, s, config, grpc, ops, warm[0])
	if err != nil {
		return f, err
	}
	defer m.end()
	f.StartMillis = millis
	if s.load != neverSeen { // let caches and connections settle
		if err := m.gate.run(ctx, messages, 0, max(2000, len(messages)), l.opts.concurrency, s.want()); err != nil {
			return f, err
		}
	}
	if l.opts.profile != "" && m.ops != "" {
		finish, err := l.profile(ops, s.name)
		if err != nil {
			return f, err
		}
		defer finish()
	}
	for round := range l.opts.rounds {
		if err := l.round(ctx, m, s, messages, round*calls, calls, &f); err != nil {
			return f, err
		}
	}
	if s.load == neverSeen {
		f.Target += median(f.Alone) / median(f.Floor) * 1.15
	}
	now, err := m.server.memory()
	f.ResidentMiB = now.MiB
	return f, err
}

// round asks one server and then the other, from the message at from on.
func (l *lab) round(ctx context.Context, m *match, s scenario, messages [][]byte, from, calls int, f *Figures) error {
	floor, err := timed(l.floor, func() error {
		return m.floor.run(ctx, messages, from, l.opts.calls, l.opts.concurrency, codeOK)
	})
	if err != nil {
		return err
	}
	if s.load == neverSeen {
		alone, err := l.verification()
		if err != nil {
			return err
		}
		f.Alone = append(f.Alone, alone)
	}
	before, err := m.allocated()
	if err != nil {
		return err
	}
	gate, err := timed(m.server, func() error {
		return m.gate.run(ctx, messages, from, calls, l.opts.concurrency, s.want())
	})
	if err != nil {
		return err
	}
	after, err := m.allocated()
	if err != nil {
		return err
	}
	f.Floor = append(f.Floor, micros(floor, l.opts.calls))
	f.Gatehouse = append(f.Gatehouse, micros(gate, calls))
	f.Ratio = append(f.Ratio, micros(gate, calls)/micros(floor, l.opts.calls))
	f.Allocated = append(f.Allocated, (after-before)/float64(calls))
	return nil
}

// allocated is how many bytes gatehouse has allocated so far.
func (m *match) allocated() (float64, error) {
	if m.ops == "" {
		return 0, nil
	}
	resp, err := http.Get("http://" + m.ops + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "go_memstats_alloc_bytes_total "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.New("/metrics does not say how much was allocated")
}

func timed(p *process, work func() error) (time.Duration, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return after - before, err
}

// serve gives the arguments that start gatehouse.
func (l *lab) serve(config string) []string {
	args := []string{"serve", "--config", config, "--log-level", "warn"}
	if l.opts.transport != "" {
		args = append(args, "--transport", l.opts.transport)
	}
	if l.opts.plain {
		args = append(args, "--plain")
	}
	return args
}

// verification is the time in microseconds that RS256 alone takes for one token: a SHA-256
// and an RSA operation.
func (l *lab) verification() (float64, error) {
	const times = 1000
	token, err := l.token(0, "reader")
	if err != nil {
		return 0, err
	}
	signed, sig64, _ := cutLast(token)
	signature, err := jwt.NewParser().DecodeSegment(sig64)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for range times {
		sum := sha256.Sum256([]byte(signed))
		if err := rsa.VerifyPKCS1v15(&l.key.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
			return 0, err
		}
	}
	return micros(time.Since(start), times), nil
}

func cutLast(token string) (before, after string, found bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

// profile asks the server for a CPU profile of what follows; finish waits for it and
// leaves the file in bench/.
func (l *lab) profile(ops, name string) (finish func(), err error) {
	if err := os.MkdirAll("bench", 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join("bench", strings.NewReplacer(" ", "-", ",", "", "(", "", ")", "").Replace(name)+".pprof")
	done := make(chan error, 1)
	go func() { done <- fetch("http://"+ops+"/debug/pprof/profile?seconds=5", file) }()
	return func() {
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "bench: fetching the profile:", err)
			return
		}
		fmt.Fprintln(os.Stderr, "profile:", file)
	}, nil
}

func fetch(url, file string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
