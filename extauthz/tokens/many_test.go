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

// BenchmarkToken looks tokens up in a store of a hundred thousand: one over and over, each
// of them in turn once all are held, and one that is not held and has to be read.
func BenchmarkToken(b *testing.B) {
	view, credentials, _ := many(b, manyTokens)
	now := time.Now()
	texts := make([]string, len(credentials))
	for i, credential := range credentials {
		texts[i] = credential.Reveal()
	}
	look := func(b *testing.B, view *tokens.View, text string, want policy.Reason) {
		if _, reason := view.Token(b.Context(), text, tokens.APIToken, now, false); reason != want {
			b.Fatal(reason)
		}
	}
	run := func(name, text string, want policy.Reason) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				look(b, view, text, want)
			}
		})
	}
	run("token=one", texts[0], policy.ReasonNone)
	run("token=mistyped", texts[0][:len(texts[0])-1]+"-", policy.ReasonTokenMalformed)
	b.Run("token=read", func(b *testing.B) {
		b.ReportAllocs()
		next := 0
		for b.Loop() {
			if next++; next == len(texts) {
				b.Fatal("each was read by now")
			}
			look(b, view, texts[next], policy.ReasonNone)
		}
	})
	for _, text := range texts {
		look(b, view, text, policy.ReasonNone)
	}
	b.Run("token=each", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			look(b, view, texts[i%len(texts)], policy.ReasonNone)
		}
	})
}
