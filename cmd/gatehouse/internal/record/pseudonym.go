package record

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// pseudonymBytes of the keyed hash stand for a personal value: enough that no two values
// meet by chance.
const pseudonymBytes = 16

// keyIDBytes name a key: enough to tell the few that a site ever has from each other.
const keyIDBytes = 4

// pseudonyms replaces personal values by a keyed hash, so that equal values stay equal. A
// nil pseudonyms leaves them as they are.
type pseudonyms struct {
	key []byte
	id  string // of the key
}

func newPseudonyms(key []byte) *pseudonyms { return &pseudonyms{key, KeyID(key)} }

func (p *pseudonyms) of(value string) string {
	if p == nil || value == "" {
		return value
	}
	return Pseudonym(p.key, value)
}

// Pseudonym is what stands for a personal value in a log that was written with key.
func Pseudonym(key []byte, value string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.ToValidUTF8(value, "\uFFFD"))) // never fails (hash.Hash)
	return "p:" + hex.EncodeToString(mac.Sum(nil)[:pseudonymBytes])
}

// KeyID names a key of pseudonyms in the records that were written with it. It tells two
// keys apart and is no pseudonym of anything.
func KeyID(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("gatehouse pseudonym key\x00")) // never fails (hash.Hash)
	return hex.EncodeToString(mac.Sum(nil)[:keyIDBytes])
}
