package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const recordedDecision = `{"id":"one","request":{"method":"GET","scheme":"https","host":"localhost","path":"/admin/x"},"route":"admin","outcome":"forbidden","reason":"requirement_not_met","principal":{"authenticator":"machines","realm":"machines","roles":["reader"]}}
`

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
	for _, row := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing flips", []string{"--log", log, "--config", same, "--fail-on", "any"}, exitOK, "1 records, 0 come out differently"},
		{"what widens is refused", []string{"--log", log, "--config", wider}, exitRefused, "1: forbidden -> allowed (requirement_met)\n  old: route \"admin\"\n"},
		{"what widens does not narrow", []string{"--log", log, "--config", wider, "--fail-on", "narrow"}, exitOK, "line 1: GET localhost/admin/x by authenticator machines, roles reader"},
		{"JSON", []string{"--log", log, "--config", wider, "--output", "json"}, exitRefused, `"count": 1`},
		{"standard input", []string{"--log", "-", "--config", wider}, exitRefused, "forbidden -> allowed"},
		{"no log", []string{"--config", same}, exitUsage, "--log is missing"},
		{"no configuration", []string{"--log", log}, exitUsage, "--config is missing"},
		{"an unknown kind of flip", []string{"--log", log, "--config", same, "--fail-on", "all"}, exitUsage, "give widen, narrow or any"},
		{"a log that is not there", []string{"--log", filepath.Join(dir, "nowhere"), "--config", same}, exitRefused, "reading the decision log"},
		{"a file that is no log", []string{"--log", other, "--config", same}, exitRefused, "holds no record of a decision (1 other lines): give the file of decision_log"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runEnv(t, diffEnvironment, recordedDecision, append([]string{"replay"}, row.args...)...)
			if got.code != row.code || !strings.Contains(got.out+got.err, row.want) {
				t.Errorf("replay %q = exit %d, stdout %q, stderr %q; want exit %d with %q", row.args, got.code, got.out, got.err, row.code, row.want)
			}
		})
	}
}
