package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// row is a configuration and what the operator is told: every error must hold one of
// the texts of want, each of which must come up; none at all means that it loads.
type row struct {
	name string
	text string // without version, and without routes unless it has some
	env  map[string]string
	want []string
}

// corp is an authenticator for rows that are about something else.
const corp = "authenticators:\n- {name: corp, jwt: {issuer: \"https://idp.example.com\", any_audience: true, principal: {roles: {claim: groups}, attributes: {dep: {claim: dep}}}}}\n"

func complete(text string) string {
	if !strings.HasPrefix(text, "authenticators:") {
		text = corp + text
	}
	if !strings.Contains(text, "routes:") {
		text += "\nroutes: [{match: [/], allow: [{authenticated: true}]}]\n"
	}
	return "version: 1\n" + text
}

// tryLoad loads a text from a folder of its own.
func tryLoad(t *testing.T, text string, env map[string]string) (*Loaded, *Report) {
	t.Helper()
	path := write(t, t.TempDir(), "config.yaml", text)
	loaded, report := Load(path, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, nil)
	if loaded != nil {
		t.Cleanup(loaded.Close)
	}
	return loaded, report
}

func run(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			_, report := tryLoad(t, complete(r.text), r.env)
			seen := map[string]bool{}
			for _, p := range report.Errors {
				i := slices.IndexFunc(r.want, func(want string) bool { return strings.Contains(p.Message+"; "+p.Remedy, want) })
				if i < 0 {
					t.Errorf("unexpected: %s", p)
					continue
				}
				seen[r.want[i]] = true
			}
			for _, want := range r.want {
				if !seen[want] {
					t.Errorf("no error says %q: %s", want, report)
				}
			}
		})
	}
}

func TestSemantics2NothingVanishes(t *testing.T) {
	allow := func(requirement string) string {
		return "routes: [{match: [\"/{x}\"], allow: [" + requirement + "]}]"
	}
	run(t, []row{
		{name: "a requirement without a condition does not load", text: allow("{}"), want: []string{"no condition"}},
		{name: "any verified caller is written out", text: allow("{authenticated: true}")},
		{name: "authenticated: false is no condition", text: allow("{authenticated: false}"), want: []string{"can only be true"}},
		{name: "an empty tenant is not no tenant", text: allow(`{tenant: ""}`), want: []string{`"tenant" is empty`}},
		{name: "null is not no tenant", text: allow(`{tenant: null}`), want: []string{`"tenant" is empty`}},
		{name: "an empty list is not no list", text: allow(`{roles: {any: []}}`), want: []string{`list "any" is empty`}},
		{name: "a list that expands to nothing is not no list", text: allow(`{roles: {any: ["${ROLES[]}"]}}`),
			env: map[string]string{"ROLES": " , "}, want: []string{"empty after expansion"}},
		{name: "a whole list that expands to nothing", text: allow(`{realms: "${REALMS[]:-}"}`), want: []string{"empty after expansion"}},
		{name: "a condition that asks for nothing", text: allow(`{roles: {}}`), want: []string{"asks for nothing"}},
		{name: "attributes without a name", text: allow(`{attributes: {}}`), want: []string{`"attributes" is empty`}},
		{name: "audiences that come out empty are not any audience",
			text: `authenticators: [{name: a, jwt: {issuer: "https://a.example.com", audiences: ["${A[]:-}"]}}]`, want: []string{"empty after expansion"}},
		{name: "algorithms that come out empty are not all algorithms",
			text: `authenticators: [{name: a, jwt: {issuer: "https://a.example.com", any_audience: true, algorithms: "${A[]:-}"}}]`, want: []string{"empty after expansion"}},
		{name: "sources that come out empty are not everywhere",
			text: `authenticators: [{name: a, only_from: [{sources: ["${A[]:-}"]}], jwt: {issuer: "https://a.example.com", any_audience: true}}]`, want: []string{"empty after expansion"}},
		{name: "an item of a list cannot be null", text: allow(`{realms: [corp, null]}`), want: []string{"an item of"}},
		{name: "allow: [] is no way to write forbid", text: "routes: [{match: [/], allow: []}]", want: []string{`list "allow" is empty`}},
		{name: "a list of peers may be empty if it says so",
			text: `authenticators: [{name: a, peer: {secret: {env: S}, peers: ["${P[]:-}"], allow_empty: true}}]`, env: map[string]string{"S": strings.Repeat("s", 32)}},
		{name: "but not else",
			text: `authenticators: [{name: a, peer: {secret: {env: S}, peers: ["${P[]:-}"]}}]`, env: map[string]string{"S": strings.Repeat("s", 32)}, want: []string{"empty after expansion"}},
	})
}

