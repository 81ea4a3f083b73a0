package authn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestHeadersAreRemembered: a header that was read before is the same, one that is refused
// is refused every time, and nothing of a request is kept.
func TestHeadersAreRemembered(t *testing.T) {
	h := headers{seed: knownHeaders.seed}
	encoded := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for i := range 4 * len(h.some) { // more than there is room for
		for range 2 {
			text := encoded(fmt.Sprintf(`{"alg":"RS256","kid":"key-%d"}`, i))
			read, reason, err := h.read(text)
			if err != nil || reason != policy.ReasonNone || read.algorithm != "RS256" || !read.hasKeyID || read.keyID != fmt.Sprintf("key-%d", i) || read.hasType {
				t.Fatalf("header %d: %+v, %v, %v", i, read, reason, err)
			}
			for j := range h.some {
				if known := h.some[j].Load(); known != nil && unsafe.StringData(known.encoded) == unsafe.StringData(text) {
					t.Fatal("the text of a request is kept")
				}
			}
		}
	}
	for _, tt := range []struct {
		text string
		want policy.Reason
	}{
		{encoded(`{"alg":"RS256","crit":["x"]}`), policy.ReasonCriticalHeader},
		{encoded(`{"alg":"RS256","jwk":{}}`), policy.ReasonKeyUnsuitable},
		{encoded(`{"alg":"RS256","alg":"none"}`), policy.ReasonTokenMalformed},
		{encoded(`{"alg":"RS256","kid":"key-0"}`) + "=", policy.ReasonTokenMalformed},
		{"", policy.ReasonTokenMalformed},
	} {
		for range 2 {
			if read, reason, err := h.read(tt.text); err == nil || reason != tt.want {
				t.Errorf("%q: %+v, %v, %v; want %v", tt.text, read, reason, err, tt.want)
			}
		}
	}
	h = headers{seed: h.seed}
	if _, _, err := h.read(encoded(`{"alg":"RS256","x":"` + strings.Repeat("x", maxRememberedHeader) + `"}`)); err != nil {
		t.Error(err)
	}
	for i := range h.some {
		if h.some[i].Load() != nil {
			t.Error("a header that no issuer sends is remembered")
		}
	}
}

// TestIdentityKeepsNoClaims: the texts of an identity are not pieces of the token's payload,
// which would be kept in memory with them.
func TestIdentityKeepsNoClaims(t *testing.T) {
	m := &Mapping{
		Stamp: Stamp{Authenticator: "corp", Realm: "corp"}, Subject: &Field{Claim: "sub"}, Username: &Field{Claim: "name"}, Tenant: &Field{Claim: "tenant"},
		Roles: &Field{Claim: "roles"}, Scopes: &Field{Claim: "scope"},
		Attributes: map[string]*Field{"team": {Claim: "team"}, "list": {Claim: "list"}, "none": {Claim: "none"}, "level": {Claim: "level"}},
	}
	j := testJWT(t, "corp", "https://corp", func(o *JWTOptions) { o.Map = m.Principal })
	payload := []byte(`{"iss":"https://corp","sub":"eve","name":"eve@example.com","tenant":"acme","roles":["a","b"],"scope":"x y","team":"red","list":["p","q"],"none":[],"level":7,"jti":"1"}`)
	claims, err := decodeOwn(payload)
	if err != nil {
		t.Fatal(err)
	}
	result := j.Identify(claims)
	if result.Identity == nil {
		t.Fatal(result.Reason, result.Detail)
	}
	p := result.Identity.Principal
	texts := slices.Concat([]string{p.Issuer, p.Subject, p.Username, p.Tenant, p.TokenID}, p.Tenants, p.Roles, p.Scopes)
	for a := range maps.Values(p.Attributes) {
		texts = append(texts, a.Values...)
	}
	if len(p.Attributes) != 4 || p.Attributes["none"].Values == nil || len(texts) < 12 {
		t.Fatalf("the principal is not complete: %+v", p)
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(payload)))
	for _, text := range texts {
		if at := uintptr(unsafe.Pointer(unsafe.StringData(text))); at >= from && at < from+uintptr(len(payload)) {
			t.Errorf("%q is a piece of the payload", text)
		}
	}
}

func TestDistinct(t *testing.T) {
	for range 200 {
		values := make([]string, rand.IntN(3*fewValues))
		for i := range values {
			values[i] = fmt.Sprint(rand.IntN(fewValues))
		}
		var want []string
		for i, v := range values {
			if slices.Index(values, v) == i {
				want = append(want, v)
			}
		}
		if got := distinct(values); !slices.Equal(got, want) {
			t.Errorf("distinct(%q) = %q, want %q", values, got, want)
		}
	}
}

// TestBoundKey: a key verifies nothing but its own algorithm and name, whoever chose it.
func TestBoundKey(t *testing.T) {
	a, _ := findAlgorithm("HS256")
	key, err := bindKey([]byte(testSecret), "one", true, [32]byte{}, a)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := parseJWS(sign(t, "https://corp", "eve"), DefaultTokenBytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		header header
		want   error
	}{
		{"no name", header{algorithm: "HS256"}, nil},
		{"its name", header{algorithm: "HS256", keyID: "one", hasKeyID: true}, nil},
		{"another name", header{algorithm: "HS256", keyID: "two", hasKeyID: true}, errOtherKey},
		{"another algorithm", header{algorithm: "HS512"}, errOtherAlgorithm},
	} {
		token.header = tt.header
		if err := key.verify(&token); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
