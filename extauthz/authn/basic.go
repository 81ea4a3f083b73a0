package authn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// verifiedPasswords is how many right passwords a list keeps, and for how long: their
// hashing is what makes them slow to guess, and to use.
const (
	verifiedPasswords    = 1 << 12
	verifiedPasswordsFor = 5 * time.Minute
)

// maxUserPassBytes bounds name and password together.
const maxUserPassBytes = 1024

// A User is one entry of a password list.
type User struct {
	Username     string
	PasswordHash Secret // argon2id or bcrypt

	// Principal is whom the password authenticates. Subject and username default to
	// the name.
	Principal policy.Principal
}

// BasicOptions are the settings of a [Basic].
type BasicOptions struct {
	Stamp     Stamp
	Users     []User
	Pool      *CorePool  // shared by all lists; nil: its own
	CacheKeys *CacheKeys // shared by all authenticators; nil: its own
}

// Basic verifies user names and passwords (RFC 7617) against a list. An unknown name
// costs what a wrong password costs.
type Basic struct {
	users    map[string]*basicUser
	unknown  passwordHash // what the passwords of unknown users are compared with
	pool     *CorePool
	keys     *CacheKeys
	verified *Cache[*Identity]
	failures *failures
}

type basicUser struct {
	hash     passwordHash
	identity *Identity
}

// NewBasic checks options. Names that occur twice and hashes that cannot be read, or
// take too long, are errors.
func NewBasic(options BasicOptions) (*Basic, error) {
	b := &Basic{
		users:    make(map[string]*basicUser, len(options.Users)),
		pool:     options.Pool,
		keys:     options.CacheKeys,
		verified: NewCache[*Identity](verifiedPasswords),
	}
	if b.pool == nil {
		b.pool = NewCorePool(DefaultPasswordQueue)
	}
	if b.keys == nil {
		b.keys = NewCacheKeys()
	}
	b.failures = newFailures(b.keys)
	var errs []error
	for _, u := range options.Users {
		hash, err := parsePasswordHash(u.PasswordHash.Reveal())
		switch {
		case err != nil:
		case u.Username == "" || !isUserText(u.Username) || strings.Contains(u.Username, ":"):
			err = errors.New("its name is empty or holds a colon or a control character, which no request can present")
		case b.users[u.Username] != nil:
			err = errors.New("its name is used twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("user %q: %w", u.Username, err))
			continue
		}
		p := u.Principal
		if p.Subject == "" {
			p.Subject = u.Username
		}
		if p.Username == "" {
			p.Username = u.Username
		}
		b.users[u.Username] = &basicUser{hash: hash, identity: &Identity{Principal: options.Stamp.Principal(p)}}
		if b.unknown == nil {
			b.unknown = hash
		}
	}
	if len(options.Users) == 0 {
		errs = append(errs, errors.New("there is no user"))
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return b, nil
}

// Authenticate implements [Authenticator].
func (b *Basic) Authenticate(ctx context.Context, in *Input) Result {
	key := b.keys.Key(in.Value)
	if identity, ok := b.verified.Get(key, in.Now); ok {
		return Result{Identity: identity}
	}
	name, password, err := parseUserPass(in.Value)
	if err != nil {
		return Refuse(policy.ReasonCredentialMalformed, err)
	}
	if in.Local {
		return Refuse(policy.ReasonPasswordWrong, errLocal)
	}
	guesses := b.failures.key(name, in.Request.Source)
	if b.failures.closed(guesses, in.Now) {
		return Refuse(policy.ReasonTooManyFailures, nil)
	}
	user, known := b.users[name]
	hash := b.unknown
	if known {
		hash = user.hash
	}
	right := false
	if err := b.pool.run(ctx, func() { right = hash.matches(password) }); err != nil {
		return Refuse(policy.ReasonOverloaded, err)
	}
	if !known || !right {
		wrong := Refuse(policy.ReasonPasswordWrong, nil)
		wrong.guess = guess{b.failures, guesses}
		return wrong
	}
	b.failures.succeeded(guesses)
	b.verified.Put(key, user.identity, in.Now.Add(verifiedPasswordsFor), in.Now)
	return Result{Identity: user.identity}
}

// parseUserPass reads the credential of Basic: base64 of name, colon, password, split
// at the first colon (RFC 7617 §2). Nothing of it is in the error.
func parseUserPass(credential string) (name, password string, err error) {
	// Padding is what some clients leave out.
	decoded, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(credential, "="))
	if err != nil {
		return "", "", errors.New("it is not base64")
	}
	name, password, found := strings.Cut(string(decoded), ":")
	switch {
	case !found:
		return "", "", errors.New("it has no colon")
	case len(decoded) > maxUserPassBytes:
		return "", "", fmt.Errorf("it is longer than %d bytes", maxUserPassBytes)
	case !isUserText(name) || !isUserText(password):
		return "", "", errors.New("it holds a control character")
	}
	return name, password, nil
}

// isUserText tells whether s has no control characters (RFC 7617 §2). For bcrypt a NUL
// would even be an end.
func isUserText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
