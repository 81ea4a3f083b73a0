package tokens_test

import (
	"path/filepath"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens/tokenstest"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

// sqlite is a fresh file.
func sqlite(t *testing.T) func() *tokens.Store {
	// The name has what a file: URI gives a meaning to.
	path := filepath.Join(t.TempDir(), "a?b#c%41 d.db")
	return func() *tokens.Store {
		store, err := tokens.OpenSQLite(path, tokens.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
}

// postgres is a fresh database of a server.
func postgres(server *pg.Server) tokenstest.Fresh {
	return func(t *testing.T) func() *tokens.Store {
		url := server.Database(t)
		return func() *tokens.Store {
			store, err := tokens.OpenPostgres(url, tokens.Options{HashKey: []byte("a key")})
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
	}
}

func TestSQLite(t *testing.T)   { tokenstest.Run(t, sqlite) }
func TestPostgres(t *testing.T) { tokenstest.Run(t, postgres(pg.Start(t))) }