func TestSemantics6NamesBelongToAnIssuer(t *testing.T) {
	run(t, []row{
		{name: "usernames in a grant", text: "grants: [{when: {usernames: [eve]}, add: {roles: [a]}}]", want: []string{"whose names"}},
		{name: "subjects in a grant", text: "grants: [{when: {subjects: [eve]}, add: {roles: [a]}}]", want: []string{"whose names"}},
		{name: "usernames in allow", text: "routes: [{match: [/], allow: [{usernames: [eve]}]}]", want: []string{"whose names"}},
		{name: "with an authenticator", text: "grants: [{when: {usernames: [eve], authenticators: [corp]}, add: {roles: [a]}}]"},
		{name: "with a realm", text: "routes: [{match: [/], allow: [{subjects: [eve], realms: [corp]}]}]"},
	})
}

func TestSemantics11NamedRoutes(t *testing.T) {
	run(t, []row{
		{name: "a route without match has a name", text: "routes: [{allow: [{authenticated: true}]}]", want: []string{"neither match nor name"}},
		{name: "and is reachable by it", text: "routes: [{name: a, allow: [{authenticated: true}]}]"},
		{name: "it has no path parameters", text: `routes: [{name: a, allow: [{tenant: "{path.x}"}]}]`, want: []string{"there is no {path.x}"}},
		{name: "two routes with one name", text: "routes: [{name: a, match: [/a], public: true}, {name: a, match: [/b], public: true}]", want: []string{`named "a"`}},
	})
}

func TestSemantics12AudienceIsALiteralHost(t *testing.T) {
	file := func(routes string) string {
		return `forward: {identity_token: {issuer: a, audience: "{host}"}}` + "\nroutes: [" + routes + "]"
	}
	run(t, []row{
		{name: "every route has a host", text: file(`{match: [a.example.com/], allow: [{authenticated: true}]}, {match: ["GET b.example.com/x"], public: true}`)},
		{name: "one has none", text: file(`{match: [/], allow: [{authenticated: true}]}`), want: []string{"has no literal host"}},
		{name: "one has a wildcard", text: file(`{match: ["*.example.com/"], allow: [{authenticated: true}]}`), want: []string{"has no literal host"}},
		{name: "one that forbids mints nothing", text: file(`{match: [/], forbid: true}`)},
		{name: "one has its own audience", text: file(`{match: [/], allow: [{authenticated: true}], identity_token: {audience: billing}}`)},
		{name: "one is reachable by name only", text: file(`{name: a, allow: [{authenticated: true}]}`), want: []string{"has no pattern"}},
	})
}

func TestSemantics22Templates(t *testing.T) {
	header := func(value string) string {
		return fmt.Sprintf("forward: {headers: {x-a: %q}}\nroutes: [{match: [\"/{x}\"], allow: [{authenticated: true}]}]", value)
	}
	allow := func(tenant string) string {
		return fmt.Sprintf("routes: [{match: [\"/{x}\"], allow: [{tenant: %q}]}]", tenant)
	}
	run(t, []row{
		{name: "everything about the principal is for headers", text: header("{tenant}{tenants}{subject}{username}{realm}{roles}{scopes}{attributes.dep}{authenticator}{issuer}{token_id}")},
		{name: "and everything about the request", text: header("{path.x}{context.y}{query.z}")},
		{name: "double braces are braces", text: header("{{literal}}")},
		{name: "an unknown name does not load", text: header("{usernam}"), want: []string{"did you mean {username}"}},
		{name: "nor does an unqualified one", text: allow("{x}"), want: []string{"unknown reference {x}"}},
		{name: "path and context are for allow", text: allow("{path.x}-{context.y}")},
		{name: "the principal is not", text: allow("{tenant}"), want: []string{"cannot be used here"}},
		{name: "a parameter that the pattern lacks", text: allow("{path.y}"), want: []string{"has no {y}"}},
	})
}

