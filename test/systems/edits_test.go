package systems

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An editor makes edits of a configuration as people make them: most of them open
// something, some by mistake.
type editor struct {
	*rand.Rand
	text        string
	presentable []string // authenticators that grants are given to
}

// edit gives the configuration with one edit, and what was done; not every one loads.
func (e *editor) edit(t *testing.T) (config, what string) {
	t.Helper()
	var whole map[string]any
	if err := yaml.Unmarshal([]byte(e.text), &whole); err != nil {
		t.Fatal(err)
	}
	routes := whole["routes"].([]any)
	r := routes[e.IntN(len(routes))].(map[string]any)
	name := r["name"]
	switch e.IntN(12) {
	case 0:
		e.way(r, "public", true)
		what = "is public"
	case 1:
		e.way(r, "allow", []any{map[string]any{"authenticated": true}})
		what = "allows everybody who is verified"
	case 2:
		e.way(r, "forbid", true)
		what = "is forbidden"
	case 3:
		what = e.drop(r)
	case 4:
		what = e.swap(r)
	case 5:
		what = e.widen(r)
	case 6:
		path := e.below(r)
		whole["routes"] = append(routes, map[string]any{"match": []any{path}, "name": "planted", "public": true})
		what = "is public below " + path
	case 7:
		path := e.below(r)
		whole["routes"] = append(routes, map[string]any{"match": []any{"GET " + path}, "name": "planted", "allow": []any{map[string]any{"authenticated": true}}})
		what = "lets everybody read below " + path
	case 8:
		delete(r, "accept")
		what = "accepts all"
	case 9:
		if allow, ok := r["allow"].([]any); ok {
			r["allow"] = append(allow, map[string]any{"authenticated": true})
		}
		what = "allows one more"
	case 10:
		whole["routes"] = slices.DeleteFunc(routes, func(other any) bool { return other.(map[string]any)["name"] == name })
		what = "is gone"
	default:
		a := e.presentable[e.IntN(len(e.presentable))]
		roles := e.roles(routes)
		if len(roles) == 0 {
			return "", ""
		}
		role := roles[e.IntN(len(roles))]
		grants, _ := whole["grants"].([]any)
		whole["grants"] = append(grants, map[string]any{"when": map[string]any{"authenticators": []any{a}}, "add": map[string]any{"roles": []any{role}}})
		name, what = a, "gets role "+role
	}
	version := whole["version"]
	delete(whole, "version")
	out, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("version: %v\n%s", version, out), fmt.Sprintf("%v %s", name, what)
}

func (e *editor) way(r map[string]any, way string, value any) {
	for _, other := range []string{"public", "allow", "forbid", "accept"} {
		if other != "accept" || way == "public" {
			delete(r, other)
		}
	}
	r[way] = value
}

// drop takes a condition, or a whole requirement, away.
func (e *editor) drop(r map[string]any) string {
	allow, _ := r["allow"].([]any)
	if len(allow) == 0 {
		return "stays"
	}
	i := e.IntN(len(allow))
	if len(allow) > 1 && e.IntN(2) == 0 {
		r["allow"] = slices.Delete(allow, i, i+1)
		return "drops a requirement"
	}
	q := allow[i].(map[string]any)
	names := slices.Sorted(maps.Keys(q))
	name := names[e.IntN(len(names))]
	delete(q, name)
	if len(q) == 0 {
		q["authenticated"] = true
	}
	return "drops " + name
}

// swap makes all of a list any, and the other way round.
func (e *editor) swap(r map[string]any) string {
	allow, _ := r["allow"].([]any)
	for _, q := range allow {
		for _, name := range []string{"roles", "scopes"} {
			sets, ok := q.(map[string]any)[name].(map[string]any)
			if !ok {
				continue
			}
			for from, to := range map[string]string{"any": "all", "all": "any"} {
				if list, ok := sets[from]; ok {
					delete(sets, from)
					sets[to] = list
					return "swaps " + name
				}
			}
		}
	}
	return "stays"
}

// widen makes a pattern match more: any method, any host, or one segment less.
func (e *editor) widen(r map[string]any) string {
	match := r["match"].([]any)
	i := e.IntN(len(match))
	text := match[i].(string)
	method, rest, found := strings.Cut(text, " ")
	if !found {
		method, rest = "", text
	}
	slash := strings.IndexByte(rest, '/')
	host, path := rest[:slash], rest[slash:]
	switch e.IntN(3) {
	case 0:
		method = ""
	case 1:
		host = ""
	default:
		path = strings.TrimSuffix(strings.TrimSuffix(path, "{$}"), "/")
		path = path[:strings.LastIndexByte(path+"/", '/')] + "/"
	}
	if method != "" {
		method += " "
	}
	match[i] = method + host + path
	return fmt.Sprintf("matches %s instead of %s", match[i], text)
}

// below is a path below the first one of a route.
func (e *editor) below(r map[string]any) string {
	text := r["match"].([]any)[0].(string)
	if _, rest, found := strings.Cut(text, " "); found {
		text = rest
	}
	return strings.TrimSuffix(strings.TrimSuffix(text, "{$}"), "/") + "/open/"
}

// roles are those that routes ask for.
func (e *editor) roles(routes []any) []string {
	var roles []string
	for _, r := range routes {
		allow, _ := r.(map[string]any)["allow"].([]any)
		for _, q := range allow {
			sets, _ := q.(map[string]any)["roles"].(map[string]any)
			for _, part := range sets {
				for _, role := range part.([]any) {
					roles = append(roles, role.(string))
				}
			}
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}
