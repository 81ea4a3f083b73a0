package authn

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

// Wycheproof signs payloads such as "foo", which are no claims: a verifier that is
// only asked about them could refuse all for that reason. So what is odd about each
// RSA vector's signature is put into a token with good claims, with the private key
// that the vectors come with, and goes through the whole authenticator.
func TestWycheproofTransplantedIntoGoodClaims(t *testing.T) {
	claims := authntest.Encode(asJSON(map[string]any{"iss": "wycheproof", "aud": authntest.Audience, "sub": "alice", "exp": time.Now().Unix() + 600}))
	count := 0
	for _, g := range readVectors(t, "json_web_signature_test.json") {
		var key struct{ Kty, Alg, N, E, D string }
		if err := json.Unmarshal(g.Private, &key); err != nil {
			t.Fatal(err)
		}
		hash := transplantHashes[key.Alg]
		if key.Kty != "RSA" || hash == 0 || strings.HasPrefix(g.Comment, "rfc7520") {
			continue
		}
		surgeon := surgeon{n: bigOf(t, key.N), e: bigOf(t, key.E), d: bigOf(t, key.D), hash: hash, pss: strings.HasPrefix(key.Alg, "PS")}
		j := vectorJWT(t, &g)
		for _, v := range g.Tests {
			parts := strings.Split(v.JWS, ".")
			if len(parts) != 3 {
				continue
			}
			signature, err := decodeBase64URL(parts[2])
			if err != nil || len(signature) == 0 {
				continue
			}
			count++
			t.Run(fmt.Sprintf("%d %s %s", v.ID, g.Comment, v.Comment), func(t *testing.T) {
				input := parts[0] + "." + claims
				moved := surgeon.move(signature, parts[0]+"."+parts[1], input)
				r := authenticate(j, input+"."+authntest.Encode(moved))
				if (r.Identity != nil) != (v.Result == "valid") {
					t.Errorf("got %v (%v), want it %s", r.Reason, r.Detail, v.Result)
				}
			})
		}
	}
	if count < 280 {
		t.Errorf("%d vectors transplanted, want 280 at least", count)
	}
}

var transplantHashes = map[string]crypto.Hash{
	"RS256": crypto.SHA256, "RS384": crypto.SHA384, "RS512": crypto.SHA512,
	"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512,
}

// vectorJWT is an authenticator for the public key of g.
func vectorJWT(t *testing.T, g *vectorGroup) *JWT {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, fmt.Appendf(nil, `{"keys":[%s]}`, g.Public), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := NewKeySet(KeySetOptions{JWKSFile: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Close)
	return newTestJWT(t, "wycheproof", keys, nil)
}

func bigOf(t *testing.T, text string) *big.Int {
	t.Helper()
	octets, err := decodeBase64URL(text)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).SetBytes(octets)
}

// A surgeon moves RSA signatures, with what is wrong about them, to other messages.
type surgeon struct {
	n, e, d *big.Int
	hash    crypto.Hash
	pss     bool
}

// move makes the signature for to that is to it what signature is to from. What does
// not come from the private key at all stays as it is.
func (s *surgeon) move(signature []byte, from, to string) []byte {
	number := new(big.Int).SetBytes(signature)
	if len(signature) != s.size() || number.Cmp(s.n) >= 0 {
		return signature
	}
	encoded := new(big.Int).Exp(number, s.e, s.n).FillBytes(make([]byte, s.size()))
	if s.pss {
		encoded = s.movePSS(encoded, s.sum([]byte(from)), s.sum([]byte(to)))
	} else {
		encoded = bytes.Replace(encoded, s.sum([]byte(from)), s.sum([]byte(to)), 1)
	}
	return new(big.Int).Exp(new(big.Int).SetBytes(encoded), s.d, s.n).FillBytes(make([]byte, s.size()))
}

func (s *surgeon) size() int { return (s.n.BitLen() + 7) / 8 }

func (s *surgeon) sum(data ...[]byte) []byte {
	h := s.hash.New()
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}

// movePSS moves a message encoded by EMSA-PSS (RFC 8017 §9.1): it takes the padding
// apart, puts the new hash in if the old one was in it, and masks it again.
func (s *surgeon) movePSS(encoded, from, to []byte) []byte {
	split := len(encoded) - s.hash.Size() - 1
	padding, digest, trailer := bytes.Clone(encoded[:split]), encoded[split:len(encoded)-1], encoded[len(encoded)-1]
	top := padding[0] & 0x80 // a vector may have set the bit that the modulus leaves no room for
	s.mask(padding, digest)
	padding[0] &= 0x7f
	zeros := len(padding) - len(bytes.TrimLeft(padding, "\x00"))
	if zeros < len(padding) {
		salt := padding[zeros+1:]
		if bytes.Equal(digest, s.sum(make([]byte, 8), from, salt)) {
			digest = s.sum(make([]byte, 8), to, salt)
		}
	}
	s.mask(padding, digest)
	padding[0] = padding[0]&0x7f | top
	return append(append(padding, digest...), trailer)
}

// mask is the exclusive or of data and MGF1 of seed (RFC 8017 §B.2.1).
func (s *surgeon) mask(data, seed []byte) {
	for counter, at := uint32(0), 0; at < len(data); counter++ {
		for _, b := range s.sum(seed, binary.BigEndian.AppendUint32(nil, counter)) {
			if at == len(data) {
				break
			}
			data[at] ^= b
			at++
		}
	}
}
