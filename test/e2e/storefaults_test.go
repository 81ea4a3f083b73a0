package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

// staleFor is how long tokens serve on without the store in these tests, in place of 30 s;
// late is how much longer they may on a busy machine.
const staleFor, late = 2 * time.Second, 2 * time.Second

// A madeToken is a token of the store.
type madeToken struct{ ID, Token string }

func (m madeToken) header() string { return "authorization: Bearer " + m.Token }

// tokens runs gatehouse tokens with a store, or an admin listener.
func tokens(t *testing.T, where string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), harness.Binary(t), append([]string{"tokens", args[0], where}, args[1:]...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gatehouse tokens %s: %v: %s", args[0], err, said.String())
	}
	return string(out)
}

func makeToken(t *testing.T, where string) madeToken {
	t.Helper()
	var made madeToken
	out := tokens(t, where, "create", "--owner=carol", "--realm=corp", "--tenant=acme", "--role=reader", "--output=json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Token == "" {
		t.Fatalf("gatehouse tokens create said %q, %v", out, err)
	}
	return made
}

// unknownToken is one that somebody has made up, with all that can be seen of a good one.
func unknownToken() string {
	base62 := func(n *big.Int, digits int) string {
		swapped := strings.Map(func(r rune) rune { // digits are 0-9A-Za-z here, and 0-9a-zA-Z in math/big
			if unicode.IsUpper(r) {
				return unicode.ToLower(r)
			}
			return unicode.ToUpper(r)
		}, n.Text(62))
		return strings.Repeat("0", digits-len(swapped)) + swapped
	}
	random := func(bytes int) *big.Int {
		raw := make([]byte, bytes)
		rand.Read(raw)
		return new(big.Int).SetBytes(raw)
	}
	text := "gh_" + base62(random(11), 16) + "_" + base62(random(32), 43)
	return text + base62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(text)))), 6)
}

// storedConfig adds tokens of a store to config.
func storedConfig(config, store string) string {
	return strings.Replace(config, "\nroutes:", fmt.Sprintf(`
- name: ours
  token: {}

store: %s
routes:`, store), 1)
}

// storeQuestions are those whose answers need the store.
func storeQuestions(good, revoked madeToken) []question {
	return []question{
		{"a token of the store", "GET /me", good.header, http.StatusOK},
		{"a revoked token", "GET /me", revoked.header, http.StatusUnauthorized},
		{"a made-up token", "GET /me", func() string { return "authorization: Bearer " + unknownToken() }, http.StatusUnauthorized},
	}
}

