package policy

import (
	"slices"
	"strings"
	"testing"
)

// an expression is a Condition whose answer is fixed.
type expression struct {
	source string
	truth  Truth
}

func (e expression) Holds(*Request, *Principal) Truth { return e.truth }
func (e expression) String() string                   { return e.source }

func templateOf(t testing.TB, text string) Template {
	t.Helper()
	tmpl, err := ParseTemplate(text, RefsInAllow)
	if err != nil {
		t.Fatalf("ParseTemplate(%q): %v", text, err)
	}
	return tmpl
}

func templatesOf(t testing.TB, texts ...string) *Templates {
	t.Helper()
	list := &Templates{}
	for _, text := range texts {
		list.Values = append(list.Values, templateOf(t, text))
	}
	return list
}

func templateList(t testing.TB, texts ...string) []Template {
	t.Helper()
	return append([]Template{}, templatesOf(t, texts...).Values...)
}

func line(n int) Position { return Position{File: "gatehouse.yaml", Line: n, Column: 5} }

// evaluate says whether one requirement holds for p on /t/{tenant}/{rest...}.
func evaluate(t testing.TB, q Requirement, p *Principal, tenancy *Tenancy, path string, context ...Pair) Decision {
	t.Helper()
	return evaluateAll(t, []Requirement{q}, p, tenancy, path, context...)
}

func evaluateAll(t testing.TB, allow []Requirement, p *Principal, tenancy *Tenancy, path string, context ...Pair) Decision {
	t.Helper()
	// As NewTable makes it, also from what NewTable refuses: decide must not rely on it.
	table := &Table{entries: make([]entry, 1), tenancy: tenancy}
	b := builder{table: table}
	route := &Route{Name: "r", At: line(1), Patterns: patternsOf(t, line(1), "/t/{tenant}/{rest...}"), Allow: allow}
	e := &table.entries[0]
	*e = entry{route: route, table: table}
	for i := range allow {
		e.clauses = append(e.clauses, b.compile(&allow[i]))
	}
	b.addPatterns(e)
	b.layFlat()
	r := requestOf(t, "GET", "h", path)
	r.Context = context
	return table.Match(r).Decide(p, r)
}

var orchestrate = &Tenancy{Separator: ":", Default: "_", Wildcard: "*"}

func TestSemantics1TenantsInRequirements(t *testing.T) {
	none := (*Tenancy)(nil)
	flat := &Tenancy{Default: "_", Wildcard: "*"}
	for _, tt := range []struct {
		name    string
		tenancy *Tenancy
		p       Principal
		trusted bool
		value   string // in the path
		exact   bool   // tenant: holds
		read    bool   // readable_tenant: holds
	}{
		{"itself", orchestrate, Principal{Tenant: "a:b"}, false, "a:b", true, true},
		{"an ancestor is only readable", orchestrate, Principal{Tenant: "a:b:c"}, false, "a", false, true},
		{"the nearer ancestor too", orchestrate, Principal{Tenant: "a:b:c"}, false, "a:b", false, true},
		{"the default is only readable", orchestrate, Principal{Tenant: "a"}, false, "_", false, true},
		{"a child is not", orchestrate, Principal{Tenant: "a"}, false, "a:b", false, false},
		{"a sibling is not", orchestrate, Principal{Tenant: "a:b"}, false, "a:c", false, false},
		{"a prefix of a name is no ancestor", orchestrate, Principal{Tenant: "ab:c"}, false, "a", false, false},
		{"part of a name with the separator is no ancestor", orchestrate, Principal{Tenant: "a:b"}, false, "a:", false, false},
		{"ancestors of an ill-formed tenant are not guessed", orchestrate, Principal{Tenant: "a::b"}, false, "a", false, false},
		{"a wildcard part makes no ancestor", orchestrate, Principal{Tenant: "*:b"}, false, "*", false, false},
		{"without nesting a separator means nothing", flat, Principal{Tenant: "a:b"}, false, "a", false, false},
		{"an empty tenant meets nothing", orchestrate, Principal{}, false, "_", false, false},
		{"the wildcard caller reads all", orchestrate, Principal{Tenant: "*"}, true, "any:thing", false, true},
		{"and is of the default tenant", orchestrate, Principal{Tenant: "*"}, true, "_", true, true},
		{"the wildcard as a value never holds", orchestrate, Principal{Tenant: "*"}, true, "*", false, false},
		{"nor for a caller whose claim says so", orchestrate, Principal{Tenant: "*"}, false, "*", false, false},
		{"a wildcard claim that is not trusted is no tenant", orchestrate, Principal{Tenant: "*"}, false, "_", false, false},
		{"without tenancy the wildcard is a name", none, Principal{Tenant: "*"}, true, "*", true, true},
		{"and reads nothing else", none, Principal{Tenant: "*"}, true, "a", false, false},
		{"without tenancy there are no ancestors", none, Principal{Tenant: "a:b"}, false, "a", false, false},
		{"without tenancy there is no default", none, Principal{Tenant: "a"}, false, "_", false, false},
		{"without tenancy the own tenant is readable", none, Principal{Tenant: "a"}, false, "a", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.tenancy.Resolve(tt.p, tt.trusted)
			exact := evaluate(t, Requirement{Tenant: templatesOf(t, "{path.tenant}")}, p, tt.tenancy, "/t/"+tt.value)
			if got := exact.Outcome == Allowed; got != tt.exact {
				t.Errorf("tenant %q of %q holds is %v, want %v", tt.value, tt.p.Tenant, got, tt.exact)
			}
			read := evaluate(t, Requirement{ReadableTenant: templatesOf(t, "{path.tenant}")}, p, tt.tenancy, "/t/"+tt.value)
			if got := read.Outcome == Allowed; got != tt.read {
				t.Errorf("readable_tenant %q of %q holds is %v, want %v", tt.value, tt.p.Tenant, got, tt.read)
			}
			// What reads says and what Readable lists is one set.
			if !p.Wildcard && slices.Contains(tt.tenancy.Readable(p.Tenant), tt.value) && !tt.tenancy.isWildcard(tt.value) != tt.read {
				t.Errorf("Readable(%q) = %q, but reads %q is %v", p.Tenant, tt.tenancy.Readable(p.Tenant), tt.value, tt.read)
			}
		})
	}
}

