package tokens

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Person is somebody who was seen or spoken of: a human or a service. It is
// immutable: a change makes a new one with a higher Version.
type Person struct {
	Owner
	Realm    string
	Username string
	Email    string
	Tenant   string

	Roles      []string // as last seen
	Attributes map[string]policy.Attribute

	Granted []string // roles given here, whatever the issuer says; sorted

	FirstSeen  time.Time // zero: never seen
	LastSeen   time.Time // coarse, to the minute or so
	DisabledAt time.Time // zero: not disabled
	DisabledBy Owner

	Version int64 // grows with every change but that of LastSeen
}

// Disabled tells whether the person is refused everywhere.
func (p *Person) Disabled() bool { return !p.DisabledAt.IsZero() }

const personColumns = `issuer, subject, realm, username, email, tenant, roles, attributes, granted_roles,
	first_seen, last_seen, disabled_at, disabled_by_issuer, disabled_by_subject, version`

// Person reads one, or ErrNotFound.
func (s *Store) Person(ctx context.Context, who Owner) (*Person, error) {
	p, err := scanPerson(s.db.QueryRowContext(ctx, `SELECT `+personColumns+` FROM gh_people
		WHERE issuer = $1 AND subject = $2`, who.Issuer, who.Subject))
	if err != nil {
		return nil, fmt.Errorf("reading the directory: %w", notFound(err))
	}
	return p, nil
}

// A PeopleFilter chooses people. Its zero value chooses all.
type PeopleFilter struct {
	Issuer     string
	Realm      string
	Username   string
	Email      string
	Tenant     string
	Disabled   bool // only those
	PageSize   int  // 1 to 1000; 0: 100
	PageCursor string
}

// People reads a page of the directory, by issuer and subject, and the cursor of
// the next page, which is empty where there is none. A cursor that no list gave is
// [ErrCursor].
func (s *Store) People(ctx context.Context, f PeopleFilter) ([]*Person, string, error) {
	var where conditions
	where.equal("issuer", f.Issuer)
	where.equal("realm", f.Realm)
	where.equal("username", f.Username)
	where.equal("email", f.Email)
	where.equal("tenant", f.Tenant)
	if f.Disabled {
		where.add("disabled_at > 0")
	}
	if f.PageCursor != "" {
		last, err := parseCursor(f.PageCursor, 2)
		if err != nil {
			return nil, "", err
		}
		where.add("(issuer > ? OR issuer = ? AND subject > ?)", last[0], last[0], last[1])
	}
	size := pageSize(f.PageSize)
	list, err := query(ctx, s, scanPerson, `SELECT `+personColumns+` FROM gh_people`+where.text()+
		` ORDER BY issuer, subject LIMIT `+strconv.Itoa(size+1), where.args...)
	if err != nil {
		return nil, "", fmt.Errorf("listing the directory: %w", err)
	}
	if len(list) <= size {
		return list, "", nil
	}
	last := list[size-1]
	return list[:size], makeCursor(last.Issuer, last.Subject), nil
}

// Disable refuses a person everywhere, with all tokens and sessions. Somebody who
// was never seen can be disabled as well.
func (s *Store) Disable(ctx context.Context, who Owner, by Actor) (*Person, error) {
	return s.amendPerson(ctx, who, "disable", by, func(p *Person, c *change) any {
		if p.DisabledAt.IsZero() {
			p.DisabledAt, p.DisabledBy = fromMicros(c.at), by.Owner
		}
		return map[string]any{}
	})
}

// Enable takes Disable back.
func (s *Store) Enable(ctx context.Context, who Owner, by Actor) (*Person, error) {
	return s.amendPerson(ctx, who, "enable", by, func(p *Person, _ *change) any {
		p.DisabledAt, p.DisabledBy = time.Time{}, Owner{}
		return map[string]any{}
	})
}

// Grant replaces the roles that are given to a person here. An empty role is
// [ErrInvalid].
func (s *Store) Grant(ctx context.Context, who Owner, roles []string, by Actor) (*Person, error) {
	if err := checkRoles(roles); err != nil {
		return nil, err
	}
	return s.grant(ctx, who, by, func([]string) []string { return roles })
}

// AmendGrant gives a person roles and takes others away, whatever else others change at
// the same time. A role in both lists is taken away. An empty role is [ErrInvalid].
func (s *Store) AmendGrant(ctx context.Context, who Owner, add, remove []string, by Actor) (*Person, error) {
	if err := errors.Join(checkRoles(add), checkRoles(remove)); err != nil {
		return nil, err
	}
	return s.grant(ctx, who, by, func(before []string) []string {
		return slices.DeleteFunc(slices.Concat(before, add), func(role string) bool { return slices.Contains(remove, role) })
	})
}

func (s *Store) grant(ctx context.Context, who Owner, by Actor, after func(before []string) []string) (*Person, error) {
	return s.amendPerson(ctx, who, "grant", by, func(p *Person, _ *change) any {
		before := p.Granted
		p.Granted = slices.Compact(slices.Sorted(slices.Values(after(before))))
		return map[string]any{"roles": p.Granted, "before": before}
	})
}

func checkRoles(roles []string) error {
	if slices.Contains(roles, "") {
		return fmt.Errorf("%w: a role is empty", ErrInvalid)
	}
	return checkText(roles...)
}

