package tokenstest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

func testPeople(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	who := tokens.Owner{Issuer: "https://idp.example.com", Subject: "alice"}
	if _, err := store.Person(t.Context(), who); !errors.Is(err, tokens.ErrNotFound) {
		t.Fatalf("before anything: %v, want ErrNotFound", err)
	}
	person, err := store.Grant(t.Context(), who, []string{"b", "a", "b"}, Admin)
	if err != nil || !slices.Equal(person.Granted, []string{"a", "b"}) || !person.FirstSeen.IsZero() {
		t.Errorf("granted: %+v, %v", person, err)
	}
	if person, err = store.AmendGrant(t.Context(), who, []string{"d", "c"}, []string{"a", "d", "never given"}, Admin); err != nil || !slices.Equal(person.Granted, []string{"b", "c"}) {
		t.Errorf("granted more, and a taken away: %+v, %v", person, err)
	}
	if person, err = store.AmendGrant(t.Context(), who, []string{"a"}, []string{"c"}, Admin); err != nil || !slices.Equal(person.Granted, []string{"a", "b"}) {
		t.Errorf("back as it was: %+v, %v", person, err)
	}
	if person, err = store.Disable(t.Context(), who, Admin); err != nil || !person.Disabled() || person.DisabledBy != Admin.Owner {
		t.Errorf("disabled: %+v, %v", person, err)
	}
	since := person.DisabledAt
	if person, err = store.Disable(t.Context(), who, tokens.Actor{}); err != nil || !person.DisabledAt.Equal(since) || person.DisabledBy != Admin.Owner {
		t.Errorf("disabled again: %+v, %v, want the first time kept", person, err)
	}
	got, err := store.Person(t.Context(), who)
	if err != nil || !got.Disabled() || !slices.Equal(got.Granted, []string{"a", "b"}) {
		t.Errorf("read back: %+v, %v", got, err)
	}
	if person, err = store.Enable(t.Context(), who, Admin); err != nil || person.Disabled() || person.DisabledBy != (tokens.Owner{}) {
		t.Errorf("enabled: %+v, %v", person, err)
	}
	for i := range 24 {
		if _, err := store.Enable(t.Context(), tokens.Owner{Issuer: "https://idp.example.com", Subject: fmt.Sprintf("p%02d", i)}, Admin); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := store.Disable(t.Context(), tokens.Owner{Issuer: "https://idp.example.com", Subject: "p03"}, Admin); err != nil {
		t.Fatal(err)
	}
	var all []string
	filter := tokens.PeopleFilter{PageSize: 10}
	for {
		page, next, err := store.People(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page {
			all = append(all, p.Subject)
		}
		if next == "" {
			break
		}
		filter.PageCursor = next
	}
	if len(all) != 25 || all[0] != "alice" || all[24] != "p23" || !slices.IsSorted(all) {
		t.Errorf("pages gave %q", all)
	}
	page, _, err := store.People(t.Context(), tokens.PeopleFilter{Disabled: true})
	if err != nil || len(page) != 1 || page[0].Subject != "p03" {
		t.Errorf("the disabled: %v, %v", page, err)
	}
	if _, _, err := store.People(t.Context(), tokens.PeopleFilter{PageCursor: "?"}); !errors.Is(err, tokens.ErrCursor) {
		t.Errorf("a bad cursor: %v, want ErrCursor", err)
	}
}

func testAudit(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	_, credential := Create(t, store, Alice())
	steps := []func() error{
		func() error { _, _, err := store.Rotate(t.Context(), credential.ID(), 0, Admin); return err },
		func() error { _, err := store.Revoke(t.Context(), credential.ID(), Admin); return err },
		func() error { _, err := store.Revoke(t.Context(), credential.ID(), Admin); return err }, // changes nothing
		func() error {
			_, err := store.RevokeAll(t.Context(), tokens.Revocation{Tenant: "t"}, Admin)
			return err
		},
		func() error { _, err := store.Disable(t.Context(), Alice().Owner, Admin); return err },
		func() error { _, err := store.Enable(t.Context(), Alice().Owner, Admin); return err },
		func() error { _, err := store.Grant(t.Context(), Alice().Owner, []string{"r"}, Admin); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	var actions []string
	filter := tokens.AuditFilter{PageSize: 3}
	for {
		page, next, err := store.Audit(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range page {
			actions = append(actions, entry.Action)
			if entry.Actor != Admin || entry.At.IsZero() || entry.Target == "" {
				t.Errorf("entry %+v", entry)
			}
		}
		if next == "" {
			break
		}
		filter.PageCursor = next
	}
	want := []string{"grant", "enable", "disable", "revoke_all", "revoke", "rotate", "create"}
	if !slices.Equal(actions, want) {
		t.Errorf("got %q, want the newest first: %q", actions, want)
	}
	page, _, err := store.Audit(t.Context(), tokens.AuditFilter{Target: credential.ID()})
	if err != nil || len(page) != 3 {
		t.Errorf("of one token: %d, %v, want 3", len(page), err)
	}
}

func testNonce(t *testing.T, open func() *tokens.Store) {
	replicas := []*tokens.Store{Migrated(t, open), Migrated(t, open)}
	now := time.Now()
	for i := range 20 {
		var fresh atomic.Int64
		var asking sync.WaitGroup
		for _, store := range replicas {
			for range 4 {
				asking.Go(func() {
					ok, err := store.UseNonce(t.Context(), "peer", fmt.Sprint(i), now.Add(time.Minute), now)
					if err != nil {
						t.Error(err)
					}
					if ok {
						fresh.Add(1)
					}
				})
			}
		}
		asking.Wait()
		if fresh.Load() != 1 {
			t.Errorf("nonce %d was taken %d times by 8 at once, want once", i, fresh.Load())
		}
	}
	for _, row := range []struct {
		name, peer, nonce string
		now               time.Time
		want              bool
	}{
		{"another peer's nonce is another", "other", "0", now, true},
		{"it is refused while it may count", "peer", "0", now.Add(59 * time.Second), false},
		{"it is free when its message has expired", "peer", "0", now.Add(61 * time.Second), true},
	} {
		got, err := replicas[0].UseNonce(t.Context(), row.peer, row.nonce, row.now.Add(time.Minute), row.now)
		if err != nil || got != row.want {
			t.Errorf("%s: %v, %v, want %v", row.name, got, err, row.want)
		}
	}
}

func testRestart(t *testing.T, open func() *tokens.Store) {
	first := open()
	if err := first.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, good := Create(t, first, Alice())
	_, revoked := Create(t, first, Alice())
	if _, err := first.Revoke(t.Context(), revoked.ID(), Admin); err != nil {
		t.Fatal(err)
	}
	if _, err := first.RevokeAll(t.Context(), tokens.Revocation{Issuer: "i", TokenID: "j"}, Admin); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	view := Watch(t, Migrated(t, open), tokens.ViewOptions{})
	if reason := Verify(t, view, good); reason != policy.ReasonNone {
		t.Errorf("a good token after the restart: %v", reason)
	}
	if reason := Verify(t, view, revoked); reason != policy.ReasonTokenRevoked {
		t.Errorf("a revoked token after the restart: %v", reason)
	}
	if got := view.Standing("i", "", "", "j", time.Now().Add(-time.Hour), time.Now()); got != tokens.Revoked {
		t.Errorf("a revoked JWT after the restart: %v", got)
	}
}

func testMigrate(t *testing.T, open func() *tokens.Store) {
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			view := tokens.NewView(open(), tokens.ViewOptions{})
			defer view.Store().Close() //nolint:errcheck // the test is about the migration
			if err := view.Sync(t.Context()); err != nil {
				t.Errorf("starting at once: %v", err)
			}
		})
	}
	starting.Wait()
	if err := Migrated(t, open).Migrate(t.Context()); err != nil {
		t.Errorf("migrating later: %v", err)
	}
}

func testParallel(t *testing.T, open func() *tokens.Store) {
	const writers, each = 4, 20
	replicas := []*tokens.Store{Migrated(t, open), Migrated(t, open)}
	views := []*tokens.View{Watch(t, replicas[0], tokens.ViewOptions{}), Watch(t, replicas[1], tokens.ViewOptions{})}
	var mu sync.Mutex
	good, revoked := map[string]tokens.Credential{}, map[string]tokens.Credential{}
	var writing sync.WaitGroup
	for writer := range writers {
		writing.Go(func() {
			store, other := replicas[writer%2], views[(writer+1)%2]
			for i := range each {
				_, credential, err := store.Create(t.Context(), Alice(), Admin)
				if err != nil {
					t.Error(err)
					return
				}
				if reason := Verify(t, other, credential); reason != policy.ReasonNone {
					t.Errorf("created at one replica, at the other: %v", reason)
				}
				into := good
				if i%2 == 0 {
					if _, err := store.Revoke(t.Context(), credential.ID(), Admin); err != nil {
						t.Error(err)
						return
					}
					into = revoked
				}
				mu.Lock()
				into[credential.ID()] = credential
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	versions := map[int64]bool{}
	for _, view := range views {
		if err := view.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, credential := range good {
			if reason := Verify(t, view, credential); reason != policy.ReasonNone {
				t.Errorf("token %s: %v", id, reason)
			}
		}
		for id, credential := range revoked {
			if reason := Verify(t, view, credential); reason != policy.ReasonTokenRevoked {
				t.Errorf("revoked token %s: %v", id, reason)
			}
		}
	}
	page, _, err := replicas[0].Audit(t.Context(), tokens.AuditFilter{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range page {
		versions[entry.Version] = true
	}
	if want := writers*each + writers*each/2; len(page) != want || len(versions) != want {
		t.Errorf("%d audit entries of %d versions, want %d of each", len(page), len(versions), want)
	}
}

func testView(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	view := Watch(t, store, tokens.ViewOptions{})
	expired := Alice()
	expired.ExpiresAt = time.Now().Add(-time.Second)
	_, old := Create(t, store, expired)
	_, good := Create(t, store, Alice())
	_, gone := Create(t, store, Alice())
	if _, err := store.Revoke(t.Context(), gone.ID(), Admin); err != nil {
		t.Fatal(err)
	}
	key := Alice()
	key.Kind = tokens.APIKey
	_, machine := Create(t, store, key)
	text := good.Reveal()
	last := text[len(text)-1]
	mistyped := text[:len(text)-1] + string(last^1)

	for _, row := range []struct {
		name string
		text string
		kind tokens.Kind
		want policy.Reason
	}{
		{"a good token", text, tokens.APIToken, policy.ReasonNone},
		{"a good key", machine.Reveal(), tokens.APIKey, policy.ReasonNone},
		{"a token as a key", text, tokens.APIKey, policy.ReasonTokenUnknown},
		{"a key as a token", machine.Reveal(), tokens.APIToken, policy.ReasonTokenUnknown},
		{"an expired token", old.Reveal(), tokens.APIToken, policy.ReasonExpired},
		{"a revoked token", gone.Reveal(), tokens.APIToken, policy.ReasonTokenRevoked},
		{"a token that nobody made", tokens.NewCredential().Reveal(), tokens.APIToken, policy.ReasonTokenUnknown},
		{"a mistyped token", mistyped, tokens.APIToken, policy.ReasonTokenMalformed},
		{"nothing", "", tokens.APIToken, policy.ReasonTokenMalformed},
	} {
		for range 2 { // read from the store, then from memory
			token, reason := view.Token(t.Context(), row.text, row.kind, time.Now(), false)
			if reason != row.want || (token != nil) != (row.want == policy.ReasonNone) {
				t.Errorf("%s: %v, %v, want %v", row.name, token, reason, row.want)
			}
		}
	}
}

func testHears(t *testing.T, open func() *tokens.Store) {
	here := Migrated(t, open)
	there := Watch(t, Migrated(t, open), tokens.ViewOptions{})
	for range 10 {
		_, credential := Create(t, here, Alice())
		if reason := Verify(t, there, credential); reason != policy.ReasonNone {
			t.Fatalf("created elsewhere: %v", reason)
		}
		if _, err := here.Revoke(t.Context(), credential.ID(), Admin); err != nil {
			t.Fatal(err)
		}
		Within(t, time.Second, "the revocation is heard", func() bool { return Verify(t, there, credential) == policy.ReasonTokenRevoked })
	}
}

func testDisabled(t *testing.T, open func() *tokens.Store) {
	here := Migrated(t, open)
	there := tokens.Directory{
		View: Watch(t, Migrated(t, open), tokens.ViewOptions{}), Provision: true,
		Authenticators: map[string]bool{"corp": true},
	}
	alice := &policy.Principal{Authenticator: "corp", Realm: "corp", Issuer: "https://idp.example.com", Subject: "alice"}
	admit := func(d tokens.Directory, p *policy.Principal) ([]string, policy.Reason, bool) {
		return d.Admit(t.Context(), p, time.Now(), false)
	}
	closed := there
	closed.Provision = false
	if _, reason, ok := admit(closed, alice); ok || reason != policy.ReasonPrincipalUnknown {
		t.Errorf("unknown, without provisioning: %v, %v", reason, ok)
	}
	if _, reason, ok := admit(there, alice); !ok {
		t.Errorf("unknown, with provisioning: %v", reason)
	}
	Within(t, 5*time.Second, "the sighting is written and known", func() bool { _, _, ok := admit(closed, alice); return ok })
	if _, err := here.Disable(t.Context(), tokens.OwnerOf(alice), Admin); err != nil {
		t.Fatal(err)
	}
	Within(t, time.Second, "the disabling is heard", func() bool {
		_, reason, ok := admit(there, alice)
		return !ok && reason == policy.ReasonPrincipalDisabled
	})
	other := *alice
	other.Issuer = "https://other.example.com"
	if _, reason, ok := admit(there, &other); !ok {
		t.Errorf("the same subject of another issuer: %v", reason)
	}
	elsewhere := *alice
	elsewhere.Authenticator = "other"
	if _, reason, ok := admit(there, &elsewhere); ok || reason != policy.ReasonPrincipalDisabled {
		t.Errorf("by an authenticator whose principals are not kept: %v, %v", reason, ok)
	}
	elsewhere.Subject = "nobody"
	if _, reason, ok := admit(closed, &elsewhere); !ok {
		t.Errorf("unknown, by an authenticator whose principals are not kept: %v", reason)
	}
	if _, err := here.Enable(t.Context(), tokens.OwnerOf(alice), Admin); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Grant(t.Context(), tokens.OwnerOf(alice), []string{"helper"}, Admin); err != nil {
		t.Fatal(err)
	}
	Within(t, time.Second, "the granted role is heard of", func() bool {
		granted, _, ok := admit(there, alice)
		return ok && slices.Equal(granted, []string{"helper"})
	})
}

func testNotes(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	view := Watch(t, store, tokens.ViewOptions{})
	_, credential := Create(t, store, Alice())
	for range 100 {
		if reason := Verify(t, view, credential); reason != policy.ReasonNone {
			t.Fatal(reason)
		}
	}
	Within(t, 5*time.Second, "the use is written", func() bool {
		token, err := store.Get(t.Context(), credential.ID())
		if err != nil {
			t.Fatal(err)
		}
		return !token.LastUsed.IsZero()
	})
	directory := tokens.Directory{View: view, Provision: true, Authenticators: map[string]bool{"corp": true}}
	bob := &policy.Principal{
		Authenticator: "corp", Realm: "corp", Issuer: "https://idp.example.com", Subject: "bob", Username: "bob", Roles: []string{"user"},
		Attributes: map[string]policy.Attribute{"email": {Values: []string{"bob@example.com"}}},
	}
	for range 100 {
		if _, reason, ok := directory.Admit(t.Context(), bob, time.Now(), false); !ok {
			t.Fatal(reason)
		}
	}
	var first *tokens.Person
	Within(t, 5*time.Second, "the sighting is written", func() bool {
		var err error
		first, err = store.Person(t.Context(), tokens.OwnerOf(bob))
		return err == nil
	})
	if first.Email != "bob@example.com" || first.Realm != "corp" || first.FirstSeen.IsZero() || !slices.Equal(first.Roles, bob.Roles) {
		t.Errorf("kept %+v", first)
	}
	// What the next token lacks is gone.
	changed := *bob
	changed.Roles = nil
	if _, reason, ok := directory.Admit(t.Context(), &changed, time.Now(), false); !ok {
		t.Fatal(reason)
	}
	Within(t, 5*time.Second, "the change is written", func() bool {
		person, err := store.Person(t.Context(), tokens.OwnerOf(bob))
		return err == nil && len(person.Roles) == 0 && person.FirstSeen.Equal(first.FirstSeen) && person.Version > first.Version
	})
}
