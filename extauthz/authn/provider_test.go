package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A testProvider is an authorization server, and a who-am-I service, over a real
// socket: it knows some tokens and clients, and breaks on demand.
type testProvider struct {
	*httptest.Server
	issuer *authntest.Issuer

	calls  atomic.Int32
	broken atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	active map[string]string // introspection answers by token
	access map[string]any    // changes of the claims of access tokens
	answer map[string]any    // changes of the token endpoint's answer
}

const (
	testClient = "api:1/ü" // RFC 6749 wants it escaped before it is put into Basic
	testPass   = "s%cret+:"
)

func startProvider(t *testing.T) *testProvider {
	t.Helper()
	issuer, err := authntest.Start(authntest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	p := &testProvider{issuer: issuer, active: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /introspect", p.introspect)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /who-am-i", p.whoAmI)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.calls.Add(1)
		if broken := p.broken.Load(); broken != nil {
			(*broken)(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Server.Close)
	return p
}

// breaks has every call answered by h; nil repairs.
func (p *testProvider) breaks(h http.HandlerFunc) {
	if h == nil {
		p.broken.Store(nil)
		return
	}
	p.broken.Store(&h)
}

func (p *testProvider) authenticated(w http.ResponseWriter, r *http.Request) bool {
	id, secret, _ := r.BasicAuth()
	if id == "api%3A1%2F%C3%BC" && secret == "s%25cret%2B%3A" {
		return true
	}
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"error": "invalid_client"}`)
	return false
}

func (p *testProvider) introspect(w http.ResponseWriter, r *http.Request) {
	if !p.authenticated(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	answer, ok := p.active[r.PostFormValue("token")]
	if !ok {
		answer = `{"active": false}`
	}
	fmt.Fprint(w, answer)
}

func (p *testProvider) token(w http.ResponseWriter, r *http.Request) {
	if !p.authenticated(w, r) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch r.PostFormValue("grant_type") {
	case "client_credentials":
	case "refresh_token":
		if _, ok := p.active[r.PostFormValue("refresh_token")]; !ok {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error": "invalid_grant"}`)
			return
		}
	default:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error": "unsupported_grant_type"}`)
		return
	}
	answer := map[string]any{"access_token": p.issuer.Token(p.access), "token_type": "bearer", "expires_in": 300}
	if scope := r.PostFormValue("scope"); scope != "" {
		answer["scope"] = scope
	}
	for name, value := range p.answer {
		answer[name] = value
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (p *testProvider) whoAmI(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Static") != "yes" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	answer, ok := p.active[r.URL.Query().Get("token")]
	if !ok {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	fmt.Fprint(w, answer)
}

func (p *testProvider) verifier(t *testing.T) *JWT {
	t.Helper()
	keys, err := NewKeySet(KeySetOptions{Issuer: p.issuer.URL()})
	if err != nil {
		t.Fatal(err)
	}
	m := &Mapping{Stamp: Stamp{Authenticator: "corp", Realm: "corp"}, Subject: &Field{Claim: "sub", Required: true}, Scopes: &Field{Claim: "scope"}}
	j, err := NewJWT(JWTOptions{Issuer: p.issuer.URL(), Audiences: []string{authntest.Audience}, Keys: keys, Map: m.Principal, CacheKeys: testCacheKeys})
	if err != nil {
		t.Fatal(err)
	}
	keys.Start()
	t.Cleanup(j.Close)
	return j
}

// outages are all the ways in which a provider is down, slow or talks nonsense.
var outages = map[string]http.HandlerFunc{
	"status 500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	"status 502 with a page": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>bad gateway", http.StatusBadGateway)
	},
	"status 429":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) },
	"status 404":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
	"a page with status 200": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>maintenance</html>") },
	"an empty answer":        func(http.ResponseWriter, *http.Request) {},
	"a list":                 func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[{"active": true}]`) },
	"a member twice": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"active": false, "active": true, "sub": "x", "uid": "x", "uid": "y", "access_token": "a", "access_token": "b"}`)
	},
	"a redirect": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	},
	"half an answer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, `{"active": tr`)
	},
	"a connection that is cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"an answer without end": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"active": true, "sub": "x", "pad": "`+strings.Repeat("x", 2<<20)+`"}`)
	},
	"no answer within the time": func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a server sees that a client has gone
		<-r.Context().Done()
	},
}

// testOutages proves that an authenticator answers each outage with 503, remembers
// none, and is well again afterwards.
func testOutages(t *testing.T, p *testProvider, a Authenticator, credential string) {
	t.Helper()
	input := func() *Input { return &Input{Value: credential, Request: request(), Now: time.Now()} }
	for name, h := range outages {
		t.Run("outage/"+name, func(t *testing.T) {
			p.breaks(h)
			for range 2 {
				before := p.calls.Load()
				var got Result
				// On a busy machine a call may not be out within its time; what is remembered
				// answers at once, however often it is asked.
				for tries := 0; tries < 5 && p.calls.Load() == before; tries++ {
					got = a.Authenticate(t.Context(), input())
				}
				if got.Identity != nil || got.Reason != policy.ReasonProviderUnavailable {
					t.Errorf("Authenticate = %v, %v (%v), want %v", got.Identity, got.Reason, got.Detail, policy.ReasonProviderUnavailable)
				}
				if p.calls.Load() == before {
					t.Error("the outage was remembered")
				}
				if got.Detail == nil || strings.Contains(got.Detail.Error(), credential) || strings.Contains(got.Detail.Error(), testPass) {
					t.Errorf("the detail is %v", got.Detail)
				}
			}
		})
	}
	p.breaks(nil)
	if got := a.Authenticate(t.Context(), input()); got.Identity == nil {
		t.Errorf("after the outages: %v (%v)", got.Reason, got.Detail)
	}
}

