package policy

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSemantics22Templates(t *testing.T) {
	p := &Principal{
		Authenticator: "corp", Realm: "ecmwf", Issuer: "https://idp", Subject: "s", Username: "eve", TokenID: "jti",
		Tenant: "acme", Roles: []string{"user", "admin"}, Scopes: []string{"a", "b"},
		Attributes: map[string]Attribute{
			"department":    {Values: []string{"sales"}},
			"groups":        {Values: []string{"x", "y"}, List: true},
			"https://a.b/c": {Values: []string{"odd"}},
		},
	}
	for _, tt := range []struct {
		name, text string
		want       string
		ok         bool
	}{
		{"text", "plain", "plain", true},
		{"nothing", "", "", false},
		{"literal braces", "{{x}}", "{x}", true},
		{"a wildcard, decoded", "{path.tenant}", "a b", true},
		{"the rest, decoded", "{path.rest}", "c/d e", true},
		{"a wildcard that the pattern lacks", "{path.other}", "", false},
		{"a context extension", "{context.owner}", "bob", true},
		{"an absent context extension", "{context.other}", "", false},
		{"an empty context extension is absent", "{context.empty}", "", false},
		{"a query parameter", "{query.q}", "1 2", true},
		{"a repeated query parameter is absent", "{query.r}", "", false},
		{"the tenant", "{tenant}", "acme", true},
		{"the subject", "{subject}", "s", true},
		{"the username", "{username}", "eve", true},
		{"the realm", "{realm}", "ecmwf", true},
		{"the authenticator", "{authenticator}", "corp", true},
		{"the issuer", "{issuer}", "https://idp", true},
		{"the token's id", "{token_id}", "jti", true},
		{"roles", "{roles}", "user,admin", true},
		{"scopes", "{scopes}", "a,b", true},
		{"readable tenants", "{tenants}", "acme", true},
		{"an attribute", "{attributes.department}", "sales", true},
		{"an attribute that is a list", "{attributes.groups}", "x,y", true},
		{"an attribute whose name has dots", "{attributes.https://a.b/c}", "odd", true},
		{"an absent attribute", "{attributes.other}", "", false},
		{"text around", "u:{username}@{realm}", "u:eve@ecmwf", true},
		{"one absent reference makes all of it absent", "Bearer {attributes.other}", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := ParseTemplate(tt.text, RefsInForward)
			if err != nil {
				t.Fatal(err)
			}
			m := tableOf(t, routesOf(t, "/t/{tenant}/{rest...}")...).Match(requestOf(t, "GET", "h", "/t/a%20b/c/d%20e"))
			r := requestOf(t, "GET", "h", "/t/a%20b/c/d%20e?q=1+2&r=1&r=2")
			r.Context = []Pair{{"owner", "bob"}, {"empty", ""}}
			if got, ok := tmpl.Eval(r, m, p); got != tt.want || ok != tt.ok {
				t.Errorf("Eval(%q) = %q, %v, want %q, %v", tt.text, got, ok, tt.want, tt.ok)
			}
			if tmpl.Uses(RefPrincipal) {
				if got, ok := tmpl.Eval(r, m, nil); ok {
					t.Errorf("Eval(%q) of nobody = %q, want absent", tt.text, got)
				}
			}
			if tmpl.String() != tt.text {
				t.Errorf("String() = %q, want %q", tmpl.String(), tt.text)
			}
		})
	}
}

func TestTenantsOfTheWildcardCaller(t *testing.T) {
	tmpl, err := ParseTemplate("{tenants}", RefsInForward)
	if err != nil {
		t.Fatal(err)
	}
	p := orchestrate.Resolve(Principal{Tenant: "*"}, true)
	if got, ok := tmpl.Eval(&Request{}, Match{}, p); got != "*" || !ok {
		t.Errorf("Eval = %q, %v, want *", got, ok)
	}
}

func TestExpandKeepsItems(t *testing.T) {
	tmpl, err := ParseTemplate("r={roles};u={username}", RefsInForward)
	if err != nil {
		t.Fatal(err)
	}
	p := &Principal{Username: "e,ve", Roles: []string{"a,b", "c"}}
	got, ok := tmpl.Expand(&Request{}, Match{}, p)
	want := []Value{
		{Text: "r=", Literal: true}, {Items: []string{"a,b", "c"}, List: true},
		{Text: ";u=", Literal: true}, {Text: "e,ve"},
	}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("Expand = %+v, %v, want %+v", got, ok, want)
	}
	if _, ok := tmpl.Expand(&Request{}, Match{}, &Principal{Username: "u"}); ok {
		t.Error("Expand without roles has a value, want absent")
	}
}

