package tokens

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Revocation refuses everything that was issued to its scope up to a time: our
// own tokens and keys, and those of others (JWTs). The scope is one of
//
//	Issuer and Subject      all of one owner
//	Tenant                  all of one tenant
//	Issuer                  all of one issuer
//	Issuer and TokenID      one token of others, by its jti
//	nothing                 everything there is
//
// Clocks of issuers count whole seconds: a token that was issued in the second of
// Before is refused too, so that none slips through; its owner signs in again.
type Revocation struct {
	Issuer  string
	Subject string
	Tenant  string
	TokenID string

	Before  time.Time // zero in Revoke: now
	Expires time.Time // when all that it refuses has expired by itself; zero: unknown, kept for good
	Version int64
}

// ErrInvalid says that a change was asked for that makes no sense. Its text is for
// whoever asked.
var ErrInvalid = errors.New("invalid")

func (r Revocation) check() error {
	switch {
	case r.TokenID != "" && (r.Issuer == "" || r.Subject != "" || r.Tenant != ""):
		return fmt.Errorf("%w: a token id goes with its issuer alone", ErrInvalid)
	case r.Tenant != "" && (r.Issuer != "" || r.Subject != ""):
		return fmt.Errorf("%w: a tenant goes without issuer and subject", ErrInvalid)
	case r.Subject != "" && r.Issuer == "":
		return fmt.Errorf("%w: a subject needs its issuer", ErrInvalid)
	}
	return checkText(r.Issuer, r.Subject, r.Tenant, r.TokenID)
}

// String is the scope, for people.
func (r Revocation) String() string {
	var parts []string
	for _, part := range [...]struct{ name, value string }{
		{"issuer", r.Issuer}, {"subject", r.Subject}, {"tenant", r.Tenant}, {"jti", r.TokenID},
	} {
		if part.value != "" {
			parts = append(parts, part.name+" "+strconv.Quote(part.value))
		}
	}
	if parts == nil {
		return "everything"
	}
	return strings.Join(parts, ", ")
}

// RevokeAll makes a revocation and marks our own records that it covers. Several
// of one scope count as the one with the latest Before. A scope that makes no sense
// is [ErrInvalid].
func (s *Store) RevokeAll(ctx context.Context, r Revocation, by Actor) (Revocation, error) {
	if err := r.check(); err != nil {
		return Revocation{}, err
	}
	err := s.change(ctx, by, func(c *change) error {
		// A time in the future would refuse what is yet to be issued, silently.
		if r.Before.IsZero() || micros(r.Before) > c.at {
			r.Before = fromMicros(c.at)
		}
		r.Version = c.version
		_, err := c.exec(`INSERT INTO gh_revocations (issuer, subject, tenant, token_id, issued_before, expires_at, version)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (issuer, subject, tenant, token_id) DO UPDATE SET
				issued_before = CASE WHEN gh_revocations.issued_before > excluded.issued_before
					THEN gh_revocations.issued_before ELSE excluded.issued_before END,
				expires_at = CASE WHEN gh_revocations.expires_at = 0 OR excluded.expires_at = 0 THEN 0
					WHEN gh_revocations.expires_at > excluded.expires_at THEN gh_revocations.expires_at ELSE excluded.expires_at END,
				version = excluded.version`,
			r.Issuer, r.Subject, r.Tenant, r.TokenID, micros(r.Before), micros(r.Expires), r.Version)
		if err != nil {
			return err
		}
		if r.TokenID == "" {
			if err := c.revokeRecords(r); err != nil {
				return err
			}
		}
		return c.audit("revoke_all", r.String(), map[string]any{"before": micros(r.Before)})
	})
	if err != nil {
		return Revocation{}, fmt.Errorf("revoking %s: %w", r, err)
	}
	return r, nil
}

// revokeRecords marks our own records, so that lists show them as revoked and they
// stay so when the revocation has expired.
func (c *change) revokeRecords(r Revocation) error {
	var where conditions
	where.add("revoked_at = 0")
	where.add("created_at <= ?", micros(r.Before))
	where.equal("issuer", r.Issuer)
	where.equal("subject", r.Subject)
	where.equal("tenant", r.Tenant)
	n := len(where.args)
	_, err := c.exec(fmt.Sprintf(`UPDATE gh_tokens SET revoked_at = $%d, revoked_by_issuer = $%d, revoked_by_subject = $%d, version = $%d`,
		n+1, n+2, n+3, n+4)+where.text(), append(where.args, c.at, c.actor.Issuer, c.actor.Subject, c.version)...)
	return err
}

// revocationsSince reads those that changed after a version.
func (s *Store) revocationsSince(ctx context.Context, version int64) ([]Revocation, error) {
	return query(ctx, s, scanRevocation, `SELECT issuer, subject, tenant, token_id, issued_before, expires_at, version
		FROM gh_revocations WHERE version > $1 ORDER BY version`, version)
}

func scanRevocation(row scanner) (r Revocation, err error) {
	var before, expires int64
	err = row.Scan(&r.Issuer, &r.Subject, &r.Tenant, &r.TokenID, &before, &expires, &r.Version)
	r.Before, r.Expires = fromMicros(before), fromMicros(expires)
	return r, err
}

// revocations are all that are in force, to be read at every request: an immutable
// value that the feed replaces.
type revocations struct {
	before map[scope]time.Time
}

// scope is that of a Revocation.
type scope struct{ issuer, subject, tenant, tokenID string }

// with is r and more.
func (r *revocations) with(more []Revocation) *revocations {
	all := make(map[scope]time.Time, len(more))
	if r != nil {
		for at, before := range r.before {
			all[at] = before
		}
	}
	for _, one := range more {
		at := scope{one.Issuer, one.Subject, one.Tenant, one.TokenID}
		if all[at].Before(one.Before) {
			all[at] = one.Before
		}
	}
	return &revocations{before: all}
}

// covers tells whether something was revoked. An unknown time of issue is before
// any other.
func (r *revocations) covers(issuer, subject, tenant, tokenID string, issued time.Time) bool {
	if len(r.before) == 0 {
		return false
	}
	return r.hit(scope{}, issued) ||
		issuer != "" && r.hit(scope{issuer: issuer}, issued) ||
		issuer != "" && subject != "" && r.hit(scope{issuer: issuer, subject: subject}, issued) ||
		tenant != "" && r.hit(scope{tenant: tenant}, issued) ||
		issuer != "" && tokenID != "" && r.hit(scope{issuer: issuer, tokenID: tokenID}, issued)
}

func (r *revocations) hit(at scope, issued time.Time) bool {
	before, ok := r.before[at]
	return ok && !issued.After(before)
}
