package authn

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// startIssuer starts an issuer that ends with the test.
func startIssuer(t testing.TB, options authntest.Options) *authntest.Issuer {
	t.Helper()
	issuer, err := authntest.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return issuer
}

// startKeys starts a key set that ends with the test, and waits for its first fetch.
func startKeys(t testing.TB, options KeySetOptions) *KeySet {
	t.Helper()
	keys, err := NewKeySet(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	keys.Start()
	waitFor(t, "the first fetch", func() bool {
		s := keys.State()
		return s.Successes+s.Failures > 0
	})
	return keys
}

// newTestJWT makes a JWT authenticator for [authntest.Audience] whose principals have
// the token's subject; change alters its options.
func newTestJWT(t testing.TB, issuer string, keys *KeySet, change func(*JWTOptions)) *JWT {
	t.Helper()
	options := JWTOptions{
		Issuer:    issuer,
		Audiences: []string{authntest.Audience},
		Keys:      keys,
		Map:       mapSubject,
	}
	if change != nil {
		change(&options)
	}
	j, err := NewJWT(options)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func mapSubject(claims Claims) (*policy.Principal, policy.Reason, error) {
	subject, _ := claims["sub"].(string)
	if subject == "" {
		return nil, policy.ReasonClaimMissing, fmt.Errorf("no subject")
	}
	return &policy.Principal{Authenticator: "test", Realm: "test", Subject: subject}, policy.ReasonNone, nil
}

func authenticate(j *JWT, token string) Result { return authenticateAt(j, token, time.Now()) }

func authenticateAt(j *JWT, token string, now time.Time) Result {
	return j.Authenticate(context.Background(), &Input{Value: token, Scheme: "Bearer", Now: now})
}

// waitFor polls until what holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func wantReason(t testing.TB, got Result, want policy.Reason) {
	t.Helper()
	if want == policy.ReasonNone {
		if got.Identity == nil {
			t.Errorf("refused with %v (%v), want it accepted", got.Reason, got.Detail)
		}
		return
	}
	if got.Identity != nil || got.Reason != want {
		t.Errorf("got identity %v, reason %v (%v), want reason %v", got.Identity, got.Reason, got.Detail, want)
	}
}

func TestJWTAlgorithms(t *testing.T) {
	issuer := startIssuer(t, authntest.Options{Path: "/realms/corp"})
	var tokens []string
	for _, a := range AsymmetricAlgorithms() {
		if _, err := issuer.Rotate(a); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, issuer.Token(nil))
	}
	keys := startKeys(t, KeySetOptions{Issuer: issuer.URL()})
	j := newTestJWT(t, issuer.URL(), keys, nil)
	for i, token := range tokens {
		t.Run(AsymmetricAlgorithms()[i], func(t *testing.T) {
			first := authenticate(j, token)
			wantReason(t, first, policy.ReasonNone)
			if second := authenticate(j, token); second.Identity != first.Identity {
				t.Errorf("the identity changed from one request to the next")
			}
			if p := first.Identity.Principal; p.Subject != "alice" || p.Issuer != issuer.URL() || p.Expires.IsZero() {
				t.Errorf("principal = %+v, want alice of %s with an expiry", p, issuer.URL())
			}
		})
	}
	if got, want := j.Stats().Verifications, uint64(len(tokens)); got != want {
		t.Errorf("%d signatures checked, want %d", got, want)
	}
	for _, name := range []string{"HS256", "HS384", "HS512"} {
		t.Run(name, func(t *testing.T) {
			secret := strings.Repeat("s", 64)
			j := newTestJWT(t, issuer.URL(), nil, func(o *JWTOptions) {
				o.SharedSecret, o.Algorithms = NewSecret(secret), []string{name}
			})
			if len(j.Warnings()) != 0 {
				t.Errorf("warnings %q for a long secret, want none", j.Warnings())
			}
			token := signHMAC(name, []byte(secret), map[string]any{"alg": name, "kid": "ignored"}, issuer.Claims(nil))
			wantReason(t, authenticate(j, token), policy.ReasonNone)
			wantReason(t, authenticate(j, tokens[0]), policy.ReasonAlgorithmRefused)
		})
	}
}

