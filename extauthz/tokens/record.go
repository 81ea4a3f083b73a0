package tokens

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const tokenColumns = `id, kind, name, issuer, subject, username, tenant, scopes, roles, attributes,
	hash, previous_hash, previous_until, created_at, created_by_issuer, created_by_subject,
	expires_at, last_used_at, revoked_at, revoked_by_issuer, revoked_by_subject, version`

// Create keeps a new token or key and makes its credential, which nobody can get
// again. ID, CreatedAt, CreatedBy and Version of t are set here.
//
// What the owner may have is for the caller to check. A record that makes no sense
// is [ErrInvalid].
func (s *Store) Create(ctx context.Context, t Token, by Actor) (*Token, Credential, error) {
	if !t.Kind.valid() {
		return nil, Credential{}, fmt.Errorf("%w: unknown kind %q", ErrInvalid, t.Kind)
	}
	if err := errors.Join(checkOwner(t.Owner), checkText(t.Name, t.Username, t.Tenant)); err != nil {
		return nil, Credential{}, err
	}
	credential := NewCredential()
	t.ExpiresAt = fromMicros(micros(t.ExpiresAt)) // as it will be read
	t.ID, t.hash, t.CreatedBy = credential.id, credential.hash(s.hashKey), by.Owner
	err := s.change(ctx, by, func(c *change) error {
		t.CreatedAt, t.Version = fromMicros(c.at), c.version
		_, err := c.exec(`INSERT INTO gh_tokens (`+tokenColumns+`) VALUES
			($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '', 0, $12, $13, $14, $15, 0, 0, '', '', $16)`,
			t.ID, t.Kind, t.Name, t.Owner.Issuer, t.Owner.Subject, t.Username, t.Tenant,
			listText(t.Scopes), listText(t.Roles), attributesText(t.Attributes), hex.EncodeToString(t.hash[:]),
			c.at, by.Issuer, by.Subject, micros(t.ExpiresAt), c.version)
		if err != nil {
			return err
		}
		return c.audit("create", t.ID, map[string]any{
			"kind": t.Kind, "name": t.Name, "owner": t.Owner, "tenant": t.Tenant,
			"scopes": t.Scopes, "roles": t.Roles, "expires_at": micros(t.ExpiresAt),
		})
	})
	if err != nil {
		return nil, Credential{}, fmt.Errorf("creating a token: %w", err)
	}
	return &t, credential, nil
}

// Get reads one record, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (*Token, error) {
	t, err := scanToken(s.db.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM gh_tokens WHERE id = $1`, id))
	if err != nil {
		return nil, fmt.Errorf("reading token %q: %w", id, notFound(err))
	}
	return t, nil
}

// A Filter chooses records. Its zero value chooses all.
type Filter struct {
	Kind       Kind
	Owner      Owner
	Tenant     string
	ActiveAt   time.Time // neither revoked nor expired then; zero: all
	PageSize   int       // 1 to 1000; 0: 100
	PageCursor string    // of the page before; empty: the first
}

const (
	defaultPageSize = 100
	maxPageSize     = 1000 // bounds the memory of one answer to about a megabyte
)

// ErrCursor says that a page cursor is not one that a list gave.
var ErrCursor = errors.New("page cursor is not one that a list gave")

// List reads a page of records, the newest first, and the cursor of the next page,
// which is empty where there is none. A cursor that no List gave is [ErrCursor].
func (s *Store) List(ctx context.Context, f Filter) ([]*Token, string, error) {
	var where conditions
	where.equal("kind", string(f.Kind))
	where.equal("issuer", f.Owner.Issuer)
	where.equal("subject", f.Owner.Subject)
	where.equal("tenant", f.Tenant)
	if !f.ActiveAt.IsZero() {
		where.add("revoked_at = 0 AND (expires_at = 0 OR expires_at > ?)", micros(f.ActiveAt))
	}
	if f.PageCursor != "" {
		last, err := parseCursor(f.PageCursor, 2)
		if err != nil {
			return nil, "", err
		}
		at, err := strconv.ParseInt(last[0], 10, 64)
		if err != nil {
			return nil, "", ErrCursor
		}
		where.add("(created_at < ? OR created_at = ? AND id < ?)", at, at, last[1])
	}
	size := pageSize(f.PageSize)
	list, err := query(ctx, s, scanToken, `SELECT `+tokenColumns+` FROM gh_tokens`+where.text()+
		` ORDER BY created_at DESC, id DESC LIMIT `+strconv.Itoa(size+1), where.args...)
	if err != nil {
		return nil, "", fmt.Errorf("listing tokens: %w", err)
	}
	if len(list) <= size {
		return list, "", nil
	}
	last := list[size-1]
	return list[:size], makeCursor(strconv.FormatInt(micros(last.CreatedAt), 10), last.ID), nil
}

// Revoke ends one token or key for good. Revoking a revoked one changes nothing;
// one that does not exist is [ErrNotFound].
func (s *Store) Revoke(ctx context.Context, id string, by Actor) (*Token, error) {
	return s.amend(ctx, id, "revoke", by, func(t *Token, c *change) (any, error) {
		if !t.RevokedAt.IsZero() {
			return nil, nil
		}
		t.RevokedAt, t.RevokedBy = fromMicros(c.at), by.Owner
		return map[string]any{"owner": t.Owner}, nil
	})
}

// ErrRevoked says that a revoked token cannot be rotated.
var ErrRevoked = errors.New("it is revoked")

// Rotate gives a token or key a new secret under its old id. The old secret is good
// for grace more, 0 for not at all. A revoked one is [ErrRevoked].
func (s *Store) Rotate(ctx context.Context, id string, grace time.Duration, by Actor) (*Token, Credential, error) {
	credential := NewCredential()
	credential.id = id
	t, err := s.amend(ctx, id, "rotate", by, func(t *Token, c *change) (any, error) {
		if !t.RevokedAt.IsZero() {
			return nil, ErrRevoked
		}
		t.previous, t.previousUntil = t.hash, fromMicros(c.at).Add(grace)
		t.hash = credential.hash(s.hashKey)
		return map[string]any{"owner": t.Owner, "grace": grace.String()}, nil
	})
	if err != nil {
		return nil, Credential{}, err
	}
	return t, credential, nil
}

// amend reads a record, lets edit change it and writes it back, all in one change.
// An edit without a detail for the audit log changes nothing.
func (s *Store) amend(ctx context.Context, id, action string, by Actor, edit func(*Token, *change) (any, error)) (*Token, error) {
	var t *Token
	err := s.change(ctx, by, func(c *change) error {
		var err error
		t, err = scanToken(c.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM gh_tokens WHERE id = $1`, id))
		if err != nil {
			return notFound(err)
		}
		detail, err := edit(t, c)
		if err != nil || detail == nil {
			return err
		}
		t.Version = c.version
		_, err = c.exec(`UPDATE gh_tokens SET hash = $1, previous_hash = $2, previous_until = $3,
			revoked_at = $4, revoked_by_issuer = $5, revoked_by_subject = $6, version = $7 WHERE id = $8`,
			hex.EncodeToString(t.hash[:]), hex.EncodeToString(t.previous[:]), micros(t.previousUntil),
			micros(t.RevokedAt), t.RevokedBy.Issuer, t.RevokedBy.Subject, t.Version, id)
		if err != nil {
			return err
		}
		return c.audit(action, id, detail)
	})
	if err != nil {
		return nil, fmt.Errorf("%s of token %q: %w", action, id, err)
	}
	return t, nil
}

