package authn

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// quickHash is an argon2id hash that tests can afford.
func quickHash(password string) Secret {
	salt := []byte("saltsalt")
	key := argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)
	encode := base64.RawStdEncoding.EncodeToString
	return NewSecret("$argon2id$v=19$m=64,t=1,p=1$" + encode(salt) + "$" + encode(key))
}

func bcryptOf(t *testing.T, password string) Secret {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return NewSecret(string(hash))
}

func userPass(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func testBasic(t *testing.T, o BasicOptions) *Basic {
	t.Helper()
	b, err := NewBasic(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBasic(t *testing.T) {
	long := strings.Repeat("x", 72)
	b := testBasic(t, BasicOptions{Stamp: Stamp{Authenticator: "people", Realm: "ecmwf", Unscoped: true}, Users: []User{
		{Username: "adam", PasswordHash: quickHash("admin"), Principal: policy.Principal{Roles: []string{"user"}}},
		{Username: "eve", PasswordHash: bcryptOf(t, "se:cret"), Principal: policy.Principal{Subject: "eve@example.com"}},
		{Username: "ünal", PasswordHash: quickHash("pässword")},
		{Username: "long", PasswordHash: bcryptOf(t, long)},
	}})
	for _, tt := range []struct {
		name, credential string
		subject          string // "": refused
		reason           policy.Reason
	}{
		{"argon2id", userPass("adam:admin"), "adam", 0},
		{"bcrypt, and the first colon ends the name", userPass("eve:se:cret"), "eve@example.com", 0},
		{"UTF-8", userPass("ünal:pässword"), "ünal", 0},
		{"without padding", strings.TrimRight(userPass("adam:admin"), "="), "adam", 0},
		{"a wrong password", userPass("adam:wrong"), "", policy.ReasonPasswordWrong},
		{"an empty password", userPass("adam:"), "", policy.ReasonPasswordWrong},
		{"the password of another", userPass("adam:se:cret"), "", policy.ReasonPasswordWrong},
		{"the password in other case", userPass("adam:Admin"), "", policy.ReasonPasswordWrong},
		{"the name in other case", userPass("Adam:admin"), "", policy.ReasonPasswordWrong},
		{"an unknown user", userPass("nobody:admin"), "", policy.ReasonPasswordWrong},
		{"no user", userPass(":admin"), "", policy.ReasonPasswordWrong},
		{"the whole of a long password", userPass("long:" + long), "long", 0},
		{"what bcrypt does not look at", userPass("long:" + long + "y"), "", policy.ReasonPasswordWrong},
		{"no colon", userPass("adam"), "", policy.ReasonCredentialMalformed},
		{"not base64", "%%%", "", policy.ReasonCredentialMalformed},
		{"base64url", "_-_-", "", policy.ReasonCredentialMalformed},
		{"stray bits", "YWRhbTphZG1pb3=", "", policy.ReasonCredentialMalformed},
		{"nothing", "", "", policy.ReasonCredentialMalformed},
		{"a NUL", userPass("adam:admin\x00x"), "", policy.ReasonCredentialMalformed},
		{"a line break", userPass("adam\n:admin"), "", policy.ReasonCredentialMalformed},
		{"too long", userPass("adam:" + strings.Repeat("x", maxUserPassBytes)), "", policy.ReasonCredentialMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i := range 2 { // the second time from memory
				r := request()
				r.Source = netip.AddrFrom4([4]byte{10, 0, byte(len(tt.name)), byte(i)})
				got := b.Authenticate(t.Context(), &Input{Value: tt.credential, Request: r, Now: testNow})
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.subject != "") {
					t.Fatalf("Authenticate = %v, %v, want %v", got.Identity, got.Reason, tt.reason)
				}
				if got.Identity != nil {
					if p := got.Identity.Principal; p.Subject != tt.subject || p.Username == "" || p.Realm != "ecmwf" || !p.Unscoped {
						t.Errorf("Authenticate = %+v, want subject %q", p, tt.subject)
					}
				}
				if got.Detail != nil && strings.Contains(got.Detail.Error(), "admin") {
					t.Errorf("the detail %q holds a password", got.Detail)
				}
			}
		})
	}
}

// counter is a hash that counts how often it is compared.
type counter struct {
	passwordHash
	n *atomic.Int32
}

func (c counter) matches(password string) bool { c.n.Add(1); return c.passwordHash.matches(password) }

func TestSemantics33Passwords(t *testing.T) {
	newList := func(t *testing.T) (*Basic, *atomic.Int32) {
		b := testBasic(t, BasicOptions{Stamp: testStamp, Users: []User{{Username: "adam", PasswordHash: quickHash("admin")}}})
		n := new(atomic.Int32)
		b.users["adam"].hash = counter{b.users["adam"].hash, n}
		b.unknown = counter{b.unknown, n}
		return b, n
	}
	ask := func(b *Basic, credential, source string, now time.Time) policy.Reason {
		r := request()
		r.Source = netip.MustParseAddr(source)
		got := b.Authenticate(context.Background(), &Input{Value: userPass(credential), Request: r, Now: now})
		got.guess.count(now)
		return got.Reason
	}
	t.Run("an unknown user costs what a wrong password costs", func(t *testing.T) {
		b, n := newList(t)
		ask(b, "adam:wrong", "10.0.0.1", testNow)
		wrong := n.Load()
		ask(b, "nobody:wrong", "10.0.0.1", testNow)
		if wrong != 1 || n.Load() != 2 {
			t.Errorf("%d comparisons for a wrong password, and %d for an unknown user", wrong, n.Load()-wrong)
		}
	})
	t.Run("a right password is hashed once", func(t *testing.T) {
		b, n := newList(t)
		for range 10 {
			ask(b, "adam:admin", "10.0.0.1", testNow)
		}
		if n.Load() != 1 {
			t.Errorf("%d comparisons", n.Load())
		}
		if ask(b, "adam:admin", "10.0.0.1", testNow.Add(verifiedPasswordsFor)); n.Load() != 2 {
			t.Errorf("%d comparisons after it was forgotten", n.Load())
		}
	})
	t.Run("failures are limited by name and source", func(t *testing.T) {
		b, n := newList(t)
		now := testNow
		for range freeFailures {
			if got := ask(b, "adam:wrong", "10.0.0.1", now); got != policy.ReasonPasswordWrong {
				t.Fatalf("a failure that is free: %v", got)
			}
		}
		before := n.Load()
		if got := ask(b, "adam:admin", "10.0.0.1", now); got != policy.ReasonTooManyFailures || n.Load() != before {
			t.Errorf("after %d failures: %v", freeFailures, got)
		}
		if got := ask(b, "adam:admin", "10.0.0.2", now); got != policy.ReasonNone {
			t.Errorf("from elsewhere: %v", got)
		}
		if got := ask(b, "eve:x", "10.0.0.1", now); got != policy.ReasonPasswordWrong {
			t.Errorf("another name: %v", got)
		}
		now = now.Add(minFailurePause)
		if got := ask(b, "adam:wrong", "10.0.0.1", now); got != policy.ReasonPasswordWrong {
			t.Errorf("after the pause: %v", got)
		}
		now = now.Add(minFailurePause)
		if got := ask(b, "adam:wrong2", "10.0.0.1", now); got != policy.ReasonTooManyFailures {
			t.Errorf("the pause has not doubled: %v", got)
		}
		now = now.Add(maxFailurePause)
		if got := ask(b, "adam:admin", "10.0.0.1", now); got != policy.ReasonNone {
			t.Errorf("after the longest pause: %v", got)
		}
	})
	t.Run("the pool is bounded, and beyond it is an outage", func(t *testing.T) {
		pool := NewCorePool(1)
		release := make(chan struct{})
		var running sync.WaitGroup
		started := make(chan struct{}, cap(pool.waiting))
		for range cap(pool.cores) {
			running.Go(func() {
				if err := pool.run(context.Background(), func() { started <- struct{}{}; <-release }); err != nil {
					t.Error(err)
				}
			})
		}
		for range cap(pool.cores) {
			<-started
		}
		ctx, cancel := context.WithCancel(context.Background())
		gaveUp := make(chan error)
		go func() { gaveUp <- pool.run(ctx, func() { t.Error("it ran") }) }()
		waitFor(t, "the one that waits, which gets there without telling", func() bool { return len(pool.waiting) == cap(pool.waiting) })
		b := testBasic(t, BasicOptions{Stamp: testStamp, Pool: pool, Users: []User{{Username: "adam", PasswordHash: quickHash("admin")}}})
		if got := ask(b, "adam:admin", "10.0.0.1", testNow); got != policy.ReasonOverloaded || got.Outcome() != policy.Unavailable {
			t.Errorf("beyond the queue: %v", got)
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who waits and gives up: %v", err)
		}
		close(release)
		running.Wait()
		if got := ask(b, "adam:admin", "10.0.0.1", testNow); got != policy.ReasonNone {
			t.Errorf("afterwards: %v", got)
		}
	})
}

func TestPasswordListsThatDoNotLoad(t *testing.T) {
	good := quickHash("x").Reveal()
	for _, tt := range []struct {
		name  string
		users []User
		want  string
	}{
		{"nobody", nil, "no user"},
		{"no hash", []User{{Username: "a"}}, "no password hash"},
		{"a password instead of its hash", []User{{Username: "a", PasswordHash: NewSecret("hunter2")}}, "neither"},
		{"no name", []User{{PasswordHash: NewSecret(good)}}, "name is empty"},
		{"a colon in the name", []User{{Username: "a:b", PasswordHash: NewSecret(good)}}, "colon"},
		{"a name twice", []User{{Username: "a", PasswordHash: NewSecret(good)}, {Username: "a", PasswordHash: NewSecret(good)}}, "used twice"},
		{"argon2i", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "argon2id", "argon2i", 1))}}, "neither"},
		{"another version", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "v=19", "v=16", 1))}}, "version 19"},
		{"no version", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "$v=19", "", 1))}}, "version 19"},
		{"parameters in another order", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "m=64,t=1", "t=1,m=64", 1))}}, "not an argon2id"},
		{"too much memory", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "m=64", "m=4194304", 1))}}, "over"},
		{"too much work", []User{{Username: "a", PasswordHash: NewSecret(strings.Replace(good, "m=64,t=1", "m=1048576,t=64", 1))}}, "seconds"},
		{"a cut key", []User{{Username: "a", PasswordHash: NewSecret(good[:len(good)-30])}}, "not an argon2id"},
		{"a cut bcrypt hash", []User{{Username: "a", PasswordHash: NewSecret("$2b$10$abc")}}, "not a bcrypt"},
		{"an expensive bcrypt hash", []User{{Username: "a", PasswordHash: NewSecret("$2b$20$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy")}}, "cost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewBasic(BasicOptions{Stamp: testStamp, Users: tt.users})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("NewBasic gives %v, want %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "c2FsdHNhbHQ") {
				t.Errorf("the error %q holds a secret", err)
			}
		})
	}
}