func TestJWTShortSecretIsAWarning(t *testing.T) {
	j := newTestJWT(t, "me", nil, func(o *JWTOptions) { o.SharedSecret = NewSecret("abracadabra") })
	if w := j.Warnings(); len(w) != 1 || !strings.Contains(w[0], "11 bytes") {
		t.Errorf("warnings = %q, want one about 11 bytes", w)
	}
}

func TestJWTOptions(t *testing.T) {
	keys, err := NewKeySet(KeySetOptions{JWKSURL: "https://issuer.example/jwks"})
	if err != nil {
		t.Fatal(err)
	}
	discovered, err := NewKeySet(KeySetOptions{Issuer: "https://issuer.example"})
	if err != nil {
		t.Fatal(err)
	}
	good := JWTOptions{Issuer: "https://issuer.example", Audiences: []string{"a"}, Keys: keys, Map: mapSubject}
	if _, err := NewJWT(good); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*JWTOptions)
	}{
		{"neither keys nor secret", func(o *JWTOptions) { o.Keys = nil }},
		{"both keys and secret", func(o *JWTOptions) { o.SharedSecret = NewSecret("x") }},
		{"no mapping", func(o *JWTOptions) { o.Map = nil }},
		{"no issuer, and keys that do not say one", func(o *JWTOptions) { o.Issuer = "" }},
		{"an issuer and any issuer", func(o *JWTOptions) { o.AnyIssuer = true }},
		{"any issuer with keys of one by discovery", func(o *JWTOptions) { o.Issuer, o.AnyIssuer, o.Keys = "", true, discovered }},
		{"no audience, which never means any", func(o *JWTOptions) { o.Audiences = nil }},
		{"audiences and any audience", func(o *JWTOptions) { o.AnyAudience = true }},
		{"an empty audience", func(o *JWTOptions) { o.Audiences = []string{"a", ""} }},
		{"an empty type", func(o *JWTOptions) { o.Types = []string{""} }},
		{"an unknown algorithm", func(o *JWTOptions) { o.Algorithms = []string{"RS257"} }},
		{"none", func(o *JWTOptions) { o.Algorithms = []string{"none"} }},
		{"HS256 with published keys", func(o *JWTOptions) { o.Algorithms = []string{"RS256", "HS256"} }},
		{"RS256 with a secret", func(o *JWTOptions) { o.Keys, o.SharedSecret, o.Algorithms = nil, NewSecret("x"), []string{"RS256"} }},
		{"other algorithms than the keys are wanted for", func(o *JWTOptions) { o.Algorithms = []string{"RS256"} }},
		{"a negative leeway", func(o *JWTOptions) { o.Leeway = -1 }},
		{"a token limit beyond the largest", func(o *JWTOptions) { o.MaxTokenBytes = MaxTokenBytes + 1 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := good
			row.change(&options)
			if _, err := NewJWT(options); err == nil {
				t.Error("no error, want one")
			}
		})
	}
}

// secretJWT makes an authenticator with a shared secret, and a function that signs
// tokens for it: good claims with changes, nil removing one.
func secretJWT(t testing.TB, now time.Time, change func(*JWTOptions)) (*JWT, func(changes map[string]any) string) {
	t.Helper()
	secret := strings.Repeat("k", 32)
	j := newTestJWT(t, "https://issuer.example", nil, func(o *JWTOptions) {
		o.SharedSecret = NewSecret(secret)
		if change != nil {
			change(o)
		}
	})
	return j, func(changes map[string]any) string {
		claims := map[string]any{
			"iss": "https://issuer.example", "aud": authntest.Audience, "sub": "alice",
			"iat": now.Unix(), "exp": now.Unix() + 300,
		}
		maps.Copy(claims, changes)
		maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
		return signHMAC("HS256", []byte(secret), map[string]any{"alg": "HS256", "typ": "JWT"}, claims)
	}
}

