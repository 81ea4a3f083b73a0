package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
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
	grants := func(want string, args ...string) {
		t.Helper()
		out := must(append([]string{"users"}, append(args, store, "adam", "--realm", "ecmwf")...)...)
		if !strings.HasSuffix(out, "adam of realm:ecmwf; granted now: "+want+"\n") {
			t.Errorf("users %s printed %q, want %q", strings.Join(args, " "), out, want)
		}
	}
	grants("editor reader", "grant", "--role", "reader", "--role", "editor")
	grants("admin editor reader", "grant", "--role", "admin", "--role", "reader")
	grants("admin reader", "revoke", "--role", "editor", "--role", "unheard-of")
	if out := must("users", "list", store, "--realm", "ecmwf"); out == "" {
		t.Error("list printed nothing")
	}
	var person struct {
		GrantedRoles []string `json:"granted_roles"`
		Owner        struct{ Issuer, Subject string }
	}
	out = must("users", "grant", store, "adam", "--realm", "ecmwf", "--role", "ops", "--output", "json")
	if err := json.Unmarshal([]byte(out), &person); err != nil || person.Owner.Subject != "adam" || !slices.Equal(person.GrantedRoles, []string{"admin", "ops", "reader"}) {
		t.Errorf("grant printed %q: %v", out, err)
	}
	grants("-", "revoke", "--all")

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
		{"no role to grant", []string{"users", "grant", store, "adam", "--realm", "ecmwf"}, exitUsage},
		{"an empty role to grant", []string{"users", "grant", store, "adam", "--realm", "ecmwf", "--role", ""}, exitRefused},
		{"nobody to grant to", []string{"users", "grant", store, "--role", "r"}, exitUsage},
		{"a role for nobody known", []string{"users", "grant", store, "nobody", "--role", "r"}, exitRefused},
		{"neither a role nor all to revoke", []string{"users", "revoke", store, "adam", "--realm", "ecmwf"}, exitUsage},
		{"both a role and all to revoke", []string{"users", "revoke", store, "adam", "--realm", "ecmwf", "--all", "--role", "r"}, exitUsage},
		{"a bad format of a grant", []string{"users", "grant", store, "adam", "--realm", "ecmwf", "--role", "r", "--output", "xml"}, exitUsage},
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

// TestHashKeyOfTheStore: a store is opened with its own hash key, wherever it comes from, and
// with no other, so that no command makes a token that the service does not know.
func TestHashKeyOfTheStore(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const key = "0123456789abcdef0123456789abcdef"
	config := write("gatehouse.yaml", "version: 1\nstore: {sqlite: {path: keyed.db}, hash_key: {env: KEY}}\nroutes:\n- match: [/]\n  forbid: true\n")
	keyed, plain := "--store="+filepath.Join(dir, "keyed.db"), "--store="+filepath.Join(dir, "plain.db")
	right, wrong, empty := write("key", key+"\n"), write("wrong", "another"), write("empty", "\n")
	made := runEnv(t, map[string]string{"KEY": key}, "", "tokens", "create", "--config", config, "--owner", "adam", "--realm", "r")
	if made.code != exitOK {
		t.Fatal(made.err)
	}
	if made := runLine(t, "", "tokens", "create", plain, "--owner", "adam", "--realm", "r"); made.code != exitOK {
		t.Fatal(made.err)
	}
	for _, row := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		says string // on standard error
	}{
		{"by the configuration", map[string]string{"KEY": key}, []string{"--config", config, "--store"}, exitOK, ""},
		{"by the configuration, for a file", map[string]string{"KEY": key}, []string{"--config", config, keyed}, exitOK, ""},
		{"by the environment", map[string]string{hashKeyVariable: key}, []string{keyed}, exitOK, ""},
		{"by a file", nil, []string{keyed, "--hash-key-file", right}, exitOK, ""},
		{"by a file, which counts before the environment", map[string]string{hashKeyVariable: "another"}, []string{keyed, "--hash-key-file", right}, exitOK, ""},
		{"none", nil, []string{keyed}, exitRefused, "the sqlite store was made with one, and none is given: give store.hash_key by --config, --hash-key-file or GATEHOUSE_HASH_KEY"},
		{"another", nil, []string{keyed, "--hash-key-file", wrong}, exitRefused, "wrong hash key: the sqlite store was made with another"},
		{"another in the configuration", map[string]string{"KEY": "another"}, []string{"--config", config, "--store"}, exitRefused, "wrong hash key: the sqlite store was made with another"},
		{"one for a store without", map[string]string{hashKeyVariable: key}, []string{plain}, exitRefused, "wrong hash key: the sqlite store was made without one"},
		{"an empty file", nil, []string{keyed, "--hash-key-file", empty}, exitRefused, "is empty"},
		{"no such file", nil, []string{keyed, "--hash-key-file", filepath.Join(dir, "nothing")}, exitRefused, "no such file"},
		{"a file for the store of the configuration", map[string]string{"KEY": key}, []string{"--config", config, "--store", "--hash-key-file", right}, exitUsage, "--hash-key-file is for"},
	} {
		got := runEnv(t, row.env, "", append([]string{"tokens", "list"}, row.args...)...)
		if got.code != row.code || !strings.Contains(got.err, row.says) {
			t.Errorf("%s: exit %d, %q, want %d, %q", row.name, got.code, got.err, row.code, row.says)
		}
		if strings.Contains(got.out+got.err, key) {
			t.Errorf("%s: the key was printed", row.name)
		}
	}
	// What was made with the key is what the service knows.
	got := runEnv(t, map[string]string{hashKeyVariable: key}, "", "tokens", "create", keyed, "--owner", "eve", "--realm", "r")
	if list := runEnv(t, map[string]string{"KEY": key}, "", "tokens", "list", "--config", config); got.code != exitOK || strings.Count(list.out, "realm:r") != 2 {
		t.Errorf("exit %d; the store has %q", got.code, list.out)
	}
}
