package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzExplain: whatever a request is made of, explain tells its story, or exits with 2 and
// the usage; nothing in it controls the terminal.
func FuzzExplain(f *testing.F) {
	for _, seed := range []struct {
		form         uint8
		text, header string
	}{
		{0, "/tenants/acme/orders/1?x=1", "x-api-key: " + testEnv["API_KEY"]},
		{0, "/a/../b%zz\x1b[2J", "cookie: a=b; a=c"},
		{1, `curl -H 'x-api-key: k' -H "a: b" -b c=d -u e:f --data 'g' -X PUT https://h.example/me`, ""},
		{1, `curl --frob 'https://a`, "nonsense"},
		{2, `{"attributes":{"request":{"http":{"method":"GET","host":"h","path":"/me","headers":{"x-api-key":"k"}}},"contextExtensions":{"gatehouse.route":"me"}}}`, ""},
		{2, `{"unknown":1}`, ""},
		{3, `{"id":"d1","time":"2027-01-02T03:04:05Z","request":{"method":"GET","host":"localhost","path":"/me"},"outcome":"allowed","principal":{"authenticator":"corp","subject":"\u001b[2J"}}`, ""},
		{3, `{"outcome":`, ""},
		{4, "authenticator=corp,tenant=acme,roles=reader,attributes.a=b", ""},
	} {
		f.Add(seed.form, seed.text, seed.header)
	}
	log := filepath.Join(f.TempDir(), "decisions.log")
	f.Fuzz(func(t *testing.T, form uint8, text, header string) {
		args, stdin := []string{"explain", "--config", testConfig}, ""
		switch form % 5 {
		case 0:
			args = append(args, "--path", text)
		case 1:
			args = append(args, "--curl", text)
		case 2:
			args, stdin = append(args, "--check-request", "-"), text
		case 3:
			if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "--record", log)
		case 4:
			args = append(args, "--path", "/me", "--principal", text)
		}
		if header != "" {
			args = append(args, "--header", header)
		}
		got := runEnv(t, testEnv, stdin, args...)
		switch {
		case got.code == exitUsage && strings.Contains(got.err, "Usage:") && got.out == "":
			return
		case got.code != exitOK && got.code != exitRefused || got.err != "":
			t.Fatalf("%q = exit %d, stderr %q", args, got.code, got.err)
		case strings.ContainsAny(got.out, "\x1b\r\x00"):
			t.Fatalf("%q controls the terminal: %q", args, got.out)
		}
		again := runEnv(t, testEnv, stdin, append(args, "--output", "json")...)
		if !json.Valid([]byte(again.out)) || again.code != got.code {
			t.Fatalf("%q = exit %d, as JSON %d: %s", args, got.code, again.code, again.out)
		}
	})
}
