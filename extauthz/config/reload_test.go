package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
)

// write puts a file into a folder of the test, and gives its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, path string, env map[string]string, before *Loaded) *Loaded {
	t.Helper()
	loaded, report := Load(path, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, before)
	if loaded == nil {
		t.Fatalf("loading: %s", report)
	}
	return loaded
}

const reloadConfig = `version: 1
expression_env: [PRODUCT]
authenticators:
- name: machines
  api_key: {keys: [{id: a, secret: {file: key}}]}
- name: corp
  jwt:
    issuer: https://idp.example.com
    any_audience: true
    principal: {attributes: {product: {expression: 'env.PRODUCT'}}}
routes:
- match: [/]
  allow: [{authenticated: true}]
`

func TestSemantics32EqualAuthenticatorsGoOn(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "key", "abcdefghijklmnop\n")
	path := write(t, dir, "config.yaml", reloadConfig)
	env := map[string]string{"PRODUCT": "core"}
	first := load(t, path, env, nil)
	entry := func(l *Loaded, name string) authn.Authenticator { return l.Gate.Set.Entry(name).Authenticator }

	t.Run("nothing changed", func(t *testing.T) {
		second := load(t, path, env, first)
		if entry(first, "corp") != entry(second, "corp") || entry(first, "machines") != entry(second, "machines") {
			t.Error("an authenticator was made anew")
		}
		if first.Hash != second.Hash {
			t.Errorf("hash %s, then %s", first.Hash, second.Hash)
		}
	})
	t.Run("a secret changed", func(t *testing.T) {
		write(t, dir, "key", "another-key-of-ours\n")
		second := load(t, path, env, first)
		if entry(first, "machines") == entry(second, "machines") {
			t.Error("the old key still counts")
		}
		if entry(first, "corp") != entry(second, "corp") {
			t.Error("the other authenticator was made anew")
		}
		if first.Hash != second.Hash {
			t.Error("the hash tells the secret")
		}
	})
	t.Run("a variable of an expression changed", func(t *testing.T) {
		second := load(t, path, map[string]string{"PRODUCT": "other"}, first)
		if entry(first, "corp") == entry(second, "corp") {
			t.Error("the expression still sees the old value")
		}
		if first.Hash == second.Hash {
			t.Error("the hash is the same")
		}
	})
	t.Run("what all share changed", func(t *testing.T) {
		tenancy := strings.Replace(reloadConfig, "expression_env", "tenancy: {wildcard: \"*\"}\nexpression_env", 1)
		second := load(t, write(t, dir, "tenancy.yaml", tenancy), env, first)
		if entry(first, "corp") == entry(second, "corp") {
			t.Error("the authenticator does not know the wildcard")
		}
	})
	t.Run("an empty secret keeps the old configuration", func(t *testing.T) {
		write(t, dir, "key", "\n")
		if second, report := Load(path, func(string) (string, bool) { return "core", true }, first); second != nil || report.OK() {
			t.Errorf("loaded with an empty secret: %s", report)
		}
	})
	t.Run("listeners need a restart", func(t *testing.T) {
		write(t, dir, "key", "abcdefghijklmnop\n")
		moved := write(t, dir, "moved.yaml", strings.Replace(reloadConfig, "expression_env", "listen: {grpc: {address: \":1\"}}\nexpression_env", 1))
		_, report := Load(moved, func(string) (string, bool) { return "core", true }, first)
		if len(report.Errors) != 1 || report.Errors[0].Message != "a change of listen needs a restart" {
			t.Errorf("report = %s", report)
		}
	})
	t.Run("files are listed for watching", func(t *testing.T) {
		if len(first.Files) != 2 || first.Files[0] != path || first.Files[1] != filepath.Join(dir, "key") {
			t.Errorf("files = %v", first.Files)
		}
	})
}

func TestCloseEndsWhatNobodyHolds(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "key", "abcdefghijklmnop\n")
	path := write(t, dir, "config.yaml", reloadConfig)
	env := map[string]string{"PRODUCT": "core"}
	first := load(t, path, env, nil)
	second := load(t, path, env, first)
	first.Start()
	first.Close()
	first.Close()
	for _, i := range second.instances {
		if got := i.holders.Load(); i.name == "corp" && got != 1 {
			t.Errorf("%s is held by %d configurations, want 1", i.name, got)
		}
	}
	second.Close()
}

// TestMemoryKeySurvivesReload: tokens that are out stay good.
func TestMemoryKeySurvivesReload(t *testing.T) {
	path := write(t, t.TempDir(), "config.yaml", `version: 1
forward: {identity_token: {issuer: a, audience: b}}
routes: [{match: [/], public: true}]
`)
	first := load(t, path, nil, nil)
	second := load(t, path, nil, first)
	if a, b := string(first.Gate.Forward.Token.Minter.JWKS()), string(second.Gate.Forward.Token.Minter.JWKS()); a != b {
		t.Errorf("keys before %s, after %s", a, b)
	}
}
