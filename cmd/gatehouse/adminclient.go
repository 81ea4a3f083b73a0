package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/extauthz/portal"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
)

const (
	// defaultAdmin is where the service is asked unless the command line says otherwise.
	defaultAdmin = "unix:///run/gatehouse/admin.sock"

	// storeOfConfig is --store without a value.
	storeOfConfig = "config"

	// adminTimeout is how long one call may take.
	adminTimeout = 30 * time.Second

	// tokenVariable has the token that the admin API is asked with.
	tokenVariable = "GATEHOUSE_TOKEN"

	// hashKeyVariable has the hash_key of a store that --store names.
	hashKeyVariable = "GATEHOUSE_HASH_KEY"
)

// adminClient is where commands manage tokens and people: at a running service, or on its
// store.
type adminClient struct {
	program *program

	config, admin, store, hashKeyFile string
	transport                         healthcheck // the same flags for TLS
}

func (c *adminClient) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&c.config, "config", "c", "", "the configuration `file`, which says where the service and its store are")
	flags.StringVar(&c.admin, "admin", "", "the admin listener: unix:///path or `host:port`")
	flags.StringVar(&c.store, "store", "", "work on the store itself: that of --config, or an SQLite `file` or a postgres:// URL")
	flags.Lookup("store").NoOptDefVal = storeOfConfig
	flags.StringVar(&c.hashKeyFile, "hash-key-file", "", "the hash_key of the store that --store names, in a `file`")
	flags.StringVar(&c.transport.caFile, "ca-file", "", "use TLS, and trust the CA in this `file`")
	flags.StringVar(&c.transport.certFile, "cert-file", "", "the client certificate, a `file`")
	flags.StringVar(&c.transport.keyFile, "key-file", "", "its key, a `file`")
	flags.StringVar(&c.transport.serverName, "server-name", "", "the `name` in the listener's certificate, if it is not the host")
}

const adminWhere = `
The running service is asked through its admin listener: that of --config, that of
--admin, or ` + defaultAdmin + `. On its Unix socket, the user that runs it and root
are let in; everybody else gives a token in the variable ` + tokenVariable + `. With --store, or where the
configuration has a store and no admin listener, the command works on the store itself.
A store that --store names is opened with the hash_key of --hash-key-file, of the variable
` + hashKeyVariable + `, or of --config; with any other than its own it is refused.`

// use calls do with a connection.
func (c *adminClient) use(ctx context.Context, do func(context.Context, grpc.ClientConnInterface) error) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	address, store, err := c.where()
	if err != nil {
		return err
	}
	if store != nil {
		defer store.Close() //nolint:errcheck // what was done has been answered
		if err := store.Migrate(ctx); errors.Is(err, tokens.ErrHashKey) {
			return fmt.Errorf("%w: give store.hash_key by --config, --hash-key-file or %s", err, hashKeyVariable)
		} else if err != nil {
			return err
		}
		return plainError(do(ctx, portal.NewDirect(store)))
	}
	transport, err := c.transport.credentials()
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return usagef("invalid --admin %q: %w", address, err)
	}
	defer conn.Close() //nolint:errcheck // what was done has been answered
	if token, ok := c.program.env(tokenVariable); ok && token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	err = do(ctx, conn)
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("asking %s: %w; is gatehouse running? --store works on the store itself", address, plainError(err))
	}
	return plainError(err)
}

// where finds the admin listener, or the store.
func (c *adminClient) where() (address string, store *tokens.Store, err error) {
	named := c.store != "" && c.store != storeOfConfig
	switch {
	case c.store != "" && c.admin != "":
		return "", nil, usagef("--store and --admin exclude each other")
	case c.hashKeyFile != "" && !named:
		return "", nil, usagef("--hash-key-file is for a store that --store names: --store=gatehouse.db")
	case named:
		store, err = c.openStore()
		return "", store, err
	case c.config == "" && c.store != "":
		return "", nil, usagef("--store needs --config, or a value: --store=gatehouse.db")
	case c.admin != "":
		return c.admin, nil, nil
	case c.config == "":
		return defaultAdmin, nil, nil
	}
	loaded, err := c.load()
	if err != nil {
		return "", nil, err
	}
	address = loaded.Config.GetListen().GetAdmin().GetAddress()
	switch {
	case loaded.Store == nil && c.store == storeOfConfig:
		return "", nil, fmt.Errorf("%s has no store", filepath.Base(c.config))
	case loaded.Store != nil && (c.store == storeOfConfig || address == ""):
		return "", loaded.Store.Store(), nil
	case address == "":
		return "", nil, fmt.Errorf("%s has neither listen.admin nor a store", filepath.Base(c.config))
	}
	return address, nil, nil
}

// load reads the configuration, whose errors it shows.
func (c *adminClient) load() (*config.Loaded, error) {
	loaded, report := config.Load(c.config, c.program.env, nil)
	if loaded == nil {
		fmt.Fprint(c.program.err, report)
		return nil, errRefused
	}
	return loaded, nil
}

// openStore opens the store that --store names.
func (c *adminClient) openStore() (*tokens.Store, error) {
	key, err := c.hashKey()
	if err != nil {
		return nil, err
	}
	options := tokens.Options{HashKey: []byte(key.Reveal())}
	if strings.HasPrefix(c.store, "postgres://") || strings.HasPrefix(c.store, "postgresql://") {
		return tokens.OpenPostgres(c.store, options)
	}
	return tokens.OpenSQLite(c.store, options)
}

// hashKey finds the key of the store that --store names: in the file of the command line,
// in the environment, or in the configuration; empty if there is none.
func (c *adminClient) hashKey() (authn.Secret, error) {
	if c.hashKeyFile != "" {
		text, err := os.ReadFile(c.hashKeyFile)
		if err != nil {
			return authn.Secret{}, fmt.Errorf("reading --hash-key-file: %w", err)
		}
		// One line break is cut, as in the files of the configuration's secrets.
		key, found := strings.CutSuffix(string(text), "\n")
		if found {
			key = strings.TrimSuffix(key, "\r")
		}
		if key == "" {
			return authn.Secret{}, fmt.Errorf("reading --hash-key-file: %s is empty", c.hashKeyFile)
		}
		return authn.NewSecret(key), nil
	}
	if key, ok := c.program.env(hashKeyVariable); ok && key != "" {
		return authn.NewSecret(key), nil
	}
	if c.config == "" {
		return authn.Secret{}, nil
	}
	loaded, err := c.load()
	if err != nil {
		return authn.Secret{}, err
	}
	return loaded.HashKey, nil
}

// plainError is an error of the admin API as a person reads it.
func plainError(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return err
}
