package serve

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

// TestSemantics32FilesAreWatched: no signal is needed, a broken file changes nothing but
// what is reported, and mending it mends that.
func TestSemantics32FilesAreWatched(t *testing.T) {
	issuer := newIssuer(t)
	r := start(t, configuration(issuer.URL(), "nobody"), nil)
	r.serving()
	if got := r.check("/orders/", "x-api-key", apiKey); got != codes.PermissionDenied {
		t.Fatalf("before: %v", got)
	}
	r.write(configuration(issuer.URL(), "service"))
	r.eventually("the new file", func() bool { return r.check("/orders/", "x-api-key", apiKey) == codes.OK })

	r.write("version: 1\nroutes: [{mach: [/]}]\n")
	r.eventually("yellow line", func() bool {
		code, body := r.get("/readyz?verbose")
		return code == http.StatusOK && strings.Contains(body, "[!]configuration: the file is broken")
	})
	if _, body := r.get("/metrics"); !strings.Contains(body, "gatehouse_config_last_reload_successful 0") {
		t.Error("the metric does not tell that the file is broken")
	}
	if got := r.check("/orders/", "x-api-key", apiKey); got != codes.OK {
		t.Errorf("with a broken file: %v", got)
	}
	r.write(configuration(issuer.URL(), "service"))
	r.eventually("green line", func() bool {
		_, body := r.get("/readyz?verbose")
		return strings.Contains(body, "[+]configuration")
	})
}

// TestSemantics32SecretFilesAreWatched rotates a key the way that Kubernetes does: a link
// beside it is swapped. The configuration itself does not change.
func TestSemantics32SecretFilesAreWatched(t *testing.T) {
	dir := t.TempDir()
	version := func(name, key string) {
		t.Helper()
		folder := filepath.Join(dir, name)
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "key"), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	old, rotated := strings.Repeat("a", 32), strings.Repeat("b", 32)
	version("..1", old)
	if err := os.Symlink("..data/key", filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	content := strings.Replace(configuration(newIssuer(t).URL(), "service"), "{env: API_KEY}", fmt.Sprintf("{file: %q}", filepath.Join(dir, "key")), 1)
	r := start(t, content, nil)
	r.serving()
	for i, swap := range []struct{ name, key, gone string }{{"..2", rotated, old}, {"..3", old, rotated}} {
		version(swap.name, swap.key)
		r.eventually("the rotated key", func() bool { return r.check("/orders/", "x-api-key", swap.key) == codes.OK })
		if got := r.check("/orders/", "x-api-key", swap.gone); got != codes.Unauthenticated {
			t.Errorf("swap %d: the key that is gone: %v", i, got)
		}
	}
	loads := func() int { return strings.Count(r.log.String(), `"configuration loaded"`) }
	r.eventually("line about the last swap", func() bool { return loads() >= 3 })
	if n := loads(); n != 3 {
		t.Errorf("loaded %d times, want 3: once at start, once for each swap", n)
	}
}

// TestFailingIssuerIsLogged: once, not at every attempt; and once more when it is over.
func TestFailingIssuerIsLogged(t *testing.T) {
	issuer := newIssuer(t)
	issuer.Break(authntest.Garbage, authntest.Everywhere)
	content := strings.Replace(configuration(issuer.URL(), "service"), "audiences: [orders]", "audiences: [orders], keys: {refresh: 1s}", 1)
	r := start(t, content, nil)
	r.eventually("two failures", func() bool {
		_, body := r.get("/metrics")
		return !strings.Contains(body, `gatehouse_keyset_fetches_total{authenticator="corp",result="failed"} 0`) &&
			!strings.Contains(body, `gatehouse_keyset_fetches_total{authenticator="corp",result="failed"} 1`)
	})
	r.eventually("line about it", func() bool { return strings.Contains(r.log.String(), "keys cannot be fetched") })
	issuer.Break(authntest.NoFault, authntest.Everywhere)
	r.eventually("line about the end of it", func() bool { return strings.Contains(r.log.String(), "keys are fetched again") })
	if n := strings.Count(r.log.String(), "keys cannot be fetched"); n != 1 {
		t.Errorf("the log says %d times that keys cannot be fetched, want once", n)
	}
}
