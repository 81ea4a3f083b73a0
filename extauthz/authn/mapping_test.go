package authn

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// expression is an [Expression] in Go.
type expression func(Claims) (any, error)

func (f expression) Eval(c Claims) (any, error) { return f(c) }
func (f expression) String() string             { return "an expression" }

func claimsOf(t *testing.T, text string) Claims {
	t.Helper()
	claims, err := DecodeObject([]byte(text))
	if err != nil {
		t.Fatalf("decoding %s: %v", text, err)
	}
	return claims
}

func TestSemantics29SingleFields(t *testing.T) {
	for _, tt := range []struct {
		name   string
		field  Field
		claims string
		want   string
		reason policy.Reason
	}{
		{"a claim", Field{Claim: "tid"}, `{"tid": "acme"}`, "acme", 0},
		{"a claim with dots and slashes in its name", Field{Claim: "https://a.example/t.id"}, `{"https://a.example/t.id": "acme"}`, "acme", 0},
		{"a name is not a path", Field{Claim: "a.b"}, `{"a": {"b": "acme"}}`, "", 0},
		{"the case of a name counts", Field{Claim: "tid"}, `{"TID": "acme"}`, "", 0},
		{"a path", Field{Path: []string{"https://a.example", "tenant_id"}}, `{"https://a.example": {"tenant_id": "acme"}}`, "acme", 0},
		{"a path that ends early", Field{Path: []string{"a", "b"}}, `{"a": {}}`, "", 0},
		{"a path through null", Field{Path: []string{"a", "b"}}, `{"a": null}`, "", 0},
		{"a path through a text", Field{Path: []string{"a", "b"}}, `{"a": "x"}`, "", policy.ReasonClaimType},
		{"a path through a list", Field{Path: []string{"a", "b"}}, `{"a": [{"b": "x"}]}`, "", policy.ReasonClaimType},
		{"a constant", Field{Value: "acme"}, `{}`, "acme", 0},
		{"an expression", Field{Expression: expression(func(c Claims) (any, error) { return strings.Split(c["sub"].(string), ":")[0], nil })}, `{"sub": "aad:1"}`, "aad", 0},
		{"an expression that is null", Field{Expression: expression(func(Claims) (any, error) { return nil, nil })}, `{}`, "", 0},
		{"an expression that fails", Field{Expression: expression(func(Claims) (any, error) { return nil, errors.New("no such key") })}, `{}`, "", policy.ReasonClaimType},
		{"an expression that is a number", Field{Expression: expression(func(Claims) (any, error) { return int64(1), nil })}, `{}`, "", policy.ReasonClaimType},

		{"absent", Field{Claim: "tid"}, `{}`, "", 0},
		{"null", Field{Claim: "tid"}, `{"tid": null}`, "", 0},
		{"absent and required", Field{Claim: "tid", Required: true}, `{}`, "", policy.ReasonClaimMissing},
		{"null and required", Field{Claim: "tid", Required: true}, `{"tid": null}`, "", policy.ReasonClaimMissing},
		{"empty", Field{Claim: "tid"}, `{"tid": ""}`, "", policy.ReasonClaimType},
		{"a number is never coerced", Field{Claim: "tid"}, `{"tid": 7}`, "", policy.ReasonClaimType},
		{"nor is a boolean", Field{Claim: "tid"}, `{"tid": true}`, "", policy.ReasonClaimType},
		{"nor a list of one", Field{Claim: "tid"}, `{"tid": ["acme"]}`, "", policy.ReasonClaimType},
		{"nor an object", Field{Claim: "tid"}, `{"tid": {}}`, "", policy.ReasonClaimType},
		{"a wrong type that is ignored", Field{Claim: "tid", IgnoreWrongType: true}, `{"tid": 7}`, "", 0},
		{"a wrong type that is ignored, and required", Field{Claim: "tid", IgnoreWrongType: true, Required: true}, `{"tid": 7}`, "", policy.ReasonClaimMissing},
		{"a default", Field{Claim: "tid", Default: []string{"none"}}, `{}`, "none", 0},
		{"a default for a wrong type that is ignored", Field{Claim: "tid", IgnoreWrongType: true, Default: []string{"none"}}, `{"tid": 7}`, "none", 0},
		{"a default does not excuse a wrong type", Field{Claim: "tid", Default: []string{"none"}}, `{"tid": 7}`, "", policy.ReasonClaimType},
		{"a replacement", Field{Claim: "tid", Map: []Rename{{"a", "acme"}}}, `{"tid": "a"}`, "acme", 0},
		{"a value that the map does not list", Field{Claim: "tid", Map: []Rename{{"a", "acme"}}}, `{"tid": "b"}`, "", 0},
		{"the same, required", Field{Claim: "tid", Map: []Rename{{"a", "acme"}}, Required: true}, `{"tid": "b"}`, "", policy.ReasonClaimMissing},
		{"the same, kept", Field{Claim: "tid", Map: []Rename{{"a", "acme"}}, KeepUnmapped: true}, `{"tid": "b"}`, "b", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, m := range []*Mapping{{Stamp: testStamp, Tenant: &tt.field}, {Stamp: testStamp, Subject: &tt.field}, {Stamp: testStamp, Username: &tt.field}} {
				p, reason, err := m.Principal(claimsOf(t, tt.claims))
				if reason != tt.reason || (err != nil) != (tt.reason != 0) || (p == nil) != (tt.reason != 0) {
					t.Fatalf("Principal(%s) = %+v, %v, %v, want %v", tt.claims, p, reason, err, tt.reason)
				}
				if p != nil && p.Tenant+p.Subject+p.Username != tt.want {
					t.Errorf("Principal(%s) = %+v, want %q", tt.claims, p, tt.want)
				}
			}
		})
	}
}

