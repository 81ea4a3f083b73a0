// Package idp runs oidc-provider, a certified OpenID provider that knows nothing of
// gatehouse, as the issuer of the end-to-end tests. Start reading at [Start]; what the
// provider can be asked is in oidc-provider/provider.mjs.
package idp

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

//go:embed oidc-provider/package.json
var packageJSON []byte

//go:embed oidc-provider/package-lock.json
var packageLock []byte

//go:embed oidc-provider/provider.mjs
var program []byte

// Audience is that of every token, unless the test asks for another.
const Audience = "orders"

// The client that may ask the introspection endpoint.
const (
	IntrospectionClient = "gatehouse"
	IntrospectionSecret = "gatehouse-secret"
)

const (
	// startTimeout is how long node may take on a busy machine; usually it is below a second.
	startTimeout = 30 * time.Second
	// startAttempts is how often it is started: of some 150 starts of node 20 one hung before
	// its first line, without using the CPU.
	startAttempts = 3
)

// Install fetches oidc-provider, unless it is there, and returns its node_modules.
func Install(ctx context.Context) (string, error) {
	return tools.NodeModules(ctx, "oidc-provider", packageJSON, packageLock)
}

// Provider is a running issuer.
type Provider struct {
	Issuer  string // http://127.0.0.1:PORT, as in iss
	process *harness.Process
}

// Start runs a provider on a free port until the test ends.
func Start(t testing.TB) *Provider {
	t.Helper()
	return StartAt(t, 0)
}

// StartAt is Start on a port that the test has chosen, for one that must know the issuer
// before it exists.
func StartAt(t testing.TB, port int) *Provider {
	t.Helper()
	modules, err := Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "provider.mjs")
	// node looks for packages beside the script.
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, program, 0o600); err != nil {
		t.Fatal(err)
	}
	var hung error
	for range startAttempts {
		p := &Provider{process: harness.Start(t, "oidc-provider", exec.Command("node", script, strconv.Itoa(port)))}
		if hung = p.process.Await("issuer", startTimeout, p.said); hung == nil {
			return p
		}
		p.process.Kill()
	}
	t.Fatal(hung)
	return nil
}

// said reads the issuer from the provider's first line.
func (p *Provider) said(output string) bool {
	for line := range strings.Lines(output) {
		var said struct{ Issuer string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Issuer != "" {
			p.Issuer = said.Issuer
			return true
		}
	}
	return false
}

// given are the ports that [FreePort] gave.
var given sync.Map

// FreePort is one that nobody listened on a moment ago, and another one each time: the
// kernel may choose the same again as soon as it is free.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := listener.Addr().(*net.TCPAddr).Port
		listener.Close()
		if _, again := given.LoadOrStore(port, true); !again {
			return port
		}
	}
}

// Stop ends the provider before the test ends.
func (p *Provider) Stop() { p.process.Stop() }

// Claims of a token, laid over those that the provider gives; nil removes one.
type Claims map[string]any

// With returns the claims and others.
func (c Claims) With(more Claims) Claims {
	all := maps.Clone(c)
	maps.Copy(all, more)
	return all
}

// Token gets a signed access token (RFC 9068), signed with RS256.
func (p *Provider) Token(t testing.TB, claims Claims) string {
	t.Helper()
	return p.TokenSignedWith(t, "RS256", claims)
}

// TokenSignedWith is Token with another algorithm: RS256, ES256 or EdDSA.
func (p *Provider) TokenSignedWith(t testing.TB, alg string, claims Claims) string {
	t.Helper()
	return p.token(t, "signed", claims, url.Values{"alg": {alg}})
}

// OpaqueToken gets an access token that only introspection can read.
func (p *Provider) OpaqueToken(t testing.TB, claims Claims) string {
	t.Helper()
	return p.token(t, "opaque", claims, nil)
}

func (p *Provider) token(t testing.TB, client string, claims Claims, form url.Values) string {
	t.Helper()
	laid, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if form == nil {
		form = url.Values{}
	}
	form.Set("grant_type", "client_credentials")
	form.Set("client_id", client)
	form.Set("client_secret", client+"-secret")
	form.Set("claims", string(laid))
	resp, err := http.PostForm(p.Issuer+"/token", form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.AccessToken == "" {
		t.Fatalf("asking %s/token: status %d, %v: %s", p.Issuer, resp.StatusCode, err, body)
	}
	return answer.AccessToken
}

// AddKey makes a signing key; tokens with its algorithm are signed by it from now on.
func (p *Provider) AddKey(t testing.TB, kid, alg string) {
	t.Helper()
	p.control(t, http.MethodPut, "keys/"+url.PathEscape(kid)+"?alg="+url.QueryEscape(alg))
}

// WithdrawKey takes a key out of the published set. The first ones are called rsa-1, ec-1
// and ed-1.
func (p *Provider) WithdrawKey(t testing.TB, kid string) {
	t.Helper()
	p.control(t, http.MethodDelete, "keys/"+url.PathEscape(kid))
}

// SetOutage makes the provider answer everything with an HTTP status; 0 ends that.
func (p *Provider) SetOutage(t testing.TB, status int) {
	t.Helper()
	p.control(t, http.MethodPut, "outage?status="+strconv.Itoa(status))
}

// Requests counts what was asked, by path: "/jwks", "/token/introspection", ...
func (p *Provider) Requests(t testing.TB) map[string]int {
	t.Helper()
	return p.control(t, http.MethodGet, "requests")
}

func (p *Provider) control(t testing.TB, method, what string) map[string]int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.Issuer+"/control/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var counts map[string]int
	if err := json.NewDecoder(resp.Body).Decode(&counts); err != nil {
		t.Fatalf("asking for %s: status %d: %v", what, resp.StatusCode, err)
	}
	return counts
}

// Introspect asks the provider about a token as [IntrospectionClient] (RFC 7662 §2.1).
func (p *Provider) Introspect(ctx context.Context, token string) (map[string]any, error) {
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Issuer+"/token/introspection", form)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(IntrospectionClient, IntrospectionSecret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("introspecting: status %d: %w", resp.StatusCode, err)
	}
	return answer, nil
}
