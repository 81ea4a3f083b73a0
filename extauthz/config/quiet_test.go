package config

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestNoFalseAlarms loads the configurations that others copy. What they say is meant.
func TestNoFalseAlarms(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"../../test/systems/*/gatehouse.yaml", "../../envoy/*/gatehouse.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) < 7 {
		t.Fatalf("%d configurations, want those of five systems and of two gateways at least", len(paths))
	}
	const secret = "0123456789abcdef0123456789abcdef"
	env := map[string]string{
		"AUTH_API_KEY": secret, "AUTH_JWT_ISSUER_URL": "https://idp.example.com", "AUTH_JWT_AUDIENCE": "a", "AUTH_JWT_ORCHESTRATE_CLAIMS": "claims",
		"CDK_SSO_JWTAUTH_ISSUER": "https://idp.example.com", "CDK_SSO_JWTAUTH_USERNAMECLAIM": "email", "CDK_SSO_JWTAUTH_GROUPSCLAIM": "groups",
		"CDK_SSO_JWTAUTH_APIKEYCLAIM": "apikey", "CONSOLE_ISSUER": "https://console.example.com", "CONSOLE_JWT_SECRET": secret, "CONSOLE_API_KEY": secret,
		"AOT_OIDC_ISSUER": "https://idp.example.com", "AOT_WHOAMI_URL": "https://api.example.com/who-am-i", "AOT_OFFLINE_CLIENT_ID": "aot",
		"AOT_OFFLINE_CLIENT_SECRET": secret, "AOT_JWT_SECRET": secret, "PEER_SECRET": secret, "PEERS": "10.0.0.1", "OAUTH_CLIENT_ID": "horao",
		"OAUTH_SERVER_METADATA_URL": "https://idp.example.com/.well-known/openid-configuration", "OAUTH_ROLE_URI": "role", "ADMINISTRATOR_ROLE": "administrator",
		"STORE_PATH": filepath.Join(t.TempDir(), "gatehouse.db"),
	}
	for _, multi := range []string{"true", "false"} {
		env["MULTI_TENANCY_ENABLED"] = multi
		for _, path := range paths {
			lookup := func(name string) (string, bool) { value, ok := env[name]; return value, ok }
			loaded, report := Load(path, lookup, nil)
			if loaded == nil || len(report.Warnings) > 0 {
				t.Errorf("with MULTI_TENANCY_ENABLED=%s:\n%s", multi, report)
				continue
			}
			loaded.Close()
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(example, firstYAML(readme), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, report := Load(example, func(name string) (string, bool) { return secret, name == "BATCH_KEY" }, nil)
	if loaded == nil || len(report.Warnings) > 0 {
		t.Fatalf("the example of the README:\n%s", report)
	}
	loaded.Close()
}

// firstYAML is the first block of YAML on a page.
func firstYAML(page []byte) []byte {
	const begin, end = "\n```yaml\n", "\n```\n"
	_, rest, _ := bytes.Cut(page, []byte(begin))
	block, _, _ := bytes.Cut(rest, []byte(end))
	return block
}
