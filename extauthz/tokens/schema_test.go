package tokens_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens/tokenstest"
	"github.com/gatehouse-authz/gatehouse/policy"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

// fresh are empty places for both kinds of store, opened with a hash key or without.
func fresh(t *testing.T) map[string]func(key string) *tokens.Store {
	t.Helper()
	url, path := pg.Start(t).Database(t), filepath.Join(t.TempDir(), "gatehouse.db")
	opened := func(store *tokens.Store, err error) *tokens.Store {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	}
	return map[string]func(string) *tokens.Store{
		"sqlite": func(key string) *tokens.Store {
			return opened(tokens.OpenSQLite(path, tokens.Options{HashKey: []byte(key)}))
		},
		"postgres": func(key string) *tokens.Store {
			return opened(tokens.OpenPostgres(url, tokens.Options{HashKey: []byte(key)}))
		},
	}
}

// TestAuditIsAppendOnly asks the database itself to change the log, as somebody would who
// has the service's own access to it.
func TestAuditIsAppendOnly(t *testing.T) {
	for kind, open := range fresh(t) {
		t.Run(kind, func(t *testing.T) {
			store := open("")
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			tokenstest.Create(t, store, tokenstest.Alice())
			tokenstest.Create(t, store, tokenstest.Alice())
			before, _, err := store.Audit(t.Context(), tokens.AuditFilter{})
			if err != nil || len(before) != 2 {
				t.Fatalf("%d entries, %v, want 2", len(before), err)
			}
			const row = `(version, at, actor_issuer, actor_subject, actor_token, action, target, detail) VALUES (1, 1, '', '', '', '', '', '{}')`
			statements := map[string]string{
				"an entry's actor":        `UPDATE gh_audit SET actor_subject = 'mallory' WHERE version = 1`,
				"all entries' times":      `UPDATE gh_audit SET at = 0`,
				"an entry's number":       `UPDATE gh_audit SET version = 100 WHERE version = 1`,
				"deleting one":            `DELETE FROM gh_audit WHERE version = 1`,
				"deleting all":            `DELETE FROM gh_audit`,
				"an insert that replaces": `INSERT INTO gh_audit ` + row + ` ON CONFLICT (version) DO UPDATE SET actor_subject = 'mallory'`,
			}
			if kind == "sqlite" {
				statements["INSERT OR REPLACE"] = `INSERT OR REPLACE INTO gh_audit ` + row
				statements["REPLACE"] = `REPLACE INTO gh_audit ` + row
				statements["UPDATE OR REPLACE"] = `UPDATE OR REPLACE gh_audit SET version = 2 WHERE version = 1`
			} else {
				statements["TRUNCATE"] = `TRUNCATE gh_audit`
			}
			for name, statement := range statements {
				if err := tokens.Exec(t.Context(), store, statement); err == nil || !strings.Contains(err.Error(), "append-only") {
					t.Errorf("%s: %v, want a refusal", name, err)
				}
			}
			after, _, err := store.Audit(t.Context(), tokens.AuditFilter{})
			if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the log was %v and is %v, %v", before, after, err)
			}
		})
	}
}

// TestHashKeyIsTheStores: a store that was made with a hash key is none for another, nor
// for nobody's; what it holds is not touched.
func TestHashKeyIsTheStores(t *testing.T) {
	for kind, open := range fresh(t) {
		t.Run(kind, func(t *testing.T) {
			store := open("the key")
			if err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, credential := tokenstest.Create(t, store, tokenstest.Alice())
			for name, key := range map[string]string{"another": "another", "none": ""} {
				wrong := open(key)
				if err := wrong.Migrate(t.Context()); !errors.Is(err, tokens.ErrHashKey) {
					t.Errorf("%s: %v, want ErrHashKey", name, err)
				}
				view := tokens.NewView(wrong, tokens.ViewOptions{})
				if err := view.Sync(t.Context()); !errors.Is(err, tokens.ErrHashKey) {
					t.Errorf("%s, in a view: %v, want ErrHashKey", name, err)
				}
				if reason := tokenstest.Verify(t, view, credential); reason != policy.ReasonStoreUnavailable {
					t.Errorf("%s: a good token is %v, want store_unavailable", name, reason)
				}
			}
			view := tokenstest.Watch(t, open("the key"), tokens.ViewOptions{})
			if reason := tokenstest.Verify(t, view, credential); reason != policy.ReasonNone {
				t.Errorf("with its own key: %v", reason)
			}
		})
	}
}

