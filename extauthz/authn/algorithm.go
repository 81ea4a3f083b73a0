package authn

import (
	"crypto/rsa"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// keyFamily is the use that a key is put to. One key belongs to one family, whatever
// its set leaves unsaid: a key that verified under two of them would let an attack on
// one speak for the other (RFC 8725 §3.1; RFC 8017 §8 for PKCS #1 and PSS).
type keyFamily uint8

const (
	familyNone  keyFamily = iota
	familyPKCS1           // RSASSA-PKCS1-v1_5
	familyPSS             // RSASSA-PSS
	familyP256
	familyP384
	familyP521
	familyEdwards
	familyHMAC
)

// An algorithm is one value of alg (RFC 7518 §3.1, RFC 8037 §3.1) and how it verifies.
type algorithm struct {
	name   string
	family keyFamily
	method jwt.SigningMethod
	// slow ones take half a millisecond and more, for all keys that are usual.
	slow bool
	// secretBytes is the least length of a shared secret (RFC 7518 §3.2).
	secretBytes int
}

// algorithms is all that a token can be signed with. none is not among them.
var algorithms = []algorithm{
	{name: "RS256", family: familyPKCS1, method: jwt.SigningMethodRS256},
	{name: "RS384", family: familyPKCS1, method: jwt.SigningMethodRS384},
	{name: "RS512", family: familyPKCS1, method: jwt.SigningMethodRS512},
	{name: "PS256", family: familyPSS, method: exactSalt(jwt.SigningMethodPS256)},
	{name: "PS384", family: familyPSS, method: exactSalt(jwt.SigningMethodPS384)},
	{name: "PS512", family: familyPSS, method: exactSalt(jwt.SigningMethodPS512)},
	{name: "ES256", family: familyP256, method: jwt.SigningMethodES256},
	{name: "ES384", family: familyP384, method: jwt.SigningMethodES384, slow: true},
	{name: "ES512", family: familyP521, method: jwt.SigningMethodES512, slow: true},
	{name: "EdDSA", family: familyEdwards, method: jwt.SigningMethodEdDSA},
	{name: "HS256", family: familyHMAC, method: jwt.SigningMethodHS256, secretBytes: 32},
	{name: "HS384", family: familyHMAC, method: jwt.SigningMethodHS384, secretBytes: 48},
	{name: "HS512", family: familyHMAC, method: jwt.SigningMethodHS512, secretBytes: 64},
}

// exactSalt is method with the one salt length that RFC 7518 §3.5 allows, that of the
// hash. The library's own takes any.
func exactSalt(method *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: method.SigningMethodRSA,
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

func findAlgorithm(name string) (algorithm, bool) {
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == name })
	if i < 0 {
		return algorithm{}, false
	}
	return algorithms[i], true
}

// AsymmetricAlgorithms are the algorithms that a published key can serve, and the
// default of a [JWT] that has no shared secret.
func AsymmetricAlgorithms() []string {
	var names []string
	for _, a := range algorithms {
		if a.family != familyHMAC {
			names = append(names, a.name)
		}
	}
	return names
}
