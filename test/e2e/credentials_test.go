package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/idp"
)

// TestCredentials goes through what a client can present, and what is decided for whom.
func TestCredentials(t *testing.T) {
	s := start(t)
	s.words["es256"] = s.provider.TokenSignedWith(t, "ES256", alice)
	s.words["eddsa"] = s.provider.TokenSignedWith(t, "EdDSA", alice)
	s.words["writer"] = s.provider.Token(t, alice.With(idp.Claims{"scope": "orders:write"}))
	s.words["text"] = s.provider.Token(t, alice.With(idp.Claims{"https://api.example.com/claims": "acme"}))
	s.words["number"] = s.provider.Token(t, alice.With(idp.Claims{"email": 7}))
	s.words["nosubject"] = s.provider.Token(t, alice.With(idp.Claims{"sub": nil}))
	s.words["noexpiry"] = s.provider.Token(t, alice.With(idp.Claims{"exp": nil}))
	s.words["early"] = s.provider.Token(t, alice.With(idp.Claims{"nbf": time.Now().Add(time.Hour).Unix()}))
	s.words["tampered"] = tamper(t, s.words["alice"])
	s.words["none"] = forge(t, s.provider, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)
	s.words["confused"] = forge(t, s.provider, jwt.SigningMethodHS256, publicKey(t, s.provider))
	s.words["ownkey"] = forge(t, s.provider, jwt.SigningMethodES256, newKey(t))

	s.run(t, []row{
		// tokens
		{name: "a reader reads her tenant's orders", request: "GET /tenants/acme/orders/7", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "the scheme is read in any case", request: "GET /me", headers: []string{"authorization: bEARER $alice"}, status: 200, upstream: seenAlice},
		{name: "a token signed with ES256", request: "GET /me", headers: []string{"authorization: Bearer $es256"}, status: 200, upstream: seenAlice},
		{name: "a token signed with EdDSA", request: "GET /me", headers: []string{"authorization: Bearer $eddsa"}, status: 200, upstream: seenAlice},
		{name: "a group is mapped to a role", request: "GET /admin", headers: []string{"authorization: Bearer $root"}, status: 200, upstream: seenRoot},
		{name: "no credential", request: "GET /tenants/acme/orders", status: 401, reason: "no_credential"},
		{name: "expired", request: "GET /me", headers: []string{"authorization: Bearer $expired"}, status: 401, reason: "expired"},
		{name: "not yet valid", request: "GET /me", headers: []string{"authorization: Bearer $early"}, status: 401, reason: "not_yet_valid"},
		{name: "without expiry", request: "GET /me", headers: []string{"authorization: Bearer $noexpiry"}, status: 401, reason: "expiry_missing"},
		{name: "another issuer's name", request: "GET /me", headers: []string{"authorization: Bearer $stranger"}, status: 401, reason: "unknown_issuer"},
		{name: "another audience", request: "GET /me", headers: []string{"authorization: Bearer $billing"}, status: 401, reason: "audience_mismatch"},
		{name: "without subject", request: "GET /me", headers: []string{"authorization: Bearer $nosubject"}, status: 401, reason: "claim_missing"},
		{name: "the tenant's claim is a text and not an object", request: "GET /me", headers: []string{"authorization: Bearer $text"}, status: 401, reason: "claim_type"},
		{name: "the username is a number", request: "GET /me", headers: []string{"authorization: Bearer $number"}, status: 401, reason: "claim_type"},
		{name: "a changed payload", request: "GET /me", headers: []string{"authorization: Bearer $tampered"}, status: 401, reason: "signature_invalid"},
		{name: "alg none", request: "GET /me", headers: []string{"authorization: Bearer $none"}, status: 401},
		{name: "HS256 with the public key as the secret", request: "GET /me", headers: []string{"authorization: Bearer $confused"}, status: 401},
		{name: "signed by somebody else under the issuer's kid", request: "GET /me", headers: []string{"authorization: Bearer $ownkey"}, status: 401},
		{name: "no token behind the scheme", request: "GET /me", headers: []string{"authorization: Bearer"}, status: 401},
		{name: "no token at all", request: "GET /me", headers: []string{"authorization: Bearer x"}, status: 401},
		{name: "a scheme that nobody accepts", request: "GET /me", headers: []string{"authorization: Basic YTpi"}, status: 401},

		// permissions
		{name: "another tenant's orders", request: "GET /tenants/other/orders", headers: []string{"authorization: Bearer $alice"}, status: 403, reason: "requirement_not_met"},
		{name: "no tenant at all", request: "GET /tenants/acme/orders", headers: []string{"authorization: Bearer $nobody"}, status: 403},
		{name: "the scope is missing", request: "POST /tenants/acme/orders", headers: []string{"authorization: Bearer $alice", "content-length: 0"}, status: 403, reason: "insufficient_scope"},
		{name: "the scope is there", request: "POST /tenants/acme/orders", headers: []string{"authorization: Bearer $writer", "content-length: 0"}, status: 200, upstream: seenAlice},
		{name: "what a caller may not see is not there", request: "GET /admin", headers: []string{"authorization: Bearer $alice"}, status: 404},
		{name: "nobody passes where the table forbids", request: "GET /internal/x", headers: []string{"authorization: Bearer $root"}, status: 403, reason: "route_forbids"},
		{name: "what no route covers", request: "GET /elsewhere", headers: []string{"authorization: Bearer $root"}, status: 403, reason: "no_route"},

		// API keys
		{name: "an API key", request: "GET /tenants/acme/orders", headers: []string{"x-api-key: $key"}, status: 200, upstream: seenBatch},
		{name: "the next key counts as well", request: "GET /tenants/acme/orders", headers: []string{"x-api-key: $nextkey"}, status: 200, upstream: seenBatch},
		{name: "a wrong key", request: "GET /me", headers: []string{"x-api-key: wrong"}, status: 401, reason: "api_key_unknown"},
		{name: "an empty key", request: "GET /me", headers: []string{"x-api-key:"}, status: 401},
		{name: "a wrong key is not saved by a good token", request: "GET /me", headers: []string{"x-api-key: wrong", "authorization: Bearer $alice"}, status: 401, reason: "api_key_unknown"},
		{name: "a good key goes before a token, which is not forwarded", request: "GET /me", headers: []string{"authorization: Bearer $alice", "x-api-key: $key"}, status: 200, upstream: seenBatch},
		{name: "a key is no token", request: "GET /me", headers: []string{"authorization: Bearer $key"}, status: 401},

		// one place, two values
		{name: "two tokens in two lines", request: "GET /me", headers: []string{"authorization: Bearer $alice", "authorization: Bearer $root"}, status: 400, reason: "credential_repeated"},
		{name: "the same token twice", request: "GET /me", headers: []string{"authorization: Bearer $alice", "authorization: Bearer $alice"}, status: 400, reason: "credential_repeated"},
		{name: "two tokens in one line", request: "GET /me", headers: []string{"authorization: Bearer $alice,Bearer $root"}, status: 400, reason: "credential_repeated"},
		{name: "Basic before Bearer", request: "GET /me", headers: []string{"authorization: Basic YTpi", "authorization: Bearer $alice"}, status: 400, reason: "credential_repeated"},
		{name: "two keys", request: "GET /me", headers: []string{"x-api-key: $key", "x-api-key: $nextkey"}, status: 400, reason: "credential_repeated"},

		// cookies
		{name: "a token in the cookie", request: "GET /me", headers: []string{"cookie: access_token=$alice"}, status: 200, upstream: seenAlice},
		{name: "other cookies reach the upstream, the token does not", request: "GET /me", headers: []string{"cookie: theme=dark; access_token=$alice; lang=de"}, status: 200, upstream: with(seenAlice, "cookie: theme=dark; lang=de")},
		{name: "the cookie twice", request: "GET /me", headers: []string{"cookie: access_token=$alice; access_token=$root"}, status: 400, reason: "credential_repeated"},
		{name: "the cookie in two lines", request: "GET /me", headers: []string{"cookie: access_token=$alice", "cookie: access_token=$root"}, status: 400, reason: "credential_repeated"},
		{name: "the cookie behind a comma", request: "GET /me", headers: []string{"cookie: a=1,access_token=$alice"}, status: 400, reason: "credential_repeated"},
		{name: "an expired token in the cookie", request: "GET /me", headers: []string{"cookie: access_token=$expired"}, status: 401, reason: "expired"},
		{name: "of two places the first listed decides, and neither is forwarded", request: "GET /me", headers: []string{"cookie: access_token=$root", "authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "and its answer is final", request: "GET /me", headers: []string{"cookie: access_token=$alice", "authorization: Bearer $expired"}, status: 401, reason: "expired"},

		// public routes
		{name: "public: a bad token counts as none and is not forwarded", request: "GET /assets/x", headers: []string{"authorization: Bearer $expired"}, status: 200},
		{name: "public: a good one is not forwarded either", request: "GET /assets/x", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "public: a wrong key counts as none", request: "GET /assets/x", headers: []string{"x-api-key: wrong"}, status: 200},
		{name: "public: repeated tokens count as none", request: "GET /assets/x", headers: []string{"authorization: Bearer $alice", "authorization: Bearer $root"}, status: 200},
		{name: "public: repeated cookies count as none", request: "GET /assets/x", headers: []string{"cookie: access_token=$alice; theme=dark; access_token=$root"}, status: 200, upstream: []string{"cookie: theme=dark"}},
		{name: "public: a scheme of nobody's is cleared too", request: "GET /assets/x", headers: []string{"authorization: Basic YTpi"}, status: 200},
	})
}

// TestSemantics23HeaderValues has claims say what a header cannot hold.
func TestSemantics23HeaderValues(t *testing.T) {
	s := start(t)
	for word, email := range map[string]string{
		"crlf": "a\r\nx-user: root", "tab": "a\tb", "nul": "a\x00", "umlaut": "jürgen@acme.example", "percent": "50%25", "long": strings.Repeat("x", 9000), "spaces": " a ",
	} {
		s.words[word] = s.provider.Token(t, idp.Claims{"sub": "u-9", "email": email})
	}
	s.words["commas"] = s.provider.Token(t, idp.Claims{"sub": "u-9", "groups": []string{"a,admin", "b"}})
	s.run(t, []row{
		{name: "a line break", request: "GET /me", headers: []string{"authorization: Bearer $crlf"}, status: 403, reason: "invalid_identity"},
		{name: "a tab", request: "GET /me", headers: []string{"authorization: Bearer $tab"}, status: 403, reason: "invalid_identity"},
		{name: "NUL", request: "GET /me", headers: []string{"authorization: Bearer $nul"}, status: 403, reason: "invalid_identity"},
		{name: "non-ASCII is percent-encoded", request: "GET /me", headers: []string{"authorization: Bearer $umlaut"}, status: 200, upstream: []string{"x-user: j%C3%BCrgen@acme.example"}},
		{name: "so is the percent sign", request: "GET /me", headers: []string{"authorization: Bearer $percent"}, status: 200, upstream: []string{"x-user: 50%2525"}},
		{name: "a comma inside a role does not make two", request: "GET /me", headers: []string{"authorization: Bearer $commas"}, status: 200, upstream: []string{"x-roles: a%2Cadmin,b"}},
		{name: "more than 8 KiB", request: "GET /me", headers: []string{"authorization: Bearer $long"}, status: 403, reason: "identity_too_large"},
	})
}

// with is seen with one line more, sorted.
func with(seen []string, line string) []string {
	return append([]string{line}, seen...) // cookie sorts before x-
}

// tamper makes another person of the payload and keeps the signature.
func tamper(t *testing.T, token string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || !bytes.Contains(payload, []byte(`"u-1"`)) {
		t.Fatalf("payload %s: %v", payload, err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(payload, []byte(`"u-1"`), []byte(`"u-2"`), 1))
	return strings.Join(parts, ".")
}

// forge signs alice's claims as the provider does, with a key that is not the provider's.
func forge(t *testing.T, p *idp.Provider, method jwt.SigningMethod, key any) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": p.Issuer, "aud": idp.Audience, "exp": time.Now().Add(time.Hour).Unix()}
	for name, value := range alice {
		claims[name] = value
	}
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = "ec-1"
	if method == jwt.SigningMethodHS256 {
		token.Header["kid"] = "rsa-1"
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publicKey is the provider's first RSA key in PEM, which is what libraries that take one
// for a secret would be given.
func publicKey(t *testing.T, p *idp.Provider) []byte {
	t.Helper()
	resp, err := http.Get(p.Issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set struct {
		Keys []struct{ Kid, N string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		if key.Kid != "rsa-1" {
			continue
		}
		n, err := base64.RawURLEncoding.DecodeString(key.N)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	t.Fatal("the provider has no rsa-1")
	return nil
}
