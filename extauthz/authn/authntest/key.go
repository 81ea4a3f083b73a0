package authntest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/golang-jwt/jwt/v5"
)

// A Key is a key pair that an issuer signs with.
type Key struct {
	ID        string
	Algorithm string
	Private   crypto.Signer
}

// NewKey makes a key for algorithm: RS, PS or ES with 256, 384 or 512, or EdDSA.
func NewKey(id, algorithm string) (*Key, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = fmt.Errorf("algorithm %q is not supported", algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &Key{ID: id, Algorithm: algorithm, Private: private}, nil
}

// JWK is the public key as a key set publishes it (RFC 7517).
func (k *Key) JWK() map[string]any {
	jwk := map[string]any{"kid": k.ID, "alg": k.Algorithm, "use": "sig"}
	switch public := k.Private.Public().(type) {
	case *rsa.PublicKey:
		jwk["kty"] = "RSA"
		jwk["n"] = Encode(public.N.Bytes())
		jwk["e"] = Encode(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // 4, x, y
		if err != nil {
			panic(err) // the key is our own
		}
		size := len(point) / 2
		jwk["kty"], jwk["crv"] = "EC", public.Params().Name
		jwk["x"], jwk["y"] = Encode(point[1:1+size]), Encode(point[1+size:])
	case ed25519.PublicKey:
		jwk["kty"], jwk["crv"], jwk["x"] = "OKP", "Ed25519", Encode(public)
	}
	return jwk
}

// Token signs claims, with k named in the header.
func (k *Key) Token(claims map[string]any) string {
	return k.Sign(map[string]any{"alg": k.Algorithm, "typ": "JWT", "kid": k.ID}, claims)
}

// Sign signs header and claims as they are, whatever they say; the algorithm is k's.
func (k *Key) Sign(header, claims any) string {
	return k.SignRaw(mustJSON(header), mustJSON(claims))
}

// SignRaw signs header and payload byte by byte as they are, good JSON or not.
func (k *Key) SignRaw(header, payload []byte) string {
	input := Encode(header) + "." + Encode(payload)
	return input + "." + Encode(k.Signature(input))
}

// Signature signs input, which is the first two parts of a token.
func (k *Key) Signature(input string) []byte {
	signature, err := jwt.GetSigningMethod(k.Algorithm).Sign(input, k.Private)
	if err != nil {
		panic(err) // algorithm and key belong together since NewKey
	}
	return signature
}

// Encode is base64url without padding (RFC 7515 §2).
func Encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // tests give maps of plain values
	}
	return b
}