func TestSemantics2NothingVanishes(t *testing.T) {
	p := &Principal{Authenticator: "corp", Realm: "corp", Subject: "s", Username: "u", Tenant: "t",
		Roles: []string{"r"}, Unscoped: true, Attributes: map[string]Attribute{"a": {Values: []string{"v"}}}}
	for _, tt := range []struct {
		name string
		q    Requirement
	}{
		{"no condition", Requirement{}},
		{"no authenticators", Requirement{Authenticators: &Names{}}},
		{"no realms", Requirement{Realms: &Names{}}},
		{"no subjects", Requirement{Subjects: &Templates{}}},
		{"no usernames", Requirement{Usernames: &Templates{}}},
		{"no tenant", Requirement{Tenant: &Templates{}}},
		{"no readable tenant", Requirement{ReadableTenant: &Templates{}}},
		{"no owner", Requirement{Owner: &Templates{}}},
		{"a set without parts", Requirement{Roles: &Sets{}}},
		{"any of nothing", Requirement{Roles: &Sets{Any: []string{}}}},
		{"all of nothing", Requirement{Roles: &Sets{All: []string{}}}},
		{"none of nothing", Requirement{Roles: &Sets{None: []string{}}}},
		{"all scopes of nothing", Requirement{Scopes: &Sets{All: []string{}}}},
		{"any scope of nothing", Requirement{Scopes: &Sets{Any: []string{}}}},
		{"no scope", Requirement{Scopes: &Sets{None: []string{"x"}}}},
		{"an attribute that asks nothing", Requirement{Attributes: []AttributeMatch{{Name: "a"}}}},
		{"any attribute value of nothing", Requirement{Attributes: []AttributeMatch{{Name: "a", Any: []Template{}}}}},
		{"all attribute values of nothing", Requirement{Attributes: []AttributeMatch{{Name: "a", All: []Template{}}}}},
		{"no attribute value of nothing", Requirement{Attributes: []AttributeMatch{{Name: "a", None: []Template{}}}}},
		{"an empty role", Requirement{Roles: &Sets{Any: []string{""}}}},
		{"an empty template", Requirement{Tenant: &Templates{Values: []Template{{}}}}},
		{"no expression", Requirement{When: &Expression{}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, p := range []*Principal{p, {}, nil} {
				if d := evaluate(t, tt.q, p, nil, "/t/x"); d.Outcome == Allowed {
					t.Errorf("%+v holds for %+v", tt.q, p)
				}
			}
		})
	}
}

