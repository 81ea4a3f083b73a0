package policy

import (
	"slices"
	"testing"
)

func TestSemantics6GrantsApplyOnce(t *testing.T) {
	role := func(name string) Requirement { return Requirement{Roles: &Sets{All: []string{name}}} }
	grants, problems := NewGrants([]Grant{
		{When: []Requirement{{Usernames: templatesOf(t, "eve"), Realms: &Names{Values: []string{"ecmwf"}}}}, Roles: []string{"admin"}},
		{When: []Requirement{role("admin")}, Roles: []string{"root"}},
		{When: []Requirement{role("none"), role("user")}, Roles: []string{"user", "member"}, Scopes: []string{"read"},
			Attributes: map[string]Attribute{"groups": {Values: []string{"x"}}, "new": {Values: []string{"n"}}}},
		{When: []Requirement{{Usernames: templatesOf(t, "{path.user}"), Realms: &Names{Values: []string{"ecmwf"}}}}, Roles: []string{"path"}},
		{Roles: []string{"everybody"}},
	}, nil)
	if grants == nil {
		t.Fatal(problems)
	}
	p := &Principal{Authenticator: "a", Realm: "ecmwf", Username: "eve", Roles: make([]string, 1, 8),
		Attributes: map[string]Attribute{"groups": {Values: []string{"y"}}}}
	p.Roles[0] = "user"
	got := grants.Apply(p)
	if want := []string{"user", "admin", "member"}; !slices.Equal(got.Roles, want) {
		t.Errorf("roles %q, want %q: each once, and none because of another grant", got.Roles, want)
	}
	if !slices.Equal(got.Scopes, []string{"read"}) || !slices.Equal(got.Attributes["groups"].Values, []string{"y", "x"}) ||
		!got.Attributes["groups"].List || !slices.Equal(got.Attributes["new"].Values, []string{"n"}) {
		t.Errorf("Apply = %+v, want scope read, groups y and x, new n", got)
	}
	if len(p.Roles) != 1 || p.Roles[:2][1] != "" || len(p.Attributes["groups"].Values) != 1 || len(p.Scopes) != 0 {
		t.Errorf("Apply changed the principal it was given: %+v", p)
	}
	other := &Principal{Authenticator: "a", Realm: "other", Username: "eve"}
	if got := grants.Apply(other); got != other {
		t.Errorf("eve of another realm gets %+v, want nothing", got)
	}
	if got := (*Grants)(nil).Apply(p); got != p {
		t.Error("no grants change the principal")
	}
}
