package policy

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

func TestMatch(t *testing.T) {
	table := tableOf(t, routesOf(t,
		"/",
		"GET /assets/",
		"/orders/",
		"/orders/{id}",
		"/orders/latest",
		"GET,HEAD /orders/latest",
		"GET /orders/{id}",
		"HEAD /orders/{id}",
		"POST /package.Service/Method",
		"example.com/",
		"GET example.com/only",
		"*.example.com/wild/",
		"*.b.example.com/wild/",
		"x.example.com/wild/exact",
	)...)
	for _, tt := range []struct{ name, method, host, path, want string }{
		{"the root", "GET", "h", "/", "/"},
		{"what nobody else covers", "GET", "h", "/a/b/c", "/"},
		{"a subtree for its method", "GET", "h", "/assets/a.css", "GET /assets/"},
		{"HEAD follows GET", "HEAD", "h", "/assets/a.css", "GET /assets/"},
		{"a subtree for another method", "POST", "h", "/assets/a.css", "/"},
		{"a literal wins over a wildcard", "POST", "h", "/orders/latest", "/orders/latest"},
		{"a wildcard wins over a subtree", "POST", "h", "/orders/7", "/orders/{id}"},
		{"a method wins over none", "GET", "h", "/orders/7", "GET /orders/{id}"},
		{"a pattern that names HEAD wins it", "HEAD", "h", "/orders/7", "HEAD /orders/{id}"},
		{"deeper than the wildcard", "GET", "h", "/orders/7/items", "/orders/"},
		{"gRPC", "POST", "h", "/package.Service/Method", "POST /package.Service/Method"},
		{"gRPC is POST", "GET", "h", "/package.Service/Method", "/"},
		{"case matters", "GET", "h", "/Orders/7", "/"},
		{"a host wins over none", "GET", "example.com", "/orders/7", "example.com/"},
		{"a method on a host", "GET", "example.com", "/only", "GET example.com/only"},
		{"another method on a host", "POST", "example.com", "/only", "example.com/"},
		{"a wildcard host", "GET", "a.example.com", "/wild/x", "*.example.com/wild/"},
		{"several labels under a wildcard host", "GET", "b.a.example.com", "/wild/x", "*.example.com/wild/"},
		{"the longest suffix", "GET", "a.b.example.com", "/wild/x", "*.b.example.com/wild/"},
		{"a wildcard host is not its suffix", "GET", "b.example.com", "/wild/x", "*.example.com/wild/"},
		{"an exact host wins over a wildcard host", "GET", "x.example.com", "/wild/exact", "x.example.com/wild/exact"},
		{"what the exact host leaves, the wildcard host has", "GET", "x.example.com", "/wild/other", "*.example.com/wild/"},
		{"what no host has, the hostless routes have", "GET", "x.example.com", "/orders/7", "GET /orders/{id}"},
		{"no host", "GET", "", "/orders/7", "GET /orders/{id}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := table.Match(requestOf(t, tt.method, tt.host, tt.path))
			if m.Route == nil || m.Route.Name != tt.want {
				t.Errorf("Match(%s %s%s) = %+v, want %q", tt.method, tt.host, tt.path, m, tt.want)
			}
		})
	}
}

func TestSemantics19TrailingSlash(t *testing.T) {
	table := tableOf(t, routesOf(t, "/orders", "/files/", "/deep/{x}/", "/deep/{x}", "/only/{$}")...)
	for _, tt := range []struct{ name, path, want string }{
		{"a path without its slash", "/orders", "/orders"},
		{"a path with its slash", "/orders/", "/orders"},
		{"nothing below it", "/orders/a", ""},
		{"a subtree covers its own name", "/files", "/files/"},
		{"with the slash too", "/files/", "/files/"},
		{"and what is below", "/files/a/b", "/files/"},
		{"a path wins over its subtree", "/deep/a/", "/deep/{x}"},
		{"which has the rest", "/deep/a/b", "/deep/{x}/"},
		{"{$} is the same as nothing", "/only/", "/only/{$}"},
		{"without the slash too", "/only", "/only/{$}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := table.Match(requestOf(t, "GET", "h", tt.path))
			got := ""
			if m.Route != nil {
				got = m.Route.Name
			}
			if got != tt.want {
				t.Errorf("Match(%q) = %q, want %q", tt.path, got, tt.want)
			}
		})
	}
	_, problems := NewTable(routesOf(t, "/orders", "/orders/{$}"), nil)
	if len(problems) != 1 || problems[0].Kind != ProblemConflict {
		t.Errorf("/orders and /orders/{$}: %v, want one conflict", problems)
	}
}

