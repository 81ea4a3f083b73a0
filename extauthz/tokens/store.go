package tokens

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// ErrNotFound says that the store was asked and has no such record. Every other
// error of a Store's method means that the store could not be asked or could not
// do it, unless the method says otherwise: an outage, never a refusal.
var ErrNotFound = errors.New("no such record")

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// migrationTable is where goose remembers which migrations were made.
	migrationTable = "gh_schema"

	// auditMigration is the number of the one migration that is no file: triggers are
	// written differently in each database.
	auditMigration = 2
)

// A Store is the database. It is safe for concurrent use, by any number of
// processes at once.
//
// What a method has returned without an error is durable. A method that returned an
// error may have been carried out all the same, where the connection broke before
// the answer: every change may be made again.
type Store struct {
	db      *sql.DB
	dialect dialect
	hashKey []byte
}

// dialect is what SQLite and PostgreSQL do not share.
type dialect struct {
	name    string // for people
	goose   goose.Dialect
	prepare func() error                              // makes the place of the database; nil if there is nothing to do
	now     func() string                             // expression: the database's time in microseconds
	locker  goose.ProviderOption                      // keeps two replicas from migrating at once; nil if the database does
	write   chan struct{}                             // holds one value: the right to write; nil where writers need not queue
	notify  func(context.Context)                     // tells other replicas of a change, at best; nil where they poll
	listen  func(ctx context.Context, changed func()) // waits for them until ctx ends; nil where one polls

	// appendOnly are the statements of migration 2: the database itself refuses to update
	// or delete what is in gh_audit.
	appendOnly []string
}

// Options are what both kinds of store take.
type Options struct {
	// HashKey keys the hashes of secrets. Without the key a stolen store cannot be
	// searched for a known token. A store is for one key: with any other, [Store.Migrate]
	// returns [ErrHashKey].
	HashKey []byte
}

// Name is the kind of the store, for people.
func (s *Store) Name() string { return s.dialect.name }

// Close ends all connections.
func (s *Store) Close() error { return s.db.Close() }

// migrateAttempts is how often Migrate begins: where the database has no lock for it
// (SQLite), another process may have made a migration first, and the own attempt at
// it, which is a transaction, comes to nothing.
const migrateAttempts = 4

// Migrate brings the schema up to date, and makes sure that the store was made with
// this hash key. It is safe at every start and on several replicas at once. A store of a
// newer version is an error; one of another key is [ErrHashKey].
func (s *Store) Migrate(ctx context.Context) error {
	if s.dialect.prepare != nil {
		if err := s.dialect.prepare(); err != nil {
			return err
		}
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	return s.checkHashKey(ctx)
}

func (s *Store) migrate(ctx context.Context) error {
	provider, err := s.provider()
	if err != nil {
		return err
	}
	var failure error
	for range migrateAttempts {
		current, target, err := provider.GetVersions(ctx)
		switch {
		case err != nil:
			failure = fmt.Errorf("reading the schema version of the %s store: %w", s.dialect.name, err)
			continue
		case current > target:
			return fmt.Errorf("migrating the %s store: its schema is version %d and this program knows %d: run a newer gatehouse",
				s.dialect.name, current, target)
		case current == target:
			return nil
		}
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		failure = fmt.Errorf("migrating the %s store: %w", s.dialect.name, err)
	}
	return failure
}

func (s *Store) provider() (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	options := []goose.ProviderOption{
		goose.WithTableName(migrationTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithGoMigrations(goose.NewGoMigration(auditMigration, &goose.GoFunc{RunTx: s.makeAuditAppendOnly}, nil)),
	}
	if s.dialect.locker != nil {
		options = append(options, s.dialect.locker)
	}
	provider, err := goose.NewProvider(s.dialect.goose, s.db, files, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return provider, nil
}

// A change is one transaction that others must hear of.
type change struct {
	*sql.Tx
	ctx     context.Context
	version int64
	at      int64 // the database's time, in microseconds
	actor   Actor
}

// An Actor is who makes a change, for the audit log.
type Actor struct {
	Owner
	TokenID string // of the credential that was used, if it has one
}

// change runs do in a transaction that has the next version. Changes are
// serialised, so that who has seen version n has seen all before it.
func (s *Store) change(ctx context.Context, actor Actor, do func(*change) error) error {
	err := s.write(ctx, func(tx *sql.Tx) error {
		c := &change{Tx: tx, ctx: ctx, actor: actor}
		// Times are in the order of versions, so that what is made after a revocation is
		// never covered by it; unless the clock was set back by more than a second.
		err := tx.QueryRowContext(ctx, fmt.Sprintf(`UPDATE gh_clock SET version = version + 1, changed_at =
			CASE WHEN changed_at >= %[1]s AND changed_at < %[1]s + 1000000 THEN changed_at + 1 ELSE %[1]s END
			WHERE id = 1 RETURNING version, changed_at`, s.dialect.now())).Scan(&c.version, &c.at)
		if err != nil {
			return err
		}
		return do(c)
	})
	if err == nil && s.dialect.notify != nil {
		s.dialect.notify(ctx)
	}
	return err
}

// note runs do in a transaction that others need not hear of. It takes turns with
// changes: two transactions of many rows could else wait for each other's.
func (s *Store) note(ctx context.Context, do func(*sql.Tx) error) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `UPDATE gh_clock SET version = version WHERE id = 1`); err != nil {
			return err
		}
		return do(tx)
	})
}

