package authn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Key is one API key of the configuration.
type Key struct {
	ID     string // for logs; it becomes the principal's token id
	Secret Secret // the key itself, or
	SHA256 []byte // its SHA-256, 32 bytes

	// Principal is whom the key authenticates. Its subject defaults to the ID.
	Principal policy.Principal
}

// A KeyStore knows more keys than the configuration does.
type KeyStore interface {
	// LookupKey finds the principal of a key, whose authenticator and realm are filled
	// in by the caller. No principal and no error is an unknown key, a revoked or an
	// expired one; the reason says which. An error means that the store could not tell.
	LookupKey(ctx context.Context, key string, now time.Time) (*policy.Principal, policy.Reason, error)
}

// APIKey verifies API keys. Any number may be good at the same time, so that a key
// can be replaced without a gap.
type APIKey struct {
	stamp Stamp
	keys  map[[sha256.Size]byte]*apiKey
	store KeyStore // nil: none
}

type apiKey struct {
	hash     [sha256.Size]byte
	identity *Identity
}

// NewAPIKey makes an APIKey that knows keys and those of store, which may be nil.
// Empty keys, and two keys with one secret or one id, are errors. Without keys and
// store it knows no key.
func NewAPIKey(stamp Stamp, keys []Key, store KeyStore) (*APIKey, error) {
	a := &APIKey{stamp: stamp, keys: make(map[[sha256.Size]byte]*apiKey, len(keys)), store: store}
	ids := make(map[string]bool)
	var errs []error
	for _, k := range keys {
		hash, err := k.hash()
		other, twice := a.keys[hash]
		switch {
		case err != nil:
		case k.ID == "":
			err = errors.New("it has no id")
		case ids[k.ID]:
			err = errors.New("its id is used twice")
		case twice:
			err = fmt.Errorf("it is the same key as %q", other.identity.Principal.TokenID)
		}
		ids[k.ID] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("key %q: %w", k.ID, err))
			continue
		}
		p := k.Principal
		p.TokenID = k.ID
		if p.Subject == "" {
			p.Subject = k.ID
		}
		a.keys[hash] = &apiKey{hash: hash, identity: &Identity{Principal: stamp.Principal(p)}}
	}
	if errs != nil {
		return nil, errors.Join(errs...)
	}
	return a, nil
}

// emptyHash is SHA-256 of nothing: the hash of a key that was never set.
var emptyHash = sha256.Sum256(nil)

func (k *Key) hash() ([sha256.Size]byte, error) {
	var hash [sha256.Size]byte
	switch {
	case k.SHA256 != nil && !k.Secret.Empty():
		return hash, errors.New("it has both a secret and a hash")
	case k.SHA256 != nil:
		if len(k.SHA256) != len(hash) {
			return hash, fmt.Errorf("its hash has %d bytes instead of %d", len(k.SHA256), len(hash))
		}
		copy(hash[:], k.SHA256)
	case k.Secret.Empty():
		return hash, errors.New("it is empty")
	case !isText(k.Secret.Reveal()) || strings.Contains(k.Secret.Reveal(), ","):
		return hash, errors.New("it holds a comma or something that is not a visible ASCII character, which no header can present")
	default:
		hash = sha256.Sum256([]byte(k.Secret.Reveal()))
	}
	if hash == emptyHash {
		return hash, errors.New("it is empty")
	}
	return hash, nil
}

// discreet implements [discreet]. A store is asked with the key.
func (a *APIKey) discreet() bool { return a.store == nil }

// Authenticate verifies a key. What is compared are SHA-256 hashes: which of them
// comes close tells nothing about the keys. A hit allocates nothing.
func (a *APIKey) Authenticate(ctx context.Context, in *Input) Result {
	var stack [256]byte // longer keys cost an allocation
	hash := sha256.Sum256(append(stack[:0], in.Value...))
	if key, ok := a.keys[hash]; ok && subtle.ConstantTimeCompare(key.hash[:], hash[:]) == 1 {
		return Result{Identity: key.identity}
	}
	switch {
	case a.store == nil:
		return Refuse(policy.ReasonKeyUnknown, nil)
	case in.Local:
		return Refuse(policy.ReasonStoreUnavailable, errLocal)
	}
	p, reason, err := a.store.LookupKey(ctx, in.Value, in.Now)
	switch {
	case err != nil:
		return Refuse(policy.ReasonStoreUnavailable, fmt.Errorf("looking up a key: %w", err))
	case p == nil && reason.Outcome() != policy.Unauthenticated:
		return Refuse(policy.ReasonKeyUnknown, nil)
	case p == nil:
		return Refuse(reason, nil)
	}
	return Result{Identity: &Identity{Principal: a.stamp.Principal(*p)}}
}
