package replay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const before = `version: 1
authenticators:
- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys:
    - {id: ruth, secret: {env: RUTH}, principal: {username: ruth, tenant: acme, roles: [reader]}}
    - {id: ada, secret: {env: ADA}, principal: {username: ada, tenant: acme, roles: [admin]}}
decision_log: {file: unused.jsonl, pseudonym_key: {env: PSEUDONYM_KEY}}
grants:
- {when: {usernames: [ruth], authenticators: [machines]}, add: {roles: [member]}}
routes:
- {match: ["GET /orders/"], name: orders, allow: [{roles: {any: [reader, admin]}}]}
- {match: ["/users/{user}/"], name: own, allow: [{username: "{path.user}", authenticators: [machines]}]}
- {match: ["/ada"], name: ada, allow: [{usernames: [ada], authenticators: [machines]}]}
- {match: ["/public/"], name: site, public: true}
`

// after takes orders from readers, opens admin, and asks for a name on the site.
var after = strings.NewReplacer(
	"any: [reader, admin]", "any: [admin]",
	"routes:", "routes:\n- {match: [\"/admin/\"], name: admin, allow: [{roles: {all: [admin]}}]}",
	"name: site, public: true", "name: site, allow: [{authenticated: true}]",
).Replace(before)

var environment = map[string]string{"RUTH": "ruth-key", "ADA": "ada-key", "PSEUDONYM_KEY": "a key of thirty-two bytes or more"}

func load(t testing.TB, text string) *config.Loaded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, report := config.Load(path, func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}, nil)
	if loaded == nil {
		t.Fatal(report)
	}
	t.Cleanup(loaded.Close)
	return loaded
}

// recorded is the log of requests, each "key GET /path", times over.
func recorded(t testing.TB, loaded *config.Loaded, pseudonymKey string, times int, requests ...string) []byte {
	t.Helper()
	var log bytes.Buffer
	writer, err := record.Open(record.Options{Out: &log, SampleAllowed: 1, PseudonymKey: pseudonymKey, Failed: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	gate := extauthz.NewGate(extauthz.Options{Observe: func(r *extauthz.Record) { writer.Write(r) }})
	gate.Swap(loaded.Snapshot)
	for range times {
		for _, text := range requests {
			parts := strings.Fields(text)
			call := &extauthz.Call{HTTP: true, Method: parts[1], Host: "localhost", Target: parts[2], Scheme: "https"}
			if parts[0] != "-" {
				call.Headers = []policy.Pair{{Name: "x-api-key", Value: parts[0]}}
			}
			gate.Check(t.Context(), call)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return log.Bytes()
}

var requests = []string{
	"ruth-key GET /orders/1", "ada-key GET /orders/1", "- GET /orders/1", "wrong GET /orders/1",
	"ruth-key GET /users/ruth/x", "ruth-key GET /users/ada/x", "ada-key GET /ada", "ruth-key GET /ada",
	"- GET /public/x", "ruth-key GET /public/x", "ada-key GET /admin/x", "- GET /a//b",
}

// run decides one log again.
func run(t testing.TB, log []byte, loaded *config.Loaded) (*Result, error) {
	return Run(t.Context(), []Log{{"log", bytes.NewReader(log)}}, loaded)
}

func flips(r *Result) []string {
	var list []string
	for _, f := range r.Flips {
		list = append(list, fmt.Sprintf("%d %s->%s %s->%s", f.Count, f.Before, f.After, f.OldRoute, f.NewRoute))
	}
	return list
}

// TestSameConfiguration: what is decided by the configuration that decided it comes out as
// it was, names that are only there as pseudonyms included.
func TestSameConfiguration(t *testing.T) {
	loaded := load(t, before)
	for _, key := range []string{"", environment["PSEUDONYM_KEY"]} {
		log := recorded(t, loaded, key, 1, requests...)
		if key != "" && bytes.Contains(log, []byte(`"ruth"}`)) {
			t.Fatalf("the log has names: %s", log)
		}
		result, err := run(t, log, loaded)
		if err != nil || len(result.Flips) > 0 || result.Records != len(requests) || result.Of(Hidden).Count > 0 {
			t.Errorf("with key %q: %+v, flips %v, %v", key, result, flips(result), err)
		}
	}
}

// TestOtherConfiguration: what comes out differently is counted, and shown.
func TestOtherConfiguration(t *testing.T) {
	log := recorded(t, load(t, before), environment["PSEUDONYM_KEY"], 10, requests...)
	log = append(log, "not a record\n{\"level\":\"info\"}\n"...)
	result, err := run(t, log, load(t, after))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"10 allowed->forbidden orders->orders", "10 allowed->unauthenticated site->site"}
	if got := flips(result); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("flips = %q, want %q", got, want)
	}
	// Nobody looked at ada's key on /admin/x, and the path of /a//b is not one.
	if result.Records != 10*len(requests) || result.Skipped != 2 || result.Of(Open).Count != 20 {
		t.Errorf("%d records, %d skipped, %d open; want %d, 2, 20", result.Records, result.Skipped, result.Of(Open).Count, 10*len(requests))
	}
	first := result.Flips[0].Examples
	if len(first) != maxExamples || first[0].At.String() != "log:1" || first[0].Request != "GET localhost/orders/1" || first[0].Caller == nil {
		t.Errorf("examples = %+v, want the first three, from line 1", first)
	}
}

// TestPseudonymsWithoutKey: names that cannot be compared are told.
func TestPseudonymsWithoutKey(t *testing.T) {
	log := recorded(t, load(t, before), environment["PSEUDONYM_KEY"], 1, "ada-key GET /ada")
	loaded := load(t, strings.Replace(before, ", pseudonym_key: {env: PSEUDONYM_KEY}", "", 1))
	result, err := run(t, log, loaded)
	if err != nil || result.Of(Hidden).Count != 1 || len(result.Flips) != 1 {
		t.Errorf("result %+v, %v; want one hidden name, and what it flips", result, err)
	}
}

func TestLineTooLong(t *testing.T) {
	_, err := run(t, bytes.Repeat([]byte("x"), maxLine+1), load(t, before))
	if err == nil || !strings.Contains(err.Error(), "log:1: the line is over 4 MiB") {
		t.Errorf("error %v, want the line and the limit", err)
	}
}

func BenchmarkReplay(b *testing.B) {
	log := recorded(b, load(b, before), "", 1_000, requests...)
	loaded := load(b, after)
	b.SetBytes(int64(len(log)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := run(b, log, loaded); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(1_000*len(requests)), "ns/record")
}
