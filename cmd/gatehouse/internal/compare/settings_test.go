package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

const base = `version: 1
authenticators:
- name: corp
  only_from: [{sources: [10.0.0.0/8]}]
  jwt:
    issuer: https://idp.example.com
    audiences: [orders, billing]
    leeway: 5s
    require: [{expression: "claims.email_verified", message: "email is not verified"}]
    principal: {roles: {claim: groups, map: [{from: ops, to: admin}]}, username: {claim: email}}
- name: machines
  api_key: {from: [{header: x-api-key}], keys: [{id: batch, secret: {env: KEY}, principal: {roles: [service]}}]}
grants:
- {when: {authenticators: [machines]}, add: {scopes: [read]}}
tenancy: {separator: ":", default: "_", wildcard: "*"}
tcp: {allow: [{authenticators: [machines]}]}
limits: {queue: 10}
routes:
- {match: ["/admin/"], name: admin, allow: [{roles: {all: [admin]}}], answers: {forbidden: 404}}
- {match: ["/read/"], name: read, allow: [{scopes: {all: [read]}}]}
- {match: ["/"], name: site, public: true, opens: [admin, read]}
forward: {headers: {x-user: "{username}", x-roles: "{roles}"}}
`

func load(t testing.TB, text string) *config.Loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, report := config.Load(path, environment, nil)
	if loaded == nil {
		t.Fatal(report)
	}
	t.Cleanup(loaded.Close)
	return loaded
}

func environment(name string) (string, bool) {
	v, ok := map[string]string{"KEY": "example-key", "OTHER": "other-key", "KEY0": "key-0", "KEY1": "key-1", "KEY2": "key-2"}[name]
	return v, ok
}

// summary is what differs, a line each.
func summary(d Difference) string {
	var lines []string
	for i := range d.Changes {
		c := &d.Changes[i]
		line := fmt.Sprintf("%s %s%s", c.Direction, c.Request.Method, c.Request.Path)
		if c.Request.TCP {
			line = fmt.Sprintf("%s tcp", c.Direction)
		}
		if c.Principal != nil {
			line += " by " + c.Principal.Authenticator
		}
		lines = append(lines, line)
	}
	for _, s := range d.Settings {
		lines = append(lines, fmt.Sprintf("%s: %s", s.Path, s.Effect))
	}
	return strings.Join(lines, "\n")
}

// TestEveryChangeIsTold edits one thing after the other: what requests show is a change,
// with a principal that authenticators make, and everything else a setting that says what
// it can do.
func TestEveryChangeIsTold(t *testing.T) {
	old := load(t, base)
	for _, row := range []struct{ name, from, to, want string }{
		{"nothing", "", "", ""},
		{"another issuer", "https://idp.example.com", "https://idp.example.org", "authenticators.corp.jwt.issuer: may widen or narrow"},
		{"one more audience", "[orders, billing]", "[orders, billing, site]", "authenticators.corp.jwt.audiences: may widen or narrow"},
		{"any audience", "audiences: [orders, billing]", "any_audience: true", "authenticators.corp.jwt.audiences: may widen or narrow\nauthenticators.corp.jwt.any_audience: may widen"},
		{"a condition on claims less", "    require: [{expression: \"claims.email_verified\", message: \"email is not verified\"}]\n", "", "authenticators.corp.jwt.require: may widen"},
		{"more leeway", "leeway: 5s", "leeway: 60s", "authenticators.corp.jwt.leeway: may widen or narrow"},
		{"another mapping", "from: ops", "from: everybody", "authenticators.corp.jwt.principal.roles.map: may widen or narrow"},
		{"another place", "[10.0.0.0/8]", "[10.0.0.0/8, 192.168.0.0/16]", "authenticators.corp.only_from: may widen or narrow"},
		{"one more key", "keys: [", "keys: [{id: other, secret: {env: OTHER}}, ", "authenticators.machines.api_key.keys.other: may widen"},
		{"another principal of a key", "roles: [service]", "roles: [admin]", "authenticators.machines.api_key.keys.batch.principal.roles: may widen or narrow"},
		{"a role by a grant", "add: {scopes: [read]}", "add: {roles: [admin], scopes: [read]}", "widens GET/admin by machines\nforwards GET/read by machines\nforwards GET/ by machines"},
		{"a grant less", "grants:\n- {when: {authenticators: [machines]}, add: {scopes: [read]}}\n", "", "narrows GET/read by machines"},
		{"connections of everybody", "tcp: {allow: [{authenticators: [machines]}]}", "tcp: {allow: [{authenticated: true}]}", "widens tcp by corp"},
		{"connections of nobody", "tcp: {allow: [{authenticators: [machines]}]}\n", "", "narrows tcp by machines"},
		{"another status", "forbidden: 404", "forbidden: 410", "answers GET/admin by corp"},
		{"no identity on a public route", "public: true", "public: {identify: []}", "forwards GET/ by corp"},
		{"another header", "{username}", "{subject}", "forwards GET/admin by corp\nforwards GET/read by machines\nforwards GET/ by corp"},
		{"a limit", "queue: 10", "queue: 20", "limits: may widen or narrow"},
		{"where it listens", "version: 1\n", "version: 1\nlisten: {grpc: {address: \"127.0.0.1:9192\"}}\n", "listen: decides nothing"},
		{"a route that only watches", "routes:\n", "routes:\n- {match: [\"/admin/x\"], name: watch, forbid: true, mode: shadow}\n", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := base
			if row.from != "" {
				if text = strings.Replace(base, row.from, row.to, 1); text == base {
					t.Fatalf("%q is not there", row.from)
				}
			}
			if got := summary(Configurations(old, load(t, text))); got != row.want {
				t.Errorf("differences:\n%s\nwant:\n%s", got, row.want)
			}
		})
	}
}

// TestEffectsNameFields: what is said of fields is said of fields that there are.
func TestEffectsNameFields(t *testing.T) {
	known := map[protoreflect.FullName]bool{}
	files := []protoreflect.FileDescriptor{(&configv1.Config{}).ProtoReflect().Descriptor().ParentFile(), (&configv1.Authenticator{}).ProtoReflect().Descriptor().ParentFile(), (&configv1.Forward{}).ProtoReflect().Descriptor().ParentFile(), (&configv1.Values{}).ProtoReflect().Descriptor().ParentFile()}
	for _, file := range files {
		messages := file.Messages()
		for i := range messages.Len() {
			fields := messages.Get(i).Fields()
			for j := range fields.Len() {
				known[protoreflect.FullName(messages.Get(i).Name()+"."+fields.Get(j).Name())] = true
			}
		}
	}
	for name := range effects {
		if !known[name] {
			t.Errorf("there is no field %s", name)
		}
	}
}
