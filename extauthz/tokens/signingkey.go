package tokens

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A SigningKey signs identity tokens on every replica of a store. It prints without
// its private part.
type SigningKey struct {
	ID        string    // kid
	Algorithm string    // JWS
	Private   []byte    // PKCS #8
	SignsFrom time.Time // until the next key of its algorithm does
}

// String leaves the private part out.
func (k SigningKey) String() string {
	return fmt.Sprintf("%s key %s from %s", k.Algorithm, k.ID, k.SignsFrom.Format(time.RFC3339))
}

// GoString leaves the private part out.
func (k SigningKey) GoString() string { return k.String() }

const (
	// sealed and open say how a private part is kept: sealed with a key that is derived
	// from the hash key, or as it is in a store without one.
	sealed = "aes256gcm:"
	open   = "open:"

	// sealLabel is what the sealing key is derived for, so that it is no other key.
	sealLabel = "gatehouse: sealing of signing keys"
)

var errUnsealed = errors.New("it was not sealed with this hash key")

// SigningKeys reads the keys, in the order in which they sign. A store of another hash
// key is [ErrHashKey].
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	if err := s.checkHashKey(ctx); err != nil {
		return nil, err
	}
	return s.signingKeys(ctx, s.db)
}

// ChangeSigningKeys lets plan replace the keys as they are at now, the database's time.
// Replicas take turns: of two that both find a key missing only one makes it. It returns
// what there is then.
func (s *Store) ChangeSigningKeys(ctx context.Context, plan func(keys []SigningKey, now time.Time) ([]SigningKey, error)) ([]SigningKey, error) {
	if err := s.checkHashKey(ctx); err != nil {
		return nil, err
	}
	var after []SigningKey
	err := s.note(ctx, func(tx *sql.Tx) error {
		before, err := s.signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		var now int64
		if err := tx.QueryRowContext(ctx, `SELECT `+s.dialect.now()).Scan(&now); err != nil {
			return err
		}
		if after, err = plan(before, fromMicros(now)); err != nil {
			return err
		}
		return s.replaceSigningKeys(ctx, tx, before, after)
	})
	if err != nil {
		return nil, fmt.Errorf("changing the signing keys: %w", err)
	}
	return after, nil
}

func (s *Store) signingKeys(ctx context.Context, db interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
},
) ([]SigningKey, error) {
	rows, err := db.QueryContext(ctx, `SELECT id, algorithm, private, signs_from FROM gh_signing_keys ORDER BY signs_from, id`)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	defer rows.Close()
	var keys []SigningKey
	for rows.Next() {
		var k SigningKey
		var private string
		var from int64
		if err := rows.Scan(&k.ID, &k.Algorithm, &private, &from); err != nil {
			return nil, fmt.Errorf("reading the signing keys: %w", err)
		}
		if k.Private, err = s.unseal(&k, private); err != nil {
			return nil, fmt.Errorf("reading signing key %q: %w", k.ID, err)
		}
		k.SignsFrom = fromMicros(from)
		keys = append(keys, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	return keys, nil
}

// replaceSigningKeys writes the difference. A key that stays is not changed.
func (s *Store) replaceSigningKeys(ctx context.Context, tx *sql.Tx, before, after []SigningKey) error {
	kept := make(map[string]bool, len(after))
	for _, k := range after {
		kept[k.ID] = true
	}
	had := make(map[string]bool, len(before))
	for _, k := range before {
		had[k.ID] = true
		if kept[k.ID] {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM gh_signing_keys WHERE id = $1`, k.ID); err != nil {
			return err
		}
	}
	for i := range after {
		k := &after[i]
		if had[k.ID] {
			continue
		}
		private, err := s.seal(k)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO gh_signing_keys (id, algorithm, private, signs_from) VALUES ($1, $2, $3, $4)`,
			k.ID, k.Algorithm, private, micros(k.SignsFrom)); err != nil {
			return err
		}
	}
	return nil
}

// seal is how the private part is written down. What it belongs to is authenticated with
// it: it cannot be moved to another row.
func (s *Store) seal(k *SigningKey) (string, error) {
	if len(s.hashKey) == 0 {
		return open + base64.StdEncoding.EncodeToString(k.Private), nil
	}
	aead, err := s.sealing()
	if err != nil {
		return "", err
	}
	return sealed + base64.StdEncoding.EncodeToString(aead.Seal(nil, nil, k.Private, k.identity())), nil
}

func (s *Store) unseal(k *SigningKey, text string) ([]byte, error) {
	encoded, isSealed := strings.CutPrefix(text, sealed)
	if !isSealed {
		var isOpen bool
		if encoded, isOpen = strings.CutPrefix(text, open); !isOpen || len(s.hashKey) != 0 {
			return nil, errUnsealed
		}
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !isSealed {
		return data, err
	}
	if len(s.hashKey) == 0 {
		return nil, errUnsealed
	}
	aead, err := s.sealing()
	if err != nil {
		return nil, err
	}
	private, err := aead.Open(nil, nil, data, k.identity())
	if err != nil {
		return nil, errUnsealed
	}
	return private, nil
}

func (s *Store) sealing() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.hashKey, nil, sealLabel, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the key that seals signing keys: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("deriving the key that seals signing keys: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// identity is what tells rows apart.
func (k *SigningKey) identity() []byte { return []byte(k.Algorithm + " " + k.ID) }
