package authn

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// Every fault at every document of the issuer, while requests run: each fresh good
// token is accepted, each forged one refused, before, during and after.
func TestKeySetThroughFaultsWhileRequestsRun(t *testing.T) {
	for _, fault := range []struct {
		name     string
		fault    authntest.Fault
		harmless bool
	}{
		{"status 500", authntest.Status500, false},
		{"an error document with status 200", authntest.ErrorDocument, false},
		{"an empty set", authntest.EmptySet, false},
		{"garbage", authntest.Garbage, false},
		{"no answer", authntest.Hang, false},
		{"a redirect to another host", authntest.RedirectAway, false},
		{"a redirect on the host", authntest.RedirectHere, true},
		{"a redirect in a circle", authntest.RedirectLoop, false},
		{"half an answer", authntest.Truncated, false},
		{"a slow answer", authntest.Drip, false},
		{"an endless answer", authntest.Huge, false},
		{"a cut connection", authntest.Reset, false},
		{"members twice", authntest.Duplicates, false},
	} {
		for _, at := range []authntest.Endpoint{authntest.Everywhere, authntest.Discovery, authntest.KeySet} {
			t.Run(fmt.Sprintf("%s at %d", fault.name, at), func(t *testing.T) {
				t.Parallel()
				issuer := startIssuer(t, authntest.Options{})
				keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: 30 * time.Millisecond, Timeout: 250 * time.Millisecond})
				j := newTestJWT(t, issuer.URL(), keys, nil)
				stop := askConstantly(t, j, issuer)
				defer stop()

				before := keys.State()
				issuer.Break(fault.fault, at)
				waitFor(t, "the fault to be met", func() bool {
					s := keys.State()
					return s.Failures >= before.Failures+2 || fault.harmless && s.Successes >= before.Successes+2
				})
				if s := keys.State(); !s.Ready || s.Stale == fault.harmless || (s.LastError == "") != fault.harmless {
					t.Errorf("state = %+v during the fault, want ready, stale and with an error", s)
				}
				issuer.Break(authntest.NoFault, at)
				repaired := keys.State()
				waitFor(t, "recovery", func() bool {
					s := keys.State()
					return s.Successes > repaired.Successes+1 && !s.Stale && s.LastError == ""
				})
			})
		}
	}
}

// askConstantly asks j about fresh good and forged tokens until stop, and fails t
// about the first wrong answer.
func askConstantly(t *testing.T, j *JWT, issuer *authntest.Issuer) (stop func()) {
	t.Helper()
	forger, err := authntest.NewKey("key-1", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var asking sync.WaitGroup
	var asked atomic.Int64
	for range 2 {
		asking.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				asked.Add(1)
				if r := authenticate(j, issuer.Token(map[string]any{"jti": fmt.Sprint(n)})); r.Identity == nil {
					t.Errorf("a good token is refused: %v (%v)", r.Reason, r.Detail)
					return
				}
				forged := forger.Token(issuer.Claims(map[string]any{"jti": fmt.Sprint(n)}))
				if r := authenticate(j, forged); r.Identity != nil {
					t.Errorf("a forged token is accepted")
					return
				}
			}
		})
	}
	return func() {
		for end := asked.Load() + 20; asked.Load() < end && !t.Failed(); { // some after the last change
			time.Sleep(time.Millisecond)
		}
		close(done)
		asking.Wait()
	}
}

func TestKeySetRotationRefusesNoGoodToken(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour, UnknownKeyInterval: time.Nanosecond})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	stop := askConstantly(t, j, issuer)
	defer stop()
	for range 5 {
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		wantReason(t, authenticate(j, issuer.Token(nil)), policy.ReasonNone)
	}
}

