package tokens

import (
	"context"
	"database/sql"
	"encoding/hex"
	"strconv"
)

// Fill keeps n tokens of one owner, all in one transaction: creating them one by one
// would wait for the disk n times.
func Fill(ctx context.Context, s *Store, n int) ([]Credential, error) {
	credentials := make([]Credential, n)
	return credentials, s.write(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO gh_tokens (`+tokenColumns+`) VALUES
			($1, 'token', '', 'i', 's', '', '', '[]', '[]', '{}', $2, '', 0, $3, '', '', 0, 0, 0, '', '', 0)`)
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range credentials {
			credentials[i] = NewCredential()
			hash := credentials[i].hash(s.hashKey)
			if _, err := insert.ExecContext(ctx, credentials[i].id, hex.EncodeToString(hash[:]), i+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// LimitPages makes a full disk of an SQLite store, where no small file system can be
// mounted: it holds n pages more than now and no others. 0 lifts the limit.
func LimitPages(ctx context.Context, s *Store, n int) error {
	s.db.SetMaxOpenConns(1) // the limit is the connection's
	var count, limit int
	if err := s.db.QueryRowContext(ctx, `PRAGMA page_count`).Scan(&count); err != nil {
		return err
	}
	if n == 0 {
		count = 1 << 30
	}
	return s.db.QueryRowContext(ctx, `PRAGMA max_page_count = `+strconv.Itoa(count+n)).Scan(&limit)
}
