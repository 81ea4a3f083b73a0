package tokens_test

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const manyTokens = 100_000

// many is a view of an SQLite store with n tokens, and a count of its reads.
func many(t testing.TB, n int) (*tokens.View, []tokens.Credential, *atomic.Int64) {
	t.Helper()
	store, err := tokens.OpenSQLite(filepath.Join(t.TempDir(), "gatehouse.db"), tokens.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	credentials, err := tokens.Fill(t.Context(), store, n)
	if err != nil {
		t.Fatal(err)
	}
	view := tokens.NewView(store, tokens.ViewOptions{StaleFor: time.Hour})
	reads := &atomic.Int64{}
	view.Hook(tokens.Hooks{Asked: func(time.Duration, error) { reads.Add(1) }})
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return view, credentials, reads
}

// TestManyTokens looks tokens up among a hundred thousand: each is read once, and
// from memory after that.
func TestManyTokens(t *testing.T) {
	view, credentials, reads := many(t, manyTokens)
	const used = 2000
	for round, want := range []int64{used, used, used} {
		for i := range used {
			text := credentials[i*(manyTokens/used)].Reveal()
			if _, reason := view.Token(t.Context(), text, tokens.APIToken, time.Now(), false); reason != policy.ReasonNone {
				t.Fatalf("token %d: %v", i, reason)
			}
		}
		if got := reads.Load(); got != want {
			t.Errorf("after round %d the store was read %d times, want %d", round, got, want)
		}
	}
	for range 1000 { // what is mistyped needs no store
		view.Token(t.Context(), credentials[0].Reveal()+"x", tokens.APIToken, time.Now(), false)
	}
	if got := reads.Load(); got != used {
		t.Errorf("mistyped tokens made %d reads", got-used)
	}
}

func BenchmarkToken(b *testing.B) {
	view, credentials, _ := many(b, manyTokens)
	now := time.Now()
	look := func(b *testing.B, text string, want policy.Reason) {
		b.ReportAllocs()
		for b.Loop() {
			if _, reason := view.Token(b.Context(), text, tokens.APIToken, now, false); reason != want {
				b.Fatal(reason)
			}
		}
	}
	b.Run("token=known", func(b *testing.B) { look(b, credentials[0].Reveal(), policy.ReasonNone) })
	b.Run("token=mistyped", func(b *testing.B) { look(b, credentials[0].Reveal()+"x", policy.ReasonTokenMalformed) })
}
