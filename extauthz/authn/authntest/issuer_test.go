package authntest

import (
	"encoding/json"
	"go/build"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestDeps(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		"testing":           "programs that show gatehouse run an issuer too",
		"net/http/httptest": "it brings flags of the test binary along",
		"github.com/gatehouse-authz/gatehouse/extauthz/authn": "what tests authn must not be made of it",
	} {
		if slices.Contains(pkg.Imports, path) {
			t.Errorf("authntest imports %s: %s", path, why)
		}
	}
}

// Every fault is one to an ordinary client, but for those that are none.
func TestFaultsAreFaults(t *testing.T) {
	issuer, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer issuer.Close()
	client := &http.Client{
		Timeout: 200 * time.Millisecond,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Host != via[0].URL.Host || len(via) > 3 {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	good := func(url string) bool {
		response, err := client.Get(url)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		var document struct {
			Issuer string
			Keys   []any
		}
		return err == nil && response.StatusCode == http.StatusOK && len(body) < 1<<20 && json.Unmarshal(body, &document) == nil &&
			(document.Issuer == issuer.URL() || len(document.Keys) == 1)
	}
	for fault := range Fault(len(faultNames)) {
		// A certificate takes TLS, and members twice take a strict reader.
		harmless := slices.Contains([]Fault{NoFault, RedirectHere, WrongCertificate, Duplicates}, fault)
		issuer.Break(fault, Everywhere)
		if got := good(issuer.DiscoveryURL()); got != harmless {
			t.Errorf("%v: the discovery document is good: %v, want %v", fault, got, harmless)
		}
		if got, want := good(issuer.JWKSURL()), harmless || fault == OtherIssuer; got != want {
			t.Errorf("%v: the key set is good: %v, want %v", fault, got, want)
		}
	}
}
