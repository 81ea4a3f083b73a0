// Package tokenstest is the contract of a token store: what must hold for every
// database, whoever wrote the store. Start reading at [Run].
package tokenstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// Fresh makes a place for a store that is empty, and gives a function that opens it.
// Opening it again is what another replica does, or the same one after a restart.
type Fresh func(t *testing.T) (open func() *tokens.Store)

// Run proves a store.
func Run(t *testing.T, fresh Fresh) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, func() *tokens.Store)
	}{
		{"what is created is read back whole", testCreate},
		{"lists are paged and filtered", testList},
		{"revoking is for good and may be repeated", testRevoke},
		{"rotating changes the secret and keeps the rest", testRotate},
		{"revoking all covers what was issued before", testRevokeAll},
		{"records that make no sense are refused", testInvalid},
		{"the directory keeps people", testPeople},
		{"every change is in the audit log", testAudit},
		{"a nonce is taken once, wherever", testNonce},
		{"signing keys are shared, and made once", testSigningKeys},
		{"a restart changes nothing", testRestart},
		{"migrating twice, at once and later, is harmless", testMigrate},
		{"writers in parallel lose nothing", testParallel},
		{"a view tells unknown, revoked, expired and mistyped apart", testView},
		{"a view hears of changes elsewhere within a second", testHears},
		{"a view refuses people who are disabled elsewhere", testDisabled},
		{"a view notes uses and sightings without being asked to", testNotes},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, fresh(t))
		})
	}
}

// Admin is who makes the changes of the suite.
var Admin = tokens.Actor{Owner: tokens.Owner{Issuer: tokens.Operator, Subject: "suite"}}

