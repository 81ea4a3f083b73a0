package tokens_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens/tokenstest"
	"github.com/gatehouse-authz/gatehouse/policy"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

// childStore names the store of a child process, which TestMain makes of the test
// binary: "sqlite PATH" or "postgres URL".
const childStore = "GATEHOUSE_TEST_CHILD_STORE"

func TestMain(m *testing.M) {
	if where := os.Getenv(childStore); where != "" {
		fmt.Fprintln(os.Stderr, write(context.Background(), where))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func openStore(where string) (*tokens.Store, error) {
	kind, at, _ := strings.Cut(where, " ")
	if kind == "sqlite" {
		return tokens.OpenSQLite(at, tokens.Options{})
	}
	return tokens.OpenPostgres(at, tokens.Options{})
}

// write makes tokens and revokes every other one until it is killed. It says what it
// is about to revoke, and what was answered.
func write(ctx context.Context, where string) error {
	store, err := openStore(where)
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	for i := 0; ; i++ {
		_, credential, err := store.Create(ctx, tokenstest.Alice(), tokenstest.Admin)
		if err != nil {
			return err
		}
		fmt.Println("created", credential.Reveal())
		if i%2 == 0 {
			continue
		}
		fmt.Println("revoking", credential.Reveal())
		if _, err := store.Revoke(ctx, credential.ID(), tokenstest.Admin); err != nil {
			return err
		}
		fmt.Println("revoked", credential.Reveal())
	}
}

// rounds is how often a process is killed: 20 where ACCEPTANCE is set, as "make
// acceptance" does.
func rounds(short int) int {
	if os.Getenv("ACCEPTANCE") != "" {
		return 20
	}
	return short
}

// TestKilled kills writers with SIGKILL in the middle: what was answered holds, and
// nothing else does.
func TestKilled(t *testing.T) {
	for kind, where := range map[string]string{
		"sqlite":   "sqlite " + filepath.Join(t.TempDir(), "gatehouse.db"),
		"postgres": "postgres " + pg.Start(t).Database(t),
	} {
		t.Run(kind, func(t *testing.T) {
			said := map[string]string{} // the last that was said of a token
			for range rounds(4) {
				kill(t, where, 150*time.Millisecond, said)
			}
			store := tokenstest.Migrated(t, func() *tokens.Store {
				store, err := openStore(where)
				if err != nil {
					t.Fatal(err)
				}
				return store
			})
			view := tokenstest.Watch(t, store, tokens.ViewOptions{})
			counts := map[string]int{}
			for text, last := range said {
				_, reason := view.Token(t.Context(), text, tokens.APIToken, time.Now(), false)
				counts[last]++
				switch {
				case last == "created" && reason != policy.ReasonNone,
					last == "revoked" && reason != policy.ReasonTokenRevoked,
					reason != policy.ReasonNone && reason != policy.ReasonTokenRevoked:
					t.Errorf("a token of which was said %q last: %v", last, reason)
				}
			}
			t.Logf("said last: %v", counts)
			if counts["created"] == 0 || counts["revoked"] == 0 {
				t.Errorf("said last: %v, want both kinds", counts)
			}
			if created, records := count(t, store, "create"), countTokens(t, store); created != records {
				t.Errorf("%d records and %d entries of their creation in the audit log", records, created)
			}
		})
	}
}

// kill runs a writer for some time, kills it, and notes what it said.
func kill(t *testing.T, where string, after time.Duration, said map[string]string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childStore+"="+where)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var killing *time.Timer
	for lines.Scan() {
		if killing == nil { // it has begun to write
			killing = time.AfterFunc(after, func() { _ = child.Process.Kill() })
		}
		if verb, text, ok := strings.Cut(lines.Text(), " "); ok && len(text) == 69 {
			said[text] = verb
		}
	}
	err = child.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer ended by itself: %v", err)
	}
}

