package extauthz

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// What is read of the headers that were written is what was written.
func TestHeadersAreReadAsTheyWereWritten(t *testing.T) {
	for _, headers := range [][]policy.Pair{
		nil,
		{{Name: "x-user", Value: "alice"}},
		{{Name: "x-user", Value: ""}},
		{{Name: "x", Value: "x"}, {Name: "y", Value: "\n\x04xy"}},
		{{Name: "authorization", Value: "Bearer " + strings.Repeat("e", 20_000)}, {Name: strings.Repeat("n", 200), Value: strings.Repeat("v", 130)}},
		{{Name: "x-name", Value: "not \xff UTF-8"}},
	} {
		wire := string(appendTexts(appendHeaders(appendTexts(nil, okRemove, []string{"x-removed"}), okHeaders, headers), okRemove, []string{"x-other"}))
		if got := readHeaders(wire, okHeaders); !slices.Equal(got, headers) {
			t.Errorf("readHeaders = %q, want %q", got, headers)
		}
	}
}

func TestKinds(t *testing.T) {
	w := newWorld(t)
	s := w.gate.Snapshot()
	person := func(subject, tenant string) *policy.Principal {
		return &policy.Principal{Authenticator: "corp", Realm: "corp", Subject: subject, Tenant: tenant, Roles: []string{"reader"}}
	}
	a, b, c := s.derivePrincipal(person("a", "acme")), s.derivePrincipal(person("b", "acme")), s.derivePrincipal(person("a", "globex"))
	if a.kind != b.kind || a.kind == c.kind {
		t.Error("people are of one kind if they differ in their subjects only")
	}
	for i := range 2 * maxKinds {
		if d := s.derivePrincipal(person("a", fmt.Sprint("tenant", i))); !strings.Contains(d.kind.metadata, fmt.Sprint("tenant", i)) {
			t.Fatalf("the kind of tenant %d is %q", i, d.kind.metadata)
		}
	}
	if n := len(s.kinds.m); n > maxKinds {
		t.Errorf("%d kinds are known, want at most %d", n, maxKinds)
	}
	long := person("a", strings.Repeat("t", maxKindBytes))
	if d, e := s.derivePrincipal(long), s.derivePrincipal(long); d.kind == e.kind || d.kind.metadata != e.kind.metadata {
		t.Error("a long kind is shared, or another one each time")
	}
}

// What is kept of a credential is believed by the snapshot that derived it, and by no
// other.
func TestDerivedBelongsToItsSnapshot(t *testing.T) {
	w := newWorld(t)
	one, other := w.gate.Snapshot(), newWorld(t).gate.Snapshot()
	id := &authn.Identity{Principal: &policy.Principal{Authenticator: "corp", Realm: "corp", Tenant: "acme"}}
	first := one.derive(id)
	if one.derive(id) != first {
		t.Error("what was derived is derived again")
	}
	if d := other.derive(id); d == first || d.kind.owner != other {
		t.Error("a snapshot believes what another one derived")
	}
}

func TestUpstreamsMakeRoom(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := &derived{}
	for range maxUpstreams {
		d.place(now).Store(&upstream{})
	}
	over := &upstream{binding: &binding{until: now}}
	d.upstreams[2].Store(over)
	if got := d.place(now.Add(-time.Second)).Load(); got == nil {
		t.Error("there is no room, and yet there is")
	}
	if d.place(now) != &d.upstreams[2] {
		t.Error("one that is over does not make room first")
	}
}
