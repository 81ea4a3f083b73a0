package tokens

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

const (
	// sqliteBusyMillis is how long a writer waits for another process's. In one
	// process writers queue before the database.
	sqliteBusyMillis = "5000"

	// sqliteConnections bounds the readers: each holds a few hundred KiB.
	sqliteConnections = 8
)

// OpenSQLite opens the store in one file, which [Store.Migrate] creates with mode 0600
// if it is not there. Further processes on the same machine may open it as well; a
// file on a network file system is not safe.
func OpenSQLite(path string, options Options) (*Store, error) {
	settings := url.Values{
		// Immediate transactions: one that reads before it writes cannot find that
		// somebody else wrote in between.
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(" + sqliteBusyMillis + ")",
			"journal_mode(wal)",
			"synchronous(full)", // what was answered survives a loss of power
		},
	}
	db, err := sql.Open("sqlite", "file:"+escapePath(path)+"?"+settings.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	db.SetMaxOpenConns(sqliteConnections)
	return &Store{
		db:      db,
		hashKey: options.HashKey,
		dialect: dialect{
			name:    "sqlite",
			goose:   goose.DialectSQLite3,
			prepare: func() error { return createFile(path) },
			// SQLite's own clock counts milliseconds.
			now:        func() string { return strconv.FormatInt(time.Now().UnixMicro(), 10) },
			write:      make(chan struct{}, 1),
			appendOnly: sqliteAppendOnly,
		},
	}, nil
}

// sqliteAppendOnly has a trigger for INSERT OR REPLACE too, which deletes rows without
// asking those for DELETE.
var sqliteAppendOnly = []string{
	`CREATE TRIGGER gh_audit_update BEFORE UPDATE ON gh_audit
		BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
	`CREATE TRIGGER gh_audit_delete BEFORE DELETE ON gh_audit
		BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
	`CREATE TRIGGER gh_audit_replace BEFORE INSERT ON gh_audit WHEN EXISTS (SELECT 1 FROM gh_audit WHERE version = NEW.version)
		BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`,
}

// createFile makes an empty database that nobody else can read. SQLite would create
// the file with the umask's mode, and gives its -wal and -shm files the mode of this one.
func createFile(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	return nil
}

// escapePath writes a path for a file: URI, whose reader decodes escapes and ends
// the path at ? and #.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}
