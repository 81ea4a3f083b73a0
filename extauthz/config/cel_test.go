package config

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/policy"
)

func newTestExpressions(t *testing.T) *expressions {
	t.Helper()
	e, err := newExpressions(map[string]string{"PRODUCT": "core"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSemantics25ConditionsAreThreeValued(t *testing.T) {
	e := newTestExpressions(t)
	request := &policy.Request{
		Method: "GET", Host: "api.example.com", Path: "/orders/%20x", Query: "a=b", Scheme: "https",
		Headers: []policy.Pair{{Name: "x-a", Value: "1"}, {Name: "x-a", Value: "2"}},
		Context: []policy.Pair{{Name: "owner", Value: "eve"}},
		Source:  netip.MustParseAddr("::ffff:10.0.0.1"),
	}
	principal := &policy.Principal{
		Authenticator: "corp", Realm: "r", Subject: "s", Username: "eve", Tenant: "a", Tenants: []string{"_", "a"},
		Roles: []string{"admin"}, Attributes: map[string]policy.Attribute{
			"amr":        {Values: []string{"pwd", "mfa"}, List: true},
			"department": {Values: []string{"sales"}},
		},
	}
	for _, test := range []struct {
		source string
		want   policy.Truth
	}{
		{`request.method == "GET"`, policy.True},
		{`request.method == "POST"`, policy.False},
		{`request.path == "/orders/ x"`, policy.True}, // decoded
		{`request.source == "10.0.0.1"`, policy.True}, // IPv4 in IPv6 is IPv4
		{`request.headers["x-a"] == "1,2"`, policy.True},
		{`request.context.owner == principal.username`, policy.True},
		{`"mfa" in principal.attributes.amr`, policy.True},
		{`principal.attributes.department == "sales"`, policy.True},
		{`"admin" in principal.roles && "_" in principal.tenants`, policy.True},
		{`principal.scopes.size() == 0`, policy.True},
		{`env.PRODUCT == "core"`, policy.True},
		// Errors deny.
		{`principal.attributes.missing == "x"`, policy.Failed},
		{`"missing" in principal.attributes && principal.attributes.missing == "x"`, policy.False},
		{`request.headers["absent"] == "x"`, policy.Failed},
		{`principal.attributes.department`, policy.Failed}, // dyn, and not a boolean
		{`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a + b + c + d > int(principal.roles.size())))))`, policy.Failed},
	} {
		compiled := e.condition(test.source)
		if compiled.bad != nil {
			t.Errorf("condition(%q): %s", test.source, compiled.bad.message)
			continue
		}
		if got := compiled.condition.Holds(request, principal); got != test.want {
			t.Errorf("%s = %v, want %v", test.source, got, test.want)
		}
		if got := compiled.condition.Holds(request, nil); got == policy.True {
			t.Errorf("%s holds for nobody", test.source)
		}
	}
}

func TestSemantics25ExpressionsAreTypedAtLoad(t *testing.T) {
	e := newTestExpressions(t)
	for _, test := range []struct {
		source, message, remedy string
		offset                  int
	}{
		{`request.methd == "GET"`, `no variable "request.methd"`, `did you mean "request.method"?`, 0},
		{`true && principal.role == "x"`, `no variable "principal.role"`, `did you mean "principal.roles"?`, 8},
		{`env.OTHER == "x"`, `cannot read "env.OTHER"`, "expression_env", 0},
		{`request.method == 3`, "no matching overload", "", 15},
		{`request.method`, "type string", "true or false", 0},
		{`1 + 2`, "type int", "true or false", 0},
		{"request.method ==\n  ", "not valid", "", 20},
		{`principal == null`, `no variable "principal"`, "the variables are", 0},
	} {
		bad := e.condition(test.source).bad
		if bad == nil {
			t.Errorf("condition(%q) compiles", test.source)
			continue
		}
		if !strings.Contains(bad.message, test.message) || !strings.Contains(bad.remedy, test.remedy) || bad.offset != test.offset {
			t.Errorf("condition(%q) = %d %q; %q, want %d %q; %q", test.source, bad.offset, bad.message, bad.remedy, test.offset, test.message, test.remedy)
		}
	}
	if first, second := e.condition(`request.host == "a"`), e.condition(`request.host == "a"`); first != second {
		t.Error("one source is compiled twice")
	}
}

func TestNamedAttributes(t *testing.T) {
	e := newTestExpressions(t)
	got := e.condition(`("a" in principal.attributes && principal.attributes.b == "x") || principal.attributes["c"] == request.headers["d"]`).attributes
	want := map[string]int{"a": 1, "b": 32, "c": 66}
	if len(got) != len(want) {
		t.Fatalf("attributes = %v, want %v", got, want)
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("attributes = %v, want %v", got, want)
		}
	}
}

func TestClaimsExpressions(t *testing.T) {
	e := newTestExpressions(t)
	claims := authn.Claims{
		"sub": "aad:42", "level": json.Number("3"), "ratio": json.Number("0.5"), "none": nil,
		"groups": []any{"a", json.Number("1")}, "nested": map[string]any{"x": true},
	}
	for _, test := range []struct {
		source string
		want   any
	}{
		{`claims.sub.split(":")[0]`, "aad"},
		{`claims.level == 3 && claims.ratio < 1`, true},
		{`claims.level + 1`, json.Number("4")},
		{`claims.groups`, []any{"a", json.Number("1")}},
		{`claims.nested`, map[string]any{"x": true}},
		{`claims.none`, nil},
		{`claims.?absent.orValue("default")`, "default"},
		{`claims.?absent`, nil},
		{`has(claims.absent) ? "yes" : env.PRODUCT`, "core"},
	} {
		compiled := e.value(test.source)
		if compiled.bad != nil {
			t.Errorf("value(%q): %s", test.source, compiled.bad.message)
			continue
		}
		got, err := compiled.expression.Eval(claims)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s = %#v, %v, want %#v", test.source, got, err, test.want)
		}
	}
	for _, source := range []string{`claims.absent`, `claims.sub.split(":")[7]`, `timestamp("2026-01-01T00:00:00Z")`} {
		if got, err := e.value(source).expression.Eval(claims); err == nil {
			t.Errorf("%s = %#v, want an error", source, got)
		}
	}
}
