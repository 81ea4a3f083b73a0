package mint

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
)

const (
	// DefaultRotation is how long a key of a [Ring] signs unless told otherwise.
	DefaultRotation = 30 * 24 * time.Hour

	// MinRotation leaves verifiers half an hour to learn of the next key.
	MinRotation = time.Hour

	// maxLead is how long before it signs a key is published; of a rotation under two days
	// it is half.
	maxLead = 24 * time.Hour

	// ringPoll is how often a ring reads the store, ringAgain how soon after a failure,
	// and ringTimeout how long that may take.
	ringPoll    = 30 * time.Second
	ringAgain   = time.Second
	ringTimeout = 5 * time.Second
)

// ErrNoKeys says that the keys of a [Ring] are not known yet: the store was not reached
// since the process began.
var ErrNoKeys = errors.New("the signing keys have not been read from the store yet")

// A Ring is the signing keys that all replicas of a store share. Whoever finds that a
// key is due makes it; it is published before it signs, and the one before it until the
// last token that it may have signed is over. An outage of the store leaves the keys as
// they are. A Ring is safe for concurrent use.
type Ring struct {
	store     *tokens.Store
	algorithm string
	rotation  atomic.Int64 // nanoseconds
	keys      atomic.Pointer[ringKeys]

	known sync.Once
	ready chan struct{} // closed when keys are known
}

// ringKeys are the keys as they were read last. It is immutable.
type ringKeys struct {
	signing []timedKey // of the ring's algorithm, in the order in which they sign
	jwks    []byte     // of all
	all     []Key
}

type timedKey struct {
	Key
	from time.Time
}

// NewRing makes a ring of keys for one algorithm: ES256, EdDSA or RS256.
func NewRing(store *tokens.Store, algorithm string) *Ring {
	r := &Ring{store: store, algorithm: algorithm, ready: make(chan struct{})}
	r.Rotate(DefaultRotation)
	return r
}

// Rotate says how long each key signs, at least [MinRotation].
func (r *Ring) Rotate(every time.Duration) { r.rotation.Store(int64(max(every, MinRotation))) }

// Ready is closed when the keys are known.
func (r *Ring) Ready() <-chan struct{} { return r.ready }

// Improvise makes a key in memory if none is known, for commands that decide without
// asking the store. Nobody verifies what it signs.
func (r *Ring) Improvise() error {
	if r.keys.Load() != nil {
		return nil
	}
	key, err := GenerateKey(r.algorithm)
	if err != nil {
		return err
	}
	jwks, err := publish([]Key{key})
	if err != nil {
		return err
	}
	r.keys.CompareAndSwap(nil, &ringKeys{signing: []timedKey{{Key: key}}, all: []Key{key}, jwks: jwks})
	return nil
}

// Run reads the keys and makes those that are due, until ctx ends.
func (r *Ring) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := ringPoll
		if err := r.Refresh(ctx); err != nil {
			wait = ringAgain
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Refresh reads the keys once, and makes or drops what is due by the store's clock.
func (r *Ring) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ringTimeout)
	defer cancel()
	stored, err := r.store.SigningKeys(ctx)
	if err != nil {
		return err
	}
	if _, due := r.planned(stored, time.Now()); due {
		stored, err = r.store.ChangeSigningKeys(ctx, func(keys []tokens.SigningKey, now time.Time) ([]tokens.SigningKey, error) {
			return r.plan(keys, now)
		})
		if err != nil {
			return err
		}
	}
	keys, err := r.read(stored)
	if err != nil {
		return err
	}
	r.keys.Store(keys)
	r.known.Do(func() { close(r.ready) })
	return nil
}

// lead is how long before it signs a key is published.
func (r *Ring) lead() time.Duration { return min(maxLead, time.Duration(r.rotation.Load())/2) }

// planned is which keys stay, and whether anything is to be done: a key made or dropped.
func (r *Ring) planned(keys []tokens.SigningKey, now time.Time) (kept []tokens.SigningKey, due bool) {
	newest := map[string]time.Time{} // of each algorithm
	// The last key that signs by now cannot be dropped; one before it can, when no token
	// that it signed may be good any more.
	for _, k := range slices.Backward(keys) {
		next, followed := newest[k.Algorithm]
		if !followed || now.Before(next.Add(MaxTTL)) {
			kept = append(kept, k)
		}
		newest[k.Algorithm] = k.SignsFrom
	}
	slices.Reverse(kept)
	_, wanted := r.next(kept, now)
	return kept, wanted || len(kept) < len(keys)
}

// next is from when a key that does not exist yet signs, and whether it is to be made.
func (r *Ring) next(keys []tokens.SigningKey, now time.Time) (from time.Time, due bool) {
	for _, k := range slices.Backward(keys) {
		if k.Algorithm != r.algorithm {
			continue
		}
		end := k.SignsFrom.Add(time.Duration(r.rotation.Load()))
		if k.SignsFrom.After(now) || now.Before(end.Add(-r.lead())) {
			return time.Time{}, false
		}
		if soonest := now.Add(r.lead()); end.Before(soonest) {
			end = soonest // nobody made it in time, and verifiers have to learn of it first
		}
		return end, true
	}
	return now, true // there is none: nothing to learn of before
}

func (r *Ring) plan(keys []tokens.SigningKey, now time.Time) ([]tokens.SigningKey, error) {
	kept, _ := r.planned(keys, now)
	from, due := r.next(kept, now)
	if !due {
		return kept, nil
	}
	key, err := GenerateKey(r.algorithm)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key.private)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	return append(kept, tokens.SigningKey{ID: key.ID, Algorithm: key.Algorithm, Private: private, SignsFrom: from}), nil
}

func (r *Ring) read(stored []tokens.SigningKey) (*ringKeys, error) {
	keys := &ringKeys{}
	for _, s := range stored {
		key, err := ParseKey(s.ID, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: s.Private}))
		if err != nil {
			return nil, fmt.Errorf("signing key %q of the store: %w", s.ID, err)
		}
		keys.all = append(keys.all, key)
		if key.Algorithm == r.algorithm {
			keys.signing = append(keys.signing, timedKey{key, s.SignsFrom})
		}
	}
	if len(keys.signing) == 0 {
		return nil, ErrNoKeys
	}
	var err error
	keys.jwks, err = publish(keys.all)
	return keys, err
}

// signer is the key that signs at now: the last whose time has come. Clocks of replicas
// differ a little, hence the first where none has.
func (k *ringKeys) signer(now time.Time) *Key {
	for i := len(k.signing) - 1; i > 0; i-- {
		if !now.Before(k.signing[i].from) {
			return &k.signing[i].Key
		}
	}
	return &k.signing[0].Key
}
