package diff

import (
	"testing"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// siteAndOrders is a public route, and one for readers.
func siteAndOrders(t *testing.T, change func(*Side)) Side {
	t.Helper()
	site, err := policy.ParsePattern("/")
	if err != nil {
		t.Fatal(err)
	}
	orders, err := policy.ParsePattern("/orders/")
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := policy.ParseTemplate("{tenant}", policy.RefsInForward)
	if err != nil {
		t.Fatal(err)
	}
	s := Side{
		Routes: []*policy.Route{
			{Name: "site", Index: 0, Patterns: site, Public: true, Opens: []string{"orders"}},
			{Name: "orders", Index: 1, Patterns: orders, Allow: []policy.Requirement{{Roles: &policy.Sets{Any: []string{"reader"}}}}},
		},
		Tenancy:        &policy.Tenancy{Separator: ":"},
		Authenticators: []Authenticator{{Name: "people", Realm: "people"}},
		Forwarded: func(*policy.Route) map[string]Value {
			return map[string]Value{"x-tenant": {Text: "{tenant}", Template: &tenant}}
		},
		Refused: func(_ *policy.Route, why policy.Reason) string { return why.Outcome().String() },
	}
	if change != nil {
		change(&s)
	}
	var problems []policy.Problem
	if s.Table, problems = policy.NewTable(s.Routes, s.Tenancy); s.Table == nil {
		t.Fatal(problems)
	}
	return s
}

// TestSemantics35SelectionOnPublicRoutes: where callers begin to select tenants, a public
// route refuses who selects what it may not read, and tells the upstream of the tenant that
// is selected.
func TestSemantics35SelectionOnPublicRoutes(t *testing.T) {
	old := siteAndOrders(t, nil)
	new := siteAndOrders(t, func(s *Side) { s.Select = true })
	want := map[string]bool{"site narrows": true, "site forwards": true, "orders narrows": true, "orders forwards": true, "orders answers": true}
	for _, c := range Compare(old, new) {
		name := c.New.Route.Name + " " + c.Direction.String()
		if !want[name] {
			t.Errorf("%s is not expected: %s", name, changeText(&c))
		}
		delete(want, name)
		if c.Selected.Tenant == "" {
			t.Errorf("%s without a selection: %s", name, changeText(&c))
		}
		if c.Direction == Narrows && c.New.Allowed {
			t.Errorf("%s: the verdict is that it passes", name)
		}
	}
	for name := range want {
		t.Errorf("%s is not found", name)
	}
	for _, c := range Compare(new, new) {
		t.Errorf("differs from itself: %s", changeText(&c))
	}
}

// TestWhoIsForwarded: what a header holds is compared for the callers that there are, not by
// how it is written.
func TestWhoIsForwarded(t *testing.T) {
	forward := func(text string) func(*Side) {
		template, err := policy.ParseTemplate(text, policy.RefsInForward)
		if err != nil {
			t.Fatal(err)
		}
		return func(s *Side) {
			s.Authenticators[0].Makes = []Maker{{Subject: Text{Any: true}, Username: Text{Values: []string{"ann"}}, Tenant: Text{Values: []string{"acme"}}, Roles: List{All: []string{"reader"}}}}
			s.Forwarded = func(r *policy.Route) map[string]Value {
				if r.Public {
					return nil
				}
				return map[string]Value{"x-who": {Text: text, Template: &template}}
			}
		}
	}
	for _, tt := range []struct {
		name, old, new string
		want           bool
	}{
		{"a tenant that everybody has, and its name", "{tenant}", "acme", false},
		{"the same with text around", "t-{tenant}", "t-acme", false},
		{"another name", "{tenant}", "umbrella", true},
		{"a role that everybody has, and its name", "{roles}", "reader", false},
		{"two ways to say one thing", "{tenant}/{username}", "acme/ann", false},
		{"what differs by caller", "{username}", "{subject}", true},
		{"what nobody has", "{scopes}", "{attributes.team}", false},
		{"one part that nobody has makes all of it absent", "{username} {scopes}", "{attributes.team}", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old, new := siteAndOrders(t, forward(tt.old)), siteAndOrders(t, forward(tt.new))
			got := false
			for _, c := range Compare(old, new) {
				got = true
				if c.Direction != Forwards || c.New.Route.Name != "orders" {
					t.Errorf("Compare: %s", changeText(&c))
				}
			}
			if got != tt.want {
				t.Errorf("%s and %s: %t, want %t", tt.old, tt.new, got, tt.want)
			}
		})
	}
}