func TestSemantics26ThreeWays(t *testing.T) {
	run(t, []row{
		{name: "none of them", text: "routes: [{match: [/]}]", want: []string{"does not say who passes"}},
		{name: "two of them", text: "routes: [{match: [/], public: true, forbid: true}]", want: []string{`"public" and "forbid"`}},
		{name: "public: false is no way", text: "routes: [{match: [/], public: false}]", want: []string{"does not say who passes"}},
		{name: "answers are refusals", text: "routes: [{match: [/], forbid: true, answers: {forbidden: 200}}]", want: []string{"400"}},
		{name: "404 hides", text: "routes: [{match: [/], forbid: true, answers: {forbidden: 404, unauthenticated: 404, body: none}}]"},
	})
}

func TestSemantics28SignInTargetIsPublic(t *testing.T) {
	file := func(routes string) string {
		return `sign_in: [{hosts: [ui.example.com], url: "https://{host}/login?to={request_uri}"}]` + "\nroutes: [" + routes + "]"
	}
	run(t, []row{
		{name: "a loop does not load", text: file(`{match: [/], allow: [{authenticated: true}]}`), want: []string{"for ever"}},
		{name: "a public target does", text: file(`{match: [/], allow: [{authenticated: true}]}, {match: ["GET,HEAD /login"], public: true}`)},
		{name: "a target on a host that is not listed is its own affair",
			text: "sign_in: [{hosts: [ui.example.com], url: \"https://login.example.com/\"}]"},
		{name: "the client cannot choose the host", text: `sign_in: [{hosts: [a.example.com], url: "https://{request_uri}/"}]`, want: []string{"the client would choose"}},
	})
}

func TestSemantics30IssuerAndKeys(t *testing.T) {
	file := func(jwt string) string { return "authenticators: [{name: a, jwt: {any_audience: true, " + jwt + "}}]" }
	secret := map[string]string{"S": strings.Repeat("s", 32)}
	run(t, []row{
		{name: "an issuer alone", text: file(`issuer: "https://a.example.com"`)},
		{name: "a discovery document alone", text: file(`discovery_url: "https://a.example.com/.well-known/openid-configuration"`)},
		{name: "both", text: file(`issuer: x, discovery_url: "https://a.example.com/.well-known/openid-configuration"`)},
		{name: "neither", text: file(`types: [at+jwt]`), want: []string{"the issuer is missing"}},
		{name: "any issuer needs keys", text: file(`any_issuer: true`), want: []string{"any_issuer needs keys"}},
		{name: "any issuer with keys", text: file(`any_issuer: true, jwks_url: "https://a.example.com/keys"`)},
		{name: "a shared secret", text: file(`issuer: console, shared_secret: {env: S}`), env: secret},
		{name: "two sources of keys", text: file(`issuer: a, jwks_url: "https://a.example.com/keys", shared_secret: {env: S}`), env: secret, want: []string{"keys come from"}},
		{name: "a published key cannot verify HS256", text: file(`issuer: "https://a.example.com", algorithms: [HS256]`), want: []string{"needs a shared secret"}},
		{name: "plain http", text: file(`issuer: "http://a.example.com"`), want: []string{"without encryption"}},
		{name: "plain http on loopback", text: file(`issuer: "http://127.0.0.1:8080/realms/a"`)},
	})
}

