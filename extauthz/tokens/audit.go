package tokens

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// An AuditEntry is one change, for good: the database refuses to update or delete it,
// whoever asks. Entries are some 300 bytes each and only people make them, so none is
// ever pruned.
type AuditEntry struct {
	Version int64
	At      time.Time
	Actor   Actor
	Action  string // create, revoke, rotate, revoke_all, disable, enable, grant
	Target  string // a token's id, an owner, or a revocation's scope
	Detail  json.RawMessage
}

// An AuditFilter chooses entries. Its zero value chooses all.
type AuditFilter struct {
	Actor      Owner
	Target     string
	PageSize   int // 1 to 1000; 0: 100
	PageCursor string
}

// Audit reads a page of the log, the newest entry first, and the cursor of the next
// page, which is empty where there is none. A cursor that no list gave is [ErrCursor].
func (s *Store) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, string, error) {
	var where conditions
	where.equal("actor_issuer", f.Actor.Issuer)
	where.equal("actor_subject", f.Actor.Subject)
	where.equal("target", f.Target)
	if f.PageCursor != "" {
		last, err := parseCursor(f.PageCursor, 1)
		if err != nil {
			return nil, "", err
		}
		version, err := strconv.ParseInt(last[0], 10, 64)
		if err != nil {
			return nil, "", ErrCursor
		}
		where.add("version < ?", version)
	}
	size := pageSize(f.PageSize)
	list, err := query(ctx, s, scanAudit, `SELECT version, at, actor_issuer, actor_subject, actor_token, action, target, detail
		FROM gh_audit`+where.text()+` ORDER BY version DESC LIMIT `+strconv.Itoa(size+1), where.args...)
	if err != nil {
		return nil, "", fmt.Errorf("reading the audit log: %w", err)
	}
	if len(list) <= size {
		return list, "", nil
	}
	return list[:size], makeCursor(strconv.FormatInt(list[size-1].Version, 10)), nil
}

func scanAudit(row scanner) (e AuditEntry, err error) {
	var at int64
	var detail string
	err = row.Scan(&e.Version, &at, &e.Actor.Issuer, &e.Actor.Subject, &e.Actor.TokenID, &e.Action, &e.Target, &detail)
	e.At, e.Detail = fromMicros(at), json.RawMessage(detail)
	return e, err
}

// changedSince is the time of the first change after a version, in microseconds; 0
// if there is none in the log.
func (s *Store) changedSince(ctx context.Context, version int64) (at int64, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COALESCE(MIN(at), 0) FROM gh_audit WHERE version > $1`, version).Scan(&at)
	return at, err
}

// makeAuditAppendOnly is migration 2.
func (s *Store) makeAuditAppendOnly(ctx context.Context, tx *sql.Tx) error {
	for _, statement := range s.dialect.appendOnly {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("making the audit log append-only: %w", err)
		}
	}
	return nil
}
