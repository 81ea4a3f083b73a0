package authn

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// A passwordHash is one that passwords can be compared with.
type passwordHash interface {
	matches(password string) bool
}

// Bounds of hashes that load: beyond them one request would hold a core, or the
// memory, of everybody else.
const (
	maxArgon2KiB     = 1 << 20 // of memory
	maxArgon2Passes  = 64
	maxArgon2Threads = 64
	maxArgon2Work    = 8 << 20 // KiB times passes
	maxBcryptCost    = 15      // some seconds
	maxBcryptBytes   = 72      // of a password: bcrypt does not look at the rest
)

// argon2Hash is an argon2id hash (RFC 9106).
type argon2Hash struct {
	memory, passes uint32
	threads        uint8
	salt, key      []byte
}

func (h *argon2Hash) matches(password string) bool {
	key := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}

type bcryptHash []byte

func (h bcryptHash) matches(password string) bool {
	long := len(password) > maxBcryptBytes
	if long {
		password = password[:maxBcryptBytes] // the same work, and no match
	}
	return bcrypt.CompareHashAndPassword(h, []byte(password)) == nil && !long
}

// parsePasswordHash reads an argon2id hash in the string format of the PHC, or a
// bcrypt hash. What it says is not in the error.
func parsePasswordHash(text string) (passwordHash, error) {
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2(text)
	case strings.HasPrefix(text, "$2"):
		cost, err := bcrypt.Cost([]byte(text))
		if err != nil || len(text) != 60 {
			return nil, errors.New("it is not a bcrypt hash")
		}
		if cost > maxBcryptCost {
			return nil, fmt.Errorf("its bcrypt cost of %d is over %d, which takes seconds of every request", cost, maxBcryptCost)
		}
		return bcryptHash(text), nil
	case text == "":
		return nil, errors.New("it has no password hash")
	}
	return nil, errors.New("its password hash is neither argon2id ($argon2id$…) nor bcrypt ($2b$…)")
}

// parseArgon2 reads $argon2id$v=19$m=65536,t=3,p=4$SALT$KEY.
func parseArgon2(text string) (passwordHash, error) {
	wrong := errors.New("it is not an argon2id hash of version 19")
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, wrong
	}
	var h argon2Hash
	parameters := strings.Split(fields[3], ",")
	if len(parameters) != 3 {
		return nil, wrong
	}
	for i, p := range []struct {
		prefix string
		max    uint64
		set    func(uint64)
	}{
		{"m=", maxArgon2KiB, func(n uint64) { h.memory = uint32(n) }},
		{"t=", maxArgon2Passes, func(n uint64) { h.passes = uint32(n) }},
		{"p=", maxArgon2Threads, func(n uint64) { h.threads = uint8(n) }},
	} {
		digits, ok := strings.CutPrefix(parameters[i], p.prefix)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || n == 0 {
			return nil, wrong
		}
		if n > p.max {
			return nil, fmt.Errorf("its argon2id parameter %s%d is over %d", p.prefix, n, p.max)
		}
		p.set(n)
	}
	if work := uint64(h.memory) * uint64(h.passes); work > maxArgon2Work {
		return nil, fmt.Errorf("its argon2id parameters m=%d,t=%d take seconds of every request", h.memory, h.passes)
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(fields[4]); err != nil || len(h.salt) < 8 {
		return nil, wrong
	}
	if h.key, err = base64.RawStdEncoding.Strict().DecodeString(fields[5]); err != nil || len(h.key) < 16 || len(h.key) > 128 {
		return nil, wrong
	}
	return &h, nil
}

// What [HashPassword] spends: the second recommendation for argon2id of the OWASP
// Password Storage Cheat Sheet, some 20 ms.
const (
	hashKiB     = 19 << 10
	hashPasses  = 2
	hashThreads = 1
	hashSalt    = 16
	hashKey     = 32
)

// HashPassword makes an argon2id hash of password with a fresh salt, for the
// configuration. A password that no request can present is an error.
func HashPassword(password string) (string, error) {
	if password == "" || !isUserText(password) {
		return "", errors.New("hashing a password: it is empty or holds a control character")
	}
	salt := make([]byte, hashSalt)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	key := argon2.IDKey([]byte(password), salt, hashPasses, hashKiB, hashThreads, hashKey)
	encode := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashKiB, hashPasses, hashThreads, encode(salt), encode(key)), nil
}

// DefaultPasswordQueue is how many passwords may wait for a core.
const DefaultPasswordQueue = 64