// touch notes when tokens were used. It is no change: nobody hears of it.
func (s *Store) touch(ctx context.Context, used map[string]time.Time) error {
	err := s.note(ctx, func(tx *sql.Tx) error {
		for id, at := range used {
			if _, err := tx.ExecContext(ctx, `UPDATE gh_tokens SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1`, micros(at), id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting the use of tokens: %w", err)
	}
	return nil
}

// tokensSince reads a page of the records that changed after a version, in order.
func (s *Store) tokensSince(ctx context.Context, version int64, after string, limit int) ([]*Token, error) {
	return query(ctx, s, scanToken, `SELECT `+tokenColumns+` FROM gh_tokens
		WHERE version > $1 OR version = $1 AND id > $2 ORDER BY version, id LIMIT `+strconv.Itoa(limit), version, after)
}

func scanToken(row scanner) (*Token, error) {
	t := Token{noted: new(atomic.Int64)}
	var scopes, roles, attributes, hash, previous string
	var created, expires, used, revoked, previousUntil int64
	err := row.Scan(&t.ID, &t.Kind, &t.Name, &t.Owner.Issuer, &t.Owner.Subject, &t.Username, &t.Tenant, &scopes, &roles, &attributes,
		&hash, &previous, &previousUntil, &created, &t.CreatedBy.Issuer, &t.CreatedBy.Subject,
		&expires, &used, &revoked, &t.RevokedBy.Issuer, &t.RevokedBy.Subject, &t.Version)
	if err != nil {
		return nil, err
	}
	t.CreatedAt, t.ExpiresAt, t.LastUsed = fromMicros(created), fromMicros(expires), fromMicros(used)
	t.RevokedAt, t.previousUntil = fromMicros(revoked), fromMicros(previousUntil)
	// A record that cannot be read whole is an outage: half of one could mean more than all of it.
	var errs [5]error
	t.Scopes, errs[0] = parseList(scopes)
	t.Roles, errs[1] = parseList(roles)
	t.Attributes, errs[2] = parseAttributes(attributes)
	t.hash, errs[3] = parseHash(hash)
	if previous != "" {
		t.previous, errs[4] = parseHash(previous)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("reading the record of token %q: %w", t.ID, err)
	}
	return &t, nil
}

func parseHash(text string) (h Hash, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return h, err
	}
	if len(raw) != len(h) {
		return h, fmt.Errorf("a hash of %d bytes, want %d", len(raw), len(h))
	}
	return Hash(raw), nil
}

func isNotFound(err error) bool { return errors.Is(err, ErrNotFound) }

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// conditions is a WHERE clause in the making.
type conditions struct {
	terms []string
	args  []any
}

// equal asks for a column's value, unless it is empty.
func (w *conditions) equal(column, value string) {
	if value != "" {
		w.add(column+" = ?", value)
	}
}

// add takes a term with a ? for each argument.
func (w *conditions) add(term string, args ...any) {
	var b strings.Builder
	for _, r := range term {
		if r == '?' {
			w.args = append(w.args, args[0])
			args = args[1:]
			b.WriteString("$" + strconv.Itoa(len(w.args)))
			continue
		}
		b.WriteRune(r)
	}
	w.terms = append(w.terms, b.String())
}

func (w *conditions) text() string {
	if len(w.terms) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.terms, " AND ")
}

func pageSize(asked int) int {
	if asked <= 0 {
		return defaultPageSize
	}
	return min(asked, maxPageSize)
}

// makeCursor says where a page ended, in a form that nobody should read.
func makeCursor(parts ...string) string {
	text, err := json.Marshal(parts)
	if err != nil {
		panic(err) // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseCursor(cursor string, parts int) ([]string, error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, ErrCursor
	}
	var list []string
	if json.Unmarshal(text, &list) != nil || len(list) != parts {
		return nil, ErrCursor
	}
	return list, nil
}
