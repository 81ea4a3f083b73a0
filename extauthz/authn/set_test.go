package authn

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/policy"
)

var (
	bearer   = Place{Kind: InHeader, Name: "authorization", Scheme: "Bearer"}
	basic    = Place{Kind: InHeader, Name: "authorization", Scheme: "Basic"}
	keyPlace = Place{Kind: InHeader, Name: "x-api-key"}
	cookie   = Place{Kind: InCookie, Name: "access_token"}
)

// A function is an authenticator whose answers and delays a test chooses.
type function func(ctx context.Context, in *Input) Result

func (f function) Authenticate(ctx context.Context, in *Input) Result { return f(ctx, in) }

func identity(subject string) *Identity {
	return &Identity{Principal: &policy.Principal{Authenticator: subject, Realm: "r", Subject: subject}}
}

// accepts takes the credentials that are among values.
func accepts(subject string, values ...string) Authenticator {
	return function(func(_ context.Context, in *Input) Result {
		if slices.Contains(values, in.Value) {
			return Result{Identity: identity(subject)}
		}
		return Refuse(policy.ReasonTokenUnknown, nil)
	})
}

func testKeys(t *testing.T, name string, secrets ...string) *APIKey {
	t.Helper()
	var keys []Key
	for _, s := range secrets {
		keys = append(keys, Key{ID: name + "-" + s, Secret: NewSecret(s)})
	}
	a, err := NewAPIKey(Stamp{Authenticator: name, Realm: name}, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const testSecret = "0123456789abcdef0123456789abcdef"

var testCacheKeys = NewCacheKeys()

func testJWT(t *testing.T, name, issuer string, change ...func(*JWTOptions)) *JWT {
	t.Helper()
	m := &Mapping{Stamp: Stamp{Authenticator: name, Realm: name}, Subject: &Field{Claim: "sub", Required: true}}
	o := JWTOptions{Issuer: issuer, AnyIssuer: issuer == "", AnyAudience: true, SharedSecret: NewSecret(testSecret), Map: m.Principal, CacheKeys: testCacheKeys}
	for _, f := range change {
		f(&o)
	}
	j, err := NewJWT(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// sign makes a token of issuer for subject. Pairs of extra are more claims.
func sign(t *testing.T, issuer, subject string, extra ...any) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": subject, "exp": testNow.Add(time.Hour).Unix()}
	if issuer != "" {
		claims["iss"] = issuer
	}
	for i := 0; i+1 < len(extra); i += 2 {
		claims[extra[i].(string)] = extra[i+1]
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func testSet(t *testing.T, o Options, entries ...Entry) *Set {
	t.Helper()
	for i := range entries {
		if entries[i].Realm == "" {
			entries[i].Realm = entries[i].Name
		}
	}
	s, err := NewSet(entries, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// who asks s and gives the subject and the deciding entry, or the reason.
func who(t *testing.T, s *Set, accept []string, r *policy.Request) string {
	t.Helper()
	a, err := s.Accept(accept)
	if err != nil {
		t.Fatal(err)
	}
	return outcomeOf(s.Authenticate(t.Context(), a, &Input{Request: r, Now: testNow}))
}

func outcomeOf(a Answer) string {
	if a.Identity != nil {
		if a.Entry == nil {
			return "an identity without an entry"
		}
		return a.Identity.Principal.Subject
	}
	if a.Entry != nil {
		return a.Reason.String() + " by " + a.Entry.Name
	}
	return a.Reason.String()
}

func TestSelectionIsFinal(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer, cookie}},
		Entry{Name: "partner", Kind: KindJWT, Authenticator: testJWT(t, "partner", "https://partner"), Places: []Place{bearer}},
	)
	corp, partner, stranger := sign(t, "https://corp", "eve"), sign(t, "https://partner", "pat"), sign(t, "https://stranger", "sam")
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"nothing", nil, "no_credential"},
		{"the key", []string{"x-api-key", "good"}, "keys-good"},
		{"the token", []string{"authorization", "Bearer " + corp}, "eve"},
		{"the cookie", []string{"cookie", "access_token=" + corp}, "eve"},
		{"a token of the second issuer in one place", []string{"authorization", "Bearer " + partner}, "pat"},

		{"a right key beside a token", []string{"x-api-key", "good", "authorization", "Bearer " + corp}, "keys-good"},
		{"a right key beside a wrong token", []string{"x-api-key", "good", "authorization", "Bearer x"}, "keys-good"},
		{"a wrong key beside a good token", []string{"x-api-key", "wrong", "authorization", "Bearer " + corp}, "api_key_unknown by keys"},
		{"an empty key beside a good token", []string{"x-api-key", "", "authorization", "Bearer " + corp}, "credential_malformed by keys"},
		{"two keys beside a good token", []string{"x-api-key", "good,good", "authorization", "Bearer " + corp}, "credential_repeated by keys"},
		{"a wrong token beside a good cookie", []string{"authorization", "Bearer x", "cookie", "access_token=" + corp}, "token_malformed by corp"},
		{"a malformed header beside a good cookie", []string{"authorization", "Bearer", "cookie", "access_token=" + corp}, "credential_malformed by corp"},
		{"a foreign scheme beside a good cookie", []string{"authorization", "Digest x", "cookie", "access_token=" + corp}, "eve"},
		{"two tokens", []string{"authorization", "Bearer " + corp + ",Bearer " + corp}, "credential_repeated by corp"},
		{"the cookie twice", []string{"cookie", "access_token=" + corp + "; access_token=" + corp}, "credential_repeated by corp"},
		{"a token of one issuer beside a cookie of another: the header decides", []string{"authorization", "Bearer " + partner, "cookie", "access_token=" + corp}, "pat"},
		{"a cookie of an issuer that takes no cookies", []string{"cookie", "access_token=" + partner}, "unknown_issuer by corp"},
		{"an issuer that nobody knows", []string{"authorization", "Bearer " + stranger}, "unknown_issuer by corp"},
		{"an issuer that nobody knows beside a good cookie", []string{"authorization", "Bearer " + stranger, "cookie", "access_token=" + corp}, "unknown_issuer by corp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from the cache
				if got := who(t, s, nil, request(tt.headers...)); got != tt.want {
					t.Errorf("Authenticate = %s, want %s", got, tt.want)
				}
			}
		})
	}
}

