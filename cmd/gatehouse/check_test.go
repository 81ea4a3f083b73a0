package main

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/story"
)

const (
	testConfig = "testdata/gatehouse.yaml"
	testKey    = "0123456789abcdef0123456789abcdef"
)

var testEnv = map[string]string{"API_KEY": testKey}

// TestCheckAndExplain holds what a person reads. The rows' names are the golden files'.
func TestCheckAndExplain(t *testing.T) {
	for _, row := range []struct {
		name string
		code int
		args []string
	}{
		{"public", exitOK, []string{"--path", "/"}},
		{"api-key", exitOK, []string{"--path", "/tenants/acme/orders/1", "--header", "X-API-Key: " + testKey}},
		{"wrong-api-key", exitRefused, []string{"--path", "/tenants/acme/orders/1", "--header", "x-api-key: guess"}},
		{"garbage-token", exitRefused, []string{"--path", "/me", "--header", "authorization: Bearer a.b.c"}},
		{"nobody", exitRefused, []string{"--path", "/me"}},
		{"other-tenant", exitRefused, []string{"--path", "/tenants/globex/orders/1", "--header", "x-api-key: " + testKey}},
		{"not-accepted", exitRefused, []string{"--method", "POST", "--path", "/tenants/acme/orders", "--header", "x-api-key: " + testKey}},
		{"scope-missing", exitRefused, []string{"--path", "/tenants/acme/orders/1", "--principal", "authenticator=corp,tenant=acme,roles=reader"}},
		{"second-requirement", exitOK, []string{"--path", "/tenants/acme/orders/1", "--principal", "authenticator=corp,subject=u1,attributes.department=audit"}},
		{"two-missing", exitRefused, []string{"--method", "POST", "--path", "/tenants/acme/orders", "--principal", "authenticator=corp,tenant=globex,roles=reader"}},
		{"malformed", exitRefused, []string{"--path", "/a/../b?access_token=s3cr3t"}},
		{"forbidden-host", exitRefused, []string{"--path", "/internal/x", "--host", "API.example.com:443"}},
		{"no-route", exitRefused, []string{"--path", "/internal/x"}},
		{"other-method", exitRefused, []string{"--method", "DELETE", "--path", "/tenants/acme/orders/1"}},
		{"shadow", exitRefused, []string{"--path", "/new/x"}},
		{"by-name", exitRefused, []string{"--path", "/me", "--context", "gatehouse.route=hoem"}},
	} {
		for _, command := range []string{"check", "explain"} {
			t.Run(command+"/"+row.name, func(t *testing.T) {
				got := runEnv(t, testEnv, "", append([]string{command, "--config", testConfig}, row.args...)...)
				if got.code != row.code || got.err != "" {
					t.Errorf("exit %d, stderr %q; want %d and nothing", got.code, got.err, row.code)
				}
				for _, secret := range []string{testKey, "guess", "s3cr3t"} {
					if strings.Contains(got.out, secret) {
						t.Errorf("the output holds a credential: %q", secret)
					}
				}
				golden(t, filepath.Join(command, row.name+".txt"), got.out)
			})
		}
	}
}