func TestSemantics11NamedRoutes(t *testing.T) {
	routes := routesOf(t, "GET /orders/", "GET /orders/{id}/items")
	routes[0].Name = "orders"
	routes = append(routes, &Route{Name: "tcp", Allow: []Requirement{{Authenticated: &Flag{}}}})
	shadow := routesOf(t, "/shadow/")[0]
	shadow.Shadow = true
	table := tableOf(t, append(routes, shadow)...)
	for _, tt := range []struct {
		name, method, path, route string
		want                      string
		reason                    Reason
	}{
		{"the named route wins over a narrower one", "GET", "/orders/1/items", "orders", "orders", ReasonNone},
		{"a route without patterns covers what names it", "GET", "/anything", "tcp", "tcp", ReasonNone},
		{"the path must match too", "GET", "/other", "orders", "", ReasonRouteMismatch},
		{"the method must match too", "POST", "/orders/1", "orders", "", ReasonRouteMismatch},
		{"an unknown name is not ignored", "GET", "/orders/1", "order", "", ReasonRouteUnknown},
		{"an empty name is unknown", "GET", "/orders/1", "", "", ReasonRouteUnknown},
		{"a shadow route cannot be named", "GET", "/shadow/", "/shadow/", "", ReasonRouteUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := requestOf(t, tt.method, "h", tt.path)
			r.Context = []Pair{{RouteName, tt.route}}
			m := table.Match(r)
			got := ""
			if m.Route != nil {
				got = m.Route.Name
			}
			if got != tt.want || m.Reason != tt.reason {
				t.Errorf("Match = %q, %v, want %q, %v", got, m.Reason, tt.want, tt.reason)
			}
			if tt.want == "" {
				if d := m.Decide(&Principal{Authenticator: "a"}, r); d.Outcome != Forbidden || d.Reason != tt.reason {
					t.Errorf("Decide = %v, %v, want forbidden, %v", d.Outcome, d.Reason, tt.reason)
				}
			}
		})
	}
}

func TestSemantics3ShadowRoutes(t *testing.T) {
	routes := routesOf(t, "/", "/admin/", "/admin/x/{y}", "/admin/", "/new/")
	routes[3].Name, routes[3].Shadow, routes[3].Public, routes[3].Forbid = "stricter", true, false, true
	routes[4].Shadow = true
	table := tableOf(t, routes...)
	for _, tt := range []struct{ name, path, want, shadow string }{
		{"a shadow route decides nothing", "/new/a", "/", "/new/"},
		{"a successor of an enforced route is heard", "/admin/a", "/admin/", "stricter"},
		{"a narrower enforced route would win anyway", "/admin/x/y", "/admin/x/{y}", ""},
		{"elsewhere there is none", "/a", "/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := requestOf(t, "GET", "h", tt.path)
			if m := table.Match(r); m.Route.Name != tt.want {
				t.Errorf("Match(%q) = %q, want %q", tt.path, m.Route.Name, tt.want)
			}
			m, ok := table.MatchShadow(r)
			if ok != (tt.shadow != "") || ok && m.Route.Name != tt.shadow {
				t.Errorf("MatchShadow(%q) = %+v, %v, want %q", tt.path, m.Route, ok, tt.shadow)
			}
		})
	}
}

