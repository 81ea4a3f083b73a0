package mint

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

func newStore(t *testing.T, path string) *tokens.Store {
	t.Helper()
	store, err := tokens.OpenSQLite(path, tokens.Options{HashKey: []byte("0123456789abcdef0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func kids(t *testing.T, jwks []byte) (ids []string) {
	t.Helper()
	var set struct{ Keys []struct{ Kid, D string } }
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.D != "" {
			t.Error("a private part is published")
		}
		ids = append(ids, k.Kid)
	}
	return ids
}

// TestReplicasShareTheRing: nothing is signed before the store was reached; then two
// replicas sign with one key and publish one set, also after a restart.
func TestReplicasShareTheRing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	var sets []string
	for i := range 3 {
		store := newStore(t, path)
		ring := NewRing(store, "ES256")
		m := mustMinter(t, Config{Ring: ring})
		mint := func() error {
			_, err := m.Mint(alice, &policy.Request{}, "", time.Minute, time.Now())
			return err
		}
		if err := mint(); !errors.Is(err, ErrNoKeys) || m.JWKS() != nil {
			t.Fatalf("before the store was reached: Mint = %v, JWKS = %s", err, m.JWKS())
		}
		if i == 0 && ring.Refresh(t.Context()) == nil {
			t.Fatal("a store without a schema has keys")
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ring.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ring.Ready()
		if err := mint(); err != nil {
			t.Fatal(err)
		}
		sets = append(sets, string(m.JWKS()))
	}
	if sets[0] != sets[1] || sets[1] != sets[2] || len(kids(t, []byte(sets[0]))) != 1 {
		t.Errorf("the replicas publish\n%s\n%s\n%s", sets[0], sets[1], sets[2])
	}
}

// TestRingRotates plays months: every key is published before it signs, and for as long as
// a token that it signed may be good.
func TestRingRotates(t *testing.T) {
	for _, every := range []time.Duration{MinRotation, 36 * time.Hour, DefaultRotation} {
		ring := NewRing(nil, "EdDSA")
		ring.Rotate(every)
		var keys []tokens.SigningKey
		lead, step := ring.lead(), max(every/50, time.Minute)
		published, signed := map[string]time.Time{}, map[string]time.Time{} // since when, until when
		begin := time.Unix(1_800_000_000, 0)
		signers := 0
		for now := begin; now.Before(begin.Add(6*every + 3*MaxTTL)); now = now.Add(step) {
			if _, due := ring.planned(keys, now); due {
				var err error
				if keys, err = ring.plan(keys, now); err != nil {
					t.Fatal(err)
				}
			}
			if _, due := ring.planned(keys, now); due {
				t.Fatalf("every %v: at %v a change is due right after the change", every, now)
			}
			read, err := ring.read(keys)
			if err != nil {
				t.Fatal(err)
			}
			shown := map[string]bool{}
			for _, id := range kids(t, read.jwks) {
				shown[id] = true
				if published[id].IsZero() {
					published[id] = now
				}
			}
			signer := read.signer(now)
			if signed[signer.ID].IsZero() {
				signers++
				if since := now.Sub(published[signer.ID]); signers > 1 && since < lead-step {
					t.Errorf("every %v: a key signs %v after it was published, want %v", every, since, lead)
				}
			}
			signed[signer.ID] = now
			for id, last := range signed {
				if now.Before(last.Add(MaxTTL)) && !shown[id] {
					t.Fatalf("every %v: a key is gone %v after it last signed", every, now.Sub(last))
				}
				if now.After(last.Add(MaxTTL+2*step)) && shown[id] {
					t.Fatalf("every %v: a key is still there %v after it last signed", every, now.Sub(last))
				}
			}
		}
		if signers < 6 {
			t.Errorf("every %v: %d keys signed in six periods", every, signers)
		}
	}
}

// TestRingAfterAPause: when all replicas were off for months, the old key signs until
// verifiers know the next.
func TestRingAfterAPause(t *testing.T) {
	ring := NewRing(nil, "ES256")
	begin := time.Unix(1_800_000_000, 0)
	keys, err := ring.plan(nil, begin)
	if err != nil {
		t.Fatal(err)
	}
	later := begin.Add(300 * 24 * time.Hour)
	if keys, err = ring.plan(keys, later); err != nil || len(keys) != 2 {
		t.Fatalf("keys = %v, %v, want the old and the next", keys, err)
	}
	read, err := ring.read(keys)
	if err != nil {
		t.Fatal(err)
	}
	if got := read.signer(later).ID; got != keys[0].ID {
		t.Error("a key that nobody knows signs at once")
	}
	if got := read.signer(later.Add(maxLead)).ID; got != keys[1].ID {
		t.Error("the old key goes on signing")
	}
}

// TestRingOfAnotherAlgorithm: a change of the algorithm keeps what was signed before good.
func TestRingOfAnotherAlgorithm(t *testing.T) {
	begin := time.Unix(1_800_000_000, 0)
	keys, err := NewRing(nil, "ES256").plan(nil, begin)
	if err != nil {
		t.Fatal(err)
	}
	ring := NewRing(nil, "RS256")
	if _, err := ring.read(keys); !errors.Is(err, ErrNoKeys) {
		t.Errorf("read = %v, want no key to sign with", err)
	}
	if keys, err = ring.plan(keys, begin.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	read, err := ring.read(keys)
	if err != nil || read.signer(begin.Add(time.Hour)).Algorithm != "RS256" || len(kids(t, read.jwks)) != 2 {
		t.Errorf("keys = %v, %v; want RS256 to sign and both published", keys, err)
	}
}
