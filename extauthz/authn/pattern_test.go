package authn

import (
	"maps"
	"testing"
)

func TestPrincipalPattern(t *testing.T) {
	const spiffe = "spiffe://cluster.local/ns/{namespace}/sa/{account}"
	for _, tt := range []struct {
		name, pattern, principal string
		want                     map[string]string // nil: no match
	}{
		{"parameters", spiffe, "spiffe://cluster.local/ns/acme/sa/orders", map[string]string{"namespace": "acme", "account": "orders"}},
		{"all literal", "spiffe://a/b", "spiffe://a/b", map[string]string{}},
		{"a parameter before literal text", "CN={name},O=acme", "CN=orders,O=acme", map[string]string{"name": "orders"}},
		{"only a parameter", "{name}", "orders", map[string]string{"name": "orders"}},

		{"another trust domain", spiffe, "spiffe://evil.local/ns/acme/sa/orders", nil},
		{"the case of the trust domain", spiffe, "spiffe://CLUSTER.local/ns/acme/sa/orders", nil},
		{"a segment more", spiffe, "spiffe://cluster.local/ns/acme/sa/orders/x", nil},
		{"a segment hidden in a parameter", spiffe, "spiffe://cluster.local/ns/a/b/sa/orders", nil},
		{"an empty parameter", spiffe, "spiffe://cluster.local/ns//sa/orders", nil},
		{"an empty last parameter", spiffe, "spiffe://cluster.local/ns/acme/sa/", nil},
		{"something before", "spiffe://a/b", "xspiffe://a/b", nil},
		{"something after", "spiffe://a/b", "spiffe://a/bc", nil},
		{"no principal", "{name}", "", nil},

		// SPIFFE-ID §2.2: no issuer may write these, so they are nobody's name.
		{"a dot segment", spiffe, "spiffe://cluster.local/ns/../sa/orders", nil},
		{"an escaped dot segment", spiffe, "spiffe://cluster.local/ns/acme/sa/%2e%2e", nil},
		{"a query", spiffe, "spiffe://cluster.local/ns/acme/sa/orders?x", nil},
		{"a fragment", spiffe, "spiffe://cluster.local/ns/acme/sa/orders#x", nil},
		{"a wildcard", spiffe, "spiffe://cluster.local/ns/*/sa/orders", nil},
		{"a separator of tenants", spiffe, "spiffe://cluster.local/ns/a:b/sa/orders", nil},
		{"dots inside", spiffe, "spiffe://cluster.local/ns/a.b/sa/orders_1-x", map[string]string{"namespace": "a.b", "account": "orders_1-x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePrincipalPattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := p.Match(tt.principal)
			if ok != (tt.want != nil) || ok && !maps.Equal(got, tt.want) {
				t.Errorf("%q.Match(%q) = %v, %v, want %v", tt.pattern, tt.principal, got, ok, tt.want)
			}
		})
	}
}

func TestPrincipalPatternErrors(t *testing.T) {
	for _, pattern := range []string{"", "a{", "a}", "a{}", "{a}{b}", "x{a}y{a}", "{a b}", "{a{b}}"} {
		if p, err := ParsePrincipalPattern(pattern); err == nil {
			t.Errorf("ParsePrincipalPattern(%q) = %v, want an error", pattern, p)
		}
	}
}