// TestOneRequestInFourForms: flags, curl, JSON and the serialized message are one
// question.
func TestOneRequestInFourForms(t *testing.T) {
	explain := func(stdin string, args ...string) story.Story {
		t.Helper()
		got := runEnv(t, testEnv, stdin, append([]string{"explain", "--config", testConfig, "--output", "json"}, args...)...)
		var s story.Story
		if err := json.Unmarshal([]byte(got.out), &s); err != nil {
			t.Fatalf("%v: exit %d, %q, %q: %v", args, got.code, got.out, got.err, err)
		}
		return s
	}
	const request = `{"attributes": {"request": {"http": {"method": "GET", "host": "localhost", "path": "/tenants/acme/orders/1",
		"headers": {":authority": "localhost", "x-api-key": "` + testKey + `"}}}, "contextExtensions": {"listener": "front"}}}`
	decoded := &authv3.CheckRequest{}
	if err := protojson.Unmarshal([]byte(request), decoded); err != nil {
		t.Fatal(err)
	}
	message, err := proto.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "request.b64")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(message)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	forms := map[string]story.Story{
		"flags":         explain("", "--path", "/tenants/acme/orders/1", "-H", "x-api-key: "+testKey, "--context", "listener=front"),
		"curl":          explain("", "--curl", "curl -s 'http://localhost/tenants/acme/orders/1' -H 'x-api-key: "+testKey+"'", "--context", "listener=front"),
		"check request": explain(request, "--check-request", "-"),
		"serialized":    explain("", "--check-request", file),
	}
	for name, s := range forms {
		if s.Outcome != "allowed" || s.Route != "read-orders" || s.Principal == nil || s.Principal.Tenant != "acme" || s.Request.Host != "localhost" {
			t.Errorf("%s: %+v, want the same allowed request", name, s)
		}
	}
	// Bytes that are no CheckRequest are malformed, as they are for Envoy.
	if s := explain("/////w==", "--check-request", "-"); s.Outcome != "malformed" || s.Reason != "request_undecodable" {
		t.Errorf("garbage: %+v, want malformed", s)
	}
}

// TestExplainRecord decides records again: one that comes out the same, one that does not.
func TestExplainRecord(t *testing.T) {
	const records = `{"msg":"another line"}
{"id":"d1","time":"2027-01-02T03:04:05Z","snapshot":"abc","door":"grpc","request":{"method":"GET","scheme":"https","host":"localhost","path":"/tenants/acme/orders/1"},"route":"read-orders","position":"gatehouse.yaml:23:5","outcome":"allowed","reason":"requirement_met","status":200,"principal":{"authenticator":"corp","realm":"corp","subject":"u1","tenant":"acme","roles":["reader"],"scopes":["orders:read"]},"authenticator":"corp"}
{"id":"d2","time":"2027-01-02T03:04:06Z","snapshot":"abc","door":"grpc","request":{"method":"GET","host":"localhost","path":"/me"},"route":"me","outcome":"unauthenticated","reason":"expired","status":401,"authenticator":"corp"}
`
	file := filepath.Join(t.TempDir(), "decisions.log")
	if err := os.WriteFile(file, []byte(records), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		record string
		code   int
		want   string
	}{
		{":2", exitOK, "verdict   the same: allowed, requirement_met"},
		{":d1", exitOK, "decision  d1"},
		{"", exitRefused, "verdict   otherwise: unauthenticated, expired"},
	} {
		got := runEnv(t, testEnv, "", "explain", "--config", testConfig, "--record", file+row.record)
		if got.code != row.code || !strings.Contains(got.out, row.want) {
			t.Errorf("--record FILE%s: exit %d, want %d and %q:\n%s%s", row.record, got.code, row.code, row.want, got.out, got.err)
		}
	}
	if got := runEnv(t, testEnv, "", "explain", "--config", testConfig, "--record", file+":1"); got.code != exitUsage || !strings.Contains(got.err, "line 1 is no record") {
		t.Errorf("--record FILE:1: exit %d, %q", got.code, got.err)
	}
}