// quick is how providers are called in tests.
var quick = RemoteOptions{Timeout: 300 * time.Millisecond, CacheKeys: testCacheKeys}

func TestProviderAsksOnce(t *testing.T) {
	p := startProvider(t)
	p.active["good"] = `{"active": true, "sub": "alice"}`
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		p.introspect(w, r)
	})
	i := newTestIntrospection(t, p, func(o *IntrospectionOptions) { o.Remote = RemoteOptions{Timeout: 10 * time.Second, Calls: 2} })
	ask := func(ctx context.Context, token string) Result {
		return i.Authenticate(ctx, &Input{Value: token, Request: request(), Now: time.Now()})
	}
	results := make(chan Result, 50)
	impatient, giveUp := context.WithCancel(t.Context())
	go func() { results <- ask(impatient, "good") }()
	<-arrived
	giveUp()
	if got := <-results; got.Reason != policy.ReasonProviderUnavailable || !errors.Is(got.Detail, context.Canceled) {
		t.Errorf("who gave up got %v (%v)", got.Reason, got.Detail)
	}
	for range 50 {
		go func() { results <- ask(t.Context(), "good") }()
	}
	close(release)
	for range 50 {
		if got := <-results; got.Identity == nil {
			t.Errorf("who joined got %v (%v)", got.Reason, got.Detail)
		}
	}
	if n := p.calls.Load(); n != 1 {
		t.Errorf("%d calls for one token", n)
	}
}

func TestProviderCallsAreBounded(t *testing.T) {
	p := startProvider(t)
	var atOnce, most atomic.Int32
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		n := atOnce.Add(1)
		defer atOnce.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		p.introspect(w, r)
	})
	i := newTestIntrospection(t, p, func(o *IntrospectionOptions) { o.Remote = RemoteOptions{Timeout: 10 * time.Second, Calls: 3} })
	var all sync.WaitGroup
	for n := range 60 {
		all.Go(func() {
			i.Authenticate(t.Context(), &Input{Value: fmt.Sprint("token-", n), Request: request(), Now: time.Now()})
		})
	}
	all.Wait()
	if most.Load() > 3 {
		t.Errorf("%d calls at once", most.Load())
	}
}

func TestProviderQueueIsBounded(t *testing.T) {
	p := startProvider(t)
	release := make(chan struct{})
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		<-release
		p.introspect(w, r)
	})
	i := newTestIntrospection(t, p, func(o *IntrospectionOptions) { o.Remote = RemoteOptions{Timeout: 10 * time.Second, Calls: 1} })
	room := cap(i.queue)
	reasons := make(chan policy.Reason, room+10)
	for n := range cap(reasons) {
		go func() {
			reasons <- i.Authenticate(t.Context(), &Input{Value: fmt.Sprint("token-", n), Request: request(), Now: time.Now()}).Reason
		}()
	}
	for range cap(reasons) - room { // those that find no room do not wait
		if got := <-reasons; got != policy.ReasonOverloaded {
			t.Errorf("beyond the queue: %v", got)
		}
	}
	close(release)
	for range room {
		if got := <-reasons; got != policy.ReasonTokenInactive {
			t.Errorf("within the queue: %v", got)
		}
	}
}

func TestDiscoveredEndpoints(t *testing.T) {
	p := startProvider(t)
	verifier := p.verifier(t)
	c, err := NewClientCredentials(ClientCredentialsOptions{Stamp: testStamp, VerifyWith: Verifier{Issuer: verifier}, Remote: quick})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.endpoints.tokenURL(t.Context()); err != nil || got != p.issuer.URL()+"/token" {
		t.Errorf("tokenURL = %q, %v", got, err)
	}
	// The issuer of the tests announces no introspection.
	if got, err := c.endpoints.introspectionURL(t.Context()); err == nil {
		t.Errorf("introspectionURL = %q", got)
	}
	p.issuer.Break(authntest.Status500, authntest.Discovery)
	if got, err := c.endpoints.tokenURL(t.Context()); err != nil {
		t.Errorf("during an outage: %q, %v", got, err)
	}
	again, err := NewClientCredentials(ClientCredentialsOptions{Stamp: testStamp, VerifyWith: Verifier{Issuer: verifier}, Remote: quick})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.endpoints.tokenURL(t.Context()); err == nil {
		t.Errorf("before anything was discovered: %q", got)
	}
	p.issuer.Break(authntest.OtherIssuer, authntest.Discovery)
	if got, err := again.endpoints.tokenURL(t.Context()); err == nil {
		t.Errorf("a document of another issuer: %q", got)
	}
	p.issuer.Break(authntest.NoFault, authntest.Discovery)
	if _, err := again.endpoints.tokenURL(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	secret := testJWT(t, "corp", "https://corp")
	if _, err := NewClientCredentials(ClientCredentialsOptions{Stamp: testStamp, VerifyWith: Verifier{Issuer: secret}, Remote: quick}); err == nil {
		t.Error("an issuer that is not discovered, without token_url, loads")
	}
}