func TestRequirements(t *testing.T) {
	eve := Principal{
		Authenticator: "corp", Realm: "ecmwf", Subject: "s-1", Username: "eve", Tenant: "acme",
		Roles: []string{"user", "reader"}, Scopes: []string{"orders:read"},
		Attributes: map[string]Attribute{"dept": {Values: []string{"sales"}}, "amr": {Values: []string{"pwd", "mfa"}, List: true}, "empty": {}},
	}
	attribute := func(a AttributeMatch) Requirement { return Requirement{Attributes: []AttributeMatch{a}} }
	for _, tt := range []struct {
		name string
		q    Requirement
		want bool
	}{
		{"any verified caller", Requirement{Authenticated: &Flag{}}, true},
		{"one of several authenticators", Requirement{Authenticators: &Names{Values: []string{"x", "corp"}}}, true},
		{"another authenticator", Requirement{Authenticators: &Names{Values: []string{"x"}}}, false},
		{"the realm", Requirement{Realms: &Names{Values: []string{"ecmwf"}}}, true},
		{"another realm", Requirement{Realms: &Names{Values: []string{"other"}}}, false},
		{"a subject", Requirement{Subjects: templatesOf(t, "s-1")}, true},
		{"the subject in the path", Requirement{Subjects: templatesOf(t, "{path.rest}")}, false},
		{"the username in the path", Requirement{Usernames: templatesOf(t, "{path.rest}")}, true},
		{"a value with text around", Requirement{Usernames: templatesOf(t, "e{path.tenant}")}, false},
		{"any role", Requirement{Roles: &Sets{Any: []string{"admin", "reader"}}}, true},
		{"no such role", Requirement{Roles: &Sets{Any: []string{"admin"}}}, false},
		{"part of a role's name", Requirement{Roles: &Sets{Any: []string{"read"}}}, false},
		{"all roles", Requirement{Roles: &Sets{All: []string{"user", "reader"}}}, true},
		{"all but one role", Requirement{Roles: &Sets{All: []string{"user", "admin"}}}, false},
		{"none of the roles", Requirement{Roles: &Sets{None: []string{"guest"}}}, true},
		{"a role too many", Requirement{Roles: &Sets{None: []string{"guest", "user"}}}, false},
		{"any and none", Requirement{Roles: &Sets{Any: []string{"user"}, None: []string{"guest"}}}, true},
		{"any and none, one of which fails", Requirement{Roles: &Sets{Any: []string{"user"}, None: []string{"reader"}}}, false},
		{"an attribute's value", attribute(AttributeMatch{Name: "dept", Any: templateList(t, "support", "sales")}), true},
		{"an attribute's other value", attribute(AttributeMatch{Name: "dept", Any: templateList(t, "support")}), false},
		{"one value of a list", attribute(AttributeMatch{Name: "amr", Any: templateList(t, "mfa")}), true},
		{"all values of a list", attribute(AttributeMatch{Name: "amr", All: templateList(t, "mfa", "pwd")}), true},
		{"a value that the list lacks", attribute(AttributeMatch{Name: "amr", All: templateList(t, "mfa", "otp")}), false},
		{"none of the values", attribute(AttributeMatch{Name: "amr", None: templateList(t, "otp")}), true},
		{"a value too many", attribute(AttributeMatch{Name: "amr", None: templateList(t, "pwd")}), false},
		{"a value from the path", attribute(AttributeMatch{Name: "dept", Any: templateList(t, "{path.tenant}")}), false},
		{"a forbidden value that is absent from the request", attribute(AttributeMatch{Name: "dept", None: templateList(t, "{context.dept}")}), false},
		{"presence", attribute(AttributeMatch{Name: "dept", Present: true}), true},
		{"presence of an empty one", attribute(AttributeMatch{Name: "empty", Present: true}), false},
		{"an expression", Requirement{When: &Expression{Condition: expression{"true", True}}}, true},
		{"an expression that does not hold", Requirement{When: &Expression{Condition: expression{"false", False}}}, false},
		{"an expression of no known value", Requirement{When: &Expression{Condition: expression{"?", 7}}}, false},
		{"two conditions", Requirement{Realms: &Names{Values: []string{"ecmwf"}}, Roles: &Sets{All: []string{"user"}}}, true},
		{"two conditions, one of which fails", Requirement{Realms: &Names{Values: []string{"other"}}, Roles: &Sets{All: []string{"user"}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := evaluate(t, tt.q, &eve, nil, "/t/acme/eve")
			if got := d.Outcome == Allowed; got != tt.want {
				t.Errorf("holds is %v, want %v: %v", got, tt.want, d.Unmet())
			}
			if d := evaluate(t, tt.q, nil, nil, "/t/acme/eve"); d.Outcome != Unauthenticated || d.Reason != ReasonNoCredential {
				t.Errorf("nobody: %v, %v, want unauthenticated, %v", d.Outcome, d.Reason, ReasonNoCredential)
			}
		})
	}
}

func TestSemantics25AbsentAttributesMeetNothing(t *testing.T) {
	p := &Principal{Authenticator: "corp"}
	for _, a := range []AttributeMatch{
		{Name: "x", Present: true},
		{Name: "x", Any: templateList(t, "v")},
		{Name: "x", All: templateList(t, "v")},
		{Name: "x", None: templateList(t, "v")},
	} {
		if d := evaluate(t, Requirement{Attributes: []AttributeMatch{a}}, p, nil, "/t/x"); d.Outcome != Forbidden {
			t.Errorf("%+v holds for a principal without attributes", a)
		}
	}
}

func TestSemantics25ExpressionErrors(t *testing.T) {
	role := func(name string, at int) Requirement {
		return Requirement{At: line(at), Roles: &Sets{At: line(at + 1), All: []string{name}}}
	}
	broken := Requirement{At: line(20), Roles: &Sets{At: line(21), All: []string{"user"}}, When: &Expression{At: line(22), Condition: expression{"principal.attributes.amr", Failed}}}
	p := &Principal{Authenticator: "corp", Roles: []string{"user"}}
	for _, tt := range []struct {
		name   string
		allow  []Requirement
		want   Outcome
		reason Reason
		at     int
	}{
		{"an error is not met, and says where", []Requirement{broken}, Forbidden, ReasonExpressionError, 22},
		{"another requirement may still hold", []Requirement{broken, role("user", 30)}, Allowed, ReasonMet, 30},
		{"before it as well", []Requirement{role("user", 30), broken}, Allowed, ReasonMet, 30},
		{"of several that do not hold, the error is told", []Requirement{role("admin", 30), broken}, Forbidden, ReasonExpressionError, 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := evaluateAll(t, tt.allow, p, nil, "/t/x")
			if d.Outcome != tt.want || d.Reason != tt.reason || d.At != line(tt.at) {
				t.Errorf("Decide = %v, %v, %v, want %v, %v, line %d", d.Outcome, d.Reason, d.At, tt.want, tt.reason, tt.at)
			}
			if unmet := d.Unmet(); d.Outcome == Forbidden && (len(unmet) != 1 || !unmet[0].Error) {
				t.Errorf("Unmet = %+v, want the expression", unmet)
			}
		})
	}
}