func TestSemantics31Environment(t *testing.T) {
	file := func(value string) string { return fmt.Sprintf("anonymous: {tenant: %q}", value) }
	tenant := func(value string, env map[string]string) string {
		t.Helper()
		loaded, report := tryLoad(t, complete(file(value)), env)
		if loaded == nil {
			t.Fatalf("loading %s: %s", value, report)
		}
		return loaded.Gate.AnonymousTenant
	}
	for _, test := range []struct {
		name, value, want string
		env               map[string]string
	}{
		{"a variable", "${T}", "acme", map[string]string{"T": "acme"}},
		{"in a text", "a-${T}-b", "a-acme-b", map[string]string{"T": "acme"}},
		{"a default", "${T:-_}", "_", nil},
		{"an empty variable counts as unset", "${T:-_}", "_", map[string]string{"T": ""}},
		{"a literal reference", "$${T}", "${T}", map[string]string{"T": "acme"}},
		{"a lone dollar is itself", "$2y$T", "$2y$T", nil},
		{"the value of a variable is not expanded again", "${T}", "${U}", map[string]string{"T": "${U}", "U": "x"}},
		{"nor is it YAML", "${T}", "a: [b]", map[string]string{"T": "a: [b]"}},
	} {
		if got := tenant(test.value, test.env); got != test.want {
			t.Errorf("%s: %s = %q, want %q", test.name, test.value, got, test.want)
		}
	}
	run(t, []row{
		{name: "unset without a default", text: file("${T}"), want: []string{"variable T is not set"}},
		{name: "empty without a default", text: file("${T}"), env: map[string]string{"T": ""}, want: []string{"variable T is not set"}},
		{name: "a list in a text", text: file("${T[]}"), env: map[string]string{"T": "a"}, want: []string{"list in the middle"}},
		{name: "an expression is not expanded", text: "routes: [{match: [/], allow: [{when: 'request.host == \"${T}\"'}]}]", env: map[string]string{"T": "a"}, want: []string{"not expanded in expressions"}},
		{name: "it reads env instead", text: "expression_env: [T]\nroutes: [{match: [/], allow: [{when: 'request.host == env.T'}]}]", env: map[string]string{"T": "a"}},
		{name: "if the variable is listed", text: "routes: [{match: [/], allow: [{when: 'request.host == env.T'}]}]", env: map[string]string{"T": "a"}, want: []string{"expression_env"}},
		{name: "a disabled block may lack its variables",
			text: "routes: [{match: [/], forbid: true}, {match: [\"${NOWHERE}\"], enabled: \"${ON:-false}\", nonsense: 1}]"},
		{name: "an optional secret drops its key",
			text: "authenticators: [{name: a, api_key: {keys: [{id: one, secret: {env: ONE}}, {id: next, secret: {env: NEXT, optional: true}}]}}]", env: map[string]string{"ONE": "0123456789"}},
		{name: "a required one does not",
			text: "authenticators: [{name: a, api_key: {keys: [{id: one, secret: {env: ONE}}]}}]", env: map[string]string{"ONE": ""}, want: []string{"not set or empty"}},
	})
	for value, want := range map[string]bool{"True": true, "true": true, "1": true, "False": false, "false": false, "0": false} {
		loaded, report := tryLoad(t, complete("authenticators: [{name: a, unscoped: \"${B}\", jwt: {issuer: \"https://a.example.com\", any_audience: true}}]"), map[string]string{"B": value})
		if loaded == nil || loaded.Config.GetAuthenticators()[0].GetUnscoped() != want {
			t.Errorf("a boolean from %q: %s", value, report)
		}
	}
}

func TestSemantics32SecretFiles(t *testing.T) {
	const text = "version: 1\nauthenticators: [{name: a, api_key: {keys: [{id: k, secret: {file: key}}]}}]\nroutes: [{match: [/], allow: [{authenticated: true}]}]\n"
	for _, test := range []struct{ name, content, want string }{
		{"no line break", "0123456789", "0123456789"},
		{"one is cut", "0123456789\n", "0123456789"},
		{"with its carriage return", "0123456789\r\n", "0123456789"},
		{"two secrets of one value do not load", "", ""},
	} {
		dir := t.TempDir()
		write(t, dir, "key", test.content)
		loaded, report := Load(write(t, dir, "config.yaml", text), func(string) (string, bool) { return "", false }, nil)
		if (loaded != nil) != (test.want != "") {
			t.Errorf("%s: %s", test.name, report)
			continue
		}
		if loaded == nil {
			continue
		}
		result := loaded.Gate.Set.Entry("a").Authenticator.Authenticate(t.Context(), &authn.Input{Value: test.want, Request: &policy.Request{}})
		if result.Identity == nil {
			t.Errorf("%s: the key %q does not count: %v", test.name, test.want, result.Reason)
		}
	}
	run(t, []row{{name: "two keys with one secret",
		text: "authenticators: [{name: a, api_key: {keys: [{id: one, secret: {env: A}}, {id: two, secret: {env: B}}]}}]",
		env:  map[string]string{"A": "0123456789", "B": "0123456789"}, want: []string{"have the same secret"}}})
}