// TestFaultStore: the store is down, hangs, or is slow. Who needs no store notices nothing
// until it has been gone for stale_for, and keys of the file never do. Nothing passes that
// should not, and nobody waits longer than Envoy does.
func TestFaultStore(t *testing.T) {
	server := pg.Start(t)
	database := server.Database(t)
	proxy := pg.NewCutter(t, fmt.Sprintf("127.0.0.1:%d", server.Port))
	url, err := pg.Through(database, proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	direct := "--store=" + database
	good, revoked, leaving := makeToken(t, direct), makeToken(t, direct), makeToken(t, direct)
	tokens(t, direct, "revoke", revoked.ID)
	f := setup{
		options:   []harness.Option{harness.Env("STORE=" + url)},
		questions: storeQuestions(good, revoked),
		change: func(_ *testing.T, _ *faulty, config string) string {
			return storedConfig(config, fmt.Sprintf("{postgres: {url: {env: STORE}}, stale_for: %v}", staleFor))
		},
	}.start(t)

	// Shorter than stale_for, and longer.
	slow := func() { proxy.Slow(300 * time.Millisecond) }
	f.during(t, "the store: slow", slow, func() { proxy.Slow(0) })
	f.asEver(t)
	for _, front := range bothFronts {
		f.only(t, front, "a token of the store", "200")
		f.only(t, front, "a revoked token", "401")
		f.only(t, front, "a made-up token", "401", "503")
	}
	for _, fault := range []struct {
		name          string
		breakIt, mend func()
	}{
		{"down", func() { must(t, server.Down()) }, func() { must(t, server.Up()) }},
		{"hangs", func() { proxy.Slow(time.Hour) }, func() { proxy.Slow(0) }},
	} {
		f.duringFor(t, "the store: "+fault.name, max(staleFor+late, lasts()), fault.breakIt, fault.mend)
		for _, front := range bothFronts {
			f.only(t, front, "a key", "200")
			f.only(t, front, "a forbidden path", "403")
			// A token of others may have been revoked here.
			f.only(t, front, "a new token each time", "200", "503")
			f.only(t, front, "a forged token", "401")
			f.only(t, front, "a token of the store", "200", "503")
			f.only(t, front, "a revoked token", "401", "503")
			f.only(t, front, "a made-up token", "401", "503")
			if f.traffic.saw(front, "a token of the store")["503"] == 0 {
				t.Errorf("%s: %s: a token of the store was good for longer than stale_for", fault.name, front)
			}
		}
		f.traffic.neverAllowed(t, "fail open")
	}

	// Revoked while gatehouse hears nothing of it.
	front := f.envoy.Address(t, "hardened")
	status := func() int { return harness.Send(t, front, "GET /me", leaving.header()).Status }
	if got := status(); got != http.StatusOK {
		t.Fatalf("before it is revoked: status %d", got)
	}
	proxy.Cut()
	tokens(t, direct, "revoke", leaving.ID)
	began := time.Now()
	for status() == http.StatusOK {
		if time.Since(began) > staleFor+late {
			t.Fatalf("a token that was revoked %v ago is good", time.Since(began))
		}
	}
	t.Logf("a token that was revoked elsewhere was good for %v more, with stale_for %v", time.Since(began).Round(time.Millisecond), staleFor)
	proxy.Mend()
	harness.Eventually(t, settle, func() error {
		switch got := status(); got {
		case http.StatusUnauthorized:
			return nil
		case http.StatusOK:
			t.Fatal("it is good again")
			return nil
		default:
			return fmt.Errorf("status %d, want 401", got)
		}
	})
}

// TestFaultStoreFull: the disk of the store is full. What there is goes on; what is new
// fails, and comes about when there is room.
func TestFaultStoreFull(t *testing.T) {
	disk, sockets := t.TempDir(), shortDir(t)
	admin := "unix://" + filepath.Join(sockets, "admin.sock")
	f := setup{
		options: []harness.Option{harness.Mounts("mount -t tmpfs -o size=2m tmpfs " + disk)},
		change: func(_ *testing.T, _ *faulty, config string) string {
			config = strings.Replace(config, "  ops:", fmt.Sprintf("  admin: {address: %q}\n  ops:", admin), 1)
			return storedConfig(config, fmt.Sprintf("{sqlite: {path: %q}}", filepath.Join(disk, "gatehouse.db")))
		},
	}.start(t)
	where := "--admin=" + admin
	good, revoked, rested := makeToken(t, where), makeToken(t, where), makeToken(t, where)
	tokens(t, where, "revoke", revoked.ID)
	f.traffic.add(t, f.envoy, bothFronts, storeQuestions(good, revoked))

	ballast := filepath.Join("/proc", fmt.Sprint(f.gatehouse.PID()), "root", disk, "ballast")
	fill := func() {
		file, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for block := make([]byte, 4096); err == nil; {
			_, err = file.Write(block)
		}
	}
	create := func() error {
		return exec.CommandContext(t.Context(), harness.Binary(t), "tokens", "create", where, "--owner=dave", "--realm=corp").Run()
	}
	f.during(t, "the store: full", func() {
		fill()
		for i := 0; create() == nil; i++ {
			if i == 100 {
				t.Fatal("tokens are made on a full disk")
			}
		}
	}, func() { must(t, os.Remove(ballast)) })
	f.asEver(t)
	for _, front := range bothFronts {
		f.only(t, front, "a token of the store", "200")
		f.only(t, front, "a revoked token", "401")
		f.only(t, front, "a made-up token", "401")
	}
	harness.Eventually(t, settle, create)
	tokens(t, where, "revoke", rested.ID)
	harness.Eventually(t, settle, func() error {
		return wantStatus(f.envoy.Address(t, "hardened"), rested.Token, http.StatusUnauthorized)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shortDir is a folder whose name is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
