package authn

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	minRSABits = 2048 // RFC 7518 §3.3
	maxRSABits = 8192 // beyond it a signature costs a millisecond, which a token could ask for at will
)

// A verificationKey is one key bound to one algorithm. It lives as long as a key set
// publishes it unchanged; whoever keeps something that it verified keeps the pointer
// and asks whether it was withdrawn.
type verificationKey struct {
	keyID     string
	hasKeyID  bool
	algorithm algorithm
	material  [sha256.Size]byte // of the key itself, so that a new key under an old name is a new key
	key       any               // as its algorithm takes it

	withdrawn atomic.Bool
}

// bindKey makes key, which is good for a, a verificationKey.
func bindKey(key any, keyID string, hasKeyID bool, material [sha256.Size]byte, a algorithm) (*verificationKey, error) {
	jwk, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{
		Marshal:  jwkset.JWKMarshalOptions{Private: a.family == familyHMAC},
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.ALG(a.name), KID: keyID, USE: jwkset.UseSig},
	})
	if err != nil {
		return nil, fmt.Errorf("binding the key to %s: %w", a.name, err)
	}
	storage := jwkset.NewMemoryStorage()
	if err := storage.KeyWrite(context.Background(), jwk); err != nil {
		return nil, fmt.Errorf("storing the key: %w", err)
	}
	// keyfunc judges whether the key serves signatures of this algorithm. It is asked once
	// and not for every token: what it would look at does not change.
	kf, err := keyfunc.New(keyfunc.Options{Storage: storage, UseWhitelist: []jwkset.USE{jwkset.UseSig}})
	if err != nil {
		return nil, fmt.Errorf("storing the key: %w", err)
	}
	bound, err := kf.Keyfunc(&jwt.Token{Method: a.method, Header: map[string]any{"alg": a.name, "kid": keyID}})
	if err != nil {
		return nil, fmt.Errorf("binding the key to %s: %w", a.name, err)
	}
	return &verificationKey{keyID: keyID, hasKeyID: hasKeyID, algorithm: a, material: material, key: bound}, nil
}

var (
	errOtherAlgorithm = errors.New("the key is bound to another algorithm")
	errOtherKey       = errors.New("the key has another kid")
)

// verify checks the signature of t with this key, and no other.
func (k *verificationKey) verify(t *jws) error {
	switch {
	case t.header.algorithm != k.algorithm.name:
		return errOtherAlgorithm
	case k.hasKeyID && t.header.hasKeyID && k.keyID != t.header.keyID:
		return errOtherKey
	}
	if err := k.algorithm.method.Verify(t.input, t.signature, k.key); err != nil {
		return fmt.Errorf("verifying the signature: %w", err)
	}
	return nil
}

