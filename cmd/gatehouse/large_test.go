package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// afterLoading is what a command may take on top of loading the file, in CPU time, which
// does not depend on what else the machine does.
const afterLoading = time.Second

// TestTenThousandRoutes: the commands that people wait for are not slower than loading.
func TestTenThousandRoutes(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: 1\nauthenticators:\n- {name: corp, jwt: {issuer: \"https://idp.example.com\", any_audience: true, principal: {tenant: {claim: t}, roles: {claim: groups}}}}\nroutes:\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "- match: [\"GET,POST /service%d/v%d/{tenant}/things/{id}\"]\n  name: r%d\n  allow: [{tenant: \"{path.tenant}\", roles: {any: [reader, admin]}, when: \"request.method == 'GET'\"}]\n", i%100, i/100, i)
	}
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	loading := cpu(t, func() {
		loaded, report := config.Load(file, func(string) (string, bool) { return "", false }, nil)
		if loaded == nil {
			t.Fatal(report)
		}
		loaded.Close()
	})
	for _, row := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"validate", file}, exitOK, "10000, with 20000 patterns"},
		{[]string{"validate", "--output", "sarif", file}, exitOK, `"results": []`},
		{[]string{"routes", "--config", file}, exitOK, "POST /service99/v99/{tenant}/things/{id}"},
		{[]string{"explain", "--config", file, "--path", "/service42/v7/acme/things/1", "--principal", "tenant=acme,roles=reader"}, exitOK, "route     r742"},
		{[]string{"explain", "--config", file, "--path", "/service42/v7/acme/things/1", "--principal", "tenant=globex,roles=reader"}, exitRefused, `tenant must be "acme"`},
	} {
		var got ran
		took := cpu(t, func() { got = runLine(t, "", row.args...) })
		if got.code != row.code || !strings.Contains(got.out, row.want) {
			t.Errorf("%v = exit %d, %.400q, stderr %q; want %d and %q", row.args, got.code, got.out, got.err, row.code, row.want)
		}
		if took > loading+afterLoading {
			t.Errorf("%v took %v of CPU, loading alone %v; want at most %v more", row.args, took, loading, afterLoading)
		}
	}
}

// cpu is the CPU time, of all threads, that the process spends while f runs.
func cpu(t *testing.T, f func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}
