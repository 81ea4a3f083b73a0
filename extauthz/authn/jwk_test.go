package authn

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// jwkBench has good public keys to spoil.
type jwkBench struct{ rsa, ec, ec521, ed map[string]any }

func newJWKBench(t testing.TB) jwkBench {
	t.Helper()
	public := func(algorithm string) map[string]any {
		key, err := authntest.NewKey("k", algorithm)
		if err != nil {
			t.Fatal(err)
		}
		jwk := key.JWK()
		delete(jwk, "alg")
		delete(jwk, "use")
		return jwk
	}
	return jwkBench{public("RS256"), public("ES256"), public("ES512"), public("EdDSA")}
}

// with is jwk with changes; nil removes a member.
func with(jwk, changes map[string]any) json.RawMessage {
	changed := maps.Clone(jwk)
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
			continue
		}
		changed[name] = value
	}
	return asJSON(changed)
}

type m = map[string]any

func TestParseJWKServes(t *testing.T) {
	b := newJWKBench(t)
	all := AsymmetricAlgorithms()
	for _, row := range []struct {
		name    string
		key     json.RawMessage
		allowed []string
		want    []string
	}{
		{"an RSA key without alg serves PKCS #1 only", with(b.rsa, nil), all, []string{"RS256", "RS384", "RS512"}},
		{"an RSA key without alg serves what of PKCS #1 is allowed", with(b.rsa, nil), []string{"PS256", "RS256", "PS512"}, []string{"RS256"}},
		{"an RSA key without alg serves PSS where PKCS #1 is not allowed", with(b.rsa, nil), []string{"PS256", "ES256"}, []string{"PS256"}},
		{"an RSA key for PS256 serves that", with(b.rsa, m{"alg": "PS256"}), all, []string{"PS256"}},
		{"an RSA key for RS512 serves that", with(b.rsa, m{"alg": "RS512"}), all, []string{"RS512"}},
		{"a P-256 key serves ES256", with(b.ec, nil), all, []string{"ES256"}},
		{"a P-521 key serves ES512", with(b.ec521, nil), all, []string{"ES512"}},
		{"an Ed25519 key serves EdDSA", with(b.ed, nil), all, []string{"EdDSA"}},
		{"a key for signatures serves", with(b.ec, m{"use": "sig"}), all, []string{"ES256"}},
		{"a key to verify serves", with(b.ec, m{"key_ops": []string{"verify"}}), all, []string{"ES256"}},
		{"a key to sign and verify serves", with(b.ec, m{"key_ops": []string{"sign", "verify"}}), all, []string{"ES256"}},
		{"certificates beside a key are not looked at", with(b.ec, m{"x5c": []string{"nonsense"}, "x5u": "https://evil.example", "x5t": "x", "x5t#S256": "x"}), all, []string{"ES256"}},
		{"unknown members are not looked at", with(b.ec, m{"exp": 1, "revoked": m{"x": 1}}), all, []string{"ES256"}},
		{"a key without kid serves", with(b.ec, m{"kid": nil}), all, []string{"ES256"}},
		{"an exponent of three serves", with(b.rsa, m{"e": "Aw"}), []string{"RS256"}, []string{"RS256"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			allowed, err := publishedAlgorithms(row.allowed)
			if err != nil {
				t.Fatal(err)
			}
			published, err := parseJWK(row.key, allowed)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, key := range published.bindings {
				got = append(got, key.algorithm.name)
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("serves %v, want %v", got, row.want)
			}
		})
	}
}