func TestQuestionsThatAreNone(t *testing.T) {
	config := []string{"--config", testConfig}
	for _, row := range []struct {
		name    string
		command string
		args    []string
		want    string
	}{
		{"no path", "check", config, "--path is missing"},
		{"a curl line that is empty", "explain", append(config, "--curl", ""), "--curl is empty"},
		{"a record that is empty", "explain", append(config, "--record", ""), "--record is empty"},
		{"a record that is none", "explain", append(config, "--record", testConfig), "is the record of a decision"},
		{"a path that is none", "check", append(config, "--path", "orders/1"), `invalid --path "orders/1"`},
		{"a URL for a path", "explain", append(config, "--path", "https://api.example.com/"), "the host belongs into --host"},
		{"no configuration", "check", []string{"--path", "/"}, "--config is missing"},
		{"a header that is none", "check", append(config, "--path", "/", "-H", "nonsense"), `invalid --header "nonsense"`},
		{"a context that is none", "check", append(config, "--path", "/", "--context", "x"), "write name=value"},
		{"a source that is none", "check", append(config, "--path", "/", "--source", "here"), "give an IP address"},
		{"a principal that is none", "check", append(config, "--path", "/", "--principal", "admin"), `"admin" is not key=value`},
		{"a principal with an unknown key", "check", append(config, "--path", "/", "--principal", "role=x"), `unknown key "role"`},
		{"a principal twice of a tenant", "check", append(config, "--path", "/", "--principal", "tenant=a,tenant=b"), "given twice"},
		{"a principal of nobody", "check", append(config, "--path", "/", "--principal", "roles=x"), "machines, corp"},
		{"a principal of an unknown authenticator", "check", append(config, "--path", "/", "--principal", "authenticator=crop"), `no authenticator "crop"`},
		{"a curl line that is none", "explain", append(config, "--curl", "wget x"), "reading the curl line"},
		{"two requests", "explain", append(config, "--curl", "curl h", "--check-request", "-"), "give one"},
		{"a path beside a curl line", "explain", append(config, "--curl", "curl h", "--path", "/"), "change it there"},
		{"JSON of something else", "explain", append(config, "--check-request", "-"), "is not the JSON of"},
		{"an output that is none", "explain", append(config, "--path", "/", "-o", "xml"), "give text or json"},
		{"routes without configuration", "routes", nil, "--config is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runEnv(t, testEnv, `{"attributes": 1}`, append([]string{row.command}, row.args...)...)
			if got.code != exitUsage || !strings.Contains(got.err, row.want) || got.out != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want 2 and %q", got.code, got.out, got.err, row.want)
			}
		})
	}
}

func TestCheckWithABrokenConfiguration(t *testing.T) {
	got := runLine(t, "", "check", "--config", testConfig, "--path", "/") // API_KEY is not set
	if got.code != exitRefused || !strings.Contains(got.err, testConfig+":7:") || got.out != "" {
		t.Errorf("exit %d, stdout %q, stderr %q; want 1 and the error with its place", got.code, got.out, got.err)
	}
}

func TestRoutes(t *testing.T) {
	for _, output := range []string{"text", "json"} {
		got := runEnv(t, testEnv, "", "routes", "--config", testConfig, "--output", output)
		if got.code != exitOK || got.err != "" {
			t.Errorf("routes -o %s: exit %d, stderr %q", output, got.code, got.err)
		}
		golden(t, filepath.Join("routes", output+".txt"), got.out)
	}
}

func TestValidate(t *testing.T) {
	for _, row := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		out  string // part of stdout, "" for nothing there
		err  string // part of stderr, "" for nothing there
	}{
		{"a good file", testEnv, nil, exitOK, "testdata/gatehouse.yaml: ok", "warning: "},
		{"warnings fail with --strict", testEnv, []string{"--strict"}, exitRefused, "ok", "warning: "},
		{"a broken file", nil, nil, exitRefused, "", "variable API_KEY"},
		{"a broken file in JSON", nil, []string{"-o", "json"}, exitRefused, `"level": "error"`, ""},
		{"a good file in JSON", testEnv, []string{"-o", "json"}, exitOK, `"routes": 6`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runEnv(t, row.env, "", append([]string{"validate", testConfig}, row.args...)...)
			if got.code != row.code || !strings.Contains(got.out, row.out) || (row.out == "") != (got.out == "") ||
				!strings.Contains(got.err, row.err) || (row.err == "") != (got.err == "") {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q, %q", got.code, got.out, got.err, row.code, row.out, row.err)
			}
		})
	}
	if got := runLine(t, "", "validate", "testdata/missing.yaml"); got.code != exitRefused || !strings.Contains(got.err, "no such file") {
		t.Errorf("a missing file: exit %d, %q", got.code, got.err)
	}
}