func TestSemantics38UnknownKid(t *testing.T) {
	t.Run("a crowd with a new key causes one fetch and is accepted", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		_, before := issuer.Requests()
		var crowd sync.WaitGroup
		for n := range 50 {
			token := issuer.Token(map[string]any{"jti": fmt.Sprint(n)})
			crowd.Go(func() { wantReason(t, authenticate(j, token), policy.ReasonNone) })
		}
		crowd.Wait()
		if _, after := issuer.Requests(); after != before+1 {
			t.Errorf("%d fetches, want 1", after-before)
		}
	})
	t.Run("a flood of unknown keys causes one fetch and is refused", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		discovery, before := issuer.Requests()
		var flood sync.WaitGroup
		for n := range 200 {
			key := *issuer.Current()
			key.ID = fmt.Sprint("unknown-", n)
			token := key.Token(issuer.Claims(nil))
			flood.Go(func() { wantReason(t, authenticate(j, token), policy.ReasonUnknownKey) })
		}
		flood.Wait()
		discoveryAfter, after := issuer.Requests()
		if after != before+1 || discoveryAfter != discovery {
			t.Errorf("%d fetches of keys and %d of discovery, want 1 and 0", after-before, discoveryAfter-discovery)
		}
		if s := keys.State(); !s.Ready || s.Keys != 1 {
			t.Errorf("state = %+v, want it unharmed", s)
		}
	})
	t.Run("an unknown key while fetches fail is an outage", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		good := issuer.Token(nil)
		issuer.Break(authntest.Status500, authntest.Everywhere)
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // by its own fetch, and by the limit on fetches
			r := authenticate(j, issuer.Token(nil))
			wantReason(t, r, policy.ReasonKeysUnavailable)
			if r.RetryAfter <= 0 {
				t.Errorf("RetryAfter = %v, want a hint", r.RetryAfter)
			}
		}
		wantReason(t, authenticate(j, good), policy.ReasonNone)
	})
	t.Run("on a public route an unknown key starts no fetch", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		_, before := issuer.Requests()
		in := &Input{Value: issuer.Token(nil), Now: time.Now(), Local: true}
		wantReason(t, j.Authenticate(context.Background(), in), policy.ReasonUnknownKey)
		if _, after := issuer.Requests(); after != before {
			t.Errorf("%d fetches, want none", after-before)
		}
	})
	t.Run("a token that is of no use for another reason starts no fetch", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		key := *issuer.Current()
		key.ID = "unknown"
		_, before := issuer.Requests()
		wantReason(t, authenticate(j, key.Token(issuer.Claims(map[string]any{"exp": 1}))), policy.ReasonExpired)
		wantReason(t, authenticate(j, key.Token(issuer.Claims(map[string]any{"aud": "x"}))), policy.ReasonAudienceMismatch)
		wantReason(t, authenticate(j, key.Token(issuer.Claims(map[string]any{"iss": "x"}))), policy.ReasonIssuerMismatch)
		if _, after := issuer.Requests(); after != before {
			t.Errorf("%d fetches, want none", after-before)
		}
	})
	t.Run("whoever gives up while waiting for a key meets an outage", func(t *testing.T) {
		issuer := startIssuer(t, authntest.Options{})
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour, Timeout: 5 * time.Second})
		j := newTestJWT(t, issuer.URL(), keys, nil)
		issuer.Break(authntest.Hang, authntest.Everywhere)
		if _, err := issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		r := j.Authenticate(ctx, &Input{Value: issuer.Token(nil), Now: time.Now()})
		wantReason(t, r, policy.ReasonKeysUnavailable)
	})
}

func TestSemantics38NoKid(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{Algorithm: "ES256"})
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: 10 * time.Millisecond})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	strict := newTestJWT(t, issuer.URL(), keys, func(o *JWTOptions) { o.RequireKeyID = true })
	nameless := func() string {
		return issuer.Current().Sign(map[string]any{"alg": issuer.Current().Algorithm}, issuer.Claims(nil))
	}
	published := func(n int) {
		waitFor(t, "the keys", func() bool { return keys.State().Keys == n })
	}
	wantReason(t, authenticate(j, nameless()), policy.ReasonNone)
	wantReason(t, authenticate(strict, nameless()), policy.ReasonUnknownKey)
	wantReason(t, authenticate(strict, issuer.Token(nil)), policy.ReasonNone)

	if _, err := issuer.Rotate("EdDSA"); err != nil { // another algorithm: still the only one of its own
		t.Fatal(err)
	}
	published(2)
	wantReason(t, authenticate(j, nameless()), policy.ReasonNone)

	if _, err := issuer.Rotate("ES256"); err != nil { // a second of the algorithm
		t.Fatal(err)
	}
	published(3)
	wantReason(t, authenticate(j, nameless()), policy.ReasonUnknownKey)
}

