package tokens

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Kind tells what a record may be presented as. A token is never good as an API
// key, nor the other way round.
type Kind string

const (
	APIToken Kind = "token"   // belongs to a person or service, presented as a bearer token
	APIKey   Kind = "api_key" // belongs to a machine, presented where API keys are
)

func (k Kind) valid() bool { return k == APIToken || k == APIKey }

// An Owner is somebody, everywhere: a subject as its issuer names it.
type Owner struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// String is o for people.
func (o Owner) String() string { return strconv.Quote(o.Subject) + " of " + strconv.Quote(o.Issuer) }

// IsZero tells whether o is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }

// RealmIssuer is the issuer under which people without an issuer of their own
// (password lists, keys) are kept: equal names in two realms are two people.
func RealmIssuer(realm string) string { return "realm:" + realm }

// OwnerOf is who a principal is. Principals without a subject are named by their
// username; one without either is the zero Owner and owns nothing.
func OwnerOf(p *policy.Principal) Owner {
	owner := Owner{Issuer: p.Issuer, Subject: p.Subject}
	if owner.Issuer == "" {
		owner.Issuer = RealmIssuer(p.Realm)
	}
	if owner.Subject == "" {
		owner.Subject = p.Username
	}
	if owner.Subject == "" {
		return Owner{}
	}
	return owner
}

// Operator is the issuer of those who act on the store itself or through the
// service's own socket, rather than as a principal.
const Operator = "operator"

// A Token is the record of an API token or API key. It is shared and
// must not be changed: a change makes a new one with a higher Version.
type Token struct {
	ID   string
	Kind Kind
	Name string // for people; may be empty

	Owner    Owner
	Username string
	Tenant   string

	Scopes     []string
	Roles      []string // as they were when it was made
	Attributes map[string]policy.Attribute

	CreatedAt time.Time
	CreatedBy Owner
	ExpiresAt time.Time // zero: does not expire
	LastUsed  time.Time // coarse, to the minute or so; zero: not yet
	RevokedAt time.Time // zero: not revoked
	RevokedBy Owner

	Version int64 // grows with every change of the record

	hash          Hash
	previous      Hash // good until previousUntil: the secret before the last rotation
	previousUntil time.Time

	noted *atomic.Int64 // when a use was last noted here, Unix nanoseconds
}

// holds tells whether the hash is that of the record's secret, or of the one
// before during a rotation's grace.
func (t *Token) holds(hash Hash, now time.Time) bool {
	return t.hash.equal(hash) || now.Before(t.previousUntil) && t.previous.equal(hash)
}

// Expired tells whether the record's time is over.
func (t *Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// checkOwner refuses what cannot be somebody.
func checkOwner(o Owner) error {
	if o.Issuer == "" || o.Subject == "" {
		return fmt.Errorf("%w: an owner has an issuer and a subject", ErrInvalid)
	}
	return checkText(o.Issuer, o.Subject)
}

// maxText bounds, in bytes, each text of a record: as much as an index holds.
const maxText = 1024

// checkText refuses texts that some store cannot hold.
func checkText(texts ...string) error {
	for _, text := range texts {
		switch {
		case len(text) > maxText:
			return fmt.Errorf("%w: a text of %d bytes, at most %d are kept", ErrInvalid, len(text), maxText)
		case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
			return fmt.Errorf("%w: text %q is not UTF-8 without NUL", ErrInvalid, text)
		}
	}
	return nil
}
