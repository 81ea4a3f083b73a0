package tokens

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestNewerSchema is a store that a newer release has migrated: an older one leaves it
// alone, and answers that it cannot tell.
func TestNewerSchema(t *testing.T) {
	store, err := OpenSQLite(filepath.Join(t.TempDir(), "gatehouse.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.db.ExecContext(t.Context(), `INSERT INTO `+migrationTable+` (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "run a newer gatehouse") {
		t.Errorf("migrating: %v, want a refusal that names the remedy", err)
	}
	view := NewView(store, ViewOptions{})
	if err := view.Sync(t.Context()); err == nil {
		t.Error("a view follows a store that it does not know")
	}
	if _, reason := view.Token(t.Context(), NewCredential().Reveal(), APIToken, time.Now(), false); reason != policy.ReasonStoreUnavailable {
		t.Errorf("a token: %v, want store_unavailable", reason)
	}
}

// TestRestoredBackup is a store whose clock went back: nothing is believed that was
// known of the future that did not happen.
func TestRestoredBackup(t *testing.T) {
	store, err := OpenSQLite(filepath.Join(t.TempDir(), "gatehouse.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	view := NewView(store, ViewOptions{})
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, credential, err := store.Create(t.Context(), Token{Kind: APIToken, Owner: Owner{"i", "s"}}, Actor{})
	if err != nil {
		t.Fatal(err)
	}
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := func() policy.Reason {
		_, reason := view.Token(t.Context(), credential.Reveal(), APIToken, time.Now(), false)
		return reason
	}
	if reason := ask(); reason != policy.ReasonNone {
		t.Fatalf("before: %v", reason)
	}
	for _, undo := range []string{`DELETE FROM gh_tokens`, `UPDATE gh_clock SET version = 0`} {
		if _, err := store.db.ExecContext(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
	}
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason := ask(); reason != policy.ReasonTokenUnknown {
		t.Errorf("a token that the backup does not have: %v", reason)
	}
}
