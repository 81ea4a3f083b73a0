package tokens_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens/tokenstest"
)

// TestSigningKeysAreSealed: with a hash key the private part cannot be read from the
// file, moved to another row, or used with any other hash key; without one it lies open.
func TestSigningKeysAreSealed(t *testing.T) {
	private := bytes.Repeat([]byte("private part of the key "), 4)
	folder := t.TempDir()
	open := func(file, key string) func() *tokens.Store {
		return func() *tokens.Store {
			store, err := tokens.OpenSQLite(filepath.Join(folder, file), tokens.Options{HashKey: []byte(key)})
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
	}
	add := func(store *tokens.Store) {
		t.Helper()
		if _, err := store.ChangeSigningKeys(t.Context(), func(_ []tokens.SigningKey, now time.Time) ([]tokens.SigningKey, error) {
			return []tokens.SigningKey{{ID: "a", Algorithm: "ES256", Private: private, SignsFrom: now}, {ID: "b", Algorithm: "ES256", Private: private, SignsFrom: now}}, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(file string) bool {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(folder, file+"*"))
		if err != nil || len(names) == 0 {
			t.Fatalf("files = %v, %v", names, err)
		}
		for _, name := range names {
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, private) || strings.Contains(string(content), base64.StdEncoding.EncodeToString(private)) {
				return true
			}
		}
		return false
	}
	shut := tokenstest.Migrated(t, open("sealed.db", "0123456789abcdef0123456789abcdef"))
	add(shut)
	if holds("sealed.db") {
		t.Error("the private part can be read from the store")
	}
	bare := tokenstest.Migrated(t, open("bare.db", ""))
	add(bare)
	if !holds("bare.db") {
		t.Error("without a hash key the private part is not where this test looks for it")
	}
	keys, err := shut.SigningKeys(t.Context())
	if err != nil || len(keys) != 2 || !bytes.Equal(keys[0].Private, private) {
		t.Fatalf("keys = %v, %v", keys, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", keys[0], keys[0], keys[0]); strings.Contains(text, "private") || strings.Contains(text, "112") {
		t.Errorf("a key prints its private part: %s", text)
	}
	other := open("sealed.db", "another-hash-key-of-32-bytes-....")()
	defer other.Close()
	if _, err := other.SigningKeys(t.Context()); !errors.Is(err, tokens.ErrHashKey) {
		t.Errorf("with another hash key: %v, want ErrHashKey", err)
	}
	if err := tokens.Exec(t.Context(), shut, `UPDATE gh_signing_keys SET private = (SELECT private FROM gh_signing_keys WHERE id = 'a') WHERE id = 'b'`); err != nil {
		t.Fatal(err)
	}
	if _, err := shut.SigningKeys(t.Context()); err == nil {
		t.Error("a private part that was moved to another row is taken")
	}
	if err := tokens.Exec(t.Context(), shut, `UPDATE gh_signing_keys SET private = 'open:AAAA'`); err != nil {
		t.Fatal(err)
	}
	if _, err := shut.SigningKeys(t.Context()); err == nil {
		t.Error("a private part that somebody put there unsealed is taken")
	}
}
