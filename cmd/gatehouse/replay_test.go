package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/record"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const recordedDecision = `{"id":"one","request":{"method":"GET","scheme":"https","host":"localhost","path":"/admin/x"},"route":"admin","outcome":"forbidden","reason":"requirement_not_met","principal":{"authenticator":"machines","realm":"machines","roles":["reader"]}}
`

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReplayCommand(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := `version: 1
authenticators:
- {name: machines, api_key: {from: [{header: x-api-key}], keys: [{id: batch, secret: {env: KEY}}]}}
routes:
- {match: ["/admin/"], name: admin, allow: [{roles: {all: [admin]}}]}
`
	same := write("same.yaml", text)
	wider := write("wider.yaml", strings.Replace(text, "[admin]}}", "[reader]}}", 1))
	log := write("decisions.jsonl", recordedDecision)
	other := write("other.jsonl", "no record\n")
	compressed := write("decisions.jsonl.1.gz", gzipped(t, recordedDecision))
	long := gzipped(t, strings.Repeat(recordedDecision, 1000))
	compressedCut := write("cut.gz", long[:len(long)/2])
	cut := write("cut.jsonl", recordedDecision+recordedDecision[:100])
	foreign := write("foreign.jsonl", recordedDecision+
		strings.Replace(recordedDecision, `"id"`, `"verdicts":[],"id"`, 1)+
		strings.Replace(recordedDecision, "requirement_not_met", "full_moon", 1))
	broken := write("broken.jsonl", recordedDecision[:100]+"\n"+recordedDecision)
	noGzip := write("no.gz", "\x1f\x8bnothing")
	for _, row := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing flips", []string{"--log", log, "--config", same, "--fail-on", "any"}, exitOK, "1 records, 0 come out differently"},
		{"what widens is refused", []string{"--log", log, "--config", wider}, exitRefused, "1: forbidden -> allowed (requirement_met)\n  old: route \"admin\"\n"},
		{"what widens does not narrow", []string{"--log", log, "--config", wider, "--fail-on", "narrow"}, exitOK, "decisions.jsonl:1: GET localhost/admin/x by authenticator machines, roles reader"},
		{"JSON", []string{"--log", log, "--config", wider, "--output", "json"}, exitRefused, `"count": 1`},
		{"standard input", []string{"--log", "-", "--config", wider}, exitRefused, "forbidden -> allowed"},
		{"no log", []string{"--config", same}, exitUsage, "--log is missing"},
		{"no configuration", []string{"--log", log}, exitUsage, "--config is missing"},
		{"an unknown kind of flip", []string{"--log", log, "--config", same, "--fail-on", "all"}, exitUsage, "give widen, narrow or any"},
		{"a log that is not there", []string{"--log", filepath.Join(dir, "nowhere"), "--config", same}, exitRefused, "reading the decision log"},
		{"several logs, in their order", []string{"--config", wider, compressed, log}, exitRefused, "  " + compressed + ":1: GET"},
		{"a log that is cut off", []string{"--config", same, cut}, exitOK, "1 end with their log, in the middle of a record: the writer was killed, or still writes (first: " + cut + ":2)"},
		{"a compressed log that is cut off", []string{"--config", same, "--output", "json", compressedCut}, exitOK, `"kind": "cut"`},
		{"records of another version", []string{"--config", same, foreign}, exitOK, "2 were written by another version of gatehouse, and are not decided: replay them with that version (first: " + foreign + `:2, unknown field "verdicts")`},
		{"a broken record", []string{"--config", same, broken}, exitOK, "1 begin like a record and are not JSON (first: " + broken + ":1, "},
		{"what is not gzip", []string{"--config", same, noGzip}, exitRefused, "no.gz: it begins like gzip and is not"},
		{"a file that is no log", []string{"--log", other, "--config", same}, exitRefused, "other.jsonl:1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runEnv(t, diffEnvironment, recordedDecision, append([]string{"replay"}, row.args...)...)
			if got.code != row.code || !strings.Contains(got.out+got.err, row.want) {
				t.Errorf("replay %q = exit %d, stdout %q, stderr %q; want exit %d with %q", row.args, got.code, got.out, got.err, row.code, row.want)
			}
		})
	}
}

// TestReplayMillionRecords: a log of the product's own recorder is decided again well
// within a minute; with a hundredth of them in every run.
func TestReplayMillionRecords(t *testing.T) {
	total := 10_000
	if os.Getenv("ACCEPTANCE") != "" {
		total = 1_000_000
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := `version: 1
authenticators:
- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys: [{id: batch, secret: {env: KEY}, principal: {username: ruth, tenant: acme, roles: [reader], scopes: ["orders:read"], attributes: {department: sales}}}]
decision_log: {file: unused.jsonl, pseudonym_key: {env: OTHER_KEY}}
routes:
- {match: ["GET /tenants/{tenant}/orders/"], name: read-orders, allow: [{tenant: "{path.tenant}", roles: {any: [reader, admin]}}]}
- {match: ["/admin/"], name: admin, allow: [{roles: {all: [admin]}}]}
- {match: ["GET /assets/"], name: assets, public: true}
- {match: ["/users/{user}/"], name: own, allow: [{username: "{path.user}", authenticators: [machines]}]}
`
	env := map[string]string{"KEY": "example-key", "OTHER_KEY": "a key of thirty-two bytes or more"}
	recording := write("old.yaml", text)
	after := write("new.yaml", strings.Replace(text, "[reader, admin]", "[admin]", 1))
	loaded, report := config.Load(recording, func(name string) (string, bool) { v, ok := env[name]; return v, ok }, nil)
	if loaded == nil {
		t.Fatal(report)
	}
	t.Cleanup(loaded.Close)
	log := filepath.Join(dir, "decisions.jsonl")
	writer, err := record.Open(record.Options{
		File: log, SampleAllowed: 1, PseudonymKey: env["OTHER_KEY"], MaxBytes: 64 << 30, Failed: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	gate := extauthz.NewGate(extauthz.Options{Observe: func(r *extauthz.Record) { writer.Write(r) }})
	gate.Swap(loaded.Snapshot)
	paths := []string{"/tenants/acme/orders/%d", "/tenants/evil/orders/%d", "/admin/x%d", "/assets/app.%d.js", "/users/ruth/%d"}
	key := []policy.Pair{{Name: "x-api-key", Value: "example-key"}, {Name: "user-agent", Value: "curl/8"}}
	for i := range total {
		gate.Check(t.Context(), &extauthz.Call{
			HTTP: true, Method: "GET", Host: "api.example.com", Target: fmt.Sprintf(paths[i%len(paths)], i), Scheme: "https", Headers: key,
			Source: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}),
		})
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	began, before := time.Now(), cpuTime(t)
	got := runEnv(t, env, "", "replay", "--log", log, "--config", after, "--fail-on", "any")
	elapsed, cpu := time.Since(began), cpuTime(t)-before
	want := fmt.Sprintf("%d: allowed -> forbidden (requirement_not_met)\n  old: route \"read-orders\"\n", total/len(paths))
	if got.code != exitRefused || !strings.HasPrefix(got.out, want) || !strings.Contains(got.out, fmt.Sprintf("%d records, %d come out differently\n", total, total/len(paths))) {
		t.Errorf("replay = exit %d, %s%s; want %s", got.code, got.out, got.err, want)
	}
	// What others do on the machine counts for nothing: it is CPU that is measured.
	if limit := 40 * time.Second; cpu > limit {
		t.Errorf("%d records cost %v of CPU, want at most %v, which two cores have in half that time", total, cpu, limit)
	}
	t.Logf("%d records of %d MiB in %v, with %v of CPU", total, info.Size()>>20, elapsed, cpu)
}

// cpuTime is what this process has used so far.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