// amendPerson reads a person, or begins a record, lets edit change it and writes it.
func (s *Store) amendPerson(ctx context.Context, who Owner, action string, by Actor, edit func(*Person, *change) any) (*Person, error) {
	if err := checkOwner(who); err != nil {
		return nil, err
	}
	var p *Person
	err := s.change(ctx, by, func(c *change) error {
		var err error
		p, err = c.person(who)
		if errors.Is(err, sql.ErrNoRows) {
			p = &Person{Owner: who}
		} else if err != nil {
			return err
		}
		detail := edit(p, c)
		if err := c.putPerson(p); err != nil {
			return err
		}
		return c.audit(action, who.String(), detail)
	})
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", action, who, err)
	}
	return p, nil
}

// A sighting is a principal at the time of a request.
type sighting struct {
	Person
	at time.Time
}

// see keeps sightings. It is a change for those only of whom something else than
// LastSeen is new.
func (s *Store) see(ctx context.Context, seen []sighting) error {
	news := make([]sighting, 0, len(seen))
	err := s.note(ctx, func(tx *sql.Tx) error {
		news = news[:0]
		for _, one := range seen {
			result, err := tx.ExecContext(ctx, `UPDATE gh_people SET last_seen = CASE WHEN last_seen < $1 THEN $1 ELSE last_seen END
				WHERE issuer = $2 AND subject = $3 AND realm = $4 AND username = $5 AND email = $6 AND tenant = $7
				AND roles = $8 AND attributes = $9 AND first_seen > 0`,
				micros(one.at), one.Issuer, one.Subject, one.Realm, one.Username, one.Email, one.Tenant,
				listText(one.Roles), attributesText(one.Attributes))
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil {
				return err
			} else if n == 0 {
				news = append(news, one)
			}
		}
		return nil
	})
	if err == nil && len(news) > 0 {
		err = s.change(ctx, Actor{}, func(c *change) error {
			for _, one := range news {
				if err := c.see(one); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("noting who was seen: %w", err)
	}
	return nil
}

func (c *change) see(one sighting) error {
	p, err := c.person(one.Owner)
	if errors.Is(err, sql.ErrNoRows) {
		p = &Person{Owner: one.Owner}
	} else if err != nil {
		return err
	}
	p.Realm, p.Username, p.Email, p.Tenant = one.Realm, one.Username, one.Email, one.Tenant
	p.Roles, p.Attributes = one.Roles, one.Attributes
	if p.FirstSeen.IsZero() {
		p.FirstSeen = one.at
	}
	if p.LastSeen.Before(one.at) {
		p.LastSeen = one.at
	}
	return c.putPerson(p)
}

func (c *change) person(who Owner) (*Person, error) {
	return scanPerson(c.QueryRowContext(c.ctx, `SELECT `+personColumns+` FROM gh_people
		WHERE issuer = $1 AND subject = $2`, who.Issuer, who.Subject))
}

// putPerson writes a record with the change's version.
func (c *change) putPerson(p *Person) error {
	p.Version = c.version
	_, err := c.exec(`INSERT INTO gh_people (`+personColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (issuer, subject) DO UPDATE SET realm = excluded.realm, username = excluded.username,
			email = excluded.email, tenant = excluded.tenant, roles = excluded.roles, attributes = excluded.attributes,
			granted_roles = excluded.granted_roles, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
			disabled_at = excluded.disabled_at, disabled_by_issuer = excluded.disabled_by_issuer,
			disabled_by_subject = excluded.disabled_by_subject, version = excluded.version`,
		p.Issuer, p.Subject, p.Realm, p.Username, p.Email, p.Tenant, listText(p.Roles), attributesText(p.Attributes), listText(p.Granted),
		micros(p.FirstSeen), micros(p.LastSeen), micros(p.DisabledAt), p.DisabledBy.Issuer, p.DisabledBy.Subject, p.Version)
	return err
}

// peopleSince reads a page of the people who changed after a version, in order.
func (s *Store) peopleSince(ctx context.Context, version int64, after Owner, limit int) ([]*Person, error) {
	return query(ctx, s, scanPerson, `SELECT `+personColumns+` FROM gh_people
		WHERE version > $1 OR version = $1 AND (issuer > $2 OR issuer = $2 AND subject > $3)
		ORDER BY version, issuer, subject LIMIT `+strconv.Itoa(limit), version, after.Issuer, after.Subject)
}

func scanPerson(row scanner) (*Person, error) {
	var p Person
	var roles, attributes, granted string
	var first, last, disabled int64
	err := row.Scan(&p.Issuer, &p.Subject, &p.Realm, &p.Username, &p.Email, &p.Tenant, &roles, &attributes, &granted,
		&first, &last, &disabled, &p.DisabledBy.Issuer, &p.DisabledBy.Subject, &p.Version)
	if err != nil {
		return nil, err
	}
	p.FirstSeen, p.LastSeen, p.DisabledAt = fromMicros(first), fromMicros(last), fromMicros(disabled)
	var errs [3]error
	p.Roles, errs[0] = parseList(roles)
	p.Attributes, errs[1] = parseAttributes(attributes)
	p.Granted, errs[2] = parseList(granted)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("reading the record of %s: %w", p.Owner, err)
	}
	return &p, nil
}
