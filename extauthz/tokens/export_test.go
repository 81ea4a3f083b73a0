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

// Exec runs a statement on the database itself, as its owner can.
func Exec(ctx context.Context, s *Store, statement string) error {
	_, err := s.db.ExecContext(ctx, statement)
	return err
}

// MigrateTo makes a store of the schema that an older program made: up to a version.
func MigrateTo(ctx context.Context, s *Store, version int64) error {
	if s.dialect.prepare != nil {
		if err := s.dialect.prepare(); err != nil {
			return err
		}
	}
	provider, err := s.provider()
	if err != nil {
		return err
	}
	_, err = provider.UpTo(ctx, version)
	return err
}

// LatestVersion is that of the schema which Migrate makes.
func LatestVersion(s *Store) (int64, error) {
	provider, err := s.provider()
	if err != nil {
		return 0, err
	}
	sources := provider.ListSources()
	return sources[len(sources)-1].Version, nil
}

// Number is what a query gives that counts something.
func Number(ctx context.Context, s *Store, query string) (n int64, err error) {
	err = s.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// Lock keeps every other writer out until unlock is called.
func Lock(ctx context.Context, s *Store) (unlock func() error, err error) {
	tx, err := s.db.BeginTx(ctx, nil) // immediate, as every transaction here
	if err != nil {
		return nil, err
	}
	return tx.Rollback, nil
}
