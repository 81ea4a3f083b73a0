package tokens

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// UseNonce takes a peer's nonce, once: false means that it was taken before, at
// this replica or another (RFC 9421 §7.2.2). expires is when a message with this
// nonce would be refused for its age; until then the nonce is kept.
func (s *Store) UseNonce(ctx context.Context, peer, nonce string, expires, now time.Time) (fresh bool, err error) {
	if err := checkText(peer, nonce); err != nil {
		return false, err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `INSERT INTO gh_nonces (peer, nonce, expires_at) VALUES ($1, $2, $3)
			ON CONFLICT (peer, nonce) DO UPDATE SET expires_at = excluded.expires_at WHERE gh_nonces.expires_at < $4`,
			peer, nonce, micros(expires), micros(now))
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		fresh = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("taking the nonce of peer %q: %w", peer, err)
	}
	return fresh, nil
}

// forget drops nonces and revocations that have expired.
func (s *Store) forget(ctx context.Context, now time.Time) error {
	err := s.note(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM gh_nonces WHERE expires_at < $1`, micros(now)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM gh_revocations WHERE expires_at > 0 AND expires_at < $1`, micros(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("forgetting what has expired: %w", err)
	}
	return nil
}
