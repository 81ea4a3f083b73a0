package tokens

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash/crc32"
	"log/slog"
	"math/bits"
	"strings"
)

// The text of a credential is, for tokens and API keys alike,
//
//	gh_ ID _ SECRET CHECKSUM
//	    16   43     6         base62 digits (0-9 A-Z a-z)
//
// ID is random and public: it is what lists and logs show. SECRET is 256 random
// bits as one big-endian number. CHECKSUM is the CRC-32 (IEEE) of all that stands
// before it, also big-endian. As with GitHub's tokens the checksum lets secret
// scanners tell a token from what merely looks like one, and lets us refuse a
// mistyped one without asking the store; it protects nothing.
//
// As a regular expression: gh_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}.
const (
	// Prefix begins every credential of ours.
	Prefix = "gh_"

	idDigits       = 16
	secretDigits   = 43 // 62^43 > 2^256
	checksumDigits = 6  // 62^6 > 2^32
	textLen        = len(Prefix) + idDigits + 1 + secretDigits + checksumDigits

	alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// A Credential is the id and the secret of a token or an API key. It prints as
// [redacted]; only [Credential.Reveal] gives the secret away.
type Credential struct {
	id     string
	secret [sha256.Size]byte
}

// NewCredential makes one from the system's random source.
func NewCredential() Credential {
	var c Credential
	rand.Read(c.secret[:]) // never fails: the program ends where there is no randomness
	c.id = newID()
	return c
}

// newID is 16 random digits, 95 bits.
func newID() string {
	id := make([]byte, 0, idDigits)
	var pool [64]byte
	for {
		rand.Read(pool[:])
		for _, b := range pool {
			// 248 is the largest multiple of 62 in a byte: every digit is equally likely.
			if b < 248 {
				id = append(id, alphabet[b%62])
			}
			if len(id) == idDigits {
				return string(id)
			}
		}
	}
}

// ID is the public part.
func (c Credential) ID() string { return c.id }

// Reveal is the whole credential as its owner presents it. Show it once, to its
// owner, and keep it nowhere.
func (c Credential) Reveal() string {
	var text [textLen]byte
	b := append(text[:0], Prefix...)
	b = append(b, c.id...)
	b = append(b, '_')
	b = appendBase62(b, c.secret, secretDigits)
	var sum [sha256.Size]byte
	binary.BigEndian.PutUint32(sum[28:], crc32.ChecksumIEEE(b))
	return string(appendBase62(b, sum, checksumDigits))
}

const redacted = "[redacted]"

func (c Credential) String() string               { return redacted }
func (c Credential) GoString() string             { return redacted }
func (c Credential) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (c Credential) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// ParseCredential reads a credential to the letter. False means that it was
// mistyped or is not one of ours: there is nothing to look up.
func ParseCredential(text string) (Credential, bool) {
	if len(text) != textLen || !strings.HasPrefix(text, Prefix) || text[len(Prefix)+idDigits] != '_' {
		return Credential{}, false
	}
	body, sum := text[:textLen-checksumDigits], text[textLen-checksumDigits:]
	want, ok := parseBase62(sum)
	if !ok {
		return Credential{}, false
	}
	// A sum over 2^32 has digits that the 32 bits cannot give: compare all of it.
	var have [sha256.Size]byte
	binary.BigEndian.PutUint32(have[28:], crc32.ChecksumIEEE([]byte(body)))
	if have != want {
		return Credential{}, false
	}
	id := text[len(Prefix) : len(Prefix)+idDigits]
	if !isBase62(id) {
		return Credential{}, false
	}
	secret, ok := parseBase62(body[len(body)-secretDigits:])
	if !ok {
		return Credential{}, false
	}
	return Credential{id: id, secret: secret}, true
}

// A Hash is what the store keeps of a secret.
type Hash [sha256.Size]byte

// equal compares in constant time.
func (h Hash) equal(other Hash) bool { return subtle.ConstantTimeCompare(h[:], other[:]) == 1 }

// hash is SHA-256 of the secret, or HMAC-SHA-256 where there is a key. A slow hash
// would protect nothing more: the secret has 256 bits.
func (c Credential) hash(key []byte) Hash {
	if len(key) == 0 {
		return sha256.Sum256(c.secret[:])
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(c.secret[:])
	return Hash(mac.Sum(nil))
}

// appendBase62 writes a number of 256 bits with the given count of digits, which
// must suffice.
func appendBase62(b []byte, number [32]byte, digits int) []byte {
	var limbs [8]uint32 // most significant first
	for i := range limbs {
		limbs[i] = binary.BigEndian.Uint32(number[4*i:])
	}
	start := len(b)
	for range digits {
		b = append(b, '0')
	}
	for at := len(b) - 1; at >= start; at-- {
		var rest uint64
		for i := range limbs {
			rest = rest<<32 | uint64(limbs[i])
			limbs[i] = uint32(rest / 62)
			rest %= 62
		}
		b[at] = alphabet[rest]
	}
	return b
}

// parseBase62 is the inverse of appendBase62. It refuses other digits and numbers
// of more than 256 bits, so that a number has one text only.
func parseBase62(text string) (number [32]byte, ok bool) {
	var limbs [4]uint64 // least significant first
	for i := range len(text) {
		carry, ok := digit(text[i])
		if !ok {
			return number, false
		}
		for j := range limbs {
			high, low := bits.Mul64(limbs[j], 62)
			var c uint64
			limbs[j], c = bits.Add64(low, carry, 0)
			carry = high + c
		}
		if carry != 0 {
			return number, false
		}
	}
	for i, limb := range limbs {
		binary.BigEndian.PutUint64(number[24-8*i:], limb)
	}
	return number, true
}

func isBase62(text string) bool {
	for i := range len(text) {
		if _, ok := digit(text[i]); !ok {
			return false
		}
	}
	return true
}

func digit(b byte) (uint64, bool) {
	switch {
	case '0' <= b && b <= '9':
		return uint64(b - '0'), true
	case 'A' <= b && b <= 'Z':
		return uint64(b-'A') + 10, true
	case 'a' <= b && b <= 'z':
		return uint64(b-'a') + 36, true
	}
	return 0, false
}