// count counts audit entries of one action.
func count(t *testing.T, store *tokens.Store, action string) (n int) {
	t.Helper()
	filter := tokens.AuditFilter{PageSize: 1000}
	for {
		page, next, err := store.Audit(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range page {
			if entry.Action == action {
				n++
			}
		}
		if filter.PageCursor = next; next == "" {
			return n
		}
	}
}

func countTokens(t *testing.T, store *tokens.Store) (n int) {
	t.Helper()
	filter := tokens.Filter{PageSize: 1000}
	for {
		page, next, err := store.List(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page)
		if filter.PageCursor = next; next == "" {
			return n
		}
	}
}

// TestPostgresRestarts crashes the server under writers: what was answered holds, and
// views come back by themselves.
func TestPostgresRestarts(t *testing.T) {
	server := pg.Start(t)
	open := postgres(server)(t)
	here, there := tokenstest.Migrated(t, open), tokenstest.Migrated(t, open)
	view := tokenstest.Watch(t, there, tokens.ViewOptions{})
	var mu sync.Mutex
	said := map[tokens.Credential]string{}
	say := func(credential tokens.Credential, what string) {
		mu.Lock()
		defer mu.Unlock()
		said[credential] = what
	}
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for range 2 {
		writing.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, credential, err := here.Create(ctx, tokenstest.Alice(), tokenstest.Admin)
				if err != nil {
					continue // an outage: nobody was shown this token
				}
				say(credential, "created")
				if i%2 == 0 {
					continue
				}
				say(credential, "revoking")
				if _, err := here.Revoke(ctx, credential.ID(), tokenstest.Admin); err == nil {
					say(credential, "revoked")
				}
			}
		})
	}
	restarts := 1
	if os.Getenv("ACCEPTANCE") != "" {
		restarts = 5
	}
	for range restarts {
		if err := server.Down(); err != nil {
			t.Fatal(err)
		}
		if err := server.Up(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		before := len(said)
		mu.Unlock()
		tokenstest.Within(t, 20*time.Second, "writers go on after a restart", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(said) > before+4
		})
	}
	stop()
	writing.Wait()
	tokenstest.Within(t, 20*time.Second, "the view comes back", func() bool { return view.Sync(t.Context()) == nil })
	for credential, last := range said {
		switch reason := tokenstest.Verify(t, view, credential); {
		case last == "created" && reason != policy.ReasonNone,
			last == "revoked" && reason != policy.ReasonTokenRevoked,
			reason != policy.ReasonNone && reason != policy.ReasonTokenRevoked:
			t.Errorf("a token of which was said %q last: %v", last, reason)
		}
	}
	t.Logf("%d tokens over %d restarts", len(said), restarts)
}