func TestSemantics14OnlyFrom(t *testing.T) {
	corp := sign(t, "https://corp", "eve")
	s := testSet(t, Options{},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}, OnlyFrom: []Origin{
			{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:192.168.0.0/112"), netip.MustParsePrefix("fe80::/10")}},
			{Sources: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Context: []policy.Pair{{Name: "listener", Value: "internal"}, {Name: "zone", Value: "a"}}},
		}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer}},
	)
	internal := []policy.Pair{{Name: "listener", Value: "internal"}, {Name: "zone", Value: "a"}}
	for _, tt := range []struct {
		name    string
		source  string
		context []policy.Pair
		key     string
		want    string
	}{
		{"from a listed network", "10.1.2.3", nil, "good", "keys-good"},
		{"IPv4 in IPv6 is IPv4", "::ffff:10.1.2.3", nil, "good", "keys-good"},
		{"a network written as IPv4 in IPv6", "192.168.3.4", nil, "good", "keys-good"},
		{"a zone does not matter", "fe80::1%eth0", nil, "good", "keys-good"},
		{"from elsewhere, right", "11.0.0.1", nil, "good", "wrong_place by keys"},
		{"from elsewhere, wrong", "11.0.0.1", nil, "bad", "wrong_place by keys"},
		{"from elsewhere, malformed", "11.0.0.1", nil, "", "wrong_place by keys"},
		{"from nowhere", "", nil, "good", "wrong_place by keys"},
		{"a place holds only as a whole", "203.0.113.1", nil, "good", "wrong_place by keys"},
		{"half of the context", "203.0.113.1", internal[:1], "good", "wrong_place by keys"},
		{"the context alone", "11.0.0.1", internal, "good", "wrong_place by keys"},
		{"network and context", "203.0.113.1", internal, "good", "keys-good"},
		{"another value in the context", "203.0.113.1", []policy.Pair{{Name: "listener", Value: "client"}, internal[1]}, "good", "wrong_place by keys"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request("x-api-key", tt.key, "authorization", "Bearer "+corp) // never falls through
			r.Context = tt.context
			if tt.source != "" {
				r.Source = netip.MustParseAddr(tt.source)
			}
			if got := who(t, s, nil, r); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("without the key the place does not matter", func(t *testing.T) {
		if got := who(t, s, nil, request("authorization", "Bearer "+corp)); got != "eve" {
			t.Errorf("Authenticate = %s", got)
		}
	})
	t.Run("it is not looked at elsewhere", func(t *testing.T) {
		var asked atomic.Int32
		s := testSet(t, Options{}, Entry{Name: "a", Kind: KindLookup, Places: []Place{bearer}, OnlyFrom: []Origin{{Context: internal}},
			Authenticator: function(func(context.Context, *Input) Result { asked.Add(1); return Result{Identity: identity("a")} })})
		if got := who(t, s, nil, request("authorization", "Bearer x")); got != "wrong_place by a" || asked.Load() != 0 {
			t.Errorf("Authenticate = %s after %d questions", got, asked.Load())
		}
	})
}

func TestSemantics15Accept(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer}},
		Entry{Name: "people", Kind: KindBasic, Authenticator: accepts("people", "cGE="), Places: []Place{basic}},
	)
	corp := sign(t, "https://corp", "eve")
	for _, tt := range []struct {
		name    string
		accept  []string
		headers []string
		want    string
	}{
		{"a wrong key counts where keys are accepted", []string{"keys", "corp"}, []string{"x-api-key", "wrong", "authorization", "Bearer " + corp}, "api_key_unknown by keys"},
		{"a wrong key is nobody's where they are not", []string{"corp"}, []string{"x-api-key", "wrong", "authorization", "Bearer " + corp}, "eve"},
		{"a right key is none where keys are not accepted", []string{"corp"}, []string{"x-api-key", "good"}, "no_credential"},
		{"the order is that of the set, not of accept", []string{"corp", "keys"}, []string{"x-api-key", "good", "authorization", "Bearer " + corp}, "keys-good"},
		{"a scheme that is not accepted still makes two credentials", []string{"corp"}, []string{"authorization", "Bearer " + corp + ",Basic cGE="}, "credential_repeated by corp"},
		{"another scheme's credential", []string{"people"}, []string{"authorization", "Bearer " + corp}, "no_credential"},
		{"nobody is accepted", []string{}, []string{"x-api-key", "good"}, "no_credential"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := who(t, s, tt.accept, request(tt.headers...)); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
	if _, err := s.Accept([]string{"nobody"}); err == nil {
		t.Error("Accept of an unknown name gives no error")
	}
}

func TestSemantics16Groups(t *testing.T) {
	down := func(after time.Duration) Authenticator {
		return function(func(ctx context.Context, in *Input) Result {
			if in.Local {
				return Refuse(policy.ReasonProviderUnavailable, errLocal)
			}
			select {
			case <-time.After(after):
			case <-ctx.Done():
			}
			return Refuse(policy.ReasonProviderUnavailable, errors.New("connection refused"))
		})
	}
	slow := func(a Authenticator, after time.Duration) Authenticator {
		return function(func(ctx context.Context, in *Input) Result {
			if in.Local {
				return Refuse(policy.ReasonProviderUnavailable, errLocal)
			}
			select {
			case <-time.After(after):
			case <-ctx.Done():
			}
			return a.Authenticate(ctx, in)
		})
	}
	panics := function(func(context.Context, *Input) Result { panic("a bug") })
	yes, no := accepts("yes", "t"), accepts("no")
	other := accepts("other", "t")
	for _, tt := range []struct {
		name    string
		members []Authenticator
		want    string
		after   time.Duration
	}{
		{"the only success wins", []Authenticator{no, yes, no}, "yes", 0},
		{"nobody knows it: the refusal of the first", []Authenticator{no, no}, "token_unknown by a", 0},
		{"an outage beside refusals", []Authenticator{no, down(0), no}, "provider_unavailable by b", 0},
		{"an outage beside a success", []Authenticator{down(0), yes}, "yes", 0},
		{"an earlier one that is later does not win", []Authenticator{slow(other, 2*time.Second), slow(yes, time.Second)}, "yes", time.Second},
		{"the first success, however late others are", []Authenticator{down(time.Minute), slow(yes, time.Second)}, "yes", time.Second},
		{"they are asked at once", []Authenticator{slow(no, time.Second), slow(no, time.Second), slow(yes, time.Second)}, "yes", time.Second},
		{"all slow: an outage when the caller gives up", []Authenticator{down(time.Hour), slow(no, time.Second)}, "provider_unavailable by a", 10 * time.Second},
		{"a fault in one is an outage, not a crash", []Authenticator{panics, no}, "internal by a", 0},
		{"a fault in one beside a success", []Authenticator{panics, yes}, "yes", 0},
		{"an answer without a reason is a fault", []Authenticator{function(func(context.Context, *Input) Result { return Result{} }), no}, "internal by a", 0},
		{"an identity without a principal is none", []Authenticator{function(func(context.Context, *Input) Result { return Result{Identity: &Identity{}} }), no}, "internal by a", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var entries []Entry
				for i, m := range tt.members {
					entries = append(entries, Entry{Name: string(rune('a' + i)), Kind: KindLookup, Authenticator: m, Places: []Place{bearer}, TryInTurn: true})
				}
				s := testSet(t, Options{}, entries...)
				a, err := s.Accept(nil)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				begun := time.Now()
				got := outcomeOf(s.Authenticate(ctx, a, &Input{Request: request("authorization", "Bearer t"), Now: testNow}))
				if took := time.Since(begun); got != tt.want || took != tt.after {
					t.Errorf("Authenticate = %s after %v, want %s after %v", got, took, tt.want, tt.after)
				}
			})
		})
	}

	t.Run("what is known here is not shown to others", func(t *testing.T) {
		var asked atomic.Int32
		spy := function(func(_ context.Context, in *Input) Result {
			if !in.Local {
				asked.Add(1)
			}
			return Refuse(policy.ReasonProviderRefused, nil)
		})
		s := testSet(t, Options{},
			Entry{Name: "remote", Kind: KindLookup, Authenticator: spy, Places: []Place{bearer}},
			Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{bearer}},
		)
		if got := who(t, s, nil, request("authorization", "Bearer good")); got != "keys-good" || asked.Load() != 0 {
			t.Errorf("Authenticate = %s after %d questions", got, asked.Load())
		}
		if got := who(t, s, nil, request("authorization", "Bearer bad")); got != "provider_refused by remote" || asked.Load() != 1 {
			t.Errorf("Authenticate = %s after %d questions", got, asked.Load())
		}
	})

	t.Run("a member out of place is not asked", func(t *testing.T) {
		s := testSet(t, Options{},
			Entry{Name: "a", Kind: KindLookup, Authenticator: yes, Places: []Place{bearer}, TryInTurn: true, OnlyFrom: []Origin{{Context: []policy.Pair{{Name: "x", Value: "y"}}}}},
			Entry{Name: "b", Kind: KindLookup, Authenticator: other, Places: []Place{bearer}, TryInTurn: true},
		)
		if got := who(t, s, nil, request("authorization", "Bearer t")); got != "other" {
			t.Errorf("Authenticate = %s", got)
		}
	})
}

