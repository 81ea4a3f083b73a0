package policy

import (
	"fmt"
	"strings"
	"testing"
)

// A rule is a route in a line of a test: what it matches, and how open it is.
type rule struct {
	match string // several with a comma and a space between
	way   string // "public", "authenticated", "forbid", or a role
	opens string
	path  bool // uses {path.…}
}

func (r rule) route(t testing.TB, n int) *Route {
	t.Helper()
	at := line(n)
	route := &Route{Name: r.match, At: at, Index: n, UsesPath: r.path, Patterns: patternsOf(t, at, strings.Split(r.match, ", ")...)}
	switch r.way {
	case "", "public":
		route.Public = true
	case "authenticated":
		route.Allow = []Requirement{{At: at, Authenticated: &Flag{}}}
	case "forbid":
		route.Forbid = true
	default:
		route.Allow = []Requirement{{At: at, Roles: &Sets{All: []string{r.way}}}}
	}
	if r.opens != "" {
		route.Opens = strings.Split(r.opens, ", ")
	}
	return route
}

func problemsOf(t testing.TB, rules ...rule) []string {
	t.Helper()
	var routes []*Route
	for i, r := range rules {
		routes = append(routes, r.route(t, i+1))
	}
	table, problems := NewTable(routes, nil)
	var got []string
	for _, p := range problems {
		got = append(got, p.String())
	}
	if (table == nil) != (len(problems) > 0) {
		t.Errorf("NewTable: table %v with problems %q", table != nil, got)
	}
	return got
}

func checkProblems(t *testing.T, rules []rule, want []string) {
	t.Helper()
	got := problemsOf(t, rules...)
	for i := range max(len(got), len(want)) {
		g, w := "", ""
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("problem %d:\n got %s\nwant %s", i, g, w)
		}
	}
}