func TestSemantics34ForwardPerRoute(t *testing.T) {
	header := func(name string) string { return fmt.Sprintf("forward: {headers: {%q: \"{username}\"}}", name) }
	rows := []row{
		{name: "two names that fold together in one block", text: "forward: {headers: {x-user: a, x_user: b}}", want: []string{"one header to many"}},
		{name: "and in two blocks", text: "forward: {headers: {x-user: a}}\nroutes: [{match: [/], forward: {headers: {x.user: b}}, allow: [{authenticated: true}]}]", want: []string{"one header to many"}},
		{name: "one name in two blocks", text: "forward: {headers: {x-user: a}}\nroutes: [{match: [/], forward: {headers: {x-user: b}}, allow: [{authenticated: true}]}]"},
		{name: "upper case", text: header("X-User"), want: []string{"lower case"}},
		{name: "keep beside a token in the same header", text: "forward: {credentials: keep, identity_token: {issuer: a, audience: b}}", want: []string{"both the credential and the identity token"}},
		{name: "keep beside a token elsewhere", text: "forward: {credentials: keep, identity_token: {issuer: a, audience: b, header: x-identity}}"},
		{name: "pass is for public routes", text: "routes: [{match: [/], credentials: pass, allow: [{authenticated: true}]}]", want: []string{"is not public"}},
		{name: "there it loads", text: "routes: [{match: [/], credentials: pass, public: true}]"},
	}
	for _, name := range []string{"host", "cookie", "connection", "te", "upgrade", "content-length", "transfer-encoding", "expect", "x-forwarded-for", "x-forwarded-proto", "x-envoy-internal", "x_forwarded_for"} {
		rows = append(rows, row{name: "refused: " + name, text: header(name), want: []string{"belongs to HTTP or to the proxy"}})
	}
	run(t, append(rows, row{name: "refused: a pseudo header", text: header(":path"), want: []string{"cannot be the name"}}))
}

// corpWith is one authenticator for JWTs with some more fields.
func corpWith(fields string) string {
	return "authenticators: [{name: corp, jwt: {issuer: \"https://idp.example.com\", any_audience: true, " + fields + "}}]"
}

func TestSemantics36AdminListener(t *testing.T) {
	const missing = "open to everybody who reaches its port"
	run(t, []row{
		{name: "a socket", text: `listen: {admin: {address: "unix:///run/gatehouse/admin.sock"}}`},
		{name: "a port", text: `listen: {admin: {address: "127.0.0.1:9443"}}`, want: []string{missing}},
		{name: "a port with TLS and no CA", text: `listen: {admin: {address: "127.0.0.1:9443", tls: {cert_file: c.pem, key_file: k.pem}}}`, want: []string{missing, "c.pem", "k.pem"}},
		{name: "a relative socket", text: `listen: {admin: {address: "unix:admin.sock"}}`, want: []string{"not the address of a socket"}},
	})
}

