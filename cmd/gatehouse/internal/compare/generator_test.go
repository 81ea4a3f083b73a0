package compare

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A fileGenerator writes configurations of few texts, so that conditions meet.
type fileGenerator struct {
	*rand.Rand
	dir     string
	context context.Context
	parts   fileParts
	texts   string // both files
}

// fileParts are the parts of a file, as YAML.
type fileParts struct {
	people, machines string // flags of the two authenticators
	keys             []policy.Principal
	grants, tenancy  string
	anonymous, tcp   string
	headers          string
	routes           []string
}

func oneOf[T any](g *fileGenerator, list ...T) T { return list[g.IntN(len(list))] }

// file writes one that loads.
func (g *fileGenerator) file() (*config.Loaded, string) {
	g.context = context.Background()
	for {
		g.parts = fileParts{people: g.flags(), machines: g.flags(), headers: g.headers(), tenancy: g.tenancy()}
		for i := range 3 {
			p := policy.Principal{Authenticator: "machines", TokenID: fmt.Sprint("k", i), Subject: fmt.Sprint("k", i)}
			p.Username, p.Tenant = oneOf(g, "", "a", "*"), oneOf(g, "", "a", "a:b", "x")
			if strings.Contains(g.parts.tenancy, "wildcard") {
				p.Tenant = oneOf(g, "", "a", "a:b", "*")
			}
			p.Roles, p.Scopes = oneOf(g, nil, []string{"r"}, []string{"r", "s"}), oneOf(g, nil, []string{"read"})
			g.parts.keys = append(g.parts.keys, p)
		}
		for i := range 1 + g.IntN(4) {
			g.parts.routes = append(g.parts.routes, g.route(i))
		}
		g.parts.grants, g.parts.anonymous, g.parts.tcp = g.grants(), g.anonymous(), g.tcp()
		if loaded := g.load(g.parts.text()); loaded != nil {
			g.texts = g.parts.text()
			return loaded, g.parts.text()
		}
	}
}

// edited writes one that differs in one part and loads.
func (g *fileGenerator) edited() (*config.Loaded, string) {
	for {
		p := g.parts
		p.routes = slices.Clone(p.routes)
		i := g.IntN(len(p.routes))
		switch g.IntN(11) {
		case 0:
			p.people = g.flags()
		case 1:
			p.machines = g.flags()
		case 2:
			p.grants = g.grants()
		case 3, 4:
			p.tenancy = g.tenancy()
		case 5:
			p.anonymous = g.anonymous()
		case 6:
			p.tcp = g.tcp()
		case 7:
			p.headers = g.headers()
		case 8:
			p.routes = append(p.routes, g.route(len(p.routes)))
		default:
			p.routes[i] = g.route(i)
		}
		if p.text() == g.parts.text() {
			continue
		}
		if loaded := g.load(p.text()); loaded != nil {
			g.texts += p.text()
			return loaded, p.text()
		}
	}
}

func (p *fileParts) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, `version: 1
authenticators:
- name: people
  jwt:
    issuer: https://idp.example.com
    audiences: [orders]
    principal: {username: {claim: email}, tenant: {claim: tenant}, roles: {claim: roles}, scopes: {claim: scope}, attributes: {team: {claim: team}}}
%s- name: machines
  api_key:
    from: [{header: x-api-key}]
    keys:
`, p.people)
	for i, k := range p.keys {
		fmt.Fprintf(&b, "    - {id: %s, secret: {env: KEY%d}, principal: {subject: %s", k.TokenID, i, k.Subject)
		for _, f := range []policy.Pair{{Name: "username", Value: k.Username}, {Name: "tenant", Value: k.Tenant}} {
			if f.Value != "" {
				fmt.Fprintf(&b, ", %s: %q", f.Name, f.Value)
			}
		}
		if k.Roles != nil {
			fmt.Fprintf(&b, ", roles: [%s]", strings.Join(k.Roles, ", "))
		}
		if k.Scopes != nil {
			fmt.Fprintf(&b, ", scopes: [%s]", strings.Join(k.Scopes, ", "))
		}
		b.WriteString("}}\n")
	}
	b.WriteString(p.machines + p.grants + p.tenancy + p.anonymous + p.tcp + p.headers + "routes:\n")
	for i, route := range p.routes {
		b.WriteString(route)
		var others []string
		for j := range p.routes {
			if j != i {
				others = append(others, fmt.Sprint("r", j))
			}
		}
		if len(others) > 0 && strings.Contains(route, "match:") {
			fmt.Fprintf(&b, "  opens: [%s]\n", strings.Join(others, ", "))
		}
	}
	return b.String()
}

func (g *fileGenerator) flags() string {
	return oneOf(g, "", "", "  realm: hall\n") + oneOf(g, "", "", "  unscoped: true\n") + oneOf(g, "", "  impersonate: true\n") + oneOf(g, "", "  wildcard: true\n")
}