func TestHashPassword(t *testing.T) {
	hash, err := HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	again, err := HashPassword("correct horse")
	if err != nil || again == hash {
		t.Errorf("HashPassword gives %q twice (%v)", hash, err)
	}
	parsed, err := parsePasswordHash(hash)
	if err != nil {
		t.Fatal(err)
	}
	if !parsed.matches("correct horse") || parsed.matches("wrong horse") {
		t.Errorf("%q does not match what it was made of, or more", hash)
	}
	for _, bad := range []string{"", "a\nb", "a\x00"} {
		if _, err := HashPassword(bad); err == nil {
			t.Errorf("HashPassword(%q) gives no error", bad)
		}
	}
}

// TestPasswordHashesOfOthers proves that hashes of other tools are read: argon2-cffi 25.1
// and bcrypt 5.0 of Python, and what htpasswd makes of the latter.
func TestPasswordHashesOfOthers(t *testing.T) {
	for _, hash := range []string{
		"$argon2id$v=19$m=1024,t=2,p=2$p1JTly143kFi8gIPrDJJBw$FijEj1nfZBw1Qa/tDxsxLDH62lWiutYNzF5LszL/DFw",
		"$2b$04$3ljtOs7gsZW/wvasHJeE7eBs..wXxLQBWwaEIYBjCsi8fvcF6dQIm",
		"$2y$04$3ljtOs7gsZW/wvasHJeE7eBs..wXxLQBWwaEIYBjCsi8fvcF6dQIm",
	} {
		h, err := parsePasswordHash(hash)
		if err != nil {
			t.Errorf("parsePasswordHash(%q): %v", hash, err)
			continue
		}
		if !h.matches("correct horse") || h.matches("correct Horse") {
			t.Errorf("%q does not match its password, or more", hash)
		}
	}
}