func TestParseTemplateErrors(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		allowed    Refs
		offset     int
		want       string
	}{
		{"an unknown reference", "a{nope}", RefsInForward, 2, "unknown reference {nope}"},
		{"a misspelt reference", "{usrname}", RefsInForward, 1, "did you mean {username}?"},
		{"a misspelt qualifier", "{pth.tenant}", RefsInAllow, 1, "did you mean {path.tenant}?"},
		{"a bare wildcard", "{id}", RefsInAllow, 1, "allowed are {path.…}, {context.…}"},
		{"a reference that is not for here", "{tenant}", RefsInAllow, 1, "cannot be used here"},
		{"a query parameter in allow", "{query.x}", RefsInAllow, 1, "cannot be used here"},
		{"a name is missing", "{path.}", RefsInAllow, 1, "lacks a name"},
		{"something after a name", "{tenant.x}", RefsInForward, 1, "unknown reference"},
		{"an open brace", "ab{path.x", RefsInAllow, 2, "write {{"},
		{"two open braces", "{path.x{", RefsInAllow, 0, "write {{"},
		{"a closing brace", "ab}", RefsInAllow, 2, "write }}"},
		{"nothing between braces", "{}", RefsInAllow, 1, "unknown reference {}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseTemplate(tt.text, tt.allowed)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset != tt.offset || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseTemplate(%q) = %+v, want %d: …%s…", tt.text, err, tt.offset, tt.want)
			}
		})
	}
}

func TestLiteralTemplate(t *testing.T) {
	for _, text := range []string{"plain", "{path.x}", "a{{b}}"} {
		tmpl := LiteralTemplate(text)
		again, err := ParseTemplate(tmpl.String(), 0)
		for _, tmpl := range []Template{tmpl, again} {
			if got, ok := tmpl.Literal(); got != text || !ok || err != nil {
				t.Errorf("LiteralTemplate(%q) = %q, %v, %v", text, got, ok, err)
			}
		}
	}
}

func TestTemplateBind(t *testing.T) {
	patterns, err := ParsePattern("/{tenant}/{rest...}")
	if err != nil {
		t.Fatal(err)
	}
	m := Match{Pattern: &patterns[0]}
	for _, tt := range []struct{ name, text, want string }{
		{"what is of the request is filled in", "{path.tenant}/{query.q}: {username}", "a{{b/x: {username}"},
		{"what is of the principal stays", "{tenant} {attributes.team}", "{tenant} {attributes.team}"},
		{"literal braces stay literal", "{{{path.tenant}}}", "{{a{{b}}"},
		{"one that is absent makes all of it absent", "{context.owner}{username}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tmpl, err := ParseTemplate(tt.text, RefsInForward)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := tmpl.Bind(&Request{Path: "/a%7Bb/c", Query: "q=x"}, m)
			if got.String() != tt.want || ok != (tt.want != "") {
				t.Errorf("Bind(%q) = %q, %t, want %q", tt.text, got.String(), ok, tt.want)
			}
		})
	}
	tmpl, _ := ParseTemplate("{path.x}-{tenant}-{attributes.a.b}-{tenant}", RefsInForward)
	if got := tmpl.References(); !slices.Equal(got, []string{"path.x", "tenant", "attributes.a.b"}) {
		t.Errorf("References = %q", got)
	}
}

// FuzzParseTemplate: no panic, errors point into the text, a template without references is
// its text, and one that is bound comes to the same.
func FuzzParseTemplate(f *testing.F) {
	for _, seed := range []string{"", "{path.x}", "{{}}", "a{tenant}b", "}", "{", "{attributes.{x}}", "{{{query.z}}}{username}", "{host}{tenant}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl, err := ParseTemplate(text, RefsInForward|RefHost)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(text) {
				t.Fatalf("ParseTemplate(%q): %#v", text, err)
			}
			return
		}
		r := &Request{Host: "example.com", Query: "x=y&z=%7B%25"}
		p := &Principal{Tenant: "acme", Username: "{ann}", Roles: []string{"a", "b"}}
		want, there := tmpl.Eval(r, Match{}, p)
		bound, ok := tmpl.Bind(r, Match{})
		if got, still := bound.Eval(r, Match{}, p); ok && (got != want || still != there) || !ok && there {
			t.Fatalf("ParseTemplate(%q).Bind = %q, which comes to %q, %t, want %q, %t", text, bound.String(), got, still, want, there)
		}
		if again, err := ParseTemplate(bound.String(), RefsInForward); err != nil || again.String() != bound.String() {
			t.Fatalf("ParseTemplate(%q).Bind = %q, which reads as %q, %v", text, bound.String(), again.String(), err)
		}
		if !strings.ContainsAny(text, "{}") {
			if got, ok := tmpl.Literal(); got != text || !ok {
				t.Fatalf("ParseTemplate(%q).Literal() = %q, %v", text, got, ok)
			}
		}
	})
}