func TestSemantics29Lists(t *testing.T) {
	for _, tt := range []struct {
		name   string
		field  Field
		claims string
		roles  []string
		scopes []string
		reason policy.Reason
	}{
		{"a list", Field{Claim: "g"}, `{"g": ["a", "b"]}`, []string{"a", "b"}, []string{"a", "b"}, 0},
		{"one text is one role, and many scopes", Field{Claim: "g"}, `{"g": "a b"}`, []string{"a b"}, []string{"a", "b"}, 0},
		{"items of a list are not split", Field{Claim: "g"}, `{"g": ["a b"]}`, []string{"a b"}, []string{"a b"}, 0},
		{"duplicates count once", Field{Claim: "g"}, `{"g": ["a", "b", "a"]}`, []string{"a", "b"}, []string{"a", "b"}, 0},
		{"empty items are none", Field{Claim: "g"}, `{"g": ["", "a"]}`, []string{"a"}, []string{"a"}, 0},
		{"an empty list", Field{Claim: "g"}, `{"g": []}`, nil, nil, 0},
		{"an empty text", Field{Claim: "g"}, `{"g": ""}`, nil, nil, 0},
		{"absent", Field{Claim: "g"}, `{}`, nil, nil, 0},
		{"absent and required", Field{Claim: "g", Required: true}, `{}`, nil, nil, policy.ReasonClaimMissing},
		{"an empty list, required", Field{Claim: "g", Required: true}, `{"g": []}`, nil, nil, policy.ReasonClaimMissing},
		{"a number", Field{Claim: "g"}, `{"g": 7}`, nil, nil, policy.ReasonClaimType},
		{"a list with a number", Field{Claim: "g"}, `{"g": ["a", 7]}`, nil, nil, policy.ReasonClaimType},
		{"a list with null", Field{Claim: "g"}, `{"g": ["a", null]}`, nil, nil, policy.ReasonClaimType},
		{"a nested list", Field{Claim: "g"}, `{"g": [["a"]]}`, nil, nil, policy.ReasonClaimType},
		{"an object", Field{Claim: "g"}, `{"g": {"a": true}}`, nil, nil, policy.ReasonClaimType},
		{"a number, ignored", Field{Claim: "g", IgnoreWrongType: true}, `{"g": 7}`, nil, nil, 0},
		{"a number in a list, ignored", Field{Claim: "g", IgnoreWrongType: true}, `{"g": [7, "a"]}`, []string{"a"}, []string{"a"}, 0},

		{"space", Field{Claim: "g", List: ListSpace}, `{"g": " a  b "}`, []string{"a", "b"}, []string{"a", "b"}, 0},
		{"space, a list", Field{Claim: "g", List: ListSpace}, `{"g": ["a b"]}`, []string{"a b"}, []string{"a b"}, 0},
		{"comma", Field{Claim: "g", List: ListComma}, `{"g": "a, b c,,"}`, []string{"a", "b c"}, []string{"a", "b c"}, 0},
		{"JSON in a text", Field{Claim: "g", List: ListJSON}, `{"g": "[\"a\", \"b\"]"}`, []string{"a", "b"}, []string{"a", "b"}, 0},
		{"JSON, a list", Field{Claim: "g", List: ListJSON}, `{"g": ["a", "b"]}`, []string{"a", "b"}, []string{"a", "b"}, 0},
		{"JSON, a bare text is one item", Field{Claim: "g", List: ListJSON}, `{"g": "a b"}`, []string{"a b"}, []string{"a b"}, 0},
		{"JSON that is broken", Field{Claim: "g", List: ListJSON}, `{"g": "[\"a\""}`, nil, nil, policy.ReasonClaimType},
		{"JSON that goes on", Field{Claim: "g", List: ListJSON}, `{"g": "[\"a\"],[]"}`, nil, nil, policy.ReasonClaimType},
		{"JSON with a number", Field{Claim: "g", List: ListJSON}, `{"g": "[1]"}`, nil, nil, policy.ReasonClaimType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Mapping{Stamp: testStamp, Roles: &tt.field, Scopes: &tt.field}
			p, reason, err := m.Principal(claimsOf(t, tt.claims))
			if reason != tt.reason || (err != nil) != (tt.reason != 0) {
				t.Fatalf("Principal(%s) = %+v, %v, %v, want %v", tt.claims, p, reason, err, tt.reason)
			}
			if p != nil && (!slices.Equal(p.Roles, tt.roles) || !slices.Equal(p.Scopes, tt.scopes)) {
				t.Errorf("Principal(%s) has roles %q and scopes %q, want %q and %q", tt.claims, p.Roles, p.Scopes, tt.roles, tt.scopes)
			}
		})
	}
}