// TestRevocationLag is two replicas on one PostgreSQL: a token that is revoked at one
// is refused at the other within a second.
func TestRevocationLag(t *testing.T) {
	open := postgres(pg.Start(t))(t)
	here := tokenstest.Migrated(t, open)
	there := tokenstest.Watch(t, tokenstest.Migrated(t, open), tokens.ViewOptions{})
	load, stop := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	for range 2 {
		loading.Go(func() {
			for load.Err() == nil {
				if _, _, err := here.Create(load, tokenstest.Alice(), tokenstest.Admin); err != nil && load.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	var longest time.Duration
	const trials = 100
	for range trials {
		_, credential := tokenstest.Create(t, here, tokenstest.Alice())
		if reason := tokenstest.Verify(t, there, credential); reason != policy.ReasonNone {
			t.Fatalf("created at the other replica: %v", reason)
		}
		if _, err := here.Revoke(t.Context(), credential.ID(), tokenstest.Admin); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, tokenstest.Within(t, time.Second, "the revocation is heard", func() bool {
			return tokenstest.Verify(t, there, credential) == policy.ReasonTokenRevoked
		}))
	}
	stop()
	loading.Wait()
	t.Logf("the longest of %d revocations took %v", trials, longest)
}

// TestCutOff cuts a replica off from its PostgreSQL: it serves what it knows for
// stale_for, then says that it cannot tell, and comes back by itself.
func TestCutOff(t *testing.T) {
	server := pg.Start(t)
	database := server.Database(t)
	address, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	cutter := pg.NewCutter(t, address.Host)
	through, err := pg.Through(database, cutter.Addr())
	if err != nil {
		t.Fatal(err)
	}
	opener := func(url string) func() *tokens.Store {
		return func() *tokens.Store {
			store, err := tokens.OpenPostgres(url, tokens.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return store
		}
	}
	here := tokenstest.Migrated(t, opener(database))
	const staleFor = 2 * time.Second
	there := tokenstest.Watch(t, tokenstest.Migrated(t, opener(through)), tokens.ViewOptions{StaleFor: staleFor, Poll: 100 * time.Millisecond})
	_, known := tokenstest.Create(t, here, tokenstest.Alice())
	_, unknown := tokenstest.Create(t, here, tokenstest.Alice())
	if reason := tokenstest.Verify(t, there, known); reason != policy.ReasonNone {
		t.Fatal(reason)
	}
	cutter.Cut()
	cut := time.Now()
	if _, err := here.Revoke(t.Context(), known.ID(), tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	if reason := tokenstest.Verify(t, there, known); reason != policy.ReasonNone {
		t.Errorf("a known token, at once: %v, want it served", reason)
	}
	if reason := tokenstest.Verify(t, there, unknown); reason != policy.ReasonStoreUnavailable {
		t.Errorf("an unknown token: %v, want store_unavailable", reason)
	}
	tokenstest.Within(t, staleFor+time.Second, "the known token is no longer served", func() bool {
		return tokenstest.Verify(t, there, known) == policy.ReasonStoreUnavailable
	})
	t.Logf("a revoked token was served for %v", time.Since(cut))
	if there.Ready(time.Now()) == nil {
		t.Error("the view says that it is ready")
	}
	if got := there.Standing("i", "s", "t", "j", time.Now(), time.Now()); got != tokens.Untold {
		t.Errorf("a JWT: %v, want untold", got)
	}
	cutter.Mend()
	var first policy.Reason
	tokenstest.Within(t, 10*time.Second, "it comes back", func() bool {
		first = tokenstest.Verify(t, there, known)
		return first != policy.ReasonStoreUnavailable
	})
	if first != policy.ReasonTokenRevoked {
		t.Errorf("the revoked token, once the store answers again: %v", first)
	}
	if reason := tokenstest.Verify(t, there, unknown); reason != policy.ReasonNone {
		t.Errorf("the other token, once the store answers again: %v", reason)
	}
}

// TestDiskFull fills the disk of each store: what is known goes on, what is not is still
// read, changes fail without being half made, and work again when there is room.
func TestDiskFull(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		fill, free := smallDisk(t, dir)
		diskFull(t, "sqlite "+filepath.Join(dir, "gatehouse.db"), fill, free)
	})
	t.Run("postgres", func(t *testing.T) {
		server := pg.Start(t)
		diskFull(t, "postgres "+server.Database(t), func(store *tokens.Store) { fillTable(t, server, store) }, func(store *tokens.Store) {
			restart(t, server, store, server.Up)
		})
	})
}

func diskFull(t *testing.T, where string, fill, free func(*tokens.Store)) {
	store := tokenstest.Migrated(t, func() *tokens.Store {
		store, err := openStore(where)
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
	view := tokenstest.Watch(t, store, tokens.ViewOptions{})
	_, known := tokenstest.Create(t, store, tokenstest.Alice())
	_, unknown := tokenstest.Create(t, store, tokenstest.Alice())
	if reason := tokenstest.Verify(t, view, known); reason != policy.ReasonNone {
		t.Fatal(reason)
	}
	unaudited := func() int64 {
		t.Helper()
		n, err := tokens.Number(t.Context(), store, `SELECT (SELECT COUNT(*) FROM gh_tokens) - (SELECT COUNT(*) FROM gh_audit WHERE action = 'create')`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	fill(store)
	before := unaudited()
	var failed error
	for i := 0; !saysFull(failed); i++ {
		if i > 10_000 {
			t.Fatalf("creating on a full disk: %v", failed)
		}
		_, _, failed = store.Create(t.Context(), tokenstest.Alice(), tokenstest.Admin)
	}
	t.Logf("creating on a full disk: %v", failed)
	for name, credential := range map[string]tokens.Credential{"known": known, "not yet known": unknown} {
		if reason := tokenstest.Verify(t, view, credential); reason != policy.ReasonNone {
			t.Errorf("a %s token: %v", name, reason)
		}
	}
	if after := unaudited(); after != before {
		t.Errorf("%d records were made without an entry in the audit log, or the other way round", after-before)
	}
	free(store)
	if _, err := store.Revoke(t.Context(), known.ID(), tokenstest.Admin); err != nil {
		t.Errorf("revoking when there is room again: %v", err)
	}
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reason := tokenstest.Verify(t, view, known); reason != policy.ReasonTokenRevoked {
		t.Errorf("after revoking: %v", reason)
	}
}

// saysFull tells that error of a change from a connection that did not outlive the start
// of the server.
func saysFull(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "disk is full") || strings.Contains(err.Error(), "could not extend file"))
}

// fillTable fills the table of tokens of a PostgreSQL, a row a page, and has the server
// start again where no file may be larger.
func fillTable(t *testing.T, server *pg.Server, store *tokens.Store) {
	t.Helper()
	for _, statement := range []string{
		`ALTER TABLE gh_tokens ALTER COLUMN name SET STORAGE PLAIN`, // else the padding would be compressed
		`INSERT INTO gh_tokens SELECT 'padding-' || i, 'token', repeat('x', 7800), 'i', 's', '', '', '[]', '[]', '{}', '', '', 0, 0, '', '', 0, 0, 0, '', '', 0
			FROM generate_series(1, 2200) AS i`,
	} {
		if err := tokens.Exec(t.Context(), store, statement); err != nil {
			t.Fatal(err)
		}
	}
	size, err := tokens.Number(t.Context(), store, `SELECT pg_relation_size('gh_tokens')`)
	if err != nil {
		t.Fatal(err)
	}
	restart(t, server, store, func() error { return server.UpFull(size) })
}

func restart(t *testing.T, server *pg.Server, store *tokens.Store, up func() error) {
	t.Helper()
	if err := server.Down(); err != nil {
		t.Fatal(err)
	}
	if err := up(); err != nil {
		t.Fatal(err)
	}
	tokenstest.Within(t, 20*time.Second, "the store answers again", func() bool {
		_, err := tokens.Number(t.Context(), store, `SELECT 1`)
		return err == nil
	})
}

// TestWritesDoNotDelayChanges: while uses of tokens cannot be written, changes are heard of
// as ever.
func TestWritesDoNotDelayChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	open := func() *tokens.Store {
		store, err := tokens.OpenSQLite(path, tokens.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	store := tokenstest.Migrated(t, open)
	view := tokenstest.Watch(t, store, tokens.ViewOptions{Poll: 50 * time.Millisecond})
	_, credential := tokenstest.Create(t, store, tokenstest.Alice())
	unlock, err := tokens.Lock(t.Context(), tokenstest.Migrated(t, open))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock() //nolint:errcheck // nothing was done
	if reason := tokenstest.Verify(t, view, credential); reason != policy.ReasonNone {
		t.Fatal(reason) // which is to be written within a second
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < 4500*time.Millisecond; <-tick.C {
		if age := view.Age(time.Now()); age > 2500*time.Millisecond {
			t.Fatalf("nothing was heard of the store for %v", age)
		}
	}
}

// TestLocked is a connection that does not break and gives nothing: another process has
// the SQLite file for itself. What is known goes on, changes fail in time, and all is well
// when it lets go.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	open := func() *tokens.Store {
		store, err := tokens.OpenSQLite(path, tokens.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	store := tokenstest.Migrated(t, open)
	view := tokenstest.Watch(t, store, tokens.ViewOptions{})
	_, known := tokenstest.Create(t, store, tokenstest.Alice())
	if reason := tokenstest.Verify(t, view, known); reason != policy.ReasonNone {
		t.Fatal(reason)
	}
	unlock, err := tokens.Lock(t.Context(), tokenstest.Migrated(t, open))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := store.Revoke(ctx, known.ID(), tokenstest.Admin); err == nil {
		t.Error("revoking goes on although the file is locked")
	}
	if reason := tokenstest.Verify(t, view, known); reason != policy.ReasonNone {
		t.Errorf("a known token while the file is locked: %v", reason)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Revoke(t.Context(), known.ID(), tokenstest.Admin); err != nil {
		t.Errorf("revoking afterwards: %v", err)
	}
	tokenstest.Within(t, time.Second, "the revocation is heard", func() bool {
		return tokenstest.Verify(t, view, known) == policy.ReasonTokenRevoked
	})
}

// smallDisk makes dir a file system of 1 MiB where that is allowed; elsewhere the
// database itself is limited.
func smallDisk(t *testing.T, dir string) (fill, free func(*tokens.Store)) {
	t.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Logf("mounting a small file system: %v: limiting the database instead", err)
		limit := func(pages int) func(*tokens.Store) {
			return func(store *tokens.Store) {
				if err := tokens.LimitPages(t.Context(), store, pages); err != nil {
					t.Fatal(err)
				}
			}
		}
		return limit(4), limit(0)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	fill = func(*tokens.Store) {
		file, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for block := make([]byte, 4096); err == nil; {
			_, err = file.Write(block)
		}
	}
	free = func(*tokens.Store) {
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	return fill, free
}