func (g *fileGenerator) tenancy() string {
	if g.IntN(3) == 0 {
		return ""
	}
	return "tenancy: {separator: \":\"" + oneOf(g, "", ", default: _", ", default: a") + oneOf(g, "", `, wildcard: "*"`, `, wildcard: "*"`) +
		oneOf(g, "", ", select_header: x-tenant-id") + oneOf(g, "", ", username_header: x-username") + "}\n"
}

func (g *fileGenerator) anonymous() string {
	return oneOf(g, "", "", "", "anonymous: {tenant: _}\n", "anonymous: {tenant: a}\n")
}

func (g *fileGenerator) tcp() string {
	if g.IntN(2) == 0 {
		return ""
	}
	return "tcp: {allow: [" + g.requirement(nil) + "]}\n"
}

func (g *fileGenerator) headers() string {
	return fmt.Sprintf("forward: {headers: {x-who: %s}}\n", g.header(nil))
}

func (g *fileGenerator) header(params []string) string {
	texts := []string{"{tenant}", "{tenants}", "{username}", "{subject}", "{roles}", "{scopes}", "{realm}", "{authenticator}", "{attributes.team}", "{query.q}", "{context.owner}", "a", "{tenant}/{username}", "{token_id}", "{issuer}"}
	for _, name := range params {
		texts = append(texts, "{path."+name+"}", "{path."+name+"}", "{path."+name+"}:{username}")
	}
	if text := oneOf(g, texts...); g.IntN(5) == 0 {
		return fmt.Sprintf("{value: %q, list: json}", text)
	} else {
		return fmt.Sprintf("%q", text)
	}
}

func (g *fileGenerator) grants() string {
	if g.IntN(2) == 0 {
		return ""
	}
	text := "grants:\n"
	for range 1 + g.IntN(2) {
		q := oneOf(g, `{authenticators: [machines]}`, `{roles: {any: [r]}}`, `{tenant: a}`, `{attributes: {team: {any: [a]}}}`, `{scopes: {all: [read]}}`, `{readable_tenant: _}`, `{roles: {none: [s]}, authenticated: true}`)
		text += "- {when: " + q + ", add: {" + oneOf(g, "roles: [r]", "roles: [s, r]", "scopes: [read]", "attributes: {team: [a, x]}", "attributes: {team: z}") + "}}\n"
	}
	return text
}

func (g *fileGenerator) route(i int) string {
	patterns := []string{"/", "/{$}", "GET /", "/a", "/a/", "GET,POST /a/", "/{t}", "/{t}/", "GET /{t}/b", "/{t}/{u}", "/{u}/{t}", "/a/{u}", "/b/{rest...}", "a.example/", "GET *.example/{t}/", "OPTIONS /a/"}
	pattern := oneOf(g, patterns...)
	text := fmt.Sprintf("- name: r%d\n", i)
	var params []string
	if g.IntN(12) > 0 {
		text += fmt.Sprintf("  match: [%q]\n", pattern)
		for _, name := range []string{"t", "u", "rest"} {
			if strings.Contains(pattern, "{"+name+"}") || strings.Contains(pattern, "{"+name+"...}") {
				params = append(params, name)
			}
		}
	}
	switch g.IntN(6) {
	case 0:
		text += "  forbid: true\n"
	case 1, 2:
		text += "  public: " + oneOf(g, "true", "true", "{identify: [people]}", "{identify: []}") + "\n"
	default:
		text += "  allow:\n"
		for range 1 + g.IntN(2) {
			text += "  - " + g.requirement(params) + "\n"
		}
		text += oneOf(g, "", "", "", "  accept: [machines]\n", "  accept: [people]\n")
	}
	if g.IntN(3) == 0 {
		text += fmt.Sprintf("  forward: {headers: {x-who: %s}}\n", g.header(params))
	}
	return text + oneOf(g, "", "", "  answers: {forbidden: 404}\n", "  answers: {unauthenticated: 403}\n", "  answers: {unauthenticated: 404, forbidden: 404}\n") +
		oneOf(g, "", "", "", "  preflight: allow\n") + oneOf(g, "", "", "", "", "", "  mode: shadow\n")
}

func (g *fileGenerator) requirement(params []string) string {
	texts := []string{"a", "a:b", "_", "{context.owner}"}
	for _, name := range params {
		texts = append(texts, "{path."+name+"}", "{path."+name+"}", "a:{path."+name+"}")
	}
	conditions := []string{
		"authenticated: true",
		"authenticators: [" + oneOf(g, "people", "machines") + "]",
		fmt.Sprintf("tenant: %q", oneOf(g, texts...)),
		fmt.Sprintf("readable_tenant: %q", oneOf(g, texts...)),
		`owner: "{context.owner}"`,
		fmt.Sprintf("username: %q, authenticators: [%s]", oneOf(g, texts...), oneOf(g, "people", "machines")),
		fmt.Sprintf("subject: %q, authenticators: [people]", oneOf(g, texts...)),
		"roles: {" + oneOf(g, "any: [r, s]", "all: [r, s]", "none: [s]", "any: [r], none: [s]", "all: [r]") + "}",
		"scopes: {" + oneOf(g, "all: [read]", "any: [read, write]") + "}",
		fmt.Sprintf("attributes: {team: {%s: [%q]}}", oneOf(g, "any", "all", "none"), oneOf(g, texts...)),
		"attributes: {team: {present: true}}",
	}
	g.Shuffle(len(conditions), func(i, j int) { conditions[i], conditions[j] = conditions[j], conditions[i] })
	chosen := conditions[:1]
	for _, next := range conditions[1 : 1+g.IntN(3)] {
		key := func(text string) string { return text[:strings.IndexByte(text, ':')] }
		if !slices.ContainsFunc(chosen, func(have string) bool {
			return key(have) == key(next) || strings.Contains(have, "authenticators:") && strings.Contains(next, "authenticators:")
		}) {
			chosen = append(chosen, next)
		}
	}
	return "{" + strings.Join(chosen, ", ") + "}"
}