// TestMigrateFromEveryVersion migrates what each older program left behind: nothing is
// lost, and nothing that was refused counts again. testdata has the rows of each version
// that changed how rows look; those in between read the same.
func TestMigrateFromEveryVersion(t *testing.T) {
	left, err := os.ReadFile("testdata/version-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	server := pg.Start(t)
	latest, err := tokens.LatestVersion(sqlite(t)())
	if err != nil || latest < 3 {
		t.Fatalf("the latest version is %d, %v", latest, err)
	}
	for version := int64(1); version <= latest; version++ {
		for kind, store := range map[string]*tokens.Store{"sqlite": sqlite(t)(), "postgres": openPlain(t, server.Database(t))} {
			t.Run(fmt.Sprintf("version %d on %s", version, kind), func(t *testing.T) {
				defer store.Close() //nolint:errcheck // the test is about the migration
				if err := tokens.MigrateTo(t.Context(), store, version); err != nil {
					t.Fatal(err)
				}
				for statement := range strings.Lines(string(left)) {
					if strings.HasPrefix(statement, "--") {
						continue
					}
					if err := tokens.Exec(t.Context(), store, statement); err != nil {
						t.Fatal(err)
					}
				}
				proveVersion1(t, store)
			})
		}
	}
}

func openPlain(t *testing.T, url string) *tokens.Store {
	t.Helper()
	store, err := tokens.OpenPostgres(url, tokens.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// proveVersion1 holds what testdata/version-1.sql has, after a migration.
func proveVersion1(t *testing.T, store *tokens.Store) {
	t.Helper()
	view := tokenstest.Watch(t, store, tokens.ViewOptions{})
	for _, row := range []struct {
		name, text string
		kind       tokens.Kind
		want       policy.Reason
	}{
		{"the good token", "gh_PUT5dtbfFLbeN58i_HeY6vEqYW567baQotM6TJZPm8rN1VQjlDCoWJmJcgUO41U3vD", tokens.APIToken, policy.ReasonNone},
		{"the revoked token", "gh_vRhoACovdYTtOL6d_p8o5f8hJYCZ0DN0mBL8NNgvjXjdT3A6nTXfhe2L9zV72aMqwP", tokens.APIToken, policy.ReasonTokenRevoked},
		{"the API key", "gh_bV7DHfywF34hFxfT_8uIVB1bNpbjBWv0Lv6WnIcrL48sCeQZzpzFMGRCuRmP0cnT7h", tokens.APIKey, policy.ReasonNone},
	} {
		if _, reason := view.Token(t.Context(), row.text, row.kind, time.Now(), false); reason != row.want {
			t.Errorf("%s: %v, want %v", row.name, reason, row.want)
		}
	}
	if got := view.Standing("https://idp.example.com", "alice", "acme", "jti-1", time.Unix(1764028700, 0), time.Now()); got != tokens.Revoked {
		t.Errorf("the revoked JWT: %v", got)
	}
	now := time.Now()
	if fresh, err := store.UseNonce(t.Context(), "cluster", "nonce-1", now.Add(time.Minute), now); err != nil || fresh {
		t.Errorf("the nonce counts again: %v, %v", fresh, err)
	}
	for subject, want := range map[string]struct {
		disabled bool
		granted  int
	}{"alice": {false, 1}, "mallory": {true, 0}} {
		person, err := store.Person(t.Context(), tokens.Owner{Issuer: "https://idp.example.com", Subject: subject})
		if err != nil || person.Disabled() != want.disabled || len(person.Granted) != want.granted {
			t.Errorf("%s: %+v, %v", subject, person, err)
		}
	}
	if entries, _, err := store.Audit(t.Context(), tokens.AuditFilter{}); err != nil || len(entries) != 6 {
		t.Errorf("the log has %d entries, %v, want 6", len(entries), err)
	}
	// It goes on where it was.
	created, credential := tokenstest.Create(t, store, tokenstest.Alice())
	if created.Version != 7 {
		t.Errorf("the next change has version %d, want 7", created.Version)
	}
	if reason := tokenstest.Verify(t, view, credential); reason != policy.ReasonNone {
		t.Errorf("a new token: %v", reason)
	}
	if err := tokens.Exec(t.Context(), store, `DELETE FROM gh_audit`); err == nil {
		t.Error("the old entries of the log can be deleted")
	}
}

// TestLandedMigrations: stores out there have been migrated by these very files. A change
// to one would leave them with another schema than new ones; write a new file instead.
func TestLandedMigrations(t *testing.T) {
	landed := map[string]string{
		"0001_tables.sql":       "1cd356a6e9f5e65a36dd995e865fd8f92ddc1ad4804ad1302eca7b73020a03a4",
		"0003_hash_key.sql":     "0d15a2dab340ad4076aae76ea49b9ece72748b22b288d73e791733f0d9bd4454",
		"0004_signing_keys.sql": "220ab087e381ceee3d9df0111d129051a73dd1b9b22f01360f6f57648ce920a1",
	}
	files, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join("migrations", file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != landed[file.Name()] {
			t.Errorf("%s has the hash %s, want %q: a new file is added here, a landed one is left alone", file.Name(), got, landed[file.Name()])
		}
	}
	if len(files) != len(landed) {
		t.Errorf("%d files, want %d", len(files), len(landed))
	}
}