// jwkPrivate are the members that only private and symmetric keys have (RFC 7518
// §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2). A published set that holds one has given the
// key away.
var jwkPrivate = [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// A publishedKey is a member of a key set, read and judged.
type publishedKey struct {
	keyID    string
	hasKeyID bool
	bindings []*verificationKey // one per algorithm that the key may verify
}

// parseJWK reads one member of a published key set (RFC 7517 §4) and binds it to
// those of the algorithms in allowed that it may verify. A key that may verify none is
// an error, and so is one that is weak or not to the letter. The key's id is set even
// then, if it could be read.
func parseJWK(raw json.RawMessage, allowed []algorithm) (publishedKey, error) {
	var published publishedKey
	members, err := DecodeObject(raw)
	if err != nil {
		return published, fmt.Errorf("reading the key: %w", err)
	}
	if v, present := members["kid"]; present {
		id, ok := v.(string)
		switch {
		case !ok:
			return published, errors.New("the key's kid is not a string")
		case len(id) > maxKeyIDBytes:
			return published, fmt.Errorf("the key's kid is longer than %d bytes", maxKeyIDBytes)
		}
		published.keyID, published.hasKeyID = id, id != ""
	}
	for _, name := range jwkPrivate {
		if _, present := members[name]; present {
			return published, errors.New("a private or symmetric key is published")
		}
	}
	if err := checkKeyUse(members); err != nil {
		return published, err
	}
	key, material, families, err := parseKeyMaterial(members)
	if err != nil {
		return published, err
	}
	suitable, err := suitableAlgorithms(members, families, allowed)
	if err != nil {
		return published, err
	}
	for _, a := range suitable {
		bound, err := bindKey(key, published.keyID, published.hasKeyID, material, a)
		if err != nil {
			return published, err
		}
		published.bindings = append(published.bindings, bound)
	}
	return published, nil
}

// checkKeyUse refuses a key that is not for verifying signatures (RFC 7517 §4.2, §4.3).
func checkKeyUse(members map[string]any) error {
	if use, present := members["use"]; present && use != "sig" {
		return errors.New("the key's use is not sig")
	}
	v, present := members["key_ops"]
	if !present {
		return nil
	}
	operations, ok := v.([]any)
	if !ok {
		return errors.New("the key's key_ops is not a list")
	}
	verifies := false
	seen := make(map[string]bool)
	for _, v := range operations {
		operation, ok := v.(string)
		if !ok || seen[operation] {
			return errors.New("the key's key_ops is not a list of distinct strings")
		}
		seen[operation] = true
		verifies = verifies || operation == "verify"
	}
	if !verifies {
		return errors.New("the key's key_ops do not hold verify")
	}
	return nil
}

// suitableAlgorithms are those of allowed that a key of one of families may verify.
//
// A key that names its alg serves that one. A key that does not serves the first of
// its families that is allowed at all: an RSA key verifies RS256, RS384 and RS512,
// and PS256, PS384 and PS512 only where none of the former is allowed.
func suitableAlgorithms(members map[string]any, families []keyFamily, allowed []algorithm) ([]algorithm, error) {
	if v, present := members["alg"]; present {
		name, ok := v.(string)
		if !ok {
			return nil, errors.New("the key's alg is not a string")
		}
		a, known := findAlgorithm(name)
		if !known || !slices.Contains(families, a.family) {
			return nil, fmt.Errorf("a key of this kind does not serve the alg that it names, %.40q", name)
		}
		if !slices.ContainsFunc(allowed, func(b algorithm) bool { return b.name == name }) {
			return nil, fmt.Errorf("the key's alg %s is not among the algorithms", name)
		}
		return []algorithm{a}, nil
	}
	for _, family := range families {
		var suitable []algorithm
		for _, a := range allowed {
			if a.family == family {
				suitable = append(suitable, a)
			}
		}
		if len(suitable) > 0 {
			return suitable, nil
		}
	}
	return nil, errors.New("a key of this kind serves none of the algorithms")
}

// parseKeyMaterial reads the public key in members, its digest, and the families of
// algorithms that such a key could serve, the usual one first.
func parseKeyMaterial(members map[string]any) (key any, material [sha256.Size]byte, families []keyFamily, err error) {
	kty, ok := members["kty"].(string)
	if !ok {
		return nil, material, nil, errors.New("the key's kty is absent or not a string")
	}
	switch kty {
	case "RSA":
		families = []keyFamily{familyPKCS1, familyPSS}
		key, err = parseRSAKey(members)
	case "EC":
		var family keyFamily
		key, family, err = parseECKey(members)
		families = []keyFamily{family}
	case "OKP":
		families = []keyFamily{familyEdwards}
		key, err = parseEdwardsKey(members)
	case "oct":
		err = errors.New("a private or symmetric key is published")
	default:
		err = fmt.Errorf("the key's kty %.40q is not supported", kty)
	}
	if err != nil {
		return nil, material, nil, err
	}
	digest := sha256.New()
	for _, name := range [...]string{"kty", "crv", "n", "e", "x", "y"} {
		text, _ := members[name].(string)
		fmt.Fprintf(digest, "%s=%s\n", name, text) // base64url has no line breaks, and one spelling per value
	}
	return key, [sha256.Size]byte(digest.Sum(nil)), families, nil
}

// keyOctets is the member called name, which must be canonical base64url.
func keyOctets(members map[string]any, name string) ([]byte, error) {
	text, ok := members[name].(string)
	if !ok {
		return nil, fmt.Errorf("the key's %s is absent or not a string", name)
	}
	octets, err := decodeBase64URL(text)
	if err != nil || len(octets) == 0 {
		return nil, fmt.Errorf("the key's %s is not canonical base64url", name)
	}
	return octets, nil
}

// libraryKey has the library build the key from the named members alone. Certificates
// and their URLs (x5c, x5u, x5t) are left out: the key is what the set says it is, and
// nothing more is fetched for it.
func libraryKey(members map[string]any, names ...string) (any, error) {
	reduced := make(map[string]any, len(names))
	for _, name := range names {
		reduced[name] = members[name]
	}
	raw, err := json.Marshal(reduced)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{StrictPadding: true})
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	return jwk.Key(), nil
}

