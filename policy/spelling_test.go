package policy

import (
	"strings"
	"testing"
)

// A path that an upstream may take for a guarded one is told, and nothing else.
func TestSemantics7OtherSpellings(t *testing.T) {
	const literal = ", or say that no upstream does so, paths: {literal_upstreams: true}"
	semicolons := PathOptions{AllowSemicolons: true}
	for _, tt := range []struct {
		name    string
		options PathOptions
		rules   []rule
		want    []string
	}{
		{"a public subtree above a guard", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /ADMIN/x falls to "/" (public), and an upstream that does not tell upper from lower case takes it for "/admin/" (line 2); list what is public path by path` + literal,
		}},
		{"a guard in capitals", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/ADMIN", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /admin falls to "/" (public), and an upstream that does not tell upper from lower case takes it for "/ADMIN" (line 2); list what is public path by path` + literal,
		}},
		{"a guard below what is public", PathOptions{}, []rule{{match: "/assets/", way: "public"}, {match: "/assets/{x}/private/", way: "forbid"}}, []string{
			`gatehouse.yaml:1:5: GET /assets/x/PRIVATE/x falls to "/assets/" (public), and an upstream that does not tell upper from lower case takes it for "/assets/{x}/private/" (line 2); list what is public path by path` + literal,
		}},
		{"a wildcard beside a guard", PathOptions{}, []rule{{match: "/{page}", way: "public"}, {match: "/admin", way: "authenticated"}}, []string{
			`gatehouse.yaml:1:5: GET /ADMIN falls to "/{page}" (public), and an upstream that does not tell upper from lower case takes it for "/admin" (line 2); list what is public path by path` + literal,
		}},
		{"the method of what is public", PathOptions{}, []rule{{match: "GET,HEAD /", way: "public"}, {match: "/admin/", way: "admin"}, {match: "GET,HEAD /admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /ADMIN/x falls to "GET /" (public), and an upstream that does not tell upper from lower case takes it for "/admin/" (line 2); list what is public path by path` + literal,
			`gatehouse.yaml:1:5: GET /ADMIN/x falls to "GET /" (public), and an upstream that does not tell upper from lower case takes it for "GET /admin/" (line 3); list what is public path by path` + literal,
		}},
		{"a host of its own", PathOptions{}, []rule{{match: "a.com/", way: "public"}, {match: "a.com/admin/", way: "admin"}, {match: "b.com/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET a.com/ADMIN/x falls to "a.com/" (public), and an upstream that does not tell upper from lower case takes it for "a.com/admin/" (line 2); list what is public path by path` + literal,
		}},
		{"both spellings in the table, for any caller", PathOptions{}, []rule{{match: "/api/", way: "authenticated"}, {match: "/API/admin/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /api/admin/x falls to "/api/" (authenticated), and an upstream that does not tell upper from lower case takes it for "/API/admin/" (line 2); write both in the same letters` + literal,
		}},
		{"parameters, where they are let in", semicolons, []rule{{match: "/", way: "public"}, {match: "/1/", way: "admin"}}, []string{
			`gatehouse.yaml:1:5: GET /1;x/x falls to "/" (public), and an upstream that reads parameters from paths takes it for "/1/" (line 2); remove allow_semicolons` + literal,
		}},
		{"an escape is not text", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/%c3%bc/", way: "admin"}}, nil},
		{"digits have no case", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/1/", way: "admin"}}, nil},
		{"a wildcard takes every spelling", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/{x}/", way: "admin"}}, nil},
		{"nothing is public", PathOptions{}, []rule{{match: "/", way: "authenticated"}, {match: "/admin/", way: "admin"}}, nil},
		{"what is public is elsewhere", PathOptions{}, []rule{{match: "/assets/", way: "public"}, {match: "/", way: "admin"}, {match: "/admin/", way: "admin"}}, nil},
		{"what is public is one path", PathOptions{}, []rule{{match: "/{$}", way: "public"}, {match: "/admin/", way: "admin"}}, nil},
		{"what is public is another method", PathOptions{}, []rule{{match: "POST /{x}", way: "public", opens: "GET /admin"}, {match: "GET /admin", way: "admin"}}, nil},
		{"the operator knows", PathOptions{}, []rule{{match: "/", way: "public", opens: "/admin/"}, {match: "/admin/", way: "admin"}}, nil},
		{"both spellings guarded, and all others by a wildcard", PathOptions{}, []rule{{match: "/", way: "public"}, {match: "/admin/", way: "admin"}, {match: "/{x}/", way: "forbid"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var routes []*Route
			for i, r := range tt.rules {
				routes = append(routes, r.route(t, i+1))
			}
			table := tableOf(t, routes...)
			var got []string
			for _, p := range table.OtherSpellings(tt.options) {
				got = append(got, p.String())
				m := table.Match(&p.Witness)
				if !p.Warning || p.Kind != ProblemSpelling || m.Route == nil || m.Route.At != p.At {
					t.Errorf("%v: decided by %+v", p, m.Route)
				}
			}
			if g, w := strings.Join(got, "\n"), strings.Join(tt.want, "\n"); g != w {
				t.Errorf("got:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}
