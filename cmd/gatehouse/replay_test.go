package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