func TestSemantics9RoleMaps(t *testing.T) {
	groups := []Rename{{"ops-team", "admin"}, {"dev", "user"}, {"dev", "builder"}}
	for _, tt := range []struct {
		name   string
		field  Field
		claims string
		want   []string
	}{
		{"listed values are replaced, others dropped", Field{Claim: "g", Map: groups}, `{"g": ["ops-team", "zzz"]}`, []string{"admin"}},
		{"unmapped values are kept on request", Field{Claim: "g", Map: groups, KeepUnmapped: true}, `{"g": ["ops-team", "zzz"]}`, []string{"admin", "zzz"}},
		{"one value may become several", Field{Claim: "g", Map: groups}, `{"g": "dev"}`, []string{"user", "builder"}},
		{"the default applies when nothing is left", Field{Claim: "g", Map: groups, Default: []string{"user"}}, `{"g": ["zzz"]}`, []string{"user"}},
		{"and when nothing was there", Field{Claim: "g", Map: groups, Default: []string{"user"}}, `{}`, []string{"user"}},
		{"and only then", Field{Claim: "g", Map: groups, Default: []string{"user"}}, `{"g": ["ops-team"]}`, []string{"admin"}},
		{"the name of a target does not count as a source", Field{Claim: "g", Map: groups}, `{"g": ["admin"]}`, nil},
		{"a value that contains a listed one is another", Field{Claim: "g", Map: groups}, `{"g": ["not-ops-team"]}`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Mapping{Stamp: testStamp, Roles: &tt.field}
			p, _, err := m.Principal(claimsOf(t, tt.claims))
			if err != nil || !slices.Equal(p.Roles, tt.want) {
				t.Errorf("Principal(%s) has roles %v (%v), want %v", tt.claims, p, err, tt.want)
			}
		})
	}
}