func TestJWTClaims(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(seconds float64) float64 { return 1_800_000_000 + seconds }
	leeway := func(o *JWTOptions) { o.Leeway = 10 * time.Second }
	short := func(o *JWTOptions) { o.MaxLifetime = time.Minute }
	for _, row := range []struct {
		name    string
		options func(*JWTOptions)
		claims  map[string]any
		want    policy.Reason
	}{
		{"good claims are accepted", nil, nil, 0},
		// exp
		{"expired this second is refused", nil, map[string]any{"exp": at(0)}, policy.ReasonExpired},
		{"expiring in a tenth of a second is accepted", nil, map[string]any{"exp": at(0.1)}, 0},
		{"expired one second ago is refused", nil, map[string]any{"exp": at(-1)}, policy.ReasonExpired},
		{"expired within the leeway is accepted", leeway, map[string]any{"exp": at(-9)}, 0},
		{"expired as long ago as the leeway is refused", leeway, map[string]any{"exp": at(-10)}, policy.ReasonExpired},
		{"no exp is refused", nil, map[string]any{"exp": nil}, policy.ReasonExpiryMissing},
		{"no exp is accepted where it is optional", func(o *JWTOptions) { o.ExpiryOptional = true }, map[string]any{"exp": nil}, 0},
		{"exp in the year 9999 is accepted", nil, map[string]any{"exp": 253402300799}, 0},
		{"exp in milliseconds is refused", nil, map[string]any{"exp": at(300) * 1000}, policy.ReasonClaimType},
		{"exp as a string is refused", nil, map[string]any{"exp": "1900000000"}, policy.ReasonClaimType},
		{"exp as a list is refused", nil, map[string]any{"exp": []int{1900000000}}, policy.ReasonClaimType},
		{"exp true is refused", nil, map[string]any{"exp": true}, policy.ReasonClaimType},
		{"a negative exp is refused", nil, map[string]any{"exp": -1}, policy.ReasonClaimType},
		{"exp zero is expired", nil, map[string]any{"exp": 0}, policy.ReasonExpired},
		// nbf
		{"nbf now is accepted", nil, map[string]any{"nbf": at(0)}, 0},
		{"nbf in one second is refused", nil, map[string]any{"nbf": at(1)}, policy.ReasonNotYetValid},
		{"nbf at the leeway is accepted", leeway, map[string]any{"nbf": at(10)}, 0},
		{"nbf beyond the leeway is refused", leeway, map[string]any{"nbf": at(10.5)}, policy.ReasonNotYetValid},
		{"nbf as a string is refused", nil, map[string]any{"nbf": "0"}, policy.ReasonClaimType},
		// iat
		{"no iat is accepted", nil, map[string]any{"iat": nil}, 0},
		{"iat in the future is refused", nil, map[string]any{"iat": at(1)}, policy.ReasonIssuedInFuture},
		{"iat in the future within the leeway is accepted", leeway, map[string]any{"iat": at(9)}, 0},
		{"iat as a string is refused", nil, map[string]any{"iat": "0"}, policy.ReasonClaimType},
		// max_lifetime
		{"a lifetime as long as the longest is accepted", short, map[string]any{"exp": at(60)}, 0},
		{"a longer lifetime is refused", short, map[string]any{"exp": at(61)}, policy.ReasonLifetimeTooLong},
		{"a lifetime without a start is refused", short, map[string]any{"iat": nil}, policy.ReasonClaimMissing},
		{"a lifetime without an end is refused", func(o *JWTOptions) { o.MaxLifetime, o.ExpiryOptional = time.Minute, true }, map[string]any{"exp": nil}, policy.ReasonLifetimeTooLong},
		// iss
		{"another issuer is refused", nil, map[string]any{"iss": "https://other.example"}, policy.ReasonIssuerMismatch},
		{"the issuer with a slash is another", nil, map[string]any{"iss": "https://issuer.example/"}, policy.ReasonIssuerMismatch},
		{"the issuer in upper case is another", nil, map[string]any{"iss": "https://ISSUER.example"}, policy.ReasonIssuerMismatch},
		{"no issuer is refused", nil, map[string]any{"iss": nil}, policy.ReasonIssuerMismatch},
		{"a list of issuers is refused", nil, map[string]any{"iss": []string{"https://issuer.example"}}, policy.ReasonClaimType},
		{"any issuer is accepted where configured", func(o *JWTOptions) { o.Issuer, o.AnyIssuer = "", true }, map[string]any{"iss": "whoever"}, 0},
		// aud
		{"a list with the audience is accepted", nil, map[string]any{"aud": []string{"x", authntest.Audience}}, 0},
		{"another audience is refused", nil, map[string]any{"aud": "billing"}, policy.ReasonAudienceMismatch},
		{"an audience that only begins alike is refused", nil, map[string]any{"aud": authntest.Audience + "x"}, policy.ReasonAudienceMismatch},
		{"an audience in another case is refused", nil, map[string]any{"aud": "Orders"}, policy.ReasonAudienceMismatch},
		{"audiences in one string are refused", nil, map[string]any{"aud": "x " + authntest.Audience}, policy.ReasonAudienceMismatch},
		{"no audience is refused", nil, map[string]any{"aud": nil}, policy.ReasonAudienceMismatch},
		{"an empty list of audiences is refused", nil, map[string]any{"aud": []string{}}, policy.ReasonAudienceMismatch},
		{"an audience that is a number is refused", nil, map[string]any{"aud": 5}, policy.ReasonClaimType},
		{"a list with a number is refused though it holds the audience", nil, map[string]any{"aud": []any{authntest.Audience, 5}}, policy.ReasonClaimType},
		{"an audience in an object is refused", nil, map[string]any{"aud": map[string]any{authntest.Audience: true}}, policy.ReasonClaimType},
		{"one of all audiences is refused", func(o *JWTOptions) { o.Audiences, o.AllAudiences = []string{authntest.Audience, "b"}, true }, nil, policy.ReasonAudienceMismatch},
		{"all of all audiences are accepted", func(o *JWTOptions) { o.Audiences, o.AllAudiences = []string{authntest.Audience, "b"}, true }, map[string]any{"aud": []string{"b", "c", authntest.Audience}}, 0},
		{"one of any audiences is accepted", func(o *JWTOptions) { o.Audiences = []string{"b", authntest.Audience} }, nil, 0},
		{"no audience is accepted where none is checked", func(o *JWTOptions) { o.Audiences, o.AnyAudience = nil, true }, map[string]any{"aud": nil}, 0},
		{"an audience of the wrong type is refused even where none is checked", func(o *JWTOptions) { o.Audiences, o.AnyAudience = nil, true }, map[string]any{"aud": 5}, policy.ReasonClaimType},
		// others
		{"a subject that is a number is refused", nil, map[string]any{"sub": 5}, policy.ReasonClaimType},
		{"a jti that is a number is refused", nil, map[string]any{"jti": 5}, policy.ReasonClaimType},
		{"the mapping's refusal is the token's", nil, map[string]any{"sub": nil}, policy.ReasonClaimMissing},
		// types
		{"the type is compared without case or application/", func(o *JWTOptions) { o.Types = []string{"application/jwt"} }, nil, 0},
		{"another type is refused", func(o *JWTOptions) { o.Types = []string{"at+jwt"} }, nil, policy.ReasonTypeRefused},
		// require
		{"what is required holds", require(true, nil), nil, 0},
		{"what is required does not hold", require(false, nil), nil, policy.ReasonRequireFailed},
		{"what is required cannot be told", require(true, fmt.Errorf("no such key")), nil, policy.ReasonRequireFailed},
		{"what is required is no truth value", require("true", nil), nil, policy.ReasonRequireFailed},
		{"what is required is nothing", require(nil, nil), nil, policy.ReasonRequireFailed},
	} {
		t.Run(row.name, func(t *testing.T) {
			j, sign := secretJWT(t, now, row.options)
			wantReason(t, authenticateAt(j, sign(row.claims), now), row.want)
		})
	}
}