func TestNamedShadowRoute(t *testing.T) {
	shadow := rule{match: "/a/", way: "forbid"}.route(t, 2)
	shadow.Shadow = true
	table := tableOf(t, rule{match: "/b/"}.route(t, 1), shadow)
	for _, tt := range []struct {
		name, path, route string
		want              bool
	}{
		{"named and covering", "/a/x", "/a/", true},
		{"named, not covering", "/b/x", "/a/", false},
		{"another route is named", "/a/x", "/b/", false},
	} {
		r := requestOf(t, "GET", "h", tt.path)
		r.Context = []Pair{{RouteName, tt.route}}
		if m, ok := table.MatchShadow(r); ok != tt.want || ok && m.Route != shadow {
			t.Errorf("%s: MatchShadow = %v, %v, want %v", tt.name, m.Route, ok, tt.want)
		}
	}
	if _, ok := tableOf(t, routesOf(t, "/")...).MatchShadow(requestOf(t, "GET", "h", "/")); ok {
		t.Error("a table without shadow routes has one")
	}
}

func TestTCPMatchesNothing(t *testing.T) {
	m := tableOf(t, routesOf(t, "/")...).Match(&Request{TCP: true})
	if d := m.Decide(&Principal{}, &Request{TCP: true}); d.Outcome != Forbidden || d.Reason != ReasonNotHTTP {
		t.Errorf("Decide = %v, %v, want forbidden, %v", d.Outcome, d.Reason, ReasonNotHTTP)
	}
}

func TestNoTableForbids(t *testing.T) {
	var table *Table
	m := table.Match(&Request{Method: "GET", Path: "/"})
	for _, m := range []Match{m, {}, {Route: &Route{Public: true}}} {
		if d := m.Decide(&Principal{Authenticator: "a"}, &Request{}); d.Outcome != Forbidden || d.Reason != ReasonNoRoute {
			t.Errorf("Decide of %+v = %v, %v, want forbidden, %v", m, d.Outcome, d.Reason, ReasonNoRoute)
		}
	}
}

func TestRowsMostSpecificFirst(t *testing.T) {
	routes := routesOf(t, "/", "/{$}", "/a/", "/a", "/a/{x}", "GET /a/b", "/a/b", "example.com/", "*.com/", "*.example.com/", "/{x}", "HEAD /a/b")
	routes = append(routes, &Route{Name: "named", Forbid: true})
	table := tableOf(t, routes...)
	want := []string{
		"example.com/", "*.example.com/", "*.com/",
		"/{$}", "/a", "HEAD /a/b", "GET /a/b", "/a/b", "/a/{x}", "/a/", "/{x}", "/", "named",
	}
	var got []string
	for _, row := range table.Rows() {
		got = append(got, row.Route.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Rows = %q, want %q", got, want)
	}
}

func TestNoAllocs(t *testing.T) {
	routes := manyRoutes(t, 1000)
	table := tableOf(t, routes...)
	r := requestOf(t, "GET", "api.example.com", "/service7/tenants/acme/orders/12")
	p := &Principal{Authenticator: "corp", Tenant: "acme", Roles: []string{"user", "reader"}, Scopes: []string{"orders:read"}}
	other := &Principal{Authenticator: "corp", Tenant: "other", Roles: []string{"user"}}
	for _, tt := range []struct {
		name string
		p    *Principal
		want Outcome
	}{
		{"allowed", p, Allowed},
		{"denied", other, Forbidden},
		{"nobody", nil, Unauthenticated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := table.Match(r).Decide(tt.p, r); d.Outcome != tt.want {
				t.Fatalf("Decide = %v, %v, want %v", d.Outcome, d.Reason, tt.want)
			}
			if n := testing.AllocsPerRun(100, func() { table.Match(r).Decide(tt.p, r) }); n != 0 {
				t.Errorf("Match and Decide allocate %v times, want 0", n)
			}
		})
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, _, ok := ParseRequest("GET", "api.example.com:443", "/service7/a%20b?c=d", PathOptions{}); !ok {
			t.Fatal("not canonical")
		}
	}); n != 0 {
		t.Errorf("ParseRequest of a canonical request allocates %v times, want 0", n)
	}
}

