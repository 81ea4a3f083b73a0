package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

const (
	// postgresConnections bounds one replica's share of the server's connections,
	// beside the one that listens.
	postgresConnections = 8

	// postgresConnectTimeout applies where the URL does not say otherwise.
	postgresConnectTimeout = 5 * time.Second

	// postgresIdle is shorter than what firewalls usually forget connections after.
	postgresIdle = 2 * time.Minute

	// postgresChannel is what replicas tell each other changes on. The message is
	// empty: who hears it reads the change feed.
	postgresChannel = "gatehouse_changed"

	// postgresNotifyTimeout bounds the courtesy after a change; others poll anyway.
	postgresNotifyTimeout = time.Second

	// postgresListenAgain is the pause after the listening connection broke.
	postgresListenAgain = 250 * time.Millisecond
)

// OpenPostgres opens the store in a PostgreSQL database, or anything that speaks its
// protocol. connection is a URL or a list of key=value. Only its form is checked
// here: a server that is down is for [Store.Migrate] to find.
func OpenPostgres(connection string, options Options) (*Store, error) {
	config, err := pgx.ParseConfig(connection)
	if err != nil {
		// pgx leaves the password out of its errors.
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnectTimeout
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 30))
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresConnections)
	db.SetConnMaxIdleTime(postgresIdle)
	s := &Store{
		db:      db,
		hashKey: options.HashKey,
		dialect: dialect{
			name:   "postgres",
			goose:  goose.DialectPostgres,
			now:    func() string { return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)" },
			locker: goose.WithSessionLocker(locker),

			appendOnly: postgresAppendOnly,
		},
	}
	s.dialect.notify = func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), postgresNotifyTimeout)
		defer cancel()
		// After the commit, not in it: a server without NOTIFY would refuse the change.
		// What is lost here is found by polling.
		_, _ = s.db.ExecContext(ctx, `NOTIFY `+postgresChannel)
	}
	s.dialect.listen = func(ctx context.Context, changed func()) {
		for ctx.Err() == nil {
			if err := listen(ctx, config, changed); cannotListen(err) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(postgresListenAgain):
			}
		}
	}
	return s, nil
}

// postgresAppendOnly has a trigger for each row where that is possible: TRUNCATE, which
// touches no rows, is refused as a statement.
var postgresAppendOnly = []string{
	`CREATE FUNCTION gh_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$`,
	`CREATE TRIGGER gh_audit_change BEFORE UPDATE OR DELETE ON gh_audit
		FOR EACH ROW EXECUTE FUNCTION gh_audit_append_only()`,
	`CREATE TRIGGER gh_audit_truncate BEFORE TRUNCATE ON gh_audit
		FOR EACH STATEMENT EXECUTE FUNCTION gh_audit_append_only()`,
}

// listen calls changed at every notification, and once when it has begun to hear
// them, until the connection breaks.
func listen(ctx context.Context, config *pgx.ConnConfig, changed func()) error {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is broken or no longer wanted
	if _, err := conn.Exec(ctx, `LISTEN `+postgresChannel); err != nil {
		return err
	}
	for {
		changed()
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

// cannotListen tells a server that has no LISTEN from one that is down.
func cannotListen(err error) bool {
	const syntaxError, featureNotSupported = "42601", "0A000"
	var refused *pgconn.PgError
	return errors.As(err, &refused) && (refused.Code == syntaxError || refused.Code == featureNotSupported)
}
