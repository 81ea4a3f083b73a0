package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokensOnTheStore drives the commands as an operator does, without a service.
func TestTokensOnTheStore(t *testing.T) {
	store := "--store=" + filepath.Join(t.TempDir(), "gatehouse.db")
	must := func(args ...string) string {
		t.Helper()
		got := runLine(t, "", args...)
		if got.code != exitOK {
			t.Fatalf("gatehouse %s: exit %d\n%s", strings.Join(args, " "), got.code, got.err)
		}
		return got.out
	}
	var made struct{ ID, Token string }
	out := must("tokens", "create", store, "--owner", "adam", "--realm", "ecmwf", "--scope", "read:users", "--output", "json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.ID == "" || !strings.HasPrefix(made.Token, "gh_"+made.ID) {
		t.Fatalf("create printed %q: %v", out, err)
	}
	if out := must("tokens", "list", store); !strings.Contains(out, made.ID) || strings.Contains(out, made.Token) || !strings.Contains(out, "good") {
		t.Errorf("list printed %q", out)
	}
	if out := must("tokens", "rotate", store, made.ID); !strings.HasPrefix(out, "gh_"+made.ID) || strings.TrimSpace(out) == made.Token {
		t.Errorf("rotate printed %q", out)
	}
	must("tokens", "revoke", store, made.ID)
	if out := must("tokens", "list", store); !strings.Contains(out, "revoked") {
		t.Errorf("list printed %q", out)
	}
	if out := must("tokens", "list", store, "--active", "--output", "json"); out != "" {
		t.Errorf("the active ones are %q", out)
	}
	must("users", "disable", store, "adam", "--realm", "ecmwf")
	if out := must("users", "list", store, "--disabled", "--output", "json"); !strings.Contains(out, `"adam"`) {
		t.Errorf("the disabled are %q", out)
	}
	must("users", "enable", store, "adam", "--realm", "ecmwf")
	must("tokens", "revoke", store, "--owner", "adam", "--realm", "ecmwf")

	config := filepath.Join(t.TempDir(), "gatehouse.yaml")
	text := "version: 1\nstore: {sqlite: {path: other.db}}\nroutes:\n- match: [/]\n  forbid: true\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	must("tokens", "create", "--config", config, "--owner", "eve", "--realm", "ecmwf")
	if out := must("tokens", "list", "--config", config, "--store"); !strings.Contains(out, "eve") {
		t.Errorf("the store of the configuration has %q", out)
	}
	for _, row := range []struct {
		name string
		args []string
		code int
	}{
		{"no id", []string{"tokens", "revoke", store}, exitUsage},
		{"an id and an owner", []string{"tokens", "revoke", store, "x", "--owner", "adam"}, exitUsage},
		{"an unknown id", []string{"tokens", "revoke", store, "nobody"}, exitRefused},
		{"nobody of that name", []string{"users", "disable", store, "nobody"}, exitRefused},
		{"no owner", []string{"tokens", "create", store}, exitRefused},
		{"a bad attribute", []string{"tokens", "create", store, "--owner", "a", "--realm", "r", "--attribute", "x"}, exitUsage},
		{"a bad time", []string{"tokens", "revoke", store, "--everything", "--before", "yesterday"}, exitUsage},
		{"a bad format", []string{"tokens", "list", store, "--output", "xml"}, exitUsage},
		{"two places", []string{"tokens", "list", store, "--admin", "unix:///x"}, exitUsage},
		{"no service", []string{"tokens", "list", "--admin", "unix://" + filepath.Join(t.TempDir(), "s")}, exitRefused},
		{"an unknown command", []string{"tokens", "crate"}, exitUsage},
	} {
		if got := runLine(t, "", row.args...); got.code != row.code {
			t.Errorf("%s: exit %d, want %d: %s", row.name, got.code, row.code, got.err)
		}
	}
}
