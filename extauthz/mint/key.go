package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/MicahParks/jwkset"
)

// Bounds of signing keys.
const (
	minRSABits     = 2048 // RFC 7518 §3.3
	minSecretBytes = 32   // RFC 7518 §3.2, for HS256
)

// Key is a signing key. It prints without its secret.
type Key struct {
	ID        string // kid
	Algorithm string // ES256, EdDSA, RS256 or HS256

	private any // what golang-jwt signs with
}

// String leaves the secret out.
func (k Key) String() string { return k.Algorithm + " key " + k.ID }

// GoString leaves the secret out.
func (k Key) GoString() string { return k.String() }

// ParseKey reads a private key (PEM, PKCS #8; SEC 1 and PKCS #1 as well) and chooses
// the algorithm that it is for. An empty id becomes the RFC 7638 thumbprint.
func ParseKey(id string, text []byte) (Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, errors.New("reading a signing key: no PEM block; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`")
	}
	private, err := parsePrivate(block)
	if err != nil {
		return Key{}, fmt.Errorf("reading a signing key: %w", err)
	}
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return Key{}, errors.New("reading a signing key: an EC key must be on P-256 (ES256)")
		}
		return newKey(id, "ES256", k)
	case ed25519.PrivateKey:
		return newKey(id, "EdDSA", k)
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSABits {
			return Key{}, fmt.Errorf("reading a signing key: RSA of %d bits; at least %d are needed", k.N.BitLen(), minRSABits)
		}
		return newKey(id, "RS256", k)
	}
	return Key{}, fmt.Errorf("reading a signing key: a %T cannot sign identity tokens; use EC P-256, Ed25519 or RSA", private)
}

func parsePrivate(block *pem.Block) (any, error) {
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("a PEM block of type %q is not a private key", block.Type)
}

// SecretKey is a shared secret for HS256. It has no thumbprint that could be shown, so
// an empty id becomes "hs256". A secret under 32 bytes is weaker than the algorithm
// (RFC 7518 §3.2): weak says so, and the key works.
func SecretKey(id string, secret []byte) (key Key, weak bool, err error) {
	if len(secret) == 0 {
		return Key{}, false, errors.New("a shared secret must not be empty")
	}
	if id == "" {
		id = "hs256"
	}
	return Key{ID: id, Algorithm: "HS256", private: secret}, len(secret) < minSecretBytes, nil
}

// GenerateKey makes a key in memory, which other replicas do not know.
func GenerateKey(algorithm string) (Key, error) {
	switch algorithm {
	case "ES256":
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return Key{}, fmt.Errorf("making a signing key: %w", err)
		}
		return newKey("", algorithm, k)
	case "EdDSA":
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return Key{}, fmt.Errorf("making a signing key: %w", err)
		}
		return newKey("", algorithm, k)
	case "RS256":
		k, err := rsa.GenerateKey(rand.Reader, minRSABits)
		if err != nil {
			return Key{}, fmt.Errorf("making a signing key: %w", err)
		}
		return newKey("", algorithm, k)
	}
	return Key{}, fmt.Errorf("making a signing key: %q needs a key that the upstream knows; give shared_secret", algorithm)
}

func newKey(id, algorithm string, private crypto.Signer) (Key, error) {
	if id == "" {
		var err error
		if id, err = thumbprint(private.Public()); err != nil {
			return Key{}, err
		}
	}
	return Key{ID: id, Algorithm: algorithm, private: private}, nil
}

// thumbprint is the SHA-256 of the required members in lexicographic order (RFC 7638 §3).
func thumbprint(public crypto.PublicKey) (string, error) {
	jwk, err := jwkset.NewJWKFromKey(public, jwkset.JWKOptions{})
	if err != nil {
		return "", fmt.Errorf("describing a signing key: %w", err)
	}
	m := jwk.Marshal()
	var members any
	switch m.KTY {
	case jwkset.KtyEC:
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
			Y   string `json:"y"`
		}{string(m.CRV), string(m.KTY), m.X, m.Y}
	case jwkset.KtyOKP:
		members = struct {
			Crv string `json:"crv"`
			Kty string `json:"kty"`
			X   string `json:"x"`
		}{string(m.CRV), string(m.KTY), m.X}
	default:
		members = struct {
			E   string `json:"e"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		}{m.E, string(m.KTY), m.N}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("describing a signing key: %w", err)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// publish is the key set of the public halves. Shared secrets have none.
func publish(keys []Key) ([]byte, error) {
	set := jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{}}
	for _, k := range keys {
		signer, asymmetric := k.private.(crypto.Signer)
		if !asymmetric {
			continue
		}
		jwk, err := jwkset.NewJWKFromKey(signer.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			ALG: jwkset.ALG(k.Algorithm), KID: k.ID, USE: jwkset.UseSig,
		}})
		if err != nil {
			return nil, fmt.Errorf("publishing signing key %q: %w", k.ID, err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	return json.Marshal(set)
}