// constant is an expression with one outcome.
type constant struct {
	value any
	err   error
}

func (c constant) Eval(Claims) (any, error) { return c.value, c.err }
func (c constant) String() string           { return "constant" }

func require(value any, err error) func(*JWTOptions) {
	return func(o *JWTOptions) {
		o.Require = []Requirement{{constant{true, nil}, "first"}, {constant{value, err}, "second"}}
	}
}

func TestJWTTypes(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		types []string
		typ   any // nil: absent
		want  policy.Reason
	}{
		{nil, nil, 0},
		{nil, "anything", 0},
		{[]string{"at+jwt"}, "at+jwt", 0},
		{[]string{"at+jwt"}, "AT+JWT", 0},
		{[]string{"at+jwt"}, "application/at+jwt", 0},
		{[]string{"Application/At+Jwt"}, "at+jwt", 0},
		{[]string{"at+jwt", "JWT"}, "jwt", 0},
		{[]string{"at+jwt"}, nil, policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, "", policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, "JWT", policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, "at+jwt ", policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, "x/at+jwt", policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, "application/at+jwt/x", policy.ReasonTypeRefused},
		{[]string{"at+jwt"}, 5, policy.ReasonTokenMalformed},
	} {
		t.Run(fmt.Sprint(row.types, row.typ), func(t *testing.T) {
			j, _ := secretJWT(t, now, func(o *JWTOptions) { o.Types = row.types })
			header := map[string]any{"alg": "HS256"}
			if row.typ != nil {
				header["typ"] = row.typ
			}
			token := signHMAC("HS256", []byte(strings.Repeat("k", 32)), header, map[string]any{
				"iss": "https://issuer.example", "aud": authntest.Audience, "sub": "alice", "exp": now.Unix() + 60,
			})
			wantReason(t, authenticateAt(j, token, now), row.want)
			if peek, ok := new(Input).peekJWT(token); ok && j.Takes(peek) != (row.want == 0) {
				t.Errorf("Takes(%+v) = %v, want the opposite", peek, j.Takes(peek))
			}
		})
	}
}