func TestSemantics16Prefixes(t *testing.T) {
	all := func(subject string) Authenticator {
		return function(func(context.Context, *Input) Result { return Result{Identity: identity(subject)} })
	}
	s := testSet(t, Options{},
		Entry{Name: "any", Kind: KindLookup, Authenticator: all("any"), Places: []Place{bearer}},
		Entry{Name: "gh", Kind: KindToken, Authenticator: all("gh"), Places: []Place{bearer}, Prefix: "gh_"},
		Entry{Name: "ghs", Kind: KindIntrospection, Authenticator: all("ghs"), Places: []Place{bearer}, Prefix: "gh_s_"},
	)
	for _, tt := range []struct{ name, value, want string }{
		{"a prefix", "gh_1", "gh"},
		{"the longest prefix", "gh_s_1", "ghs"},
		{"no prefix", "xyz", "any"},
		{"a prefix in other case", "GH_1", "any"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := who(t, s, nil, request("authorization", "Bearer "+tt.value)); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("nobody has it", func(t *testing.T) {
		if got := who(t, s, []string{"gh"}, request("authorization", "Bearer xyz")); got != "token_unknown by gh" {
			t.Errorf("Authenticate = %s", got)
		}
	})
}

func TestSemantics17WhoTakesAJWT(t *testing.T) {
	var shown atomic.Int32
	spy := function(func(context.Context, *Input) Result {
		shown.Add(1)
		return Refuse(policy.ReasonProviderRefused, nil)
	})
	s := testSet(t, Options{},
		Entry{Name: "lookup", Kind: KindLookup, Authenticator: spy, Places: []Place{bearer}},
		Entry{Name: "at", Kind: KindJWT, Authenticator: testJWT(t, "at", "https://corp", func(o *JWTOptions) { o.Types = []string{"at+jwt"} }), Places: []Place{bearer}},
		Entry{Name: "corp512", Kind: KindJWT, Authenticator: testJWT(t, "corp512", "https://corp", func(o *JWTOptions) { o.Algorithms = []string{"HS512"} }), Places: []Place{bearer}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer}},
		Entry{Name: "shadowed", Kind: KindJWT, Authenticator: testJWT(t, "shadowed", "https://corp"), Places: []Place{bearer}},
	)
	typed := func(method jwt.SigningMethod, typ string) string {
		token := jwt.NewWithClaims(method, jwt.MapClaims{"iss": "https://corp", "sub": "eve", "exp": testNow.Add(time.Hour).Unix()})
		token.Header["typ"] = typ
		signed, err := token.SignedString([]byte(testSecret))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	for _, tt := range []struct{ name, token, want string }{
		{"by issuer, algorithm and type", typed(jwt.SigningMethodHS256, "at+jwt"), "at"},
		{"the algorithm tells", typed(jwt.SigningMethodHS512, "JWT"), "corp512"},
		{"the first of those that are alike", typed(jwt.SigningMethodHS256, "JWT"), "corp"},
		{"an algorithm that nobody takes", typed(jwt.SigningMethodHS384, "JWT"), "unknown_issuer by lookup"},
		{"an issuer that nobody knows", sign(t, "https://evil", "eve"), "unknown_issuer by lookup"},
		{"no issuer", sign(t, "", "eve"), "unknown_issuer by lookup"},
		{"an issuer that differs by a slash", sign(t, "https://corp/", "eve"), "unknown_issuer by lookup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := s.Accept(nil)
			if err != nil {
				t.Fatal(err)
			}
			answer := s.Authenticate(t.Context(), a, &Input{Request: request("authorization", "Bearer "+tt.token), Now: testNow})
			got := outcomeOf(answer)
			if answer.Identity != nil {
				got = answer.Entry.Name
			}
			if got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
	if n := shown.Load(); n != 0 {
		t.Errorf("%d JWTs were shown to the look-up", n)
	}
	if got := who(t, s, nil, request("authorization", "Bearer opaque")); got != "provider_refused by lookup" {
		t.Errorf("an opaque token: %s", got)
	}
}

func TestSemantics18PublicRoutes(t *testing.T) {
	var asked atomic.Int32
	s := testSet(t, Options{},
		Entry{Name: "people", Kind: KindBasic, Authenticator: function(func(context.Context, *Input) Result { asked.Add(1); return Result{Identity: identity("people")} }), Places: []Place{basic}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer}},
		Entry{Name: "local", Kind: KindAPIKey, Authenticator: function(func(_ context.Context, in *Input) Result {
			if in.Local {
				return Result{Identity: identity("local")}
			}
			return Result{Identity: identity("anywhere")}
		}), Places: []Place{keyPlace}},
	)
	corp := sign(t, "https://corp", "eve")
	for _, tt := range []struct {
		name             string
		accept, identify []string
		headers          []string
		want             string
	}{
		{"what only computes is looked at", nil, nil, []string{"authorization", "Bearer " + corp}, "eve"},
		{"and told that it must not ask", nil, nil, []string{"x-api-key", "x"}, "local"},
		{"passwords are not looked at", nil, nil, []string{"authorization", "Basic cGE="}, "no_credential"},
		{"unless identify names them", nil, []string{"people", "local"}, []string{"authorization", "Basic cGE="}, "people"},
		{"what identify names may ask", nil, []string{"local"}, []string{"x-api-key", "x"}, "anywhere"},
		{"and nothing else is looked at then", nil, []string{"people"}, []string{"authorization", "Bearer " + corp}, "no_credential"},
		{"identify nobody", nil, []string{}, []string{"authorization", "Bearer " + corp}, "no_credential"},
		{"accept restricts", []string{"people"}, nil, []string{"authorization", "Bearer " + corp}, "no_credential"},
		{"a bad token is a refusal, for the gate to ignore", nil, nil, []string{"authorization", "Bearer x"}, "token_malformed by corp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked.Store(0)
			a, err := s.AcceptPublic(tt.accept, tt.identify)
			if err != nil {
				t.Fatal(err)
			}
			if got := outcomeOf(s.Authenticate(t.Context(), a, &Input{Request: request(tt.headers...), Now: testNow})); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestCombinedAuthorization(t *testing.T) {
	s := testSet(t, Options{Combined: true, RealmHeader: "X-Auth-Realm"},
		Entry{Name: "corp", Realm: "oidc", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer, cookie}},
		Entry{Name: "ecmwf", Kind: KindBasic, Authenticator: accepts("ecmwf", "YWQ6YQ=="), Places: []Place{basic, {Kind: InHeader, Name: "Authorization", Scheme: "Plain"}}},
		Entry{Name: "other", Kind: KindBasic, Authenticator: accepts("other", "YWQ6bw=="), Places: []Place{basic}},
		Entry{Name: "down", Kind: KindLookup, Authenticator: function(func(context.Context, *Input) Result { return Refuse(policy.ReasonProviderUnavailable, nil) }),
			Places: []Place{{Kind: InHeader, Name: "authorization", Scheme: "Down"}}},
	)
	corp := sign(t, "https://corp", "eve")
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"one", []string{"authorization", "Bearer " + corp}, "eve"},
		{"a good one beside a bad one", []string{"authorization", "Basic YWQ6YQ==, Bearer bad"}, "ecmwf"},
		{"a bad one beside a good one", []string{"authorization", "Basic bad, Bearer " + corp}, "eve"},
		{"both good: the order of the providers", []string{"authorization", "Basic YWQ6YQ==, Bearer " + corp}, "eve"},
		{"Plain is Basic", []string{"authorization", "plain YWQ6YQ=="}, "ecmwf"},
		{"the second list", []string{"authorization", "Basic YWQ6bw=="}, "other"},
		{"both bad: the first refusal", []string{"authorization", "Basic bad, Bearer bad"}, "token_malformed by corp"},
		{"an outage beside a bad one", []string{"authorization", "Basic bad, Down x"}, "provider_unavailable by down"},
		{"an outage beside a good one", []string{"authorization", "Down x, Basic YWQ6YQ=="}, "ecmwf"},
		{"a grammar error", []string{"authorization", "Bearer " + corp + ", Bearer x"}, "credential_malformed by corp"},
		{"four", []string{"authorization", "Bearer a, Basic b, Down c, Other d"}, "credential_malformed by corp"},
		{"a cookie of an earlier provider beside a bad header", []string{"authorization", "Basic bad", "cookie", "access_token=" + corp}, "eve"},
		{"a bad header does not fall through to a cookie", []string{"authorization", "Bearer bad", "cookie", "access_token=" + corp}, "token_malformed by corp"},

		{"the realm restricts", []string{"authorization", "Basic YWQ6bw==", "x-auth-realm", "other"}, "other"},
		{"to that realm only", []string{"authorization", "Basic YWQ6YQ==", "x-auth-realm", "other"}, "token_unknown by other"},
		{"tokens too", []string{"authorization", "Bearer " + corp, "x-auth-realm", "other"}, "no_credential"},
		{"an unknown realm", []string{"authorization", "Basic YWQ6YQ==", "x-auth-realm", "nowhere"}, "realm_unknown"},
		{"an empty realm", []string{"authorization", "Basic YWQ6YQ==", "x-auth-realm", ""}, "realm_unknown"},
		{"the realm twice", []string{"authorization", "Basic YWQ6YQ==", "x-auth-realm", "other,other"}, "selection_repeated by corp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := who(t, s, nil, request(tt.headers...)); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestChallengesAndPlaces(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "corp", Realm: "ecmwf", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer, cookie}},
		Entry{Name: "again", Realm: "ecmwf", Kind: KindJWT, Authenticator: testJWT(t, "again", "https://b"), Places: []Place{{Kind: InHeader, Name: "Authorization", Scheme: "bearer"}}},
		Entry{Name: "people", Realm: "ecmwf", Kind: KindBasic, Authenticator: accepts("p"), Places: []Place{basic, {Kind: InHeader, Name: "authorization", Scheme: "Plain"}}},
		Entry{Name: "others", Realm: "other", Kind: KindBasic, Authenticator: accepts("p"), Places: []Place{basic}},
		Entry{Name: "keys", Realm: "ecmwf", Kind: KindAPIKey, Authenticator: testKeys(t, "k", "x"), Places: []Place{keyPlace, {Kind: InQuery, Name: "key"}}},
	)
	a, err := s.Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Challenge{{"Bearer", "ecmwf"}, {"Basic", "ecmwf"}, {"Basic", "other"}}
	if got := a.Challenges(); !slices.Equal(got, want) {
		t.Errorf("Challenges = %v, want %v", got, want)
	}
	places := []Place{{Kind: InHeader, Name: "authorization"}, {Kind: InCookie, Name: "access_token"}, {Kind: InHeader, Name: "x-api-key"}, {Kind: InQuery, Name: "key"}}
	if got := s.Places(); !slices.Equal(got, places) {
		t.Errorf("Places = %v, want %v", got, places)
	}
}

func TestAnswerSaysWhatWasUsed(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{{Kind: InHeader, Name: "Authorization", Scheme: "bearer"}, cookie}},
	)
	a, err := s.Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, "https://corp", "eve")
	for _, tt := range []struct {
		name, header, value string
		place               Place
		credential          string
	}{
		{"a header with a scheme", "authorization", "BEARER  " + token, Place{Kind: InHeader, Name: "authorization", Scheme: "bearer"}, token},
		{"a cookie", "cookie", "a=1; access_token=" + token, cookie, token},
		{"a bare header", "x-api-key", "good", keyPlace, "good"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := s.Authenticate(t.Context(), a, &Input{Request: request(tt.header, tt.value), Now: testNow})
			if got.Identity == nil || got.Place != tt.place || got.Credential != tt.credential {
				t.Errorf("Authenticate used %q in %v, want %q in %v", got.Credential, got.Place, tt.credential, tt.place)
			}
		})
	}
	if got := (Place{Kind: InHeader, Name: "authorization", Scheme: "Bearer"}).Header("x"); got != "Bearer x" {
		t.Errorf("Header = %q", got)
	}
}