// write runs do in a transaction.
func (s *Store) write(ctx context.Context, do func(*sql.Tx) error) error {
	if s.dialect.write != nil {
		select {
		case s.dialect.write <- struct{}{}:
			defer func() { <-s.dialect.write }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back, after a failure nothing to add
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// audit appends the change's one entry to the log: what was done to what.
func (c *change) audit(action, target string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = c.ExecContext(c.ctx, `INSERT INTO gh_audit
		(version, at, actor_issuer, actor_subject, actor_token, action, target, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.version, c.at, c.actor.Issuer, c.actor.Subject, c.actor.TokenID, action, target, string(text))
	return err
}

// exec runs a statement of the change and tells how many rows it touched.
func (c *change) exec(query string, args ...any) (int64, error) {
	result, err := c.ExecContext(c.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// clock is the number of the last change, and the database's time in microseconds.
func (s *Store) clock(ctx context.Context) (version, now int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT version, `+s.dialect.now()+` FROM gh_clock WHERE id = 1`).Scan(&version, &now)
	return version, now, err
}

// query reads rows by scan.
func query[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	rows, err := s.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// scanner is a row, be it the only one or one of many.
type scanner interface{ Scan(...any) error }

// micros is how times are kept: microseconds since 1970, 0 for none.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// listText keeps a list of strings.
func listText(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(text)
}

func parseList(text string) (list []string, err error) {
	if text == "[]" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &list)
	return list, err
}

// attributesText keeps attributes: a text, or a list of texts.
func attributesText(attributes map[string]policy.Attribute) string {
	plain := make(map[string]any, len(attributes))
	for name, attribute := range attributes {
		if attribute.List || len(attribute.Values) != 1 {
			plain[name] = append([]string{}, attribute.Values...)
		} else {
			plain[name] = attribute.Values[0]
		}
	}
	text, err := json.Marshal(plain)
	if err != nil {
		panic(err) // strings and lists of strings always marshal
	}
	return string(text)
}

func parseAttributes(text string) (map[string]policy.Attribute, error) {
	if text == "{}" {
		return nil, nil
	}
	var plain map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &plain); err != nil {
		return nil, err
	}
	attributes := make(map[string]policy.Attribute, len(plain))
	for name, raw := range plain {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			attributes[name] = policy.Attribute{Values: []string{one}}
			continue
		}
		var list []string
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
		attributes[name] = policy.Attribute{Values: list, List: true}
	}
	return attributes, nil
}