func TestSemantics8Scopes(t *testing.T) {
	q := Requirement{At: line(2), Scopes: &Sets{At: line(3), All: []string{"orders:read", "orders:write"}}}
	for _, tt := range []struct {
		name string
		p    Principal
		want bool
	}{
		{"nobody gave it scopes", Principal{Authenticator: "a"}, false},
		{"one of two", Principal{Authenticator: "a", Scopes: []string{"orders:read"}}, false},
		{"both", Principal{Authenticator: "a", Scopes: []string{"orders:write", "orders:read"}}, true},
		{"unscoped meets every scope", Principal{Authenticator: "a", Unscoped: true}, true},
		{"a star is a name", Principal{Authenticator: "a", Scopes: []string{"*"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := evaluate(t, q, &tt.p, nil, "/t/x")
			if got := d.Outcome == Allowed; got != tt.want {
				t.Errorf("holds is %v, want %v", got, tt.want)
			}
			if !tt.want && (d.Reason != ReasonInsufficientScope || d.At != line(3)) {
				t.Errorf("Decide = %v at %v, want %v at line 3", d.Reason, d.At, ReasonInsufficientScope)
			}
		})
	}
}

// Of any, one suffices; nobody else has every scope.
func TestSemantics8AnyScope(t *testing.T) {
	q := Requirement{At: line(2), Scopes: &Sets{At: line(3), Any: []string{"orders:read", "orders:write"}}}
	for _, tt := range []struct {
		name string
		p    Principal
		want Outcome
	}{
		{"nobody gave it scopes", Principal{Authenticator: "a"}, Forbidden},
		{"another scope", Principal{Authenticator: "a", Scopes: []string{"orders"}}, Forbidden},
		{"one of two", Principal{Authenticator: "a", Scopes: []string{"orders:write"}}, Allowed},
		{"unscoped meets every scope", Principal{Authenticator: "a", Unscoped: true}, Allowed},
	} {
		if d := evaluate(t, q, &tt.p, nil, "/t/x"); d.Outcome != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, d.Outcome, tt.want)
		}
	}
}