func TestSemantics17WhichAuthenticatorTakesAJWT(t *testing.T) {
	now := time.Now()
	j, sign := secretJWT(t, now, nil)
	anyIssuer, _ := secretJWT(t, now, func(o *JWTOptions) { o.Issuer, o.AnyIssuer = "", true })
	for _, row := range []struct {
		name           string
		claims         map[string]any
		takes, takesIt bool // by the issuer's authenticator, by the one for any
	}{
		{"a token of the issuer", nil, true, true},
		{"a token of another issuer", map[string]any{"iss": "https://other.example"}, false, true},
		{"a token without issuer", map[string]any{"iss": nil}, false, true},
		{"a token whose issuer is no string", map[string]any{"iss": 5}, false, true},
		{"a token with an empty issuer", map[string]any{"iss": ""}, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			peek, ok := new(Input).peekJWT(sign(row.claims))
			if !ok {
				t.Fatal("peekJWT is not ok")
			}
			if got := j.Takes(peek); got != row.takes {
				t.Errorf("Takes(%+v) = %v, want %v", peek, got, row.takes)
			}
			if got := anyIssuer.Takes(peek); got != row.takesIt {
				t.Errorf("any issuer: Takes(%+v) = %v, want %v", peek, got, row.takesIt)
			}
			peek.Algorithm = "HS512"
			if j.Takes(peek) {
				t.Errorf("Takes(%+v) = true, want false", peek)
			}
		})
	}
}

func TestSemantics33CacheHoldsWhileTheTokenDoes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	j, sign := secretJWT(t, now, func(o *JWTOptions) { o.Leeway = 10 * time.Second })
	token := sign(map[string]any{"nbf": now.Unix() + 5})
	first := authenticateAt(j, token, now)
	wantReason(t, first, policy.ReasonNone)
	for _, row := range []struct {
		name string
		at   time.Time
		want policy.Reason
	}{
		{"a second before it expires, leeway included", now.Add(309 * time.Second), 0},
		{"when it has expired", now.Add(310 * time.Second), policy.ReasonExpired},
		{"when the clock went back before nbf", now.Add(-6 * time.Second), policy.ReasonNotYetValid},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := authenticateAt(j, token, row.at)
			wantReason(t, got, row.want)
			if row.want == 0 && got.Identity != first.Identity {
				t.Error("the identity is another one")
			}
		})
	}
	if got := j.Stats().Verifications; got != 1 {
		t.Errorf("%d signatures checked, want 1", got)
	}
}

func TestJWTInFlightIsVerifiedOnce(t *testing.T) {
	now := time.Now()
	var mapped sync.WaitGroup
	mapped.Add(1)
	j, sign := secretJWT(t, now, func(o *JWTOptions) {
		o.Map = func(claims Claims) (*policy.Principal, policy.Reason, error) {
			mapped.Wait()
			return mapSubject(claims)
		}
	})
	token := sign(nil)
	results := make(chan Result)
	const callers = 50
	for range callers {
		go func() { results <- authenticateAt(j, token, now) }()
	}
	waitFor(t, "all callers to be inside", func() bool { return j.Stats().Misses == callers })
	mapped.Done()
	first := <-results
	for range callers - 1 {
		if r := <-results; r.Identity == nil || r.Identity != first.Identity {
			t.Fatalf("identities differ: %+v and %+v", first, r)
		}
	}
	if got := j.Stats().Verifications; got != 1 {
		t.Errorf("%d signatures checked for %d equal tokens at once, want 1", got, callers)
	}
}

