package diff

import (
	"fmt"
	"testing"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// services is a table of n routes, of which change says what becomes of each.
func services(t testing.TB, n int, change func(i int, r *policy.Route)) Side {
	t.Helper()
	var routes []*policy.Route
	tenant, err := policy.ParseTemplate("{path.tenant}", policy.RefsInAllow)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		patterns, err := policy.ParsePattern(fmt.Sprintf("%s /service%d/{tenant}/items/", []string{"GET", "POST"}[i%2], i/2))
		if err != nil {
			t.Fatal(err)
		}
		r := &policy.Route{Name: fmt.Sprint("r", i), Index: i, Patterns: patterns, Allow: []policy.Requirement{
			{Tenant: &policy.Templates{Values: []policy.Template{tenant}}, Roles: &policy.Sets{Any: []string{"reader", "writer"}}},
			{Roles: &policy.Sets{All: []string{"admin", fmt.Sprint("operator", i)}}},
		}}
		if change != nil {
			change(i, r)
		}
		routes = append(routes, r)
	}
	table, problems := policy.NewTable(routes, nil)
	if table == nil {
		t.Fatal(problems)
	}
	return Side{Table: table, Routes: routes, Authenticators: []Authenticator{{Name: "people", Realm: "people"}}}
}

// TestTenThousandRoutes: each of 10,000 routes is compared and one is found that widens.
func TestTenThousandRoutes(t *testing.T) {
	old := services(t, 10_000, nil)
	changed := services(t, 10_000, func(i int, r *policy.Route) {
		r.Allow[0], r.Allow[1] = r.Allow[1], r.Allow[0] // says the same
		if i == 7_777 {
			r.Allow = r.Allow[:1]
		}
		if i == 8_888 {
			r.Allow[0] = policy.Requirement{Roles: &policy.Sets{Any: []string{"admin"}}}
		}
	})
	changes := Compare(old, changed)
	if len(changes) != 2 || changes[0].Direction != Narrows || changes[0].New.Route.Name != "r7777" || changes[1].Direction != Widens || changes[1].New.Route.Name != "r8888" {
		t.Fatalf("Compare = %d changes, want that r7777 narrows and r8888 widens: %+v", len(changes), changes)
	}
	for i := range changes {
		confirm(t, old, changed, &changes[i])
	}
}

// BenchmarkCompare compares tables of which every route has changed and says the same to
// a reader, but not to a comparison of texts.
func BenchmarkCompare(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		old := services(b, n, nil)
		changed := services(b, n, func(_ int, r *policy.Route) {
			r.Allow = append(r.Allow, policy.Requirement{Roles: &policy.Sets{All: []string{"admin"}, Any: r.Allow[1].Roles.All[1:]}})
		})
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if changes := Compare(old, changed); len(changes) > 0 {
					b.Fatal(changes)
				}
			}
		})
	}
}