// manyRoutes is a table as large services have them: a few shapes for each of many names.
func manyRoutes(t testing.TB, n int) []*Route {
	t.Helper()
	shapes := []string{
		"GET /service%d/tenants/{tenant}/orders/",
		"POST /service%d/tenants/{tenant}/orders/",
		"/service%d/",
		"GET /service%d/health",
		"GET /service%d/tenants/{tenant}/orders/{id}/items/{item}",
	}
	tenant, err := ParseTemplate("{path.tenant}", RefsInAllow)
	if err != nil {
		t.Fatal(err)
	}
	var routes []*Route
	for i := range n {
		text := fmt.Sprintf(shapes[i%len(shapes)], i/len(shapes))
		patterns, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		route := &Route{Name: text, Index: i, At: Position{Line: i + 1}, Patterns: patterns, Allow: []Requirement{{
			Roles: &Sets{Any: []string{"reader", "admin"}}, Scopes: &Sets{All: []string{"orders:read"}},
		}}}
		if patterns[0].HasParam("tenant") {
			route.Allow[0].Tenant = &Templates{Values: []Template{tenant}}
		}
		routes = append(routes, route)
	}
	return routes
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			table := tableOf(b, manyRoutes(b, n)...)
			r := requestOf(b, "GET", "api.example.com", fmt.Sprintf("/service%d/tenants/acme/orders/12", n/5-1))
			b.ReportAllocs()
			for b.Loop() {
				if table.Match(r).Route == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	table := tableOf(b, manyRoutes(b, 1000)...)
	r := requestOf(b, "GET", "api.example.com", "/service7/tenants/acme/orders/12")
	m := table.Match(r)
	for name, p := range map[string]*Principal{
		"outcome=allowed":   {Tenant: "acme", Roles: []string{"reader"}, Scopes: []string{"orders:read"}},
		"outcome=forbidden": {Tenant: "acme", Roles: []string{"user"}, Scopes: []string{"orders:read"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Decide(p, r)
			}
		})
	}
}

func BenchmarkNewTable(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		routes := manyRoutes(b, n)
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			for b.Loop() {
				if table, problems := NewTable(routes, nil); table == nil {
					b.Fatal(problems[0])
				}
			}
		})
	}
}

// What is written is let go; what is decided stays.
func TestSettledTableDecidesTheSame(t *testing.T) {
	routes := append(manyRoutes(t, 100), routesOf(t, "GET,POST *.a.test/x/{y}/")...)
	routes[3].Public, routes[3].Allow = true, nil
	table := tableOf(t, routes...)
	type verdict struct {
		outcome Outcome
		reason  Reason
		at      Position
		unmet   string
		scopes  string
	}
	ask := func() (list []verdict) {
		for _, path := range []string{"/service0", "/service0/health", "/service7/tenants/acme/orders/12", "/service8/tenants/acme/orders/1/items/2", "/none"} {
			for _, p := range []*Principal{nil, {}, {Tenant: "acme", Roles: []string{"reader"}, Scopes: []string{"orders:read"}}, {Tenant: "acme", Roles: []string{"reader"}}} {
				r := requestOf(t, "GET", "h", path)
				d := table.Match(r).Decide(p, r)
				list = append(list, verdict{d.Outcome, d.Reason, d.At, fmt.Sprint(d.Unmet()), fmt.Sprint(d.Scopes())})
			}
		}
		return list
	}
	before := ask()
	table.Settle()
	if after := ask(); !slices.Equal(before, after) {
		t.Errorf("settled, the table decides %v, before %v", after, before)
	}
	for _, r := range routes {
		if r.Allow != nil {
			t.Errorf("route %s still has %v", r.Name, r.Allow)
		}
		if named, ok := table.Route(r.Name); !ok || named != r {
			t.Errorf("route %s is called %v", r.Name, named)
		}
		again := patternsOf(t, r.Patterns[0].At, r.Name)
		if fmt.Sprintf("%#v", r.Patterns) != fmt.Sprintf("%#v", again) {
			t.Errorf("route %s has the patterns %#v, before %#v", r.Name, r.Patterns, again)
		}
	}
	(*Table)(nil).Settle()
}