func TestKeySetWithdrawal(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	first := issuer.Current()
	token := issuer.Token(nil)
	if _, err := issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	wantReason(t, authenticate(j, token), policy.ReasonNone)
	if _, _, ok := j.Cached(j.CacheKey(token), time.Now()); !ok {
		t.Fatal("the token is not cached")
	}
	kept := issuer.Token(nil)
	identity := authenticate(j, kept).Identity

	issuer.Withdraw(first.ID)
	if err := keys.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := j.Cached(j.CacheKey(token), time.Now()); ok {
		t.Error("the token of a withdrawn key is cached")
	}
	wantReason(t, authenticate(j, token), policy.ReasonUnknownKey)
	if r := authenticate(j, kept); r.Identity != identity || identity == nil {
		t.Error("the token of a key that stayed was verified again")
	}

	// Another key under the withdrawn one's name.
	other, err := authntest.NewKey(first.ID, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(other.JWK())
	if err := keys.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantReason(t, authenticate(j, token), policy.ReasonSignatureInvalid)
	wantReason(t, authenticate(j, other.Token(issuer.Claims(nil))), policy.ReasonNone)
}

func TestKeySetOutageAtStart(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	issuer.Break(authntest.Status500, authntest.Everywhere)
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: 20 * time.Millisecond})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	token := issuer.Token(nil)
	wantReason(t, authenticate(j, token), policy.ReasonKeysUnavailable)
	if s := keys.State(); s.Ready || s.LastError == "" || !s.LastSuccess.IsZero() {
		t.Errorf("state = %+v, want not ready, with an error", s)
	}
	peek, _ := new(Input).peekJWT(token)
	if !j.Takes(peek) {
		t.Error("a token of an issuer that is down is taken by nobody, want 503 for it")
	}
	issuer.Break(authntest.NoFault, authntest.Everywhere)
	waitFor(t, "recovery", func() bool { return keys.State().Ready })
	wantReason(t, authenticate(j, token), policy.ReasonNone)
}

func TestKeySetFirstRequestWaitsForTheFirstFetch(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	keys, err := NewKeySet(KeySetOptions{Issuer: issuer.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	j := newTestJWT(t, issuer.URL(), keys, nil)
	wantReason(t, authenticate(j, issuer.Token(nil)), policy.ReasonKeysUnavailable) // not started
	f := keys.begin()
	wantReason(t, authenticate(j, issuer.Token(nil)), policy.ReasonNone)
	f.wait(context.Background())
}

func TestKeySetStaleFor(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: 20 * time.Millisecond, StaleFor: 300 * time.Millisecond})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	token := issuer.Token(nil)
	wantReason(t, authenticate(j, token), policy.ReasonNone)
	issuer.Break(authntest.Reset, authntest.Everywhere)
	waitFor(t, "the outage", func() bool { return keys.State().Stale })
	wantReason(t, authenticate(j, token), policy.ReasonNone)
	wantReason(t, authenticate(j, issuer.Token(map[string]any{"jti": "x"})), policy.ReasonNone)
	waitFor(t, "the last good set to be too old", func() bool { return !keys.State().Ready })
	wantReason(t, authenticate(j, token), policy.ReasonKeysUnavailable) // though it is cached
	issuer.Break(authntest.NoFault, authntest.Everywhere)
	waitFor(t, "recovery", func() bool { return keys.State().Ready })
	wantReason(t, authenticate(j, token), policy.ReasonNone)
}

func TestKeySetStaleForNothing(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), Refresh: time.Hour, StaleFor: -1})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	token := issuer.Token(nil)
	wantReason(t, authenticate(j, token), policy.ReasonNone)
	issuer.Break(authntest.Status500, authntest.Everywhere)
	if err := keys.Reload(context.Background()); err == nil {
		t.Fatal("the fetch did not fail")
	}
	wantReason(t, authenticate(j, token), policy.ReasonKeysUnavailable)
}

