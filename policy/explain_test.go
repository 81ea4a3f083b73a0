package policy

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func explainTable(t testing.TB) *Table {
	t.Helper()
	read := Requirement{At: line(20), ReadableTenant: &Templates{At: line(21), Values: templateList(t, "{path.tenant}")}, Roles: &Sets{At: line(22), Any: []string{"reader", "admin"}}}
	machines := Requirement{At: line(23), Authenticators: &Names{At: line(24), Values: []string{"machines"}}}
	shadow := rule{match: "/tenants/{t}/orders/", way: "admin"}.route(t, 5)
	shadow.Shadow, shadow.Name = true, "stricter"
	routes := []*Route{
		rule{match: "/", way: "forbid"}.route(t, 1),
		rule{match: "/tenants/", way: "admin"}.route(t, 2),
		{Name: "read-orders", At: line(3), Patterns: patternsOf(t, line(3), "GET /tenants/{tenant}/orders/"), Allow: []Requirement{read, machines}},
		rule{match: "api.com/tenants/", way: "forbid"}.route(t, 4),
		shadow,
		rule{match: "/tenants/{t}/orders/", way: "forbid"}.route(t, 6),
		rule{match: "only.com/x", way: "public"}.route(t, 7),
		{Name: "by-name", At: line(8), Allow: []Requirement{machines}},
	}
	return tableOf(t, routes...)
}

func TestExplainCandidates(t *testing.T) {
	x := explainTable(t).Explain(requestOf(t, "GET", "h", "/tenants/acme/orders/1"), &Principal{Authenticator: "corp"})
	var got []string
	for _, c := range x.Candidates {
		got = append(got, fmt.Sprintf("%s: %s (%s)", c.Pattern, c.Fate, c.Why))
	}
	want := []string{
		"api.com/tenants/: other_host (it is for the host api.com)",
		"GET /tenants/{tenant}/orders/: won (the most specific that covers the request)",
		"/tenants/{t}/orders/: in_shadow (mode: shadow decides nothing)",
		"/tenants/{t}/orders/: less_specific (GET /tenants/{tenant}/orders/ is more specific)",
		"/tenants/: less_specific (GET /tenants/{tenant}/orders/ is more specific)",
		"/: less_specific (GET /tenants/{tenant}/orders/ is more specific)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("candidates\n%q, want\n%q", got, want)
	}
	x = explainTable(t).Explain(requestOf(t, "POST", "h", "/tenants/acme/orders/1"), nil)
	if i := slices.IndexFunc(x.Candidates, func(c Candidate) bool { return c.Fate == LostByMethod }); i < 0 || x.Candidates[i].Why != "it is for the method GET" {
		t.Errorf("candidates of POST: %+v, want one that is for GET", x.Candidates)
	}
}