// maxCallers of each authenticator with any principals are asked of a world.
const maxCallers = 60

// people are the keys, and some whom tokens make.
func (g *fileGenerator) people() []*policy.Principal {
	var list []*policy.Principal
	for i := range g.parts.keys {
		list = append(list, &g.parts.keys[i])
	}
	pick := func(used bool, texts ...string) string {
		if !used {
			return texts[0]
		}
		return oneOf(g, texts...)
	}
	lists := func(used bool, all ...[]string) []string {
		if !used {
			return nil
		}
		return oneOf(g, all...)
	}
	for range maxCallers {
		p := &policy.Principal{Authenticator: "people", Subject: pick(g.asks("subject"), "a", "x", "y"), Issuer: "https://idp.example.com"}
		p.Username = pick(g.asks("username") || g.asks("owner"), "", "a", "x", "*", "a:x")
		p.Tenant = pick(g.asks("tenant"), "", "a", "a:b", "a:x", "x", "x:y", "_", "*", "y")
		p.Roles = lists(g.asks("roles"), nil, []string{"r"}, []string{"s"}, []string{"s", "r"}, []string{"q"})
		p.Scopes = lists(g.asks("scopes"), nil, []string{"read"}, []string{"write"})
		p.TokenID = pick(g.asks("token_id"), "", "t")
		if team := lists(g.asks("team"), nil, []string{"a"}, []string{"x"}, []string{"a", "q"}, []string{"a:b"}); team != nil {
			p.Attributes = map[string]policy.Attribute{"team": {Values: team, List: len(team) > 1}}
		}
		list = append(list, p)
	}
	return list
}

func (g *fileGenerator) selections() []policy.Selection {
	list := []policy.Selection{{}}
	if g.asks("select_header") {
		list = append(list, policy.Selection{Tenant: "a"}, policy.Selection{Tenant: "_"}, policy.Selection{Tenant: "x"}, policy.Selection{Tenant: "*"}, policy.Selection{Tenant: "x,y"})
	}
	if g.asks("username_header") {
		list = append(list, policy.Selection{Username: "a"}, policy.Selection{Username: "*"}, policy.Selection{Username: "x,y"})
		if g.asks("select_header") {
			list = append(list, policy.Selection{Tenant: "a", Username: "a"}, policy.Selection{Tenant: "_", Username: "*"})
		}
	}
	return list
}

func (g *fileGenerator) requests() []policy.Request {
	paths := []string{"/", "/a", "/b", "/x", "/a/b", "/a/x", "/b/a", "/b/x/y", "/x/a", "/x/b", "/x/y", "/a/x/y", "/x/y/z"}
	owners, queries, names, hosts := []string{""}, []string{""}, []string{""}, []string{"localhost"}
	if g.asks("context.owner") {
		owners = []string{"", "a", "x"}
	}
	if g.asks("query.q") {
		queries = []string{"", "q=a"}
	}
	if g.asks("example/") {
		hosts = append(hosts, "a.example", "x.example")
	}
	for i := range 5 {
		if name := fmt.Sprint("r", i); g.IntN(3) == 0 && g.asks("name: "+name) {
			names = append(names, name)
		}
	}
	var list []policy.Request
	for _, owner := range owners {
		var extensions []policy.Pair
		if owner != "" {
			extensions = []policy.Pair{{Name: "owner", Value: owner}}
		}
		list = append(list, policy.Request{TCP: true, Context: extensions})
		for _, name := range names {
			named := slices.Clone(extensions)
			if name != "" {
				named = append(named, policy.Pair{Name: policy.RouteName, Value: name})
			}
			for _, host := range hosts {
				for _, path := range paths {
					for _, query := range queries {
						r := policy.Request{Method: oneOf(g, "GET", "POST"), Host: host, Path: path, Query: query, Context: named}
						if g.asks("preflight") && g.IntN(3) == 0 {
							r.Headers = []policy.Pair{{Name: "origin", Value: "https://example.com"}, {Name: "access-control-request-method", Value: r.Method}}
							r.Method = "OPTIONS"
						}
						list = append(list, r)
					}
				}
			}
		}
	}
	return list
}