func TestSemantics29Attributes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		field  Field
		claims string
		want   *policy.Attribute
		reason policy.Reason
	}{
		{"a text", Field{Claim: "a"}, `{"a": "x y"}`, &policy.Attribute{Values: []string{"x y"}}, 0},
		{"a number as JSON writes it", Field{Claim: "a"}, `{"a": 1.50e3}`, &policy.Attribute{Values: []string{"1.50e3"}}, 0},
		{"a boolean", Field{Claim: "a"}, `{"a": false}`, &policy.Attribute{Values: []string{"false"}}, 0},
		{"a list of these", Field{Claim: "a"}, `{"a": ["x", 2, true]}`, &policy.Attribute{Values: []string{"x", "2", "true"}, List: true}, 0},
		{"a list of one is a list", Field{Claim: "a"}, `{"a": ["x"]}`, &policy.Attribute{Values: []string{"x"}, List: true}, 0},
		{"an empty list is there and empty", Field{Claim: "a"}, `{"a": []}`, &policy.Attribute{Values: []string{}, List: true}, 0},
		{"one text read as a list", Field{Claim: "a", List: ListJSON}, `{"a": "x"}`, &policy.Attribute{Values: []string{"x"}, List: true}, 0},
		{"an integer of an expression", Field{Expression: expression(func(Claims) (any, error) { return int64(7), nil })}, `{}`, &policy.Attribute{Values: []string{"7"}}, 0},
		{"a float of an expression", Field{Expression: expression(func(Claims) (any, error) { return 0.5, nil })}, `{}`, &policy.Attribute{Values: []string{"0.5"}}, 0},
		{"texts of an expression", Field{Expression: expression(func(Claims) (any, error) { return []string{"x"}, nil })}, `{}`, &policy.Attribute{Values: []string{"x"}, List: true}, 0},
		{"absent", Field{Claim: "a"}, `{}`, nil, 0},
		{"null", Field{Claim: "a"}, `{"a": null}`, nil, 0},
		{"an empty text", Field{Claim: "a"}, `{"a": ""}`, nil, 0},
		{"an object", Field{Claim: "a"}, `{"a": {"b": 1}}`, nil, policy.ReasonClaimType},
		{"a nested list", Field{Claim: "a"}, `{"a": [["x"]]}`, nil, policy.ReasonClaimType},
		{"an object, ignored", Field{Claim: "a", IgnoreWrongType: true}, `{"a": {"b": 1}}`, nil, 0},
		{"absent and required", Field{Claim: "a", Required: true}, `{}`, nil, policy.ReasonClaimMissing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Mapping{Stamp: testStamp, Attributes: map[string]*Field{"x": &tt.field}}
			p, reason, err := m.Principal(claimsOf(t, tt.claims))
			if reason != tt.reason || (err != nil) != (tt.reason != 0) {
				t.Fatalf("Principal(%s) = %+v, %v, %v, want %v", tt.claims, p, reason, err, tt.reason)
			}
			want := map[string]policy.Attribute{}
			if tt.want != nil {
				want["x"] = *tt.want
			}
			if p != nil && !maps.EqualFunc(p.Attributes, want, func(a, b policy.Attribute) bool { return reflect.DeepEqual(a, b) }) {
				t.Errorf("Principal(%s) has %+v, want %+v", tt.claims, p.Attributes, want)
			}
		})
	}
}

func TestSemantics1WildcardClaims(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stamp  Stamp
		tenant Field
		reason policy.Reason
		want   policy.Principal
	}{
		{"without tenancy it is a name", Stamp{}, Field{Claim: "t"}, 0, policy.Principal{Tenant: "*", Tenants: []string{"*"}}},
		{"a claim may not say it", Stamp{Wildcard: "*"}, Field{Claim: "t"}, policy.ReasonClaimType, policy.Principal{}},
		{"unless the authenticator says so", Stamp{Wildcard: "*", WildcardClaims: true}, Field{Claim: "t"}, 0, policy.Principal{Tenant: "*", Wildcard: true}},
		{"the configuration may", Stamp{Wildcard: "*"}, Field{Value: "*"}, 0, policy.Principal{Tenant: "*", Wildcard: true}},
		{"another wildcard", Stamp{Wildcard: "all"}, Field{Claim: "t"}, 0, policy.Principal{Tenant: "*", Tenants: []string{"*"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Mapping{Stamp: tt.stamp, Tenant: &tt.tenant}
			p, reason, _ := m.Principal(Claims{"t": "*"})
			if reason != tt.reason || p != nil && !reflect.DeepEqual(*p, tt.want) {
				t.Errorf("Principal = %+v, %v, want %+v, %v", p, reason, tt.want, tt.reason)
			}
		})
	}
}