// A principal that did not go through [Tenancy.Resolve] is no way around it.
func TestSemantics1WildcardAsATenantMeetsNothing(t *testing.T) {
	q := Requirement{At: line(2), Tenant: &Templates{At: line(3), Values: templateList(t, "{path.tenant}")}}
	if d := evaluate(t, q, &Principal{Authenticator: "a", Tenant: "*"}, orchestrate, "/t/*"); d.Outcome != Forbidden {
		t.Errorf("%v, want %v", d.Outcome, Forbidden)
	}
}

// What is none of the three values is an error.
func TestSemantics25OddTruth(t *testing.T) {
	q := Requirement{At: line(2), When: &Expression{At: line(3), Condition: expression{"odd", True + 1}}}
	d := evaluate(t, q, &Principal{Authenticator: "a"}, nil, "/t/x")
	if d.Outcome != Forbidden || d.Reason != ReasonExpressionError {
		t.Errorf("%v, %v, want %v, %v", d.Outcome, d.Reason, Forbidden, ReasonExpressionError)
	}
}

func TestSmallestUnmetRequirement(t *testing.T) {
	p := &Principal{Authenticator: "corp", Realm: "corp", Tenant: "acme", Roles: []string{"user"}}
	far := Requirement{At: line(10), Tenant: &Templates{At: line(11), Values: templateList(t, "other")}, Roles: &Sets{At: line(12), All: []string{"admin"}}, Scopes: &Sets{At: line(13), All: []string{"x"}}}
	near := Requirement{At: line(20), Tenant: &Templates{At: line(21), Values: templateList(t, "{path.tenant}")}, Roles: &Sets{At: line(22), Any: []string{"orders-writer"}}}
	scopes := Requirement{At: line(30), Tenant: &Templates{At: line(31), Values: templateList(t, "{path.tenant}")}, Scopes: &Sets{At: line(32), Any: []string{"orders:write", "orders:read"}}}
	for _, tt := range []struct {
		name   string
		allow  []Requirement
		index  int
		reason Reason
		at     int
		unmet  []string
	}{
		{"the one with the fewest unmet conditions", []Requirement{far, near}, 1, ReasonRequirement, 22, []string{`role "orders-writer" is missing`}},
		{"the first of equals", []Requirement{near, scopes}, 0, ReasonRequirement, 22, []string{`role "orders-writer" is missing`}},
		{"only scopes are missing", []Requirement{scopes, near}, 0, ReasonInsufficientScope, 32, []string{`one of the scopes "orders:write", "orders:read" is missing`}},
		{"everything that is missing", []Requirement{far}, 0, ReasonRequirement, 11,
			[]string{`tenant must be "other", is "acme"`, `role "admin" is missing`, `scope "x" is missing`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := evaluateAll(t, tt.allow, p, nil, "/t/acme")
			if d.Outcome != Forbidden || d.Reason != tt.reason || d.At != line(tt.at) || d.Requirement != tt.index {
				t.Errorf("Decide = %v, %v at %v, requirement %d, want %v at line %d, requirement %d", d.Outcome, d.Reason, d.At, d.Requirement, tt.reason, tt.at, tt.index)
			}
			var got []string
			for _, u := range d.Unmet() {
				got = append(got, u.String())
			}
			if !slices.Equal(got, tt.unmet) {
				t.Errorf("Unmet = %q, want %q", got, tt.unmet)
			}
		})
	}
}