func TestSetsThatDoNotLoad(t *testing.T) {
	keys := testKeys(t, "k", "x")
	entry := func(change func(*Entry)) []Entry {
		e := Entry{Name: "a", Realm: "a", Kind: KindAPIKey, Authenticator: keys, Places: []Place{keyPlace}}
		change(&e)
		return []Entry{e}
	}
	remote := func(name, prefix string, inTurn bool) Entry {
		return Entry{Name: name, Realm: name, Kind: KindLookup, Authenticator: accepts(name), Places: []Place{bearer}, Prefix: prefix, TryInTurn: inTurn}
	}
	for _, tt := range []struct {
		name    string
		entries []Entry
		want    string // "": it loads
	}{
		{"as it should be", entry(func(*Entry) {}), ""},
		{"no name", entry(func(e *Entry) { e.Name = "" }), "name is empty"},
		{"no realm", entry(func(e *Entry) { e.Realm = "" }), "realm is empty"},
		{"no kind", entry(func(e *Entry) { e.Kind = 0 }), "no kind"},
		{"no authenticator", entry(func(e *Entry) { e.Authenticator = nil }), "no kind"},
		{"no place", entry(func(e *Entry) { e.Places = nil }), "no place"},
		{"a place without a name", entry(func(e *Entry) { e.Places = []Place{{Kind: InHeader}} }), "no name"},
		{"a place of no kind", entry(func(e *Entry) { e.Places = []Place{{Name: "x"}} }), "neither"},
		{"a cookie with a scheme", entry(func(e *Entry) { e.Places = []Place{{Kind: InCookie, Name: "x", Scheme: "Bearer"}} }), "scheme"},
		{"a name that is no token", entry(func(e *Entry) { e.Places = []Place{{Kind: InCookie, Name: "a b"}} }), "cannot be the name"},
		{"a scheme that is no token", entry(func(e *Entry) { e.Places = []Place{{Kind: InHeader, Name: "a", Scheme: "b c"}} }), "cannot be a scheme"},
		{"the header cookie", entry(func(e *Entry) { e.Places = []Place{{Kind: InHeader, Name: "Cookie"}} }), "read by cookie"},
		{"a place twice", entry(func(e *Entry) { e.Places = []Place{keyPlace, {Kind: InHeader, Name: "X-API-Key"}} }), "twice"},
		{"only_from without a place", entry(func(e *Entry) { e.OnlyFrom = []Origin{} }), "holds no place"},
		{"only_from with an empty place", entry(func(e *Entry) { e.OnlyFrom = []Origin{{}} }), "no condition"},
		{"a name twice", append(entry(func(*Entry) {}), entry(func(*Entry) {})...), "used twice"},
		{"a header with and without a scheme", append(entry(func(e *Entry) { e.Places = []Place{{Kind: InHeader, Name: "authorization"}} }), remote("b", "", false)), "whole credential"},
		{"two look-ups that cannot be told apart", []Entry{remote("a", "", false), remote("b", "", false)}, "try_in_turn"},
		{"of which one may be asked in turn", []Entry{remote("a", "", true), remote("b", "", false)}, "try_in_turn"},
		{"of which both may", []Entry{remote("a", "", true), remote("b", "", true)}, ""},
		{"of which one has a prefix", []Entry{remote("a", "", false), remote("b", "b_", false)}, ""},
		{"of which both have one prefix", []Entry{remote("a", "b_", false), remote("b", "b_", false)}, "try_in_turn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewSet(tt.entries, Options{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("NewSet gives %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestSelectionNoAllocs(t *testing.T) {
	s := testSet(t, Options{},
		Entry{Name: "keys", Kind: KindAPIKey, Authenticator: testKeys(t, "keys", "good"), Places: []Place{keyPlace}},
		Entry{Name: "corp", Kind: KindJWT, Authenticator: testJWT(t, "corp", "https://corp"), Places: []Place{bearer, cookie}},
		Entry{Name: "partner", Kind: KindJWT, Authenticator: testJWT(t, "partner", "https://partner"), Places: []Place{bearer}},
	)
	a, err := s.Accept(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, header, value string }{
		{"a token", "authorization", "Bearer " + sign(t, "https://corp", "eve")},
		{"a token of the second issuer", "authorization", "Bearer " + sign(t, "https://partner", "pat")},
		{"a cookie", "cookie", "a=1; access_token=" + sign(t, "https://corp", "eve")},
		{"a key", "x-api-key", "good"},
		{"nothing", "x-other", "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := &Input{Request: request(tt.header, tt.value), Now: testNow}
			ctx := t.Context()
			if n := testing.AllocsPerRun(100, func() { s.Authenticate(ctx, a, in) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	m := &Mapping{Stamp: testStamp, Subject: &Field{Claim: "sub"}}
	j, err := NewJWT(JWTOptions{Issuer: "https://corp", AnyAudience: true, SharedSecret: NewSecret(testSecret), Map: m.Principal})
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSet([]Entry{{Name: "corp", Realm: "corp", Kind: KindJWT, Authenticator: j, Places: []Place{bearer, cookie}}}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	a, err := s.Accept(nil)
	if err != nil {
		b.Fatal(err)
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "https://corp", "sub": "eve", "exp": testNow.Add(time.Hour).Unix()}).SignedString([]byte(testSecret))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("jwt=cached", func(b *testing.B) {
		in := &Input{Request: request("authorization", "Bearer "+token), Now: testNow}
		b.ReportAllocs()
		for b.Loop() {
			s.Authenticate(context.Background(), a, in)
		}
	})
}