// Alice is a token of alice's, ready to be created.
func Alice() tokens.Token {
	return tokens.Token{
		Kind: tokens.APIToken, Name: "laptop",
		Owner:    tokens.Owner{Issuer: "https://idp.example.com", Subject: "alice"},
		Username: "alice@example.com", Tenant: "acme",
		Scopes: []string{"orders:read", "orders:write"}, Roles: []string{"user"},
		Attributes: map[string]policy.Attribute{
			"department": {Values: []string{"sales, \"quoted\" ü"}},
			"amr":        {Values: []string{"mfa"}, List: true},
			"none":       {List: true},
		},
		ExpiresAt: time.Date(2100, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

// Migrated opens the store and brings its schema up to date.
func Migrated(t *testing.T, open func() *tokens.Store) *tokens.Store {
	t.Helper()
	store := open()
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

// Create keeps a token.
func Create(t *testing.T, store *tokens.Store, token tokens.Token) (*tokens.Token, tokens.Credential) {
	t.Helper()
	created, credential, err := store.Create(t.Context(), token, Admin)
	if err != nil {
		t.Fatal(err)
	}
	return created, credential
}

// Watch runs a view of a store until the test ends.
func Watch(t *testing.T, store *tokens.Store, options tokens.ViewOptions) *tokens.View {
	t.Helper()
	view := tokens.NewView(store, options)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { view.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	Within(t, 10*time.Second, "ready", func() bool { return view.Ready(time.Now()) == nil })
	return view
}

// Within waits until something holds, and fails if it takes too long.
func Within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticks := time.NewTicker(2 * time.Millisecond)
	defer ticks.Stop()
	for !holds() {
		if time.Since(began) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-ticks.C
	}
	return time.Since(began)
}

// Verify asks a view about a credential.
func Verify(t *testing.T, view *tokens.View, credential tokens.Credential) policy.Reason {
	t.Helper()
	token, reason := view.Token(t.Context(), credential.Reveal(), tokens.APIToken, time.Now(), false)
	if (token != nil) != (reason == policy.ReasonNone) {
		t.Fatalf("a token %v with reason %v", token, reason)
	}
	return reason
}

func testCreate(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	created, credential := Create(t, store, Alice())
	got, err := store.Get(t.Context(), credential.ID())
	if err != nil {
		t.Fatal(err)
	}
	want := Alice()
	for _, have := range []*tokens.Token{created, got} {
		if have.Name != want.Name || have.Kind != want.Kind || have.Owner != want.Owner || have.Username != want.Username || have.Tenant != want.Tenant {
			t.Errorf("got %+v, want %+v", have, want)
		}
		if !slices.Equal(have.Scopes, want.Scopes) || !slices.Equal(have.Roles, want.Roles) {
			t.Errorf("got scopes %q and roles %q", have.Scopes, have.Roles)
		}
		if fmt.Sprint(have.Attributes) != fmt.Sprint(want.Attributes) {
			t.Errorf("got attributes %v, want %v", have.Attributes, want.Attributes)
		}
		if !have.ExpiresAt.Equal(want.ExpiresAt) || have.CreatedBy != Admin.Owner || !have.RevokedAt.IsZero() || !have.LastUsed.IsZero() {
			t.Errorf("got %+v", have)
		}
		if age := time.Since(have.CreatedAt); age < -time.Minute || age > time.Minute {
			t.Errorf("created at %v", have.CreatedAt)
		}
	}
	if _, err := store.Get(t.Context(), "nobody"); !errors.Is(err, tokens.ErrNotFound) {
		t.Errorf("Get of an unknown id: %v, want ErrNotFound", err)
	}
}

func testList(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	var ids []string
	for i := range 25 {
		token := Alice()
		if i%5 == 0 {
			token.Owner.Subject, token.Tenant = "bob", "other"
		}
		if i%10 == 0 {
			token.ExpiresAt = time.Unix(1, 0)
		}
		_, credential := Create(t, store, token)
		ids = append(ids, credential.ID())
	}
	slices.Reverse(ids)

	for _, size := range []int{1, 7, 25, 100} {
		var got []string
		filter := tokens.Filter{PageSize: size}
		for {
			page, next, err := store.List(t.Context(), filter)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > size {
				t.Fatalf("a page of %d, asked for %d", len(page), size)
			}
			for _, token := range page {
				got = append(got, token.ID)
			}
			if next == "" {
				break
			}
			filter.PageCursor = next
		}
		if !slices.Equal(got, ids) {
			t.Errorf("pages of %d gave %q, want the newest first: %q", size, got, ids)
		}
	}
	for _, row := range []struct {
		name   string
		filter tokens.Filter
		want   int
	}{
		{"all", tokens.Filter{}, 25},
		{"by owner", tokens.Filter{Owner: tokens.Owner{Issuer: "https://idp.example.com", Subject: "bob"}}, 5},
		{"by tenant", tokens.Filter{Tenant: "acme"}, 20},
		{"by kind", tokens.Filter{Kind: tokens.APIKey}, 0},
		{"active ones", tokens.Filter{ActiveAt: time.Now()}, 22},
		{"another issuer's", tokens.Filter{Owner: tokens.Owner{Issuer: "https://other.example.com", Subject: "bob"}}, 0},
	} {
		page, _, err := store.List(t.Context(), row.filter)
		if err != nil || len(page) != row.want {
			t.Errorf("%s: %d, %v, want %d", row.name, len(page), err, row.want)
		}
	}
	for _, cursor := range []string{"x", "!", "W10", "WyJ4IiwieSJd", "WyIxIiwieSIsInoiXQ"} {
		if _, _, err := store.List(t.Context(), tokens.Filter{PageCursor: cursor}); !errors.Is(err, tokens.ErrCursor) {
			t.Errorf("cursor %q: %v, want ErrCursor", cursor, err)
		}
	}
}

func testRevoke(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	_, credential := Create(t, store, Alice())
	first, err := store.Revoke(t.Context(), credential.ID(), Admin)
	if err != nil || first.RevokedAt.IsZero() || first.RevokedBy != Admin.Owner {
		t.Fatalf("revoked: %+v, %v", first, err)
	}
	again, err := store.Revoke(t.Context(), credential.ID(), tokens.Actor{})
	if err != nil || !again.RevokedAt.Equal(first.RevokedAt) || again.RevokedBy != Admin.Owner {
		t.Errorf("revoked again: %+v, %v, want the first revocation", again, err)
	}
	if _, err := store.Revoke(t.Context(), "nobody", Admin); !errors.Is(err, tokens.ErrNotFound) {
		t.Errorf("revoking an unknown id: %v, want ErrNotFound", err)
	}
	if _, _, err := store.Rotate(t.Context(), credential.ID(), 0, Admin); !errors.Is(err, tokens.ErrRevoked) {
		t.Errorf("rotating a revoked one: %v, want ErrRevoked", err)
	}
}

func testRotate(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	view := Watch(t, store, tokens.ViewOptions{})
	_, old := Create(t, store, Alice())
	_, renewed, err := store.Rotate(t.Context(), old.ID(), time.Hour, Admin)
	if err != nil || renewed.ID() != old.ID() || renewed.Reveal() == old.Reveal() {
		t.Fatalf("rotated %s to %s: %v", old.ID(), renewed.ID(), err)
	}
	for _, credential := range []tokens.Credential{old, renewed} {
		if reason := Verify(t, view, credential); reason != policy.ReasonNone {
			t.Errorf("within the grace: %v", reason)
		}
	}
	_, last, err := store.Rotate(t.Context(), old.ID(), 0, Admin)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[tokens.Credential]policy.Reason{
		old: policy.ReasonTokenUnknown, renewed: policy.ReasonTokenUnknown, last: policy.ReasonNone,
	} {
		if reason := Verify(t, view, name); reason != want {
			t.Errorf("without grace: %v, want %v", reason, want)
		}
	}
}

func testRevokeAll(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	view := Watch(t, store, tokens.ViewOptions{})
	alice := Alice().Owner
	for _, row := range []struct {
		name string
		r    tokens.Revocation

		token   policy.Reason // of alice's token
		another policy.Reason // of a token of somebody else's
		jwt     tokens.Standing
		sibling tokens.Standing // of the same person's JWT with another jti
	}{
		{"one token of others", tokens.Revocation{Issuer: alice.Issuer, TokenID: "j-1"},
			policy.ReasonNone, policy.ReasonNone, tokens.Revoked, tokens.Good},
		{"a tenant", tokens.Revocation{Tenant: "acme"},
			policy.ReasonTokenRevoked, policy.ReasonNone, tokens.Revoked, tokens.Revoked},
		{"an owner", tokens.Revocation{Issuer: alice.Issuer, Subject: alice.Subject},
			policy.ReasonTokenRevoked, policy.ReasonNone, tokens.Revoked, tokens.Revoked},
		{"a tenant, before it was issued", tokens.Revocation{Tenant: "acme", Before: time.Now().Add(-time.Hour)},
			policy.ReasonNone, policy.ReasonNone, tokens.Good, tokens.Good},
		{"an issuer", tokens.Revocation{Issuer: alice.Issuer},
			policy.ReasonTokenRevoked, policy.ReasonTokenRevoked, tokens.Revoked, tokens.Revoked},
		{"everything", tokens.Revocation{},
			policy.ReasonTokenRevoked, policy.ReasonTokenRevoked, tokens.Revoked, tokens.Revoked},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, mine := Create(t, store, Alice())
			bob := Alice()
			bob.Owner.Subject, bob.Tenant = "bob", "other"
			_, his := Create(t, store, bob)
			if reason := Verify(t, view, mine); reason != policy.ReasonNone {
				t.Fatalf("before the revocation: %v", reason)
			}
			issued := time.Now()
			if _, err := store.RevokeAll(t.Context(), row.r, Admin); err != nil {
				t.Fatal(err)
			}
			if err := view.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if reason := Verify(t, view, mine); reason != row.token {
				t.Errorf("alice's token: %v, want %v", reason, row.token)
			}
			if reason := Verify(t, view, his); reason != row.another {
				t.Errorf("bob's token: %v, want %v", reason, row.another)
			}
			if row.r.Before.IsZero() {
				if got := view.Standing(alice.Issuer, alice.Subject, "acme", "j-1", issued, time.Now()); got != row.jwt {
					t.Errorf("alice's JWT: %v, want %v", got, row.jwt)
				}
				if got := view.Standing(alice.Issuer, alice.Subject, "acme", "j-2", issued, time.Now()); got != row.sibling {
					t.Errorf("alice's other JWT: %v, want %v", got, row.sibling)
				}
			}
			if got := view.Standing(alice.Issuer, alice.Subject, "acme", "j-3", time.Now().Add(time.Second), time.Now()); got != tokens.Good {
				t.Errorf("a JWT issued later: %v, want good", got)
			}
			if row.token == policy.ReasonTokenRevoked {
				got, err := store.Get(t.Context(), mine.ID())
				if err != nil || got.RevokedAt.IsZero() {
					t.Errorf("the record is not marked: %+v, %v", got, err)
				}
			}
			_, after := Create(t, store, Alice())
			if reason := Verify(t, view, after); reason != policy.ReasonNone {
				t.Errorf("a token made after the revocation: %v", reason)
			}
		})
	}
}

func testInvalid(t *testing.T, open func() *tokens.Store) {
	store := Migrated(t, open)
	long := string(make([]byte, 2000))
	for name, change := range map[string]func() error{
		"a token without an owner": func() error {
			token := Alice()
			token.Owner = tokens.Owner{}
			_, _, err := store.Create(t.Context(), token, Admin)
			return err
		},
		"a token of no kind": func() error {
			token := Alice()
			token.Kind = ""
			_, _, err := store.Create(t.Context(), token, Admin)
			return err
		},
		"a name with NUL": func() error {
			token := Alice()
			token.Name = "a\x00b"
			_, _, err := store.Create(t.Context(), token, Admin)
			return err
		},
		"a subject that is not UTF-8": func() error {
			_, err := store.Disable(t.Context(), tokens.Owner{Issuer: "i", Subject: "\xff"}, Admin)
			return err
		},
		"a subject that is too long": func() error {
			_, err := store.Grant(t.Context(), tokens.Owner{Issuer: "i", Subject: long}, nil, Admin)
			return err
		},
		"an empty role": func() error {
			_, err := store.Grant(t.Context(), tokens.Owner{Issuer: "i", Subject: "s"}, []string{"a", ""}, Admin)
			return err
		},
		"an empty role more": func() error {
			_, err := store.AmendGrant(t.Context(), tokens.Owner{Issuer: "i", Subject: "s"}, []string{""}, nil, Admin)
			return err
		},
		"a person without an issuer": func() error {
			_, err := store.Enable(t.Context(), tokens.Owner{Subject: "s"}, Admin)
			return err
		},
		"a token id without its issuer": func() error {
			_, err := store.RevokeAll(t.Context(), tokens.Revocation{TokenID: "j"}, Admin)
			return err
		},
		"a subject without its issuer": func() error {
			_, err := store.RevokeAll(t.Context(), tokens.Revocation{Subject: "s"}, Admin)
			return err
		},
		"a tenant and an issuer": func() error {
			_, err := store.RevokeAll(t.Context(), tokens.Revocation{Tenant: "t", Issuer: "i"}, Admin)
			return err
		},
		"a nonce that is not UTF-8": func() error {
			_, err := store.UseNonce(t.Context(), "p", "\xff", time.Now(), time.Now())
			return err
		},
	} {
		if err := change(); !errors.Is(err, tokens.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	entries, _, err := store.Audit(t.Context(), tokens.AuditFilter{})
	if err != nil || len(entries) != 0 {
		t.Errorf("the audit log has %d entries, %v, want none", len(entries), err)
	}
}