func parseRSAKey(members map[string]any) (*rsa.PublicKey, error) {
	modulus, err := keyOctets(members, "n")
	if err != nil {
		return nil, err
	}
	exponent, err := keyOctets(members, "e")
	if err != nil {
		return nil, err
	}
	if modulus[0] == 0 || exponent[0] == 0 { // RFC 7518 §2, Base64urlUInt
		return nil, errors.New("the key's n or e starts with a zero octet")
	}
	n := new(big.Int).SetBytes(modulus)
	switch bits := n.BitLen(); {
	case bits < minRSABits || bits > maxRSABits:
		return nil, fmt.Errorf("the key has %d bits; %d to %d are allowed", bits, minRSABits, maxRSABits)
	case n.Bit(0) == 0:
		return nil, errors.New("the key's n is even")
	}
	e := new(big.Int).SetBytes(exponent)
	if e.BitLen() > 31 || e.Cmp(big.NewInt(3)) < 0 || e.Bit(0) == 0 {
		return nil, errors.New("the key's e is not an odd number from 3 to 2^31")
	}
	if isROCA(n) {
		return nil, errors.New("the key is of the kind that can be factored (CVE-2017-15361)")
	}
	key, err := libraryKey(members, "kty", "n", "e")
	if err != nil {
		return nil, err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || public.N.Cmp(n) != 0 || public.E != int(e.Int64()) {
		return nil, errors.New("the key is not read as it is written")
	}
	return public, nil
}

// rocaPrimes are the odd primes of the smallest primorial that the flawed generator
// uses, up to 167; keys of all sizes have these in common (Nemec et al., The Return of
// Coppersmith's Attack, 2017).
var rocaPrimes = [...]int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
	97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// isROCA tells whether n came from the flawed generator: modulo every small prime it
// is then a power of 65537. A random modulus passes one time in about 2^27.
func isROCA(n *big.Int) bool {
	for _, prime := range rocaPrimes {
		residue := new(big.Int).Mod(n, big.NewInt(prime)).Int64()
		power, found := int64(1), false
		for range prime {
			if power == residue {
				found = true
				break
			}
			power = power * 65537 % prime
		}
		if !found {
			return false
		}
	}
	return true
}

func parseECKey(members map[string]any) (*ecdsa.PublicKey, keyFamily, error) {
	var family keyFamily
	var size int
	switch crv, _ := members["crv"].(string); crv {
	case "P-256":
		family, size = familyP256, 32
	case "P-384":
		family, size = familyP384, 48
	case "P-521":
		family, size = familyP521, 66
	default:
		return nil, familyNone, errors.New("the key's crv is absent or not supported")
	}
	for _, name := range [...]string{"x", "y"} {
		octets, err := keyOctets(members, name)
		if err != nil {
			return nil, familyNone, err
		}
		if len(octets) != size { // RFC 7518 §6.2.1.2
			return nil, familyNone, fmt.Errorf("the key's %s is not %d octets long", name, size)
		}
	}
	key, err := libraryKey(members, "kty", "crv", "x", "y")
	if err != nil {
		return nil, familyNone, err
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, familyNone, errors.New("the key is not read as it is written")
	}
	if _, err := public.ECDH(); err != nil {
		return nil, familyNone, errors.New("the key is not a point of its curve")
	}
	return public, family, nil
}

// edwardsSmallOrder are the encodings of points of Ed25519 that are no keys: anybody
// can make signatures that hold for them (RFC 8032 §8.9, the sign bit left aside).
var edwardsSmallOrder = [...]string{
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05",
	"\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a",
	"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
	"\xed\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
	"\xee\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
}

func parseEdwardsKey(members map[string]any) (ed25519.PublicKey, error) {
	if crv, _ := members["crv"].(string); crv != "Ed25519" {
		return nil, errors.New("the key's crv is absent or not supported")
	}
	x, err := keyOctets(members, "x")
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("the key's x is not %d octets long", ed25519.PublicKeySize)
	}
	unsigned := bytes.Clone(x)
	unsigned[31] &= 0x7f
	if slices.Contains(edwardsSmallOrder[:], string(unsigned)) {
		return nil, errors.New("the key is a point of small order")
	}
	key, err := libraryKey(members, "kty", "crv", "x")
	if err != nil {
		return nil, err
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok || !bytes.Equal(public, x) {
		return nil, errors.New("the key is not read as it is written")
	}
	return public, nil
}
