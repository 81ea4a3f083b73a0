package tokens

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrHashKey says that the store was made with another hash key than this program was
// given, or that only one of the two has a key. With the wrong one every good token
// would be unknown, and every new one unknown to everybody else.
var ErrHashKey = errors.New("wrong hash key")

const (
	// noHashKey is the fingerprint of a store whose hashes have no key.
	noHashKey = "none"

	// hashKeyLabel is what the key is used on for its fingerprint, so that it is no
	// hash of any secret (secrets have 32 bytes).
	hashKeyLabel = "gatehouse: fingerprint of the hash key"
)

// fingerprint tells hash keys apart. Whoever steals the store can try short keys with
// it, as they could with any token that they have: the key is to be random.
func fingerprint(key []byte) string {
	if len(key) == 0 {
		return noHashKey
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(hashKeyLabel))
	return hex.EncodeToString(mac.Sum(nil))
}

// checkHashKey compares the key with the one that the store was made with. The first to
// ask an empty store decides.
func (s *Store) checkHashKey(ctx context.Context) error {
	want := fingerprint(s.hashKey)
	have, err := s.hashKeyOfStore(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = s.write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO gh_hash_key (id, fingerprint) VALUES (1, $1) ON CONFLICT (id) DO NOTHING`, want)
			return err
		})
		if err == nil { // another replica may have been faster
			have, err = s.hashKeyOfStore(ctx)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading the hash key of the %s store: %w", s.dialect.name, err)
	case have == want:
		return nil
	case have == noHashKey:
		return fmt.Errorf("%w: the %s store was made without one", ErrHashKey, s.dialect.name)
	case want == noHashKey:
		return fmt.Errorf("%w: the %s store was made with one, and none is given", ErrHashKey, s.dialect.name)
	}
	return fmt.Errorf("%w: the %s store was made with another", ErrHashKey, s.dialect.name)
}

func (s *Store) hashKeyOfStore(ctx context.Context) (fingerprint string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT fingerprint FROM gh_hash_key WHERE id = 1`).Scan(&fingerprint)
	return fingerprint, err
}