func TestParseJWKRefuses(t *testing.T) {
	b := newJWKBench(t)
	n, err := decodeBase64URL(b.rsa["n"].(string))
	if err != nil {
		t.Fatal(err)
	}
	even := slices.Clone(n)
	even[len(even)-1] &^= 1
	padded := func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) }
	prefixed := func(name string, jwk m) string {
		octets, err := decodeBase64URL(jwk[name].(string))
		if err != nil {
			t.Fatal(err)
		}
		return authntest.Encode(append([]byte{0}, octets...))
	}
	rows := []struct {
		name string
		key  json.RawMessage
	}{
		{"no object", json.RawMessage(`[]`)},
		{"no JSON", json.RawMessage(`{`)},
		{"no members", json.RawMessage(`{}`)},
		{"a member twice", json.RawMessage(strings.Replace(string(with(b.ec, nil)), `{`, `{"kid":"other",`, 1))},
		{"no kty", with(b.ec, m{"kty": nil})},
		{"a kty in another case", with(b.ec, m{"kty": "ec"})},
		{"an unknown kty", with(b.ec, m{"kty": "AKP"})},
		{"a kty that is no string", with(b.ec, m{"kty": 5})},
		{"the kty of another kind", with(b.ec, m{"kty": "RSA"})},
		{"a kid that is no string", with(b.ec, m{"kid": 5})},
		{"a kid that is too long", with(b.ec, m{"kid": strings.Repeat("k", maxKeyIDBytes+1)})},
		// use, key_ops, alg
		{"a key for encryption", with(b.ec, m{"use": "enc"})},
		{"a use in another case", with(b.ec, m{"use": "SIG"})},
		{"an empty use", with(b.ec, m{"use": ""})},
		{"a use that is no string", with(b.ec, m{"use": []string{"sig"}})},
		{"a key to sign only", with(b.ec, m{"key_ops": []string{"sign"}})},
		{"a key to encrypt", with(b.ec, m{"key_ops": []string{"encrypt"}})},
		{"no operations", with(b.ec, m{"key_ops": []string{}})},
		{"an operation twice", with(b.ec, m{"key_ops": []string{"verify", "verify"}})},
		{"operations in one string", with(b.ec, m{"key_ops": "verify"})},
		{"an operation that is no string", with(b.ec, m{"key_ops": []any{"verify", 5}})},
		{"use and operations that disagree", with(b.ec, m{"use": "enc", "key_ops": []string{"verify"}})},
		{"an alg of another curve", with(b.ec, m{"alg": "ES384"})},
		{"an alg of another kind", with(b.ec, m{"alg": "RS256"})},
		{"an RSA key for encryption by alg", with(b.rsa, m{"alg": "RSA-OAEP"})},
		{"a symmetric alg", with(b.rsa, m{"alg": "HS256"})},
		{"alg none", with(b.rsa, m{"alg": "none"})},
		{"an empty alg", with(b.rsa, m{"alg": ""})},
		{"an alg that is no string", with(b.rsa, m{"alg": 5})},
		// RSA
		{"no modulus", with(b.rsa, m{"n": nil})},
		{"an empty modulus", with(b.rsa, m{"n": ""})},
		{"a modulus that is no string", with(b.rsa, m{"n": 5})},
		{"a modulus with padding", with(b.rsa, m{"n": padded(b.rsa["n"].(string))})},
		{"a modulus with a zero before", with(b.rsa, m{"n": prefixed("n", b.rsa)})},
		{"a modulus in the standard alphabet", with(b.rsa, m{"n": "+/" + b.rsa["n"].(string)[2:]})},
		{"a modulus with a line break", with(b.rsa, m{"n": "\n" + b.rsa["n"].(string)})},
		{"a modulus of 2040 bits", with(b.rsa, m{"n": authntest.Encode(n[:255])})},
		{"a modulus of 1024 bits", with(b.rsa, m{"n": authntest.Encode(n[:128])})},
		{"a modulus of 8200 bits", with(b.rsa, m{"n": authntest.Encode(slices.Concat(n, n, n, n, []byte{1}))})},
		{"an even modulus", with(b.rsa, m{"n": authntest.Encode(even)})},
		{"no exponent", with(b.rsa, m{"e": nil})},
		{"an exponent of zero", with(b.rsa, m{"e": "AA"})},
		{"an exponent of one", with(b.rsa, m{"e": "AQ"})},
		{"an exponent of two", with(b.rsa, m{"e": "Ag"})},
		{"an even exponent", with(b.rsa, m{"e": "AQAA"})},
		{"an exponent with a zero before", with(b.rsa, m{"e": "AAEAAQ"})},
		{"an exponent with padding", with(b.rsa, m{"e": "AQ=="})},
		{"an exponent with stray bits", with(b.rsa, m{"e": "Ax"})},
		{"an exponent of 33 bits", with(b.rsa, m{"e": authntest.Encode([]byte{1, 0, 0, 0, 1})})},
		{"an exponent as large as the modulus", with(b.rsa, m{"e": b.rsa["n"]})},
		// EC
		{"no crv", with(b.ec, m{"crv": nil})},
		{"another crv", with(b.ec, m{"crv": "P-384"})},
		{"an unknown crv", with(b.ec, m{"crv": "secp256k1"})},
		{"a crv that is no string", with(b.ec, m{"crv": 256})},
		{"no x", with(b.ec, m{"x": nil})},
		{"no y", with(b.ec, m{"y": nil})},
		{"an x too short", with(b.ec, m{"x": authntest.Encode(make([]byte, 31))})},
		{"an x with a zero before", with(b.ec, m{"x": prefixed("x", b.ec)})},
		{"x and y exchanged", with(b.ec, m{"x": b.ec["y"], "y": b.ec["x"]})},
		{"a point at zero", with(b.ec, m{"x": authntest.Encode(make([]byte, 32)), "y": authntest.Encode(make([]byte, 32))})},
		{"coordinates beyond the field", with(b.ec, m{"x": authntest.Encode([]byte(strings.Repeat("\xff", 32)))})},
		// OKP
		{"an Ed25519 key without x", with(b.ed, m{"x": nil})},
		{"an Ed25519 key of 31 octets", with(b.ed, m{"x": authntest.Encode(make([]byte, 31))})},
		{"an Ed25519 key with padding", with(b.ed, m{"x": b.ed["x"].(string) + "="})},
		{"an X25519 key", with(b.ed, m{"crv": "X25519"})},
		{"an Ed448 key", with(b.ed, m{"crv": "Ed448"})},
		// private and symmetric
		{"a symmetric key", json.RawMessage(`{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ","alg":"HS256"}`)},
	}
	for _, name := range jwkPrivate {
		rows = append(rows, struct {
			name string
			key  json.RawMessage
		}{"a key that gives its " + name + " away", with(b.rsa, m{name: "AQAB"})})
	}
	for i, point := range edwardsSmallOrder {
		for _, sign := range []byte{0, 0x80} {
			octets := []byte(point)
			octets[31] |= sign
			rows = append(rows, struct {
				name string
				key  json.RawMessage
			}{fmt.Sprintf("small-order point %d with sign %x", i, sign), with(b.ed, m{"x": authntest.Encode(octets)})})
		}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if published, err := parseJWK(row.key, publishable()); err == nil {
				t.Errorf("parseJWK(%.200s) gives %d bindings, want an error", row.key, len(published.bindings))
			}
		})
	}
}