// spoil changes the first character of a token's signature.
func spoil(token string) string {
	i := strings.LastIndexByte(token, '.') + 1
	other := "A"
	if token[i] == 'A' {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

func TestJWTFloodOfBadTokensEvictsNothing(t *testing.T) {
	now := time.Now()
	j, sign := secretJWT(t, now, func(o *JWTOptions) { o.CacheEntries = 256 })
	good := sign(nil)
	wantReason(t, authenticateAt(j, good, now), policy.ReasonNone)
	for i := range 20_000 {
		bad := sign(map[string]any{"n": i})
		bad = spoil(bad)
		wantReason(t, authenticateAt(j, bad, now), policy.ReasonSignatureInvalid)
	}
	s := j.Stats()
	if s.Cached != 1 || s.Refused > 256+cacheShards {
		t.Errorf("%d verified and %d refused tokens are held, want 1 and a bounded number", s.Cached, s.Refused)
	}
	before := s.Verifications
	wantReason(t, authenticateAt(j, good, now), policy.ReasonNone)
	if j.Stats().Verifications != before {
		t.Error("the good token was verified again")
	}
}

func TestJWTRefusalIsRemembered(t *testing.T) {
	now := time.Now()
	j, sign := secretJWT(t, now, nil)
	bad := sign(nil)
	bad = spoil(bad)
	for range 100 {
		wantReason(t, authenticateAt(j, bad, now), policy.ReasonSignatureInvalid)
	}
	if got := j.Stats().Verifications; got != 1 {
		t.Errorf("%d signatures checked for one bad token in a loop, want 1", got)
	}
	wantReason(t, authenticateAt(j, bad, now.Add(refusedFor)), policy.ReasonSignatureInvalid)
	if got := j.Stats().Verifications; got != 2 {
		t.Errorf("%d signatures checked once the refusal was forgotten, want 2", got)
	}
}

func TestJWTMappingMustDecide(t *testing.T) {
	now := time.Now()
	for _, reason := range []policy.Reason{policy.ReasonNone, policy.ReasonMet, policy.ReasonPublic} {
		j, sign := secretJWT(t, now, func(o *JWTOptions) {
			o.Map = func(Claims) (*policy.Principal, policy.Reason, error) { return nil, reason, nil }
		})
		wantReason(t, authenticateAt(j, sign(nil), now), policy.ReasonInternal)
	}
}

func TestJWTNoAllocs(t *testing.T) {
	now := time.Now()
	j, sign := secretJWT(t, now, nil)
	token := sign(nil)
	in := &Input{Value: token, Now: now}
	ctx := context.Background()
	wantReason(t, j.Authenticate(ctx, in), policy.ReasonNone)
	if n := testing.AllocsPerRun(1000, func() { j.Authenticate(ctx, in) }); n != 0 {
		t.Errorf("%v allocations for a token that was verified before, want none", n)
	}
}

// A cached token is small: what it has in common with others is there once.
func TestCachedTokenIsSmall(t *testing.T) {
	const tokens, maxBytes = 5000, 900
	now := time.Now()
	j, sign := secretJWT(t, now, func(o *JWTOptions) {
		mapping := &Mapping{
			Stamp:   Stamp{Authenticator: "corp", Realm: "corp"},
			Subject: &Field{Claim: "sub"}, Tenant: &Field{Claim: "tenant"}, Roles: &Field{Claim: "groups"},
		}
		o.Map = mapping.Principal
	})
	groups := make([]any, 20)
	for i := range groups {
		groups[i] = fmt.Sprintf("a-group-of-people-with-a-long-name-%d", i)
	}
	live := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := live()
	for i := range tokens {
		token := sign(map[string]any{"sub": fmt.Sprintf("person-%d", i), "tenant": "acme", "groups": groups})
		wantReason(t, authenticateAt(j, token, now), policy.ReasonNone)
	}
	if perToken := int64(live()-before) / tokens; perToken > maxBytes+20*16 { // and the list itself
		t.Errorf("a cached token takes %d bytes, want at most %d", perToken, maxBytes+20*16)
	}
	if n := j.Stats().Cached; n != tokens {
		t.Errorf("%d tokens are cached, want %d", n, tokens)
	}
}
