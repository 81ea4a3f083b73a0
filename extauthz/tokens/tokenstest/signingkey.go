package tokenstest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
)

func testSigningKeys(t *testing.T, open func() *tokens.Store) {
	one, two := Migrated(t, open), Migrated(t, open)
	if keys, err := one.SigningKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Fatalf("an empty store has the keys %v, %v", keys, err)
	}
	// Many replicas find at once that there is none.
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 8 {
		store := []*tokens.Store{one, two}[i%2]
		wg.Go(func() {
			_, err := store.ChangeSigningKeys(t.Context(), func(keys []tokens.SigningKey, now time.Time) ([]tokens.SigningKey, error) {
				if d := time.Since(now).Abs(); d > time.Minute {
					t.Errorf("the store's time is %v off", d)
				}
				if len(keys) > 0 {
					return keys, nil
				}
				mu.Lock()
				defer mu.Unlock()
				made++
				return []tokens.SigningKey{{ID: fmt.Sprint("k", i), Algorithm: "ES256", Private: []byte("private"), SignsFrom: now}}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first, err := two.SigningKeys(t.Context())
	if err != nil || made != 1 || len(first) != 1 || string(first[0].Private) != "private" || first[0].Algorithm != "ES256" {
		t.Fatalf("%d keys were made, and there are %v, %v; want one", made, first, err)
	}
	// One more, and one that goes.
	next := tokens.SigningKey{ID: "next", Algorithm: "EdDSA", Private: []byte{0, 1, 2}, SignsFrom: first[0].SignsFrom.Add(time.Hour)}
	for _, want := range [][]tokens.SigningKey{{first[0], next}, {next}} {
		if _, err := one.ChangeSigningKeys(t.Context(), func([]tokens.SigningKey, time.Time) ([]tokens.SigningKey, error) { return want, nil }); err != nil {
			t.Fatal(err)
		}
		got, err := two.SigningKeys(t.Context())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || string(got[len(got)-1].Private) != string(next.Private) {
			t.Errorf("keys = %v, %v, want %v", got, err, want)
		}
	}
	// A plan that fails changes nothing.
	failed := errors.New("no randomness")
	if _, err := one.ChangeSigningKeys(t.Context(), func([]tokens.SigningKey, time.Time) ([]tokens.SigningKey, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("ChangeSigningKeys = %v, want the plan's error", err)
	}
	if got, err := two.SigningKeys(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("after a plan that failed: %v, %v", got, err)
	}
}