func TestSemantics26ExactlyOneWay(t *testing.T) {
	p := &Principal{Authenticator: "corp"}
	authenticated := []Requirement{{Authenticated: &Flag{}}}
	for _, tt := range []struct {
		name   string
		route  Route
		want   Outcome
		reason Reason
		loads  bool
	}{
		{"public", Route{Public: true}, Allowed, ReasonPublic, true},
		{"allow", Route{Allow: authenticated}, Allowed, ReasonMet, true},
		{"forbid", Route{Forbid: true}, Forbidden, ReasonRouteForbids, true},
		{"none of them", Route{}, Forbidden, ReasonRequirement, false},
		{"public and forbid", Route{Public: true, Forbid: true}, Forbidden, ReasonRouteForbids, false},
		{"allow and forbid", Route{Allow: authenticated, Forbid: true}, Forbidden, ReasonRouteForbids, false},
		{"public and an allow that does not hold", Route{Public: true, Allow: []Requirement{{}}}, Forbidden, ReasonRequirement, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			route := tt.route
			route.Name, route.Patterns = "r", patternsOf(t, line(1), "/")
			if table, problems := NewTable([]*Route{&route}, nil); (table != nil) != tt.loads {
				t.Errorf("NewTable: %v, want loads %v", problems, tt.loads)
			}
			table := &Table{entries: make([]entry, 1)}
			b := builder{table: table}
			e := &table.entries[0]
			*e = entry{route: &route, table: table}
			for i := range route.Allow {
				e.clauses = append(e.clauses, b.compile(&route.Allow[i]))
			}
			d := (Match{Route: &route, entry: e}).Decide(p, &Request{})
			if d.Outcome != tt.want || d.Reason != tt.reason {
				t.Errorf("Decide = %v, %v, want %v, %v", d.Outcome, d.Reason, tt.want, tt.reason)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	q := Requirement{Owner: templatesOf(t, "{context.owner}")}
	trusted := func(username string) *Principal {
		return orchestrate.Resolve(Principal{Tenant: "*", Username: username}, true)
	}
	claimed := func(username string) *Principal {
		return orchestrate.Resolve(Principal{Tenant: "a", Username: username}, false)
	}
	for _, tt := range []struct {
		name  string
		p     *Principal
		owner []Pair
		want  bool
	}{
		{"no owner is everybody's", claimed("bob"), nil, true},
		{"an empty owner too", claimed("bob"), []Pair{{"owner", ""}}, true},
		{"even without a name", claimed(""), nil, true},
		{"the owner", claimed("bob"), []Pair{{"owner", "bob"}}, true},
		{"another", claimed("eve"), []Pair{{"owner", "bob"}}, false},
		{"nobody's name", claimed(""), []Pair{{"owner", "bob"}}, false},
		{"every owner", trusted("*"), []Pair{{"owner", "bob"}}, true},
		{"a claim does not make every owner", claimed("*"), []Pair{{"owner", "bob"}}, false},
		{"nor of what the wildcard owns", claimed("*"), []Pair{{"owner", "*"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := evaluate(t, q, tt.p, orchestrate, "/t/x", tt.owner...); (d.Outcome == Allowed) != tt.want {
				t.Errorf("owner %v for %q: %v, want holds %v", tt.owner, tt.p.Username, d.Outcome, tt.want)
			}
		})
	}
}

func TestReasonsAndOutcomes(t *testing.T) {
	if d := (Decision{}); d.Outcome != Forbidden || d.Reason.Outcome() != Forbidden || len(d.Unmet()) != 0 {
		t.Errorf("Decision{} = %+v, want forbidden", d)
	}
	seen := make(map[string]bool)
	for _, r := range Reasons() {
		again, ok := ParseReason(r.String())
		if r.String() == "" || !ok || again != r || seen[r.String()] {
			t.Errorf("reason %d is called %q, which is %v, %v", r, r, again, ok)
		}
		seen[r.String()] = true
	}
	if r := Reason(250); r.String() != "none" || r.Outcome() != Forbidden {
		t.Errorf("Reason(250) = %v, %v, want none, forbidden", r, r.Outcome())
	}
	if o := Outcome(250); o.String() != "forbidden" {
		t.Errorf("Outcome(250) = %v, want forbidden", o)
	}
	if _, ok := ParseReason("no such"); ok || !strings.Contains(ReasonPathNotCanonical.String(), "path") {
		t.Error("ParseReason finds what there is not")
	}
}