func TestROCA(t *testing.T) {
	// A modulus of the flawed form: each prime is k·M + 65537^a mod M (Nemec et al. §2).
	primorial := big.NewInt(2)
	for _, prime := range rocaPrimes {
		primorial.Mul(primorial, big.NewInt(prime))
	}
	power := func(a int64) *big.Int { return new(big.Int).Exp(big.NewInt(65537), big.NewInt(a), primorial) }
	p := new(big.Int).Add(new(big.Int).Mul(primorial, big.NewInt(12345)), power(1234567))
	q := new(big.Int).Add(new(big.Int).Mul(primorial, big.NewInt(67890)), power(7654321))
	if !isROCA(new(big.Int).Mul(p, q)) {
		t.Error("a modulus of the flawed form passes")
	}
	for range 3 {
		key, err := authntest.NewKey("k", "RS256")
		if err != nil {
			t.Fatal(err)
		}
		if isROCA(key.Private.Public().(*rsa.PublicKey).N) {
			t.Error("an ordinary modulus is refused")
		}
	}
}

func TestParseKeySet(t *testing.T) {
	b := newJWKBench(t)
	set := func(members ...json.RawMessage) string {
		return string(asJSON(m{"keys": members}))
	}
	other := newJWKBench(t)
	for _, row := range []struct {
		name    string
		body    string
		keys    int // 0: an error
		refused int
	}{
		{"one key", set(with(b.ec, nil)), 1, 0},
		{"keys of three kinds under one kid", set(with(b.ec, nil), with(b.rsa, nil), with(b.ed, nil)), 3, 0},
		{"the same key twice is one", set(with(b.ec, nil), with(b.ec, m{"use": "sig"})), 1, 0},
		{"two keys under one kid are none", set(with(b.ec, nil), with(other.ec, nil), with(b.ed, m{"kid": "e"})), 1, 1},
		{"three keys under one kid are none", set(with(b.ec, nil), with(other.ec, nil), with(b.ec, nil), with(b.ed, m{"kid": "e"})), 1, 2},
		{"two keys without kid are two", set(with(b.ec, m{"kid": nil}), with(other.ec, m{"kid": nil})), 2, 0},
		{"one key for two families serves the first", set(with(b.rsa, m{"alg": "RS256"}), with(b.rsa, m{"alg": "PS256", "kid": "p"})), 1, 1},
		{"one key for two algorithms of one family serves both", set(with(b.rsa, m{"alg": "RS256"}), with(b.rsa, m{"alg": "RS512"})), 1, 0},
		{"a bad key beside a good one is left out", set(with(b.ec, m{"kid": "x", "use": "enc"}), with(b.ed, nil)), 1, 1},
		{"other members of the set are not looked at", `{"x":1,` + set(with(b.ec, nil))[1:], 1, 0},
		{"a key with a member twice is left out", `{"keys":[{"kty":"EC","kty":"EC"},` + string(with(b.ec, nil)) + `]}`, 1, 1},
		{"no keys", `{"keys":[]}`, 0, 0},
		{"only bad keys", set(with(b.ec, m{"use": "enc"})), 0, 0},
		{"only two keys under one kid", set(with(b.ec, nil), with(other.ec, nil)), 0, 0},
		{"no keys member", `{}`, 0, 0},
		{"keys in another case", `{"Keys":[` + string(with(b.ec, nil)) + `]}`, 0, 0},
		{"keys twice", `{"keys":[],` + set(with(b.ec, nil))[1:], 0, 0},
		{"keys that are an object", `{"keys":{"k":` + string(with(b.ec, nil)) + `}}`, 0, 0},
		{"keys that are null", `{"keys":null}`, 0, 0},
		{"a single key in place of a set", string(with(b.ec, nil)), 0, 0},
		{"a list", `[` + string(with(b.ec, nil)) + `]`, 0, 0},
		{"something after the set", set(with(b.ec, nil)) + "x", 0, 0},
		{"a set cut short", set(with(b.ec, nil))[:40], 0, 0},
		{"nothing", ``, 0, 0},
		{"a page", `<!doctype html>`, 0, 0},
		{"too many keys", `{"keys":[` + strings.Repeat("{},", maxPublishedKeys) + string(with(b.ec, nil)) + `]}`, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := parseKeySet([]byte(row.body), publishable())
			if row.keys == 0 {
				if err == nil {
					t.Errorf("%d keys, want an error", got.keys)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.keys != row.keys || len(got.refused) != row.refused {
				t.Errorf("%d keys, refused %q; want %d and %d refused", got.keys, got.refused, row.keys, row.refused)
			}
		})
	}
}

func TestKeysWithoutAKid(t *testing.T) {
	b, other := newJWKBench(t), newJWKBench(t)
	find := func(h header, members ...json.RawMessage) policy.Reason {
		t.Helper()
		set, err := parseKeySet(asJSON(m{"keys": members}), publishable())
		if err != nil {
			t.Fatal(err)
		}
		_, reason, _ := set.find(h)
		return reason
	}
	nameless := header{algorithm: "ES256"}
	named := func(kid string) header { return header{algorithm: "ES256", keyID: kid, hasKeyID: true} }
	none := m{"kid": nil}
	for _, row := range []struct {
		name string
		got  policy.Reason
		want policy.Reason
	}{
		{"a token without kid, a key without", find(nameless, with(b.ec, none)), 0},
		{"a token without kid, one key with", find(nameless, with(b.ec, nil)), 0},
		{"a token without kid, two keys", find(nameless, with(b.ec, none), with(other.ec, nil)), policy.ReasonUnknownKey},
		{"a token without kid, one key under two names", find(nameless, with(b.ec, nil), with(b.ec, m{"kid": "l"})), 0},
		{"a token with kid, a key without", find(named("k"), with(b.ec, none)), policy.ReasonUnknownKey},
		{"a token with an empty kid, a key with an empty kid", find(named(""), with(b.ec, m{"kid": ""})), policy.ReasonUnknownKey},
		{"a token with kid, and a key refused beside a good one of that name", find(named("k"), with(b.rsa, m{"use": "enc"}), with(b.ec, nil)), 0},
		{"a token with the kid of two keys", find(named("k"), with(b.ec, nil), with(other.ec, nil), with(b.ed, m{"kid": "e"})), policy.ReasonKeyUnsuitable},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, row.got, row.want)
		}
	}
}
