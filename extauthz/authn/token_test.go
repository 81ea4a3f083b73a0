package authn

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens/tokenstest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// newView is of an empty store in a file.
func newView(t *testing.T) *tokens.View {
	t.Helper()
	store := tokenstest.Migrated(t, func() *tokens.Store {
		store, err := tokens.OpenSQLite(filepath.Join(t.TempDir(), "gatehouse.db"), tokens.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
	return tokenstest.Watch(t, store, tokens.ViewOptions{Poll: 10 * time.Millisecond})
}

func catchUp(t *testing.T, view *tokens.View) {
	t.Helper()
	if err := view.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func newToken(t *testing.T, view *tokens.View, directory bool) *Token {
	t.Helper()
	a, err := NewToken(TokenOptions{Stamp: Stamp{Authenticator: "ours", Realm: "ecmwf"}, View: view, Directory: directory})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTokenStandsForItsOwner(t *testing.T) {
	view := newView(t)
	record, credential := tokenstest.Create(t, view.Store(), tokenstest.Alice())
	a := newToken(t, view, false)
	in := &Input{Value: credential.Reveal(), Request: &policy.Request{}, Now: time.Now()}
	first := a.Authenticate(t.Context(), in)
	if first.Identity == nil {
		t.Fatalf("refused: %v, %v", first.Reason, first.Detail)
	}
	p := first.Identity.Principal
	if p.Authenticator != "ours" || p.Realm != "ecmwf" || p.Issuer != record.Owner.Issuer || p.Subject != "alice" || p.Username != "alice@example.com" ||
		p.TokenID != record.ID || p.Tenant != "acme" || !slices.Equal(p.Roles, record.Roles) || !slices.Equal(p.Scopes, record.Scopes) || p.Unscoped {
		t.Errorf("stands for %+v", p)
	}
	if !p.Expires.Equal(record.ExpiresAt) {
		t.Errorf("expires %v, want %v", p.Expires, record.ExpiresAt)
	}
	if again := a.Authenticate(t.Context(), in); again.Identity != first.Identity {
		t.Error("the same token gave another identity: what is derived from it is lost")
	}
	if tokens.OwnerOf(p) != record.Owner {
		t.Errorf("the principal's owner is %v, want %v", tokens.OwnerOf(p), record.Owner)
	}
}

func TestTokenRefuses(t *testing.T) {
	view := newView(t)
	store := view.Store()
	_, revoked := tokenstest.Create(t, store, tokenstest.Alice())
	expired := tokenstest.Alice()
	expired.ExpiresAt = time.Now().Add(-time.Minute)
	_, old := tokenstest.Create(t, store, expired)
	disabled := tokenstest.Alice()
	disabled.Owner.Subject = "mallory"
	_, hers := tokenstest.Create(t, store, disabled)
	key := tokenstest.Alice()
	key.Kind = tokens.APIKey
	_, machine := tokenstest.Create(t, store, key)
	a := newToken(t, view, false)
	if r := a.Authenticate(t.Context(), &Input{Value: hers.Reveal(), Now: time.Now()}); r.Identity == nil {
		t.Fatalf("before its owner was disabled: %v", r.Reason)
	}
	if _, err := store.Revoke(t.Context(), revoked.ID(), tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Disable(t.Context(), disabled.Owner, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	_, unseen := tokenstest.Create(t, store, tokenstest.Alice())
	for _, row := range []struct {
		name  string
		value string
		local bool
		now   time.Time
		want  policy.Reason
	}{
		{"a mistyped token", revoked.Reveal()[1:] + "0", false, time.Now(), policy.ReasonTokenMalformed},
		{"an unknown token", tokens.NewCredential().Reveal(), false, time.Now(), policy.ReasonTokenUnknown},
		{"an API key", machine.Reveal(), false, time.Now(), policy.ReasonTokenUnknown},
		{"a revoked token", revoked.Reveal(), false, time.Now(), policy.ReasonTokenRevoked},
		{"an expired token", old.Reveal(), false, time.Now(), policy.ReasonExpired},
		{"a token of a disabled owner", hers.Reveal(), false, time.Now(), policy.ReasonPrincipalDisabled},
		{"a token that needs I/O where none is allowed", unseen.Reveal(), true, time.Now(), policy.ReasonStoreUnavailable},
		{"a store not heard of for too long", unseen.Reveal(), false, time.Now().Add(time.Hour), policy.ReasonStoreUnavailable},
	} {
		r := a.Authenticate(t.Context(), &Input{Value: row.value, Local: row.local, Now: row.now})
		if r.Identity != nil || r.Reason != row.want {
			t.Errorf("%s: %+v, want %v", row.name, r, row.want)
		}
		if r.Detail != nil && len(row.value) > 30 && strings.Contains(r.Detail.Error(), row.value[20:]) {
			t.Errorf("%s: the detail %q holds the secret", row.name, r.Detail)
		}
	}
}

func TestTokenFollowsTheDirectory(t *testing.T) {
	view := newView(t)
	_, credential := tokenstest.Create(t, view.Store(), tokenstest.Alice())
	a := newToken(t, view, true)
	roles := func() []string {
		r := a.Authenticate(t.Context(), &Input{Value: credential.Reveal(), Now: time.Now()})
		if r.Identity == nil {
			t.Fatalf("refused: %v", r.Reason)
		}
		return r.Identity.Principal.Roles
	}
	if got := roles(); len(got) != 0 {
		t.Errorf("an owner whom the directory does not know has roles %q", got)
	}
	if _, err := view.Store().Grant(t.Context(), tokenstest.Alice().Owner, []string{"helper"}, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	if got := roles(); !slices.Equal(got, []string{"helper"}) {
		t.Errorf("after the grant: %q", got)
	}
}

func TestStoredKeys(t *testing.T) {
	view := newView(t)
	key := tokenstest.Alice()
	key.Kind = tokens.APIKey
	record, credential := tokenstest.Create(t, view.Store(), key)
	_, token := tokenstest.Create(t, view.Store(), tokenstest.Alice())
	a, err := NewAPIKey(Stamp{Authenticator: "machines", Realm: "machines"}, nil, StoredKeys{View: view})
	if err != nil {
		t.Fatal(err)
	}
	r := a.Authenticate(t.Context(), &Input{Value: credential.Reveal(), Now: time.Now()})
	if r.Identity == nil || r.Identity.Principal.TokenID != record.ID || r.Identity.Principal.Authenticator != "machines" {
		t.Errorf("a good key: %+v", r)
	}
	if _, err := view.Store().Revoke(t.Context(), record.ID, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	for name, row := range map[string]struct {
		value string
		now   time.Time
		want  policy.Reason
	}{
		"a revoked key":    {credential.Reveal(), time.Now(), policy.ReasonTokenRevoked},
		"a token as a key": {token.Reveal(), time.Now(), policy.ReasonKeyUnknown},
		"no key of ours":   {"bogus", time.Now(), policy.ReasonKeyUnknown},
		"an outage":        {token.Reveal(), time.Now().Add(time.Hour), policy.ReasonStoreUnavailable},
	} {
		if r := a.Authenticate(t.Context(), &Input{Value: row.value, Now: row.now}); r.Identity != nil || r.Reason != row.want {
			t.Errorf("%s: %+v, want %v", name, r, row.want)
		}
	}
}

// fixed verifies everything as one identity.
type fixed struct{ identity *Identity }

func (f fixed) Authenticate(context.Context, *Input) Result { return Result{Identity: f.identity} }

func TestGuard(t *testing.T) {
	view := newView(t)
	alice := &Identity{
		Principal: &policy.Principal{Authenticator: "corp", Realm: "corp", Issuer: "https://idp.example.com", Subject: "alice", TokenID: "j-1", Roles: []string{"user"}},
		Issued:    time.Now().Add(-time.Minute),
	}
	owner := tokens.OwnerOf(alice.Principal)
	directory := &tokens.Directory{View: view, Provision: true, Authenticators: map[string]bool{"corp": true}}
	entry := &Entry{Name: "corp", Authenticator: fixed{alice}, Guard: &Guard{View: view, Revocations: true, Directory: directory}}
	ask := func(now time.Time) Result {
		return verify(t.Context(), entry, &Input{Request: &policy.Request{}, Now: now}).Result
	}
	if r := ask(time.Now()); r.Identity != alice {
		t.Fatalf("a good identity: %+v", r)
	}
	if _, err := view.Store().Grant(t.Context(), owner, []string{"helper", "user"}, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	r := ask(time.Now())
	if r.Identity == nil || !slices.Equal(r.Identity.Principal.Roles, []string{"user", "helper"}) {
		t.Errorf("with a role of the directory: %+v", r.Identity)
	}
	if again := ask(time.Now()); again.Identity != r.Identity {
		t.Error("the same roles gave another identity: what is derived from it is lost")
	}
	if !slices.Equal(alice.Principal.Roles, []string{"user"}) {
		t.Errorf("the shared principal was changed: %q", alice.Principal.Roles)
	}
	if r := ask(time.Now().Add(time.Hour)); r.Reason != policy.ReasonStoreUnavailable || r.Identity != nil {
		t.Errorf("a store not heard of for too long: %+v", r)
	}
	if _, err := view.Store().Disable(t.Context(), owner, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	if r := ask(time.Now()); r.Reason != policy.ReasonPrincipalDisabled || r.Identity != nil {
		t.Errorf("disabled: %+v", r)
	}
	if _, err := view.Store().Enable(t.Context(), owner, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	if _, err := view.Store().RevokeAll(t.Context(), tokens.Revocation{Issuer: owner.Issuer, TokenID: "j-1"}, tokenstest.Admin); err != nil {
		t.Fatal(err)
	}
	catchUp(t, view)
	if r := ask(time.Now()); r.Reason != policy.ReasonTokenRevoked || r.Identity != nil {
		t.Errorf("revoked by its jti: %+v", r)
	}
}
