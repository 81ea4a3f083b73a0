package authn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
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
				got := a.Authenticate(t.Context(), input())
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

func newTestIntrospection(t *testing.T, p *testProvider, change func(*IntrospectionOptions)) *Introspection {
	t.Helper()
	o := IntrospectionOptions{
		URL: p.Server.URL + "/introspect", ClientID: testClient, ClientSecret: NewSecret(testPass), CacheFor: time.Minute, Remote: quick,
		Mapping: &Mapping{Stamp: Stamp{Authenticator: "opaque", Realm: "r"}, Subject: &Field{Claim: "sub", Required: true}, Scopes: &Field{Claim: "scope"}},
	}
	if change != nil {
		change(&o)
	}
	i, err := NewIntrospection(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i
}

func TestIntrospection(t *testing.T) {
	p := startProvider(t)
	now := time.Now()
	p.active = map[string]string{
		"good&=+ %":     fmt.Sprintf(`{"active": true, "sub": "alice", "scope": "a b", "iss": "https://idp", "jti": "1", "exp": %d}`, now.Unix()+300),
		"eternal":       `{"active": true, "sub": "alice"}`,
		"inactive":      `{"active": false, "sub": "alice"}`,
		"text":          `{"active": "true", "sub": "alice"}`,
		"silent":        `{"sub": "alice"}`,
		"nobody":        `{"active": true}`,
		"expired":       fmt.Sprintf(`{"active": true, "sub": "alice", "exp": %d}`, now.Unix()-1),
		"early":         fmt.Sprintf(`{"active": true, "sub": "alice", "nbf": %d}`, now.Unix()+60),
		"odd":           `{"active": true, "sub": "alice", "exp": "tomorrow"}`,
		"number":        `{"active": true, "sub": 7}`,
		"for us":        `{"active": true, "sub": "alice", "aud": ["x", "us"]}`,
		"for others":    `{"active": true, "sub": "alice", "aud": "others"}`,
		"case of claim": `{"Active": true, "sub": "alice"}`,
	}
	plain := newTestIntrospection(t, p, nil)
	ours := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
		o.Audiences = []string{"us"}
		o.Remote.CacheKeys = NewCacheKeys()
	})
	for _, tt := range []struct {
		name   string
		by     *Introspection
		token  string
		reason policy.Reason
	}{
		{"active, and escaped on the way", plain, "good&=+ %", 0},
		{"active without end", plain, "eternal", 0},
		{"inactive", plain, "inactive", policy.ReasonTokenInactive},
		{"unknown", plain, "unknown", policy.ReasonTokenInactive},
		{"active is no boolean", plain, "text", policy.ReasonProviderUnavailable},
		{"active is absent", plain, "silent", policy.ReasonProviderUnavailable},
		{"active is spelled in another case", plain, "case of claim", policy.ReasonProviderUnavailable},
		{"nobody", plain, "nobody", policy.ReasonClaimMissing},
		{"active and expired", plain, "expired", policy.ReasonExpired},
		{"active and not yet valid", plain, "early", policy.ReasonNotYetValid},
		{"an exp that is no date", plain, "odd", policy.ReasonClaimType},
		{"a subject that is no text", plain, "number", policy.ReasonClaimType},
		{"for us", ours, "for us", 0},
		{"for others", ours, "for others", policy.ReasonAudienceMismatch},
		{"for nobody", ours, "eternal", policy.ReasonAudienceMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.by.Authenticate(t.Context(), &Input{Value: tt.token, Request: request(), Now: now})
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
				t.Errorf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
			}
		})
	}

	t.Run("the principal", func(t *testing.T) {
		got := plain.Authenticate(t.Context(), &Input{Value: "good&=+ %", Request: request(), Now: now}).Identity.Principal
		if got.Authenticator != "opaque" || got.Issuer != "https://idp" || got.TokenID != "1" || got.Expires.Unix() != now.Unix()+300 || len(got.Scopes) != 2 {
			t.Errorf("it is %+v", got)
		}
	})
	t.Run("an answer is kept for a while, and never past its exp", func(t *testing.T) {
		i := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
			o.CacheFor = 10 * time.Minute
			o.Remote.CacheKeys = NewCacheKeys()
		})
		calls := func(at time.Duration, token string) int32 {
			before := p.calls.Load()
			i.Authenticate(t.Context(), &Input{Value: token, Request: request(), Now: now.Add(at)})
			return p.calls.Load() - before
		}
		for _, step := range []struct {
			at    time.Duration
			token string
			want  int32
		}{
			{0, "good&=+ %", 1}, {299 * time.Second, "good&=+ %", 0}, {301 * time.Second, "good&=+ %", 1},
			{0, "eternal", 1}, {599 * time.Second, "eternal", 0}, {600 * time.Second, "eternal", 1},
			{0, "unknown", 1}, {refusedFor - 1, "unknown", 0}, {refusedFor, "unknown", 1},
		} {
			if got := calls(step.at, step.token); got != step.want {
				t.Errorf("%q after %v: %d calls, want %d", step.token, step.at, got, step.want)
			}
		}
	})
	t.Run("nobody is asked where no I/O is wanted", func(t *testing.T) {
		before := p.calls.Load()
		got := plain.Authenticate(t.Context(), &Input{Value: "not seen yet", Request: request(), Now: now, Local: true})
		if got.Identity != nil || got.Reason.Outcome() != policy.Unavailable || p.calls.Load() != before {
			t.Errorf("Authenticate = %+v after %d calls", got, p.calls.Load()-before)
		}
		if got := plain.Authenticate(t.Context(), &Input{Value: "eternal", Request: request(), Now: now, Local: true}); got.Identity == nil {
			t.Errorf("what is known: %v", got.Reason)
		}
	})
	t.Run("a wrong secret of ours is an outage", func(t *testing.T) {
		i := newTestIntrospection(t, p, func(o *IntrospectionOptions) {
			o.ClientSecret = NewSecret("wrong")
			o.Remote.CacheKeys = NewCacheKeys()
		})
		if got := i.Authenticate(t.Context(), &Input{Value: "eternal", Request: request(), Now: now}); got.Reason != policy.ReasonProviderUnavailable {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	t.Run("a hit allocates nothing", func(t *testing.T) {
		in := &Input{Value: "eternal", Request: request(), Now: now}
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { plain.Authenticate(ctx, in) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
	p.active["outage"] = `{"active": true, "sub": "alice"}`
	testOutages(t, p, plain, "outage")
}

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

func TestLookup(t *testing.T) {
	p := startProvider(t)
	p.active = map[string]string{
		"a/b?c&d=e#f %+": `{"uid": "alice", "email": "alice@example.com"}`,
		"nobody":         `{"email": "x@example.com"}`,
		"empty":          `{"uid": ""}`,
		"number":         `{"uid": 7}`,
	}
	options := func() LookupOptions {
		return LookupOptions{
			URL: p.Server.URL + "/who-am-i?token={token}", Headers: map[string]string{"X-Static": "yes"}, CacheFor: time.Minute, Remote: quick,
			Mapping: &Mapping{Stamp: Stamp{Authenticator: "ecmwf-api", Realm: "ecmwf"}, Username: &Field{Claim: "uid"}, Attributes: map[string]*Field{"email": {Claim: "email"}}},
		}
	}
	l, err := NewLookup(options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	now := time.Now()
	for _, tt := range []struct {
		name, token string
		reason      policy.Reason
	}{
		{"good, and escaped on the way", "a/b?c&d=e#f %+", 0},
		{"refused", "unknown", policy.ReasonProviderRefused},
		{"nobody", "nobody", policy.ReasonClaimMissing},
		{"an empty name", "empty", policy.ReasonClaimType},
		{"a name that is no text", "number", policy.ReasonClaimType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				got := l.Authenticate(t.Context(), &Input{Value: tt.token, Request: request(), Now: now})
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
					t.Fatalf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
				}
				if got.Identity != nil {
					if q := got.Identity.Principal; q.Subject != "alice" || q.Username != "alice" || q.Attributes["email"].Values[0] != "alice@example.com" {
						t.Errorf("Authenticate = %+v", q)
					}
				}
			}
		})
	}
	p.active["outage"] = `{"uid": "alice"}`
	testOutages(t, p, l, "outage")
}

// TestLookupGoesNowhereElse: a credential is somebody else's text. Wherever the URL has it,
// it names a resource there and leads to no other; what would is refused, and nobody asked.
func TestLookupGoesNowhereElse(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		fmt.Fprint(w, `{"uid": "alice"}`)
	}))
	t.Cleanup(server.Close)
	lookup := func(path string, headers map[string]string) *Lookup {
		t.Helper()
		l, err := NewLookup(LookupOptions{
			URL: server.URL + path, Headers: headers, Remote: quick,
			Mapping: &Mapping{Stamp: testStamp, Username: &Field{Claim: "uid"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	inPath, inQuery := lookup("/users/{token}/me", nil), lookup("/me?token={token}", nil)
	inHeader := lookup("/me", map[string]string{"x-token": "{token}"})
	for _, tt := range []struct {
		name, credential string
		lookup           *Lookup
		asked            string // empty: nobody
	}{
		{"an ordinary one", "abc-1.2_3~", inPath, "/users/abc-1.2_3~/me"},
		{"with dots in it", "a..b.", inPath, "/users/a..b./me"},
		{"three dots", "...", inPath, "/users/.../me"},
		{"with a slash", "a/b+c=", inPath, "/users/a%2Fb%2Bc%3D/me"},
		{"with the end of the path", "a?b#c", inPath, "/users/a%3Fb%23c/me"},
		{"escaped already", "a%2Fb", inPath, "/users/a%252Fb/me"},
		{"a percent sign that escapes nothing", "100%", inPath, "/users/100%25/me"},
		{"one that is the parent", "..", inPath, ""},
		{"one that is the folder itself", ".", inPath, ""},
		{"one that climbs", "../../admin", inPath, ""},
		{"one that climbs in between", "a/../b", inPath, ""},
		{"one that climbs at the end", "a/..", inPath, ""},
		{"one that climbs with backslashes", `..\..\admin`, inPath, ""},
		{"one that climbs with parameters", "..;a=b/admin", inPath, ""},
		{"one that climbs when it is decoded", "%2e%2e", inPath, ""},
		{"one that climbs when it is decoded twice", "%252e%252e%252fadmin", inPath, ""},
		{"one that is escaped more often than anybody decodes", "%2525252e", inPath, ""},
		{"in the query there is nowhere to climb", "../a", inQuery, "/me?token=..%2Fa"},
		{"in the query there is nothing to add", "a&admin=1", inQuery, "/me?token=a%26admin%3D1"},
		{"in a header there is nowhere to climb", "../a", inHeader, "/me"},
		{"a line break in a header", "a\r\nx-admin: 1", inHeader, ""},
		{"a NUL in a header", "a\x00", inHeader, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = nil
			got := tt.lookup.Authenticate(t.Context(), &Input{Value: tt.credential, Request: request(), Now: time.Now()})
			if tt.asked == "" {
				if got.Reason != policy.ReasonCredentialMalformed || len(asked) != 0 {
					t.Errorf("Authenticate(%q) = %v, asked %q, want it refused", tt.credential, got.Reason, asked)
				}
				return
			}
			if got.Identity == nil || len(asked) != 1 || asked[0] != tt.asked {
				t.Errorf("Authenticate(%q) = %v (%v), asked %q, want %q", tt.credential, got.Reason, got.Detail, asked, tt.asked)
			}
		})
	}
}

func TestLookupsThatDoNotLoad(t *testing.T) {
	mapping := &Mapping{Stamp: testStamp}
	for _, tt := range []struct {
		name string
		o    LookupOptions
		want string
	}{
		{"no token anywhere", LookupOptions{URL: "https://a.example/who", Mapping: mapping}, "any credential would do"},
		{"the token in the host", LookupOptions{URL: "https://{token}.example/", Mapping: mapping}, "path and the query"},
		{"plain http", LookupOptions{URL: "http://a.example/{token}", Mapping: mapping}, "https"},
		{"no mapping", LookupOptions{URL: "https://a.example/{token}"}, "mapping"},
		{"a status that is no refusal", LookupOptions{URL: "https://a.example/{token}", Mapping: mapping, RefusedStatuses: []int{500}}, "500"},
		{"a header that is none", LookupOptions{URL: "https://a.example/", Mapping: mapping, Headers: map[string]string{"a b": "{token}"}}, "cannot be set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewLookup(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewLookup gives %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestClientCredentials(t *testing.T) {
	p := startProvider(t)
	verifier := p.verifier(t)
	fresh := func(t *testing.T) *ClientCredentials {
		t.Helper()
		c, err := NewClientCredentials(ClientCredentialsOptions{
			Stamp: Stamp{Authenticator: "cli", Realm: "cli"}, VerifyWith: Verifier{Issuer: verifier}, TokenURL: p.Server.URL + "/token",
			Remote: RemoteOptions{Timeout: 300 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	input := func(value string, at time.Duration) *Input {
		r := request()
		r.Source = netip.MustParseAddr("10.0.0.1")
		return &Input{Value: value, Request: r, Now: time.Now().Add(at)}
	}
	// The client of the provider has a colon in its id, which Basic cannot carry: there is
	// another one here.
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id == "cli" && secret == "s%3Acret" {
			r.SetBasicAuth("api%3A1%2F%C3%BC", "s%25cret%2B%3A")
		}
		p.token(w, r)
	})
	right := userPass("cli:s:cret")

	t.Run("a good client, exchanged once", func(t *testing.T) {
		c := fresh(t)
		before := p.calls.Load()
		for range 3 {
			got := c.Authenticate(t.Context(), input(right, 0))
			if got.Identity == nil {
				t.Fatalf("Authenticate = %v (%v)", got.Reason, got.Detail)
			}
			if q := got.Identity.Principal; q.Subject != "alice" || q.Authenticator != "cli" || q.Realm != "cli" || q.Issuer != p.issuer.URL() {
				t.Errorf("the principal is %+v", q)
			}
			if !strings.HasPrefix(got.Identity.Upstream, "Bearer ey") {
				t.Errorf("the upstream gets %q", got.Identity.Upstream)
			}
		}
		if n := p.calls.Load() - before; n != 1 {
			t.Errorf("%d calls", n)
		}
		before = p.calls.Load()
		if got := c.Authenticate(t.Context(), input(right, 271*time.Second)); got.Identity == nil || p.calls.Load() != before+1 {
			t.Errorf("before the token expires: %v after %d calls", got.Reason, p.calls.Load()-before)
		}
	})
	for _, tt := range []struct {
		name, credential string
		reason           policy.Reason
		access, answer   map[string]any
	}{
		{"a wrong secret", userPass("cli:wrong"), policy.ReasonExchangeRefused, nil, nil},
		{"an unknown client", userPass("nobody:s:cret"), policy.ReasonExchangeRefused, nil, nil},
		{"an empty secret", userPass("cli:"), policy.ReasonCredentialMalformed, nil, nil},
		{"an empty client", userPass(":x"), policy.ReasonCredentialMalformed, nil, nil},
		{"no base64", "%%%", policy.ReasonCredentialMalformed, nil, nil},
		{"a token for others", right, policy.ReasonAudienceMismatch, map[string]any{"aud": "others"}, nil},
		{"a token that is none", right, policy.ReasonTokenMalformed, nil, map[string]any{"access_token": "opaque"}},
		{"a token of another type", right, policy.ReasonProviderUnavailable, nil, map[string]any{"token_type": "mac"}},
		{"no token", right, policy.ReasonProviderUnavailable, nil, map[string]any{"access_token": nil}},
		{"a lifetime that is none", right, policy.ReasonProviderUnavailable, nil, map[string]any{"expires_in": "soon"}},
		{"a negative lifetime", right, policy.ReasonProviderUnavailable, nil, map[string]any{"expires_in": -1}},
		{"a lifetime beyond all clocks", right, 0, nil, map[string]any{"expires_in": 1 << 40}},
		{"a lifetime as a text", right, 0, nil, map[string]any{"expires_in": "300"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.mu.Lock()
			p.access, p.answer = tt.access, tt.answer
			p.mu.Unlock()
			got := fresh(t).Authenticate(t.Context(), input(tt.credential, 0))
			if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
				t.Errorf("Authenticate = %v, %v (%v), want %v", got.Identity, got.Reason, got.Detail, tt.reason)
			}
		})
	}
	p.access, p.answer = nil, nil

	t.Run("our own mistakes are outages", func(t *testing.T) {
		token := p.broken.Load()
		defer p.breaks(*token)
		for _, code := range []string{"invalid_scope", "unsupported_grant_type", "invalid_request", ""} {
			p.breaks(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"error": %q}`, code)
			})
			if got := fresh(t).Authenticate(t.Context(), input(right, 0)); got.Reason != policy.ReasonProviderUnavailable {
				t.Errorf("%q: %v", code, got.Reason)
			}
		}
	})
	t.Run("a gateway is no password oracle", func(t *testing.T) {
		c := fresh(t)
		for n := range freeFailures {
			got := c.Authenticate(t.Context(), input(userPass(fmt.Sprint("cli:guess-", n)), 0))
			if got.Reason != policy.ReasonExchangeRefused {
				t.Fatalf("guess %d: %v", n, got.Reason)
			}
			got.guess.count(time.Now())
		}
		before := p.calls.Load()
		if got := c.Authenticate(t.Context(), input(userPass("cli:guess-more"), 0)); got.Reason != policy.ReasonTooManyFailures || p.calls.Load() != before {
			t.Errorf("after %d guesses: %v", freeFailures, got.Reason)
		}
		elsewhere := input(right, 0)
		elsewhere.Request.Source = netip.MustParseAddr("10.0.0.2")
		if got := c.Authenticate(t.Context(), elsewhere); got.Identity == nil {
			t.Errorf("the client from elsewhere: %v", got.Reason)
		}
	})
	t.Run("a key that was withdrawn takes the exchange with it", func(t *testing.T) {
		c := fresh(t)
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil {
			t.Fatalf("Authenticate = %v (%v)", got.Reason, got.Detail)
		}
		old := p.issuer.Current()
		if _, err := p.issuer.Rotate("ES256"); err != nil {
			t.Fatal(err)
		}
		p.issuer.Withdraw(old.ID)
		if err := verifier.Keys().Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := p.calls.Load()
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil || p.calls.Load() != before+1 {
			t.Errorf("Authenticate = %v (%v) after %d calls", got.Reason, got.Detail, p.calls.Load()-before)
		}
	})
	t.Run("outages", func(t *testing.T) {
		repaired := p.broken.Load()
		c := fresh(t)
		for name, h := range outages {
			p.breaks(h)
			for range 2 {
				if got := c.Authenticate(t.Context(), input(right, 0)); got.Reason != policy.ReasonProviderUnavailable {
					t.Errorf("%s: %v (%v)", name, got.Reason, got.Detail)
				}
			}
		}
		p.breaks(*repaired)
		if got := c.Authenticate(t.Context(), input(right, 0)); got.Identity == nil {
			t.Errorf("afterwards: %v (%v)", got.Reason, got.Detail)
		}
	})
}

func TestRefreshToken(t *testing.T) {
	p := startProvider(t)
	p.active = map[string]string{
		"offline":  `{"active": true, "scope": "openid offline_access"}`,
		"online":   `{"active": true, "scope": "openid"}`,
		"alike":    `{"active": true, "scope": "xoffline_access offline_access2"}`,
		"unscoped": `{"active": true}`,
		"inactive": `{"active": false, "scope": "offline_access"}`,
	}
	verifier := p.verifier(t)
	options := RefreshTokenOptions{
		Stamp: Stamp{Authenticator: "offline", Realm: "oidc"}, VerifyWith: Verifier{Issuer: verifier}, ClientID: testClient, ClientSecret: NewSecret(testPass), RequiredScope: "offline_access",
		TokenURL: p.Server.URL + "/token", IntrospectionURL: p.Server.URL + "/introspect", Remote: quick,
	}
	r, err := NewRefreshToken(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	input := func(token string) *Input { return &Input{Value: token, Request: request(), Now: time.Now()} }
	for _, tt := range []struct {
		name, token string
		reason      policy.Reason
	}{
		{"offline", "offline", 0},
		{"without the scope", "online", policy.ReasonClaimMissing},
		{"with scopes that are alike", "alike", policy.ReasonClaimMissing},
		{"without any scope", "unscoped", policy.ReasonClaimMissing},
		{"inactive", "inactive", policy.ReasonTokenInactive},
		{"unknown", "unknown", policy.ReasonTokenInactive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				got := r.Authenticate(t.Context(), input(tt.token))
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
					t.Fatalf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
				}
				if got.Identity != nil && (got.Identity.Principal.Subject != "alice" || got.Identity.Principal.Realm != "oidc" || strings.Contains(got.Identity.Upstream, tt.token)) {
					t.Errorf("Authenticate = %+v, %q", got.Identity.Principal, got.Identity.Upstream)
				}
			}
		})
	}
	t.Run("what it takes", func(t *testing.T) {
		for _, tt := range []struct {
			name string
			peek Peek
			want bool
		}{
			{"an offline token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Offline", Algorithm: "HS512"}, true},
			{"a refresh token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Refresh"}, true},
			{"an access token", Peek{Issuer: p.issuer.URL(), HasIssuer: true, PayloadType: "Bearer"}, false},
			{"an offline token of others", Peek{Issuer: "https://evil", HasIssuer: true, PayloadType: "Offline"}, false},
			{"an offline token of nobody", Peek{PayloadType: "Offline"}, false},
		} {
			if got := r.Takes(tt.peek); got != tt.want {
				t.Errorf("%s: Takes = %v", tt.name, got)
			}
		}
	})
	t.Run("a wrong secret of ours is an outage", func(t *testing.T) {
		o := options
		o.ClientSecret, o.Remote.CacheKeys = NewSecret("wrong"), NewCacheKeys()
		wrong, err := NewRefreshToken(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := wrong.Authenticate(t.Context(), input("offline")); got.Reason != policy.ReasonProviderUnavailable {
			t.Errorf("Authenticate = %v", got.Reason)
		}
	})
	p.active["outage"] = p.active["offline"]
	testOutages(t, p, r, "outage")
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

// TestExchangedTokenIsYoungerThanTheRequest proves that a token which is issued while
// the exchange goes on is not one from the future.
func TestExchangedTokenIsYoungerThanTheRequest(t *testing.T) {
	p := startProvider(t)
	p.breaks(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		for time.Now().Unix() == begun.Unix() {
			time.Sleep(time.Millisecond) // until iat is after the request by any clock
		}
		r.SetBasicAuth("api%3A1%2F%C3%BC", "s%25cret%2B%3A")
		p.token(w, r)
	})
	c, err := NewClientCredentials(ClientCredentialsOptions{Stamp: testStamp, VerifyWith: Verifier{Issuer: p.verifier(t)}, TokenURL: p.Server.URL + "/token"})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Authenticate(t.Context(), &Input{Value: userPass("cli:secret"), Request: request(), Now: time.Now()}); got.Identity == nil {
		t.Errorf("Authenticate = %v (%v)", got.Reason, got.Detail)
	}
}