func TestKeySetTLS(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{TLS: true})
	t.Run("the certificate of the configured authority is trusted", func(t *testing.T) {
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), CAPEM: issuer.CAPEM()})
		if s := keys.State(); !s.Ready {
			t.Errorf("state = %+v, want ready", s)
		}
	})
	t.Run("without it, it is not", func(t *testing.T) {
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL()})
		if s := keys.State(); s.Ready || !strings.Contains(s.LastError, "certificate") {
			t.Errorf("state = %+v, want an error about the certificate", s)
		}
	})
	t.Run("a certificate for another name is not trusted", func(t *testing.T) {
		issuer.Break(authntest.WrongCertificate, authntest.Everywhere)
		defer issuer.Break(authntest.NoFault, authntest.Everywhere)
		keys := startKeys(t, KeySetOptions{Issuer: issuer.URL(), CAPEM: issuer.CAPEM()})
		if s := keys.State(); s.Ready || !strings.Contains(s.LastError, "certificate") {
			t.Errorf("state = %+v, want an error about the certificate", s)
		}
	})
	if _, err := NewKeySet(KeySetOptions{Issuer: issuer.URL(), CAPEM: []byte("no certificate")}); err == nil {
		t.Error("a CA file without a certificate is accepted")
	}
}

func TestKeySetIgnoresBadKeysBesideGoodOnes(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	issuer.Publish(
		map[string]any{"kty": "RSA", "kid": "weak", "n": "", "e": "AQAB"},
		map[string]any{"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"},
		"not a key", nil, 5, map[string]any{},
	)
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL()})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	wantReason(t, authenticate(j, issuer.Token(nil)), policy.ReasonNone)
	if s := keys.State(); s.Keys != 1 || len(s.Refused) != 6 {
		t.Errorf("state = %+v, want one key used and six refused", s)
	}
	weak := *issuer.Current()
	weak.ID = "weak"
	_, before := issuer.Requests()
	wantReason(t, authenticate(j, weak.Token(issuer.Claims(nil))), policy.ReasonKeyUnsuitable)
	if _, after := issuer.Requests(); after != before {
		t.Error("the name of a refused key caused a fetch")
	}
}