func TestConflicts(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []rule
		want  []string
	}{
		{"narrower patterns are fine", []rule{{match: "/"}, {match: "/a/"}, {match: "GET /a/{x}"}, {match: "GET /a/b"}}, nil},
		{"hosts do not conflict with any host", []rule{{match: "GET /"}, {match: "a.com/x/"}}, nil},
		{"different methods", []rule{{match: "GET /{a}/b"}, {match: "POST /a/{b}"}}, nil},
		{"different lengths", []rule{{match: "/{a}/b"}, {match: "/a/{b}/c"}}, nil},
		{"two wildcards across", []rule{{match: "/{x}/b"}, {match: "/a/{y}"}}, []string{
			`gatehouse.yaml:2:5: "/a/{y}" (line 2) and "/{x}/b" (line 1) both match GET /a/b, and neither is narrower; write "/a/b" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"a third pattern that decides", []rule{{match: "/{x}/b"}, {match: "/a/{y}"}, {match: "/a/b"}}, nil},
		{"a third pattern that decides only some", []rule{{match: "/{x}/b"}, {match: "/a/{y}"}, {match: "GET /a/b"}}, []string{
			`gatehouse.yaml:2:5: "/a/{y}" (line 2) and "/{x}/b" (line 1) both match GET /a/b, and neither is narrower; write "/a/b" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"equal patterns", []rule{{match: "/a/{x}"}, {match: "/a/{y}/{$}"}}, []string{
			`gatehouse.yaml:2:5: route "/a/{y}/{$}" (/a/{y}, line 2) and "/a/{x}" (line 1) match the same requests; remove one, or give each the part of the requests that it is for`,
		}},
		{"all of them, in the order of the file", []rule{{match: "/{x}/b"}, {match: "/a/{y}"}, {match: "/c/{y}"}}, []string{
			`gatehouse.yaml:2:5: "/a/{y}" (line 2) and "/{x}/b" (line 1) both match GET /a/b, and neither is narrower; write "/a/b" as well, in the route that should win, or make one pattern narrower`,
			`gatehouse.yaml:3:5: "/c/{y}" (line 3) and "/{x}/b" (line 1) both match GET /c/b, and neither is narrower; write "/c/b" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"on a host", []rule{{match: "a.com/{x}/b"}, {match: "a.com/a/{y...}"}}, []string{
			`gatehouse.yaml:2:5: "a.com/a/{y...}" (line 2) and "a.com/{x}/b" (line 1) both match GET a.com/a/b, and neither is narrower; write "a.com/a/b" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"under a wildcard host", []rule{{match: "*.a.com/{x}/b"}, {match: "*.a.com/a/"}, {match: "x.a.com/"}}, []string{
			`gatehouse.yaml:2:5: "*.a.com/a/" (line 2) and "*.a.com/{x}/b" (line 1) both match GET xx.a.com/a/b, and neither is narrower; write "*.a.com/a/b" as well, in the route that should win, or make one pattern narrower`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { checkProblems(t, tt.rules, tt.want) })
	}
}

func TestSemantics20ConflictsOfMethods(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []rule
		want  []string
	}{
		{"the one that every user hits", []rule{{match: "GET /"}, {match: "/admin/"}}, []string{
			`gatehouse.yaml:2:5: "/admin/" (line 2) and "GET /" (line 1) both match GET /admin, and neither is narrower; write "GET,HEAD /admin/" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"and pastes the remedy of", []rule{{match: "GET /"}, {match: "/admin/, GET,HEAD /admin/"}}, nil},
		{"GET and HEAD are one line, and one conflict", []rule{{match: "GET,HEAD /"}, {match: "/admin/"}}, []string{
			`gatehouse.yaml:2:5: "/admin/" (line 2) and route "GET,HEAD /" (GET /, line 1) both match GET /admin, and neither is narrower; write "GET,HEAD /admin/" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"with one remedy", []rule{{match: "GET,HEAD /"}, {match: "/admin/, GET,HEAD /admin/"}}, nil},
		{"two methods are two conflicts", []rule{{match: "POST,PUT /"}, {match: "/admin/"}}, []string{
			`gatehouse.yaml:2:5: "/admin/" (line 2) and route "POST,PUT /" (POST /, line 1) both match POST /admin, and neither is narrower; write "POST /admin/" as well, in the route that should win, or make one pattern narrower`,
			`gatehouse.yaml:2:5: "/admin/" (line 2) and route "POST,PUT /" (PUT /, line 1) both match PUT /admin, and neither is narrower; write "PUT /admin/" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"HEAD of everything beside GET of a part", []rule{{match: "HEAD /"}, {match: "GET /a/"}}, []string{
			`gatehouse.yaml:2:5: "GET /a/" (line 2) and "HEAD /" (line 1) both match HEAD /a, and neither is narrower; write "HEAD /a/" as well, in the route that should win, or make one pattern narrower`,
		}},
		{"a list does not lose to a shorter list", []rule{{match: "GET,POST /a"}, {match: "GET /a"}}, []string{
			`gatehouse.yaml:2:5: "GET /a" (line 2) and route "GET,POST /a" (GET /a, line 1) match the same requests; remove one, or give each the part of the requests that it is for`,
		}},
		{"one route's patterns may overlap", []rule{{match: "/{x}/b, /a/{y}"}}, nil},
		{"unless it uses the path", []rule{{match: "/{x}/b, /a/{x}", path: true}}, []string{
			`gatehouse.yaml:1:5: route "/{x}/b, /a/{x}" (/a/{x}, line 1) and route "/{x}/b, /a/{x}" (/{x}/b, line 1) of one route both match GET /a/b, and {path.…}, which the route uses, could be read in two ways; put them into two routes, or make one pattern narrower`,
		}},
		{"narrower patterns of one route are no overlap", []rule{{match: "/{x}/b, /a/b", path: true}}, nil},
		{"a pattern twice in one route", []rule{{match: "/a, /a/{$}"}}, []string{
			`gatehouse.yaml:1:5: "/a" is there twice in one route; remove one; a path and the same path with {$} are one`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { checkProblems(t, tt.rules, tt.want) })
	}
}

func TestSemantics4Opens(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []rule
		want  []string
	}{
		{"by method, as the rule has it", []rule{{match: "/", way: "public"}, {match: "GET /admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /admin/x falls to "/" (line 1, public) although "GET /admin/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/admin/"], forbid: true}`,
		}},
		{"which the remedy closes", []rule{{match: "/", way: "public"}, {match: "GET /admin/", way: "admin"}, {match: "/admin/", way: "forbid"}}, nil},
		{"and any method on the guard", []rule{{match: "/", way: "public"}, {match: "/admin/", way: "admin"}}, nil},
		{"and naming the guard", []rule{{match: "/", way: "public", opens: "GET /admin/"}, {match: "GET /admin/", way: "admin"}}, nil},
		{"by method under an authenticated route", []rule{{match: "/", way: "authenticated"}, {match: "GET /admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /admin/x falls to "/" (line 1, authenticated) although "GET /admin/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/admin/"], forbid: true}`,
		}},
		{"a route that any caller may use guards against the public", []rule{{match: "/", way: "public"}, {match: "GET /me/", way: "authenticated"}}, []string{
			`gatehouse.yaml:1:5: POST /me/x falls to "/" (line 1, public) although "GET /me/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/me/"], forbid: true}`,
		}},
		{"but not against any caller", []rule{{match: "/", way: "authenticated"}, {match: "GET /me/", way: "authenticated"}}, nil},
		{"forbid guards too", []rule{{match: "/", way: "public"}, {match: "DELETE /a", way: "forbid"}}, []string{
			`gatehouse.yaml:1:5: POST /a falls to "/" (line 1, public) although "DELETE /a" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/a"], forbid: true}`,
		}},
		{"an unusual method, where all usual ones are covered", []rule{{match: "/", way: "public"}, {match: "GET,HEAD,POST,PUT,DELETE,PATCH,OPTIONS,CONNECT,TRACE /a", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: PROPFIND /a falls to "/" (line 1, public) although "GET /a" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/a"], forbid: true}`,
		}},
		{"only what is deeper falls", []rule{{match: "/", way: "public"}, {match: "GET /a/", way: "admin"}, {match: "/a/{$}", way: "forbid"}, {match: "GET /a/{$}", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /a/x falls to "/" (line 1, public) although "GET /a/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/a/"], forbid: true}`,
		}},
		{"only the end falls", []rule{{match: "/", way: "public"}, {match: "GET /a/", way: "admin"}, {match: "/a/{x}/", way: "forbid"}, {match: "GET /a/{x}/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /a falls to "/" (line 1, public) although "GET /a/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/a/"], forbid: true}`,
		}},
		{"a wildcard that is open beside a literal that is not", []rule{{match: "/users/{id}", way: "public"}, {match: "DELETE /users/root", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /users/root falls to "/users/{id}" (line 1, public) although "DELETE /users/root" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/users/root"], forbid: true}`,
		}},
		{"a method of its own needs its own remedy", []rule{{match: "GET /", way: "public"}, {match: "POST /a/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /a/x falls to "GET /" (line 1, public) although "POST /a/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["GET,HEAD /a/"], forbid: true}`,
		}},
		{"which closes it", []rule{{match: "GET /", way: "public"}, {match: "POST /a/", way: "admin"}, {match: "GET,HEAD /a/", way: "forbid"}}, nil},
		{"by host", []rule{{match: "/", way: "public"}, {match: "api.com/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /admin/x on another host falls to "/" (line 1, public) although "api.com/admin/" (line 2) guards the path; add the other hosts to line 2, or a route {match: ["/admin/"], forbid: true}`,
		}},
		{"by a narrower host", []rule{{match: "ui.com/", way: "public"}, {match: "/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST ui.com/admin/x falls to "ui.com/" (line 1, public) although "/admin/" (line 2) guards the path; add the other hosts to line 2, or a route {match: ["ui.com/admin/"], forbid: true}`,
		}},
		{"by a wildcard host", []rule{{match: "*.com/", way: "public"}, {match: "a.com/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST x.com/admin/x falls to "*.com/" (line 1, public) although "a.com/admin/" (line 2) guards the path; add the other hosts to line 2, or a route {match: ["*.com/admin/"], forbid: true}`,
		}},
		{"by method and host", []rule{{match: "/", way: "public"}, {match: "GET api.com/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /admin/x on another host falls to "/" (line 1, public) although "GET api.com/admin/" (line 2) guards the path; add the other methods and hosts to line 2, or a route {match: ["/admin/"], forbid: true}`,
		}},
		{"two sites are no guards of each other", []rule{{match: "ui.com/", way: "public"}, {match: "api.com/admin/", way: "admin"}}, nil},
		{"an equal path is no narrower path", []rule{{match: "/a", way: "public"}, {match: "GET /a", way: "admin"}}, nil},
		{"an open exception under a guard is what exceptions are", []rule{{match: "/", way: "admin"}, {match: "GET /assets/", way: "public"}, {match: "GET /", way: "admin"}}, nil},
		{"opens names a route that is not there", []rule{{match: "/", way: "public", opens: "GET /admn/"}, {match: "GET /admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: POST /admin/x falls to "/" (line 1, public) although "GET /admin/" (line 2) guards the path; add the other methods to line 2, or a route {match: ["/admin/"], forbid: true}`,
			`gatehouse.yaml:1:5: opens names "GET /admn/", which is no route; did you mean "GET /admin/"?`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { checkProblems(t, tt.rules, tt.want) })
	}
}

// A witness is decided as its problem says.
func TestWitnesses(t *testing.T) {
	open, guard := rule{match: "/", way: "public"}.route(t, 1), rule{match: "GET /{x}/admin/", way: "admin"}.route(t, 2)
	_, problems := NewTable([]*Route{open, guard}, nil)
	if len(problems) != 1 {
		t.Fatalf("problems %v, want one", problems)
	}
	open.Opens = []string{guard.Name}
	r := problems[0].Witness
	if m := tableOf(t, open, guard).Match(&r); m.Route != open || !guard.Patterns[0].matchesPath(r.Path) {
		t.Errorf("%+v is decided by %+v, want the open route on a guarded path", r, m.Route)
	}
}

func TestShadowedPatterns(t *testing.T) {
	for _, tt := range []struct {
		name  string
		rules []rule
		want  []string
	}{
		{"a subtree of which all is taken", []rule{{match: "/a/"}, {match: "/a"}, {match: "/a/{x}/"}}, []string{
			`gatehouse.yaml:1:5: "/a/" (line 1) can never match: narrower patterns such as "/a/{x}/" (line 3) cover all of it; remove it`,
		}},
		{"level by level", []rule{{match: "/a/"}, {match: "/a"}, {match: "/a/{x}"}, {match: "/a/{x}/{y...}"}, {match: "/a/{x}/{y}/{z...}"}}, []string{
			`gatehouse.yaml:1:5: "/a/" (line 1) can never match: narrower patterns such as "/a/{x}/{y...}" (line 4) cover all of it; remove it`,
			`gatehouse.yaml:4:5: "/a/{x}/{y...}" (line 4) can never match: narrower patterns such as "/a/{x}/{y}/{z...}" (line 5) cover all of it; remove it`,
		}},
		{"one level is left", []rule{{match: "/a/"}, {match: "/a"}, {match: "/a/{x}/{y}/{z...}"}}, nil},
		{"for one method only", []rule{{match: "/a/"}, {match: "/a"}, {match: "GET,HEAD /a"}, {match: "GET,HEAD /a/{x}/"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { checkProblems(t, tt.rules, tt.want) })
	}
}

// A template in a requirement is a use of the path, wherever it stands.
func TestSemantics20RequirementsUseThePath(t *testing.T) {
	for _, tt := range []struct {
		name  string
		q     Requirement
		loads bool
	}{
		{"a tenant from the path", Requirement{Tenant: templatesOf(t, "{path.x}")}, false},
		{"an attribute from the path", Requirement{Attributes: []AttributeMatch{{Name: "a", None: templateList(t, "b", "{path.x}")}}}, false},
		{"a tenant from the context", Requirement{Tenant: templatesOf(t, "{context.x}")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			route := rule{match: "/{x}/b, /a/{x}"}.route(t, 1)
			route.Public, route.Allow = false, []Requirement{tt.q}
			if table, problems := NewTable([]*Route{route}, nil); (table != nil) != tt.loads {
				t.Errorf("NewTable: %v, want loads %v", problems, tt.loads)
			}
		})
	}
}

func TestDuplicateNames(t *testing.T) {
	routes := routesOf(t, "/a", "/b")
	routes[1].Name = "/a"
	_, problems := NewTable(routes, nil)
	if len(problems) != 1 || problems[0].Kind != ProblemDuplicate || problems[0].At != routes[1].At || problems[0].Other != routes[0].At {
		t.Errorf("problems %v, want a duplicate name in line 2", problems)
	}
}

func TestShadowRoutesConflictOnlyOnPaper(t *testing.T) {
	shadow := rule{match: "/a/{y}", way: "admin"}.route(t, 2)
	shadow.Shadow = true
	table, problems := NewTable([]*Route{rule{match: "/{x}/b"}.route(t, 1), shadow}, nil)
	if table == nil || len(problems) != 1 || !problems[0].Warning || problems[0].Kind != ProblemConflict {
		t.Errorf("problems %v, want one warning", problems)
	}
}

func TestRequirementsThatNeverHold(t *testing.T) {
	literals := func(texts ...string) []Template { return templateList(t, texts...) }
	for _, tt := range []struct {
		name string
		q    Requirement
		want string // "" loads
	}{
		{"no condition", Requirement{}, "it has no condition"},
		{"a role that is asked for and refused", Requirement{Roles: &Sets{All: []string{"a", "x"}, None: []string{"x"}}}, `roles.all asks for "x", which roles.none refuses`},
		{"every role refused", Requirement{Roles: &Sets{Any: []string{"x", "y"}, None: []string{"x", "y", "z"}}}, "roles.none refuses everything that roles.any asks for"},
		{"one role left", Requirement{Roles: &Sets{Any: []string{"x", "y"}, None: []string{"x"}}}, ""},
		{"a set of nothing", Requirement{Roles: &Sets{}}, "asks nothing"},
		{"an empty list", Requirement{Scopes: &Sets{All: []string{}}}, "scopes.all is an empty list"},
		{"an attribute that is asked for and refused", Requirement{Attributes: []AttributeMatch{{Name: "d", All: literals("x"), None: literals("x")}}}, `attributes.d.all asks for "x", which attributes.d.none refuses`},
		{"every attribute value refused", Requirement{Attributes: []AttributeMatch{{Name: "d", Any: literals("x"), None: literals("x")}}}, "attributes.d.none refuses everything"},
		{"another attribute's value refused", Requirement{Attributes: []AttributeMatch{{Name: "d", Any: literals("x")}, {Name: "e", None: literals("x")}}}, ""},
		{"a value that depends on the request", Requirement{Attributes: []AttributeMatch{{Name: "d", Any: literals("x", "{path.a}"), None: literals("x")}}}, ""},
		{"an attribute that asks nothing", Requirement{Attributes: []AttributeMatch{{Name: "d"}}}, "attributes.d asks nothing"},
		{"the wildcard tenant", Requirement{Tenant: templatesOf(t, "*")}, "meets nobody"},
		{"the wildcard readable tenant", Requirement{ReadableTenant: templatesOf(t, "*")}, "meets nobody"},
		{"a tenant that cannot read the other", Requirement{Tenant: templatesOf(t, "a"), ReadableTenant: templatesOf(t, "b")}, `tenant "a" cannot read "b"`},
		{"a tenant that reads the other", Requirement{Tenant: templatesOf(t, "b:c"), ReadableTenant: templatesOf(t, "b")}, ""},
		{"the default tenant of those who read everything", Requirement{Tenant: templatesOf(t, "_"), ReadableTenant: templatesOf(t, "b")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := NewTable([]*Route{{Name: "r", At: line(1), Patterns: patternsOf(t, line(1), "/{a}"), Allow: []Requirement{tt.q}}}, orchestrate)
			switch {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("problems %v, want none", problems)
			case tt.want != "" && (len(problems) != 1 || problems[0].Kind != ProblemNeverHolds || !strings.Contains(problems[0].Message, tt.want)):
				t.Errorf("problems %v, want …%s…", problems, tt.want)
			}
		})
	}
}

// hardTables are the ones in which a search for conflicts pair by pair, or a walk
// without index, takes minutes for 100,000 patterns.
var hardTables = map[string]func(n int) []string{
	"wildcard-first": func(n int) (texts []string) {
		for i := range n / 2 {
			texts = append(texts, fmt.Sprintf("/{any}/health%d", i), fmt.Sprintf("/service%d/x%d", i, i))
		}
		return texts
	},
	"methods-over-any": func(n int) (texts []string) {
		for i := range n / 2 {
			texts = append(texts, fmt.Sprintf("GET /{any}/{kind}/health%d", i), fmt.Sprintf("/service%d/x/y%d", i, i))
		}
		return texts
	},
	"hosts": func(n int) (texts []string) {
		for i := range n {
			texts = append(texts, fmt.Sprintf("host%d.example.com/{x}/", i))
		}
		return texts
	},
	"guards": func(n int) (texts []string) {
		texts = append(texts, "/")
		for i := range n {
			texts = append(texts, fmt.Sprintf("/{tenant}/thing%d/", i))
		}
		return texts
	},
}

func hardRoutes(t testing.TB, name string, n int) []*Route {
	t.Helper()
	var routes []*Route
	for i, text := range hardTables[name](n) {
		route := rule{match: text, way: "admin"}.route(t, i+1)
		if text == "/" {
			route = rule{match: text, way: "public"}.route(t, i+1)
		}
		routes = append(routes, route)
	}
	return routes
}

func TestHardTablesTakeFewSteps(t *testing.T) {
	const stepsPerPattern = 4 * walkBudget // pair by pair it would be thousands
	for name := range hardTables {
		t.Run(name, func(t *testing.T) {
			b := builder{table: &Table{}}
			var members []int32
			for _, route := range hardRoutes(t, name, 10_000) {
				p, id := &route.Patterns[0], int32(len(members)+1)
				b.enforced.insert(p, id)
				b.table.patterns = append(b.table.patterns, tablePattern{p, &entry{route: route}})
				members = append(members, id)
			}
			steps := b.searchConflicts(&b.enforced, members, false, walkBudget)
			if len(b.problems) > 0 || steps > stepsPerPattern*len(members) {
				t.Errorf("%d patterns take %d steps, with problems %v", len(members), steps, b.problems)
			}
		})
	}
}

func BenchmarkConflicts(b *testing.B) {
	for name := range hardTables {
		b.Run("table="+name, func(b *testing.B) {
			routes := hardRoutes(b, name, 100_000)
			for b.Loop() {
				if table, problems := NewTable(routes, nil); table == nil {
					b.Fatal(problems[0])
				}
			}
		})
	}
}

func TestManyConflictsEnd(t *testing.T) {
	var rules []rule
	rules = append(rules, rule{match: "GET /"})
	for i := range 3 * maxConflicts {
		rules = append(rules, rule{match: fmt.Sprintf("/a%d/", i)})
	}
	if got := len(problemsOf(t, rules...)); got != maxConflicts {
		t.Errorf("%d problems, want %d", got, maxConflicts)
	}
}

// TestProblemKindNames: every kind has a name of its own.
func TestProblemKindNames(t *testing.T) {
	seen := map[string]ProblemKind{}
	for k := ProblemInvalid; k <= ProblemUnqualifiedName; k++ {
		if other, twice := seen[k.String()]; twice {
			t.Errorf("kinds %d and %d are both called %q", other, k, k)
		}
		seen[k.String()] = k
	}
}