func TestExplainRequirements(t *testing.T) {
	x := explainTable(t).Explain(requestOf(t, "GET", "h", "/tenants/acme/orders/1"), &Principal{Authenticator: "corp", Tenant: "acme", Roles: []string{"user"}})
	var got []string
	for _, q := range x.Requirements {
		for _, c := range q.Conditions {
			got = append(got, fmt.Sprintf("%d %v %v %s: want %s, got %s: %v", q.Index, q.Holds, c.At, c.Condition, c.Want, c.Got, c.Truth == True))
		}
	}
	want := []string{
		`0 false gatehouse.yaml:21:5 readable_tenant: want "acme" ({path.tenant}), got "acme": true`,
		`0 false gatehouse.yaml:22:5 roles.any: want one of "reader", "admin", got "user": false`,
		`1 false gatehouse.yaml:24:5 authenticators: want "machines", got "corp": false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("requirements\n%q, want\n%q", got, want)
	}
}

func TestExplainFlip(t *testing.T) {
	corp := &Principal{Authenticator: "corp", Tenant: "acme", Roles: []string{"user"}}
	reader := &Principal{Authenticator: "corp", Tenant: "acme", Roles: []string{"reader"}}
	for _, tt := range []struct {
		name               string
		method, host, path string
		route              string // named
		p                  *Principal
		want               []string
	}{
		{"a role is missing", "GET", "h", "/tenants/acme/orders", "", corp, []string{`one of the roles "reader", "admin" is missing: gatehouse.yaml:22:5`}},
		{"nobody", "GET", "h", "/tenants/acme/orders", "", nil, []string{`a credential is missing: gatehouse.yaml:3:5`}},
		{"allowed", "GET", "h", "/tenants/acme/orders", "", reader, []string{`readable_tenant would have to be other than "acme": gatehouse.yaml:21:5`}},
		{"public", "GET", "only.com", "/x", "", nil, []string{`route "only.com/x" would have to be no longer public: gatehouse.yaml:7:5`}},
		{"forbidden by a route", "GET", "h", "/x", "", reader, []string{`route "/" would have to allow somebody, instead of forbid: true: gatehouse.yaml:1:5`}},
		{"an unknown name", "GET", "h", "/x", "by-nme", reader, []string{`a route named "by-nme" is missing, or gatehouse.route should be "by-name"`}},
		{"a named route that does not match", "GET", "h", "/x", "read-orders", reader, []string{`route "read-orders" would have to cover GET h/x: gatehouse.yaml:3:5`}},
		{"a route without patterns", "GET", "h", "/x", "by-name", reader, []string{`authenticators must be "machines", is "corp": gatehouse.yaml:24:5`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := requestOf(t, tt.method, tt.host, tt.path)
			if tt.route != "" {
				r.Context = []Pair{{RouteName, tt.route}}
			}
			var got []string
			for _, c := range explainTable(t).Explain(r, tt.p).Flip {
				got = append(got, c.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("Flip = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestExplainNoRoute(t *testing.T) {
	table := tableOf(t, routesOf(t, "GET /a", "x.com/b")...)
	for _, tt := range []struct{ name, method, host, path, want string }{
		{"another method", "POST", "h", "/a", `"GET /a" would have to be for the method POST too: gatehouse.yaml:1:3`},
		{"another host", "GET", "h", "/b", `"x.com/b" would have to be for the host "h" too: gatehouse.yaml:2:3`},
		{"another path", "GET", "h", "/c", `a route for GET h/c is missing`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := table.Explain(requestOf(t, tt.method, tt.host, tt.path), nil)
			if x.Decision.Reason != ReasonNoRoute || len(x.Flip) != 1 || x.Flip[0].String() != tt.want {
				t.Errorf("Explain = %v, %v, want %q", x.Decision.Reason, x.Flip, tt.want)
			}
		})
	}
	x := (*Table)(nil).Explain(requestOf(t, "GET", "h", "/"), nil)
	if x.Decision.Outcome != Forbidden || len(x.Candidates) != 0 {
		t.Errorf("Explain without a table = %+v, want forbidden", x)
	}
}

// The explanation is the evaluation: for any table that loads, the first row that
// covers a request decides, and explain says what Decide says.
func TestExplanationIsEvaluation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var routes []*Route
		for _, text := range drawPatterns(rt, true) {
			list, err := ParsePattern(text)
			if err != nil {
				rt.Fatalf("ParsePattern(%q): %v", text, err)
			}
			routes = append(routes, &Route{Name: fmt.Sprintf("r%d", len(routes)), Patterns: list, Allow: []Requirement{{
				Roles: &Sets{Any: []string{"a", "b"}},
			}, {
				Roles: &Sets{All: []string{"c"}}, Scopes: &Sets{All: []string{"s"}},
			}}})
		}
		table, _ := NewTable(routes, nil)
		if table == nil {
			return
		}
		p := &Principal{
			Authenticator: "x",
			Roles:         rapid.SliceOf(rapid.SampledFrom([]string{"a", "c", "d"})).Draw(rt, "roles"),
			Scopes:        rapid.SliceOf(rapid.SampledFrom([]string{"s", "t"})).Draw(rt, "scopes"),
		}
		rows := table.Rows()
		for _, method := range oracleMethods {
			for _, host := range oracleHosts {
				for _, path := range oraclePaths {
					r := &Request{Method: method, Host: host, Path: path}
					m := table.Match(r)
					i := slices.IndexFunc(rows, func(row Row) bool { return row.Pattern.Matches(r) })
					if (i < 0) != (m.Route == nil) || i >= 0 && rows[i].Pattern != m.Pattern {
						rt.Fatalf("%s %s%s: Match = %v, the first row that matches is %d of %v", method, host, path, m.Pattern, i, rows)
					}
					d, x := m.Decide(p, r), table.Explain(r, p)
					if d.Outcome != x.Decision.Outcome || d.Reason != x.Decision.Reason || d.Requirement != x.Decision.Requirement {
						rt.Fatalf("%s %s%s: Decide = %v, Explain = %v", method, host, path, d.Reason, x.Decision.Reason)
					}
					if held := slices.ContainsFunc(x.Requirements, func(q RequirementStory) bool { return q.Holds }); held != (d.Outcome == Allowed) {
						rt.Fatalf("%s %s%s: %v, but requirements %+v", method, host, path, d.Outcome, x.Requirements)
					}
					if len(x.Flip) == 0 {
						rt.Fatalf("%s %s%s: %v has nothing that would flip it", method, host, path, d.Reason)
					}
					if won := slices.ContainsFunc(x.Candidates, func(c Candidate) bool { return c.Fate == Won }); won != (m.Route != nil) {
						rt.Fatalf("%s %s%s: candidates %+v", method, host, path, x.Candidates)
					}
				}
			}
		}
	})
}

func TestWhatIsMissing(t *testing.T) {
	eve := &Principal{
		Authenticator: "corp", Realm: "ecmwf", Subject: "s-1", Username: "eve", Tenant: "acme",
		Roles: []string{"user", "guest"}, Attributes: map[string]Attribute{"dept": {Values: []string{"sales"}}},
	}
	attribute := func(a AttributeMatch) Requirement { return Requirement{Attributes: []AttributeMatch{a}} }
	for _, tt := range []struct {
		name string
		q    Requirement
		want string
	}{
		{"a realm", Requirement{Realms: &Names{Values: []string{"a", "b"}}}, `realms must be one of "a", "b", is "ecmwf"`},
		{"a subject", Requirement{Subjects: templatesOf(t, "s-2")}, `subjects must be "s-2", is "s-1"`},
		{"a username", Requirement{Usernames: templatesOf(t, "{path.tenant}")}, `usernames must be "x" ({path.tenant}), is "eve"`},
		{"a value that the request lacks", Requirement{Tenant: templatesOf(t, "{context.tenant}")}, `tenant must be {context.tenant} (absent), is "acme"`},
		{"a readable tenant", Requirement{ReadableTenant: templatesOf(t, "b")}, `readable_tenant must be "b", is "acme"`},
		{"an owner", Requirement{Owner: templatesOf(t, "bob")}, `owner must be "bob", is "eve"`},
		{"every role", Requirement{Roles: &Sets{All: []string{"user", "a", "b"}}}, `roles "a", "b" are missing`},
		{"a role too many", Requirement{Roles: &Sets{None: []string{"guest", "x"}}}, `role "guest" is one too many`},
		{"roles too many", Requirement{Roles: &Sets{None: []string{"guest", "user"}}}, `roles "guest", "user" are too many`},
		{"a scope", Requirement{Scopes: &Sets{Any: []string{"a"}}}, `scope "a" is missing`},
		{"an attribute", attribute(AttributeMatch{Name: "x", Present: true}), `attributes.x.present must be a value, is nothing`},
		{"an attribute's value", attribute(AttributeMatch{Name: "dept", Any: templateList(t, "a", "b")}), `attributes.dept.any must be one of "a", "b", is "sales"`},
		{"an attribute's values", attribute(AttributeMatch{Name: "dept", All: templateList(t, "a", "b")}), `attributes.dept.all must be every one of "a", "b", is "sales"`},
		{"an attribute's value too many", attribute(AttributeMatch{Name: "dept", None: templateList(t, "sales")}), `attributes.dept.none must be none of "sales", is "sales"`},
		{"an attribute that asks nothing", attribute(AttributeMatch{Name: "dept"}), `attributes.dept must be something (it asks nothing), is nothing`},
		{"an expression", Requirement{When: &Expression{Condition: expression{"1 > 2", False}}}, `the expression 1 > 2 does not hold`},
		{"a broken expression", Requirement{When: &Expression{Condition: expression{"a.b", Failed}}}, `the expression a.b could not be evaluated`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := evaluate(t, tt.q, eve, nil, "/t/x")
			unmet := d.Unmet()
			if len(unmet) != 1 || unmet[0].String() != tt.want {
				t.Errorf("Unmet = %v, want %s", unmet, tt.want)
			}
		})
	}
}

func TestLongListsAreCut(t *testing.T) {
	p := &Principal{Authenticator: "a"}
	for i := range 1000 {
		p.Roles = append(p.Roles, fmt.Sprintf("group%d", i))
	}
	d := evaluate(t, Requirement{Roles: &Sets{All: []string{"admin"}}}, p, nil, "/t/x")
	if got := d.Unmet()[0].Got; len(got) > 300 {
		t.Errorf("Got = %q, want no more than a few roles", got)
	}
}