func TestKeySetFile(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{})
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(members ...any) {
		t.Helper()
		body, err := json.Marshal(map[string]any{"keys": members})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewKeySet(KeySetOptions{JWKSFile: path}); err == nil {
		t.Error("a file that is not there is accepted")
	}
	write()
	if _, err := NewKeySet(KeySetOptions{JWKSFile: path}); err == nil {
		t.Error("a file without keys is accepted")
	}
	write(issuer.Current().JWK())
	keys, err := NewKeySet(KeySetOptions{JWKSFile: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	j := newTestJWT(t, issuer.URL(), keys, nil)
	first := issuer.Token(nil)
	wantReason(t, authenticate(j, first), policy.ReasonNone)

	if _, err := issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	write(issuer.Current().JWK())
	if err := keys.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantReason(t, authenticate(j, first), policy.ReasonUnknownKey)
	wantReason(t, authenticate(j, issuer.Token(nil)), policy.ReasonNone)

	write("garbage")
	if err := keys.Reload(context.Background()); err == nil {
		t.Error("reloading garbage gives no error")
	}
	wantReason(t, authenticate(j, issuer.Token(map[string]any{"jti": "x"})), policy.ReasonNone)
}

func TestKeySetOptions(t *testing.T) {
	for _, row := range []struct {
		name    string
		options KeySetOptions
		want    string // in the error; empty: none
	}{
		{"an issuer", KeySetOptions{Issuer: "https://issuer.example/realms/corp"}, ""},
		{"an issuer and where its document is", KeySetOptions{Issuer: "corp", DiscoveryURL: "https://issuer.example/.well-known/openid-configuration"}, ""},
		{"a loopback issuer over http", KeySetOptions{Issuer: "http://127.0.0.1:8080"}, ""},
		{"a loopback issuer over http by name", KeySetOptions{Issuer: "http://idp.localhost:8080"}, ""},
		{"a loopback issuer over http by IPv6", KeySetOptions{Issuer: "http://[::1]:8080"}, ""},
		{"a key set beside an issuer's name", KeySetOptions{Issuer: "corp", JWKSURL: "https://issuer.example/jwks"}, ""},
		{"nothing", KeySetOptions{}, "exactly one source"},
		{"two sources", KeySetOptions{JWKSURL: "https://issuer.example/jwks", JWKSFile: "keys.json"}, "exactly one source"},
		{"two other sources", KeySetOptions{JWKSURL: "https://issuer.example/jwks", DiscoveryURL: "https://issuer.example"}, "exactly one source"},
		{"an issuer over http", KeySetOptions{Issuer: "http://issuer.example"}, "not https"},
		{"an issuer over http that only looks like loopback", KeySetOptions{Issuer: "http://localhost.example"}, "not https"},
		{"an issuer over http at a loopback-like address", KeySetOptions{Issuer: "http://127.0.0.1.example"}, "not https"},
		{"keys over http", KeySetOptions{JWKSURL: "http://issuer.example/jwks"}, "not https"},
		{"keys by ftp", KeySetOptions{JWKSURL: "ftp://issuer.example/jwks"}, "not https"},
		{"keys in a file URL", KeySetOptions{JWKSURL: "file:///etc/passwd"}, "not an absolute URL"},
		{"keys at no host", KeySetOptions{JWKSURL: "https:///jwks"}, "not an absolute URL"},
		{"a relative URL", KeySetOptions{JWKSURL: "/jwks"}, "not an absolute URL"},
		{"credentials in a URL", KeySetOptions{JWKSURL: "https://user:secret@issuer.example/jwks"}, "credentials"},
		{"a fragment", KeySetOptions{JWKSURL: "https://issuer.example/jwks#x"}, "fragment"},
		{"an issuer with a query", KeySetOptions{Issuer: "https://issuer.example?x=1"}, "query"},
		{"a document that implies no issuer", KeySetOptions{DiscoveryURL: "https://issuer.example/metadata"}, "implies no issuer"},
		{"an unknown algorithm", KeySetOptions{Issuer: "https://issuer.example", Algorithms: []string{"none"}}, "not known"},
		{"a symmetric algorithm", KeySetOptions{Issuer: "https://issuer.example", Algorithms: []string{"HS256"}}, "shared secret"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := NewKeySet(row.options)
			switch {
			case row.want == "" && err != nil:
				t.Errorf("NewKeySet gave %v, want no error", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("NewKeySet gave %v, want an error with %q", err, row.want)
			case err != nil && strings.Contains(err.Error(), "secret@"):
				t.Errorf("the error tells a password: %v", err)
			}
		})
	}
}

// answers is a network with one host, in memory, for tests in a bubble.
type answers func(*http.Request) (status int, body string)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := a(r)
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{
		StatusCode: status, Request: r, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)),
	}, nil
}

func TestKeySetSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var fetched []time.Time
		var broken atomic.Bool
		keys, err := NewKeySet(KeySetOptions{
			JWKSURL: "https://issuer.example/jwks",
			transport: answers(func(*http.Request) (int, string) {
				mu.Lock()
				defer mu.Unlock()
				fetched = append(fetched, time.Now())
				if broken.Load() {
					return 500, ""
				}
				return 200, `{"keys":[` + rfc8037Key + `]}`
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		keys.Start()
		keys.Start() // once is enough
		synctest.Wait()
		between := func(i int, low, high time.Duration) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if got := fetched[i].Sub(fetched[i-1]); got < low || got > high {
				t.Errorf("fetch %d came after %v, want %v to %v", i, got, low, high)
			}
		}
		sleep := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		sleep(11 * time.Minute)
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(fetched) }
		n := count()
		if n != 3 {
			t.Fatalf("%d fetches in eleven minutes, want 3", n)
		}
		for i := 1; i < n; i++ {
			between(i, 4*time.Minute+30*time.Second, 5*time.Minute+30*time.Second)
		}

		broken.Store(true)
		sleep(8 * time.Minute)
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			want *= time.Second
			between(n+1+i, want-want/10, want+want/10)
		}
		if s := keys.State(); !s.Ready || !s.Stale {
			t.Errorf("state = %+v eight minutes into an outage, want stale and ready", s)
		}
		sleep(time.Hour)
		if s := keys.State(); s.Ready {
			t.Errorf("state = %+v more than an hour into an outage, want not ready", s)
		}

		broken.Store(false)
		sleep(34 * time.Second)
		if s := keys.State(); !s.Ready || s.Stale {
			t.Errorf("state = %+v after the outage, want ready", s)
		}
	})
}

func TestKeySetUnknownKeyInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetches := 0
		keys, err := NewKeySet(KeySetOptions{
			JWKSURL:   "https://issuer.example/jwks",
			Refresh:   time.Hour,
			transport: answers(func(*http.Request) (int, string) { fetches++; return 200, `{"keys":[` + rfc8037Key + `]}` }),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		keys.Start()
		synctest.Wait()
		for range 60 { // a minute of unknown keys, one a second
			_, reason, _ := keys.find(t.Context(), header{algorithm: "EdDSA", keyID: "x", hasKeyID: true}, time.Now(), false)
			if reason != policy.ReasonUnknownKey {
				t.Fatalf("find gave %v, want %v", reason, policy.ReasonUnknownKey)
			}
			time.Sleep(time.Second)
		}
		if fetches != 1+6 {
			t.Errorf("%d fetches, want the first and one each ten seconds", fetches)
		}
	})
}

// A fetch that asked before a key was published must not refuse the key's first token.
func TestKeySetFetchUnderWayKnowsTheNewKeyToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := `{"keys":[` + rfc8037Key + `]}`
		keys, err := NewKeySet(KeySetOptions{
			JWKSURL: "https://issuer.example/jwks",
			transport: answers(func(*http.Request) (int, string) {
				body := published // as it was when the request came in
				time.Sleep(time.Second)
				return 200, body
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer keys.Close()
		if err := keys.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		early := keys.begin()
		synctest.Wait()
		published = `{"keys":[{"kid":"new",` + rfc8037Key[1:] + `]}`
		key, reason, err := keys.find(t.Context(), header{algorithm: "EdDSA", keyID: "new", hasKeyID: true}, time.Now(), false)
		if key == nil {
			t.Errorf("find gave %v (%v), want the key", reason, err)
		}
		early.wait(t.Context())
	})
}

func TestKeySetCloseEndsAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := NewKeySet(KeySetOptions{
			JWKSURL:   "https://issuer.example/jwks",
			transport: answers(func(*http.Request) (int, string) { return 0, "" }),
		})
		if err != nil {
			t.Fatal(err)
		}
		keys.Start()
		synctest.Wait()
		begun := time.Now()
		keys.Close()
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("Close took %v, want it to end the fetch", waited)
		}
		keys.Start()
		if err := keys.Reload(t.Context()); err == nil {
			t.Error("Reload after Close gives no error")
		}
		keys.Close()
	})
}