func TestSemantics37VersionAndBlocks(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"version is missing", "routes: [{match: [/], forbid: true}]\n", `"version" is not the first key`},
		{"version is not first", "routes: [{match: [/], forbid: true}]\nversion: 1\n", `"version" is not the first key`},
		{"version of the future", "version: 2\nroutes: [{match: [/], forbid: true}]\n", "version 2 is not known"},
	} {
		_, report := tryLoad(t, test.text, nil)
		if len(report.Errors) != 1 || !strings.Contains(report.Errors[0].Message, test.want) {
			t.Errorf("%s: %s, want %q", test.name, report, test.want)
		}
	}
	// Every block that the language has from its first version is known, whether or not this
	// release does what it says: nobody is told of an unknown field.
	for _, text := range []string{
		"decision_log: {file: decisions.log, sample_allowed: 0.5, pseudonym_key: {env: KEY}}",
		"decision_log: {file: none, otlp_endpoint: \"grpc://collector:4317\"}",
		"limits: {message_bytes: 8MiB, token_bytes: 16KiB, header_bytes: 32KiB, concurrent: 100, queue: 100}",
		"store: {sqlite: {path: gatehouse.db}}\ndirectory: {provision: true}",
		corpWith("keys: {refresh: 5m, unknown_kid_interval: 10s, stale_for: 1h, timeout: 5s, max_bytes: 1MiB, ca_file: ca.pem}"),
		corpWith("from: [{query: access_token}]"),
		"forward: {identity_token: {issuer: a, audience: b, header: x-token, keys: [{file: key.pem}]}}",
		"tracing: {otlp_endpoint: \"http://collector:4318\"}",
		"tcp: {allow: [{authenticated: true}]}",
		"trusted_proxies: [10.0.0.0/8]",
		"routes: [{match: [/], preflight: allow, allow: [{authenticated: true}]}]",
		"routes: [{match: [/], forbid: true}, {match: [/a], mode: shadow, allow: [{authenticated: true}]}]",
		"authenticators: [{name: cluster, peer: {signature: {key_id: c, secret: {env: KEY}, max_age: 30s, leeway: 5s}, peers: [10.0.0.1], principal: {roles: [peer]}}}]",
	} {
		_, report := tryLoad(t, complete(text), map[string]string{"KEY": "0123456789abcdef0123456789abcdef"})
		for _, p := range report.Errors {
			if strings.Contains(p.Message, "unknown field") || strings.Contains(p.Message, "must be a") {
				t.Errorf("%s\n%s", text, p)
			}
		}
	}
}

// TestReadingOfBytes: byte order marks, line breaks, tabs.
func TestReadingOfBytes(t *testing.T) {
	const text = "version: 1\nroutes:\n- match: [/]\n  forbd: true\n"
	for _, test := range []struct {
		name, text   string
		line, column int
	}{
		{"plain", text, 4, 3},
		{"byte order mark", "\xef\xbb\xbf" + text, 4, 3},
		{"CRLF", strings.ReplaceAll(text, "\n", "\r\n"), 4, 3},
		{"document start", "--- # here\n" + text, 5, 3},
		{"wide characters before the place", "version: 1\nroutes: [{name: \"日本\", forbd: true}]\n", 2, 23},
		{"not UTF-8", "version: 1\n# \xff\n", 2, 3},
		{"UTF-16", "\xff\xfev\x00", 1, 1},
		{"lone carriage return", "version: 1\rroutes: []\n", 1, 11},
		{"empty", "", 1, 1},
	} {
		_, report := tryLoad(t, test.text, nil)
		if len(report.Errors) == 0 || report.Errors[0].At.Line != test.line || report.Errors[0].At.Column != test.column {
			t.Errorf("%s: %s, want %d:%d", test.name, report, test.line, test.column)
		}
	}
}

func TestLimitOfTheFile(t *testing.T) {
	path := write(t, t.TempDir(), "config.yaml", "version: 1\n#"+strings.Repeat("x", maxFileBytes))
	if loaded, report := Load(path, nil, nil); loaded != nil || !strings.Contains(report.String(), "64 MiB") {
		t.Errorf("report = %s", report)
	}
	if loaded, report := Load(filepath.Join(t.TempDir(), "nowhere.yaml"), nil, nil); loaded != nil || !strings.Contains(report.String(), "no such file") {
		t.Errorf("report = %s", report)
	}
}

func TestParsePrefix(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1/32", "10.1.2.3/8": "10.0.0.0/8", "::1": "::1/128", "::ffff:10.0.0.1": "10.0.0.1/32", "fe80::/10": "fe80::/10",
	} {
		if got, ok := parsePrefix(text); !ok || got != netip.MustParsePrefix(want) {
			t.Errorf("parsePrefix(%q) = %v, %t, want %s", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "10.0.0.0/33", "localhost", "10.0.0.1:80", "fe80::1%eth0"} {
		if got, ok := parsePrefix(text); ok {
			t.Errorf("parsePrefix(%q) = %v", text, got)
		}
	}
}