// Equal questions are one value; what differs only a little is not equal.
func TestEqualQuestionsAreOne(t *testing.T) {
	var b builder
	b.table = &Table{}
	at := func(text string) Template {
		template, err := ParseTemplate(text, RefsInAllow)
		if err != nil {
			t.Fatal(err)
		}
		return template
	}
	different := []Requirement{
		{Authenticated: &Flag{}},
		{Roles: &Sets{Any: []string{"a", "b"}}},
		{Roles: &Sets{Any: []string{"ab"}}},
		{Roles: &Sets{Any: []string{"a1:b"}}},
		{Roles: &Sets{Any: []string{}}},
		{Roles: &Sets{}},
		{Roles: &Sets{All: []string{"a", "b"}}},
		{Scopes: &Sets{All: []string{"a", "b"}}},
		{Authenticators: &Names{Values: []string{"a", "b"}}},
		{Tenant: &Templates{Values: []Template{at("{path.tenant}")}}},
		{Tenant: &Templates{Values: []Template{LiteralTemplate("{path.tenant}")}}},
		{Owner: &Templates{Values: []Template{at("{path.tenant}")}}},
		{Tenant: &Templates{Values: []Template{at("a"), at("b")}}},
		{Attributes: []AttributeMatch{{Name: "a", Any: []Template{at("b")}}}},
		{Attributes: []AttributeMatch{{Name: "b", Any: []Template{at("b")}}}},
		{Attributes: []AttributeMatch{{Name: "b", Present: true}}},
	}
	seen := make(map[*question]int)
	for i := range different {
		first, again := b.compile(&different[i]), b.compile(&different[i])
		q := first.conditions[0].question
		if again.conditions[0].question != q {
			t.Errorf("requirement %d is two questions", i)
		}
		if other, ok := seen[q]; ok {
			t.Errorf("requirements %d and %d are one question", other, i)
		}
		seen[q] = i
	}
}

// The parts of a pattern are pieces of its text.
func TestPatternsPointIntoTheirText(t *testing.T) {
	for _, text := range []string{
		"GET,POST *.a.test/a/{a}/a/", "a.test/a.test/{test}", "/{a}/{rest...}", "GET /GET/{GET}", "/", "/{$}", "HEAD [::1]/x",
	} {
		list, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			p := &list[i]
			if got := p.print(p.method); got != p.text {
				t.Errorf("%q: its parts print as %q, its text is %q", text, got, p.text)
			}
			again, err := ParsePattern(p.text)
			if err != nil || fmt.Sprintf("%#v", again[0]) != fmt.Sprintf("%#v", *p) {
				t.Errorf("%q: %#v parses as %#v, %v", text, *p, again, err)
			}
		}
	}
}

// A settled route takes less than a kilobyte, and next to no objects for the garbage
// collector to visit.
func TestSettledRouteIsSmall(t *testing.T) {
	const n, maxBytes, maxObjects = 20_000, 900, 0.1
	live := func() (bytes, objects uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.HeapObjects
	}
	bytesBefore, objectsBefore := live()
	made := make([]Route, n)
	routes := make([]*Route, n)
	for i, r := range manyRoutes(t, n) {
		made[i] = *r
		routes[i] = &made[i]
	}
	table := tableOf(t, routes...)
	table.Settle()
	bytesAfter, objectsAfter := live()
	perRoute := float64(int64(bytesAfter-bytesBefore)) / n
	objects := float64(int64(objectsAfter-objectsBefore)) / n
	if perRoute > maxBytes || objects > maxObjects {
		t.Errorf("a route takes %.0f bytes in %.2f objects, want at most %d in %.1f", perRoute, objects, maxBytes, maxObjects)
	}
	runtime.KeepAlive(table)
}