// TestSemantics33FailuresOfOneList goes through the selection, as requests do: a list that is
// alone at its place limits guessing as much as one among several.
func TestSemantics33FailuresOfOneList(t *testing.T) {
	list := testBasic(t, BasicOptions{Stamp: Stamp{Authenticator: "people", Realm: "people"}, Users: []User{{Username: "adam", PasswordHash: quickHash("right")}}})
	for _, row := range []struct {
		name   string
		places []Place
	}{
		{"alone at its place", []Place{basic}},
		{"alone at one of two", []Place{basic, {Kind: InHeader, Name: "x-basic", Scheme: "Basic"}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			list.failures = newFailures(list.keys)
			s := testSet(t, Options{}, Entry{Name: "people", Kind: KindBasic, Authenticator: list, Places: row.places})
			ask := func(password string) string {
				return who(t, s, nil, request("authorization", "Basic "+userPass("adam:"+password)))
			}
			for i := range freeFailures {
				if got := ask(fmt.Sprint("wrong", i)); got != "password_wrong by people" {
					t.Errorf("a failure that is free: %s", got)
				}
			}
			if got := ask("right"); got != "too_many_failures by people" {
				t.Errorf("after %d failures: %s", freeFailures, got)
			}
		})
	}
}

func TestSemantics33FailuresInGroups(t *testing.T) {
	list := func(realm, password string) (*Basic, *atomic.Int32) {
		b := testBasic(t, BasicOptions{Stamp: Stamp{Authenticator: realm, Realm: realm}, Users: []User{{Username: "adam", PasswordHash: quickHash(password), Principal: policy.Principal{Subject: realm}}}})
		n := new(atomic.Int32)
		b.users["adam"].hash = counter{b.users["adam"].hash, n}
		return b, n
	}
	first, n := list("first", "one")
	second, m := list("second", "two")
	s := testSet(t, Options{},
		Entry{Name: "first", Kind: KindBasic, Authenticator: first, Places: []Place{basic}},
		Entry{Name: "second", Kind: KindBasic, Authenticator: second, Places: []Place{basic}},
	)
	ask := func(password string) string {
		return who(t, s, nil, request("authorization", "Basic "+userPass("adam:"+password)))
	}
	for range 3 * freeFailures {
		if got := ask("two"); got != "second" {
			t.Fatalf("the password of the second list: %s", got)
		}
	}
	if n.Load() > 1 || m.Load() != 1 { // the first list may not have got its turn
		t.Errorf("%d and %d comparisons for a password that is known after the first", n.Load(), m.Load())
	}
	if got := ask("one"); got != "first" {
		t.Errorf("what is good for the second list counted as guesses at the first: %s", got)
	}
	for range freeFailures {
		if got := ask("three"); got != "password_wrong by first" {
			t.Errorf("a wrong password: %s", got)
		}
	}
	if got := ask("three"); got != "too_many_failures by first" {
		t.Errorf("after %d: %s", freeFailures, got)
	}
	if got := ask("two"); got != "second" {
		t.Errorf("a password that is known: %s", got)
	}
}
