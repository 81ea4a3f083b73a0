// Package keycloak runs a real Keycloak as the identity provider of end-to-end tests:
// one per test binary, with the realms of the folder realms. Start reading at [Start].
package keycloak

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

//go:embed realms/*.json
var realms embed.FS

// startTimeout is how long Keycloak may take on a busy machine; usually it is 20 s.
const startTimeout = 5 * time.Minute

// Server is a running Keycloak.
type Server struct {
	base string // http://127.0.0.1:PORT
}

// Start runs Keycloak until the test ends. It returns at once; [Server.Wait] waits until
// a realm can be used, so that a test can do other things meanwhile.
func Start(t testing.TB) *Server {
	t.Helper()
	installed, err := tools.Keycloak(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(t.TempDir(), "keycloak")
	if err := os.CopyFS(home, os.DirFS(installed)); err != nil {
		t.Fatal(err)
	}
	if err := importRealms(filepath.Join(home, "data", "import")); err != nil {
		t.Fatal(err)
	}
	port, management := freePort(t), freePort(t)
	cmd := exec.Command(filepath.Join(home, "bin", "kc.sh"), "start-dev", "--import-realm", "--db=dev-mem", "--cache=local",
		"--http-host=127.0.0.1", "--http-port="+port, "--http-management-port="+management)
	// The first compiler alone: a server that lives for a minute never earns back the second.
	cmd.Env = append(os.Environ(), "JAVA_OPTS_APPEND=-XX:TieredStopAtLevel=1", "JAVA_OPTS_KC_HEAP=-Xms64m -Xmx512m",
		"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin")
	harness.Start(t, "keycloak", cmd)
	return &Server{base: "http://127.0.0.1:" + port}
}

func importRealms(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := realms.ReadDir("realms")
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := realms.ReadFile("realms/" + e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// At is the same server under another address, that of something in front of it.
// Keycloak takes its own address, and so the issuer, from the Host header.
func (s *Server) At(base string) *Server { return &Server{base: base} }

// Base is the server's address: http://127.0.0.1:PORT.
func (s *Server) Base() string { return s.base }

// Issuer is the issuer of a realm, as in iss.
func (s *Server) Issuer(realm string) string { return s.base + "/realms/" + realm }

// Wait waits until a realm answers. While it starts, Keycloak answers 503.
func (s *Server) Wait(t testing.TB, realm string) {
	t.Helper()
	harness.Eventually(t, startTimeout, func() error {
		resp, err := http.Get(s.Issuer(realm) + "/.well-known/openid-configuration")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("realm %s answers %s", realm, resp.Status)
		}
		return nil
	})
}

// A Grant is what the token endpoint gave.
type Grant struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// Password gets tokens for a user whose password is the user's name. secret is the
// client's, or empty for a public one; scope may be empty.
func (s *Server) Password(t testing.TB, realm, client, secret, user, scope string) Grant {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "client_id": {client}, "username": {user}, "password": {user}}
	if secret != "" {
		form.Set("client_secret", secret)
	}
	if scope != "" {
		form.Set("scope", scope)
	}
	return s.token(t, realm, form)
}

// ClientCredentials gets a token for a client itself.
func (s *Server) ClientCredentials(t testing.TB, realm, client, secret string) Grant {
	t.Helper()
	return s.token(t, realm, url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}})
}

func (s *Server) token(t testing.TB, realm string, form url.Values) Grant {
	t.Helper()
	var g Grant
	if err := post(t.Context(), s.endpoint(realm, "token"), form, &g); err != nil {
		t.Fatal(err)
	}
	if g.AccessToken == "" {
		t.Fatalf("Keycloak gave no token: %s: %s", g.Error, g.Description)
	}
	return g
}

func (s *Server) endpoint(realm, name string) string {
	return s.Issuer(realm) + "/protocol/openid-connect/" + name
}

// Revoke ends a refresh or offline token (RFC 7009).
func (s *Server) Revoke(t testing.TB, realm, client, secret, token string) {
	t.Helper()
	form := url.Values{"client_id": {client}, "client_secret": {secret}, "token": {token}}
	if err := post(t.Context(), s.endpoint(realm, "revoke"), form, nil); err != nil {
		t.Fatal(err)
	}
}

// AddKey makes a new signing key of a realm, which signs from now on.
func (s *Server) AddKey(t testing.TB, realm, name string) {
	t.Helper()
	admin := s.token(t, "master", url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}})
	text, err := json.Marshal(map[string]any{
		"name": name, "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		"config": map[string][]string{"priority": {"1000"}, "enabled": {"true"}, "active": {"true"}, "algorithm": {"RS256"}, "keySize": {"2048"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := send(t.Context(), s.base+"/admin/realms/"+realm+"/components", admin.AccessToken, "application/json", string(text), nil); err != nil {
		t.Fatal(err)
	}
}

func post(ctx context.Context, address string, form url.Values, into any) error {
	return send(ctx, address, "", "application/x-www-form-urlencoded", form.Encode(), into)
}

// send posts a body. Without into, a status that is no success is an error.
func send(ctx context.Context, address, bearer, contentType, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if into != nil {
		return json.Unmarshal(text, into)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("asking %s: %s: %s", address, resp.Status, text)
	}
	return nil
}