func TestSemantics30Discovery(t *testing.T) {
	const suffix = "/.well-known/openid-configuration"
	for _, row := range []struct {
		name        string
		issuer, url string // configured
		document    string // its issuer
		asked       string // where the document is
		want        string // issuer that tokens must have; empty: refused
	}{
		{"the issuer's own document", "https://i.example/a", "", "https://i.example/a", "https://i.example/a" + suffix, "https://i.example/a"},
		{"an issuer that ends in a slash", "https://i.example/", "", "https://i.example/", "https://i.example" + suffix, "https://i.example/"},
		{"a document with a slash more", "https://i.example", "", "https://i.example/", "https://i.example" + suffix, ""},
		{"a document with a slash less", "https://i.example/", "", "https://i.example", "https://i.example" + suffix, ""},
		{"a document of somebody else", "https://i.example", "", "https://j.example", "https://i.example" + suffix, ""},
		{"a document in another case", "https://i.example", "", "https://I.example", "https://i.example" + suffix, ""},
		{"a document without issuer", "https://i.example", "", "", "https://i.example" + suffix, ""},
		{"a URL alone", "", "https://i.example/a" + suffix, "https://i.example/a", "https://i.example/a" + suffix, "https://i.example/a"},
		{"a URL alone, and an issuer that ends in a slash", "", "https://i.example" + suffix, "https://i.example/", "https://i.example" + suffix, "https://i.example/"},
		{"a URL alone, and somebody else's document", "", "https://i.example" + suffix, "https://j.example", "https://i.example" + suffix, ""},
		{"a URL as in RFC 8414", "", "https://i.example/.well-known/oauth-authorization-server/a", "https://i.example/a", "https://i.example/.well-known/oauth-authorization-server/a", "https://i.example/a"},
		{"a URL and an issuer that the document names", "tokens", "https://i.example" + suffix, "tokens", "https://i.example" + suffix, "tokens"},
		{"a URL and an issuer, and the document names the URL's", "tokens", "https://i.example" + suffix, "https://i.example", "https://i.example" + suffix, "tokens"},
		{"a URL and an issuer, and the document names neither", "tokens", "https://i.example" + suffix, "https://j.example", "https://i.example" + suffix, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []string
				keys, err := NewKeySet(KeySetOptions{
					Issuer: row.issuer, DiscoveryURL: row.url,
					transport: answers(func(r *http.Request) (int, string) {
						asked = append(asked, r.URL.String())
						if len(asked) == 1 {
							return 200, fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://keys.example/jwks"}`, row.document)
						}
						return 200, `{"keys":[` + rfc8037Key + `]}`
					}),
				})
				if err != nil {
					t.Fatal(err)
				}
				defer keys.Close()
				j := newTestJWT(t, row.issuer, keys, nil)
				if err := keys.Reload(t.Context()); (err == nil) != (row.want != "") {
					t.Fatalf("fetching gave %v, want %q", err, row.want)
				}
				if asked[0] != row.asked {
					t.Errorf("asked at %s, want %s", asked[0], row.asked)
				}
				if row.want == "" {
					if keys.State().Ready || len(asked) != 1 {
						t.Errorf("state = %+v and requests %q, want it not ready and no keys asked for", keys.State(), asked)
					}
					return
				}
				for _, issuer := range []string{row.want, row.want + "/", strings.TrimSuffix(row.want, "/"), strings.ToUpper(row.want), ""} {
					if got := j.takesIssuer(issuer); got != (issuer == row.want) {
						t.Errorf("takesIssuer(%q) = %v, want only %q", issuer, got, row.want)
					}
				}
			})
		})
	}
}

func TestDiscoveryDocuments(t *testing.T) {
	for _, row := range []struct{ name, body, want string }{
		{"no JSON", `<html>`, "not well formed"},
		{"a list", `[]`, "not an object"},
		{"an issuer that is no string", `{"issuer":5,"jwks_uri":"https://k.example"}`, "not the one expected"},
		{"the issuer twice", `{"issuer":"https://j.example","issuer":"https://i.example","jwks_uri":"https://k.example"}`, "twice"},
		{"the issuer in another case only", `{"Issuer":"https://i.example","jwks_uri":"https://k.example"}`, "not the one expected"},
		{"no jwks_uri", `{"issuer":"https://i.example"}`, "no jwks_uri"},
		{"a jwks_uri that is no string", `{"issuer":"https://i.example","jwks_uri":["https://k.example"]}`, "no jwks_uri"},
		{"keys over http", `{"issuer":"https://i.example","jwks_uri":"http://k.example"}`, "not https"},
		{"keys over http on this machine", `{"issuer":"https://i.example","jwks_uri":"http://127.0.0.1/latest"}`, "not fetched over http"},
		{"keys in a file", `{"issuer":"https://i.example","jwks_uri":"file:///etc/passwd"}`, "not an absolute URL"},
		{"keys at a relative URL", `{"issuer":"https://i.example","jwks_uri":"/jwks"}`, "not an absolute URL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			keys, err := NewKeySet(KeySetOptions{
				Issuer:    "https://i.example",
				transport: answers(func(*http.Request) (int, string) { return 200, row.body }),
			})
			if err != nil {
				t.Fatal(err)
			}
			defer keys.Close()
			if err := keys.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("fetching gave %v, want an error with %q", err, row.want)
			}
		})
	}
}
