package authn

import (
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func pattern(t *testing.T, text string) *PrincipalPattern {
	t.Helper()
	p, err := ParsePrincipalPattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMTLS(t *testing.T) {
	const account = "spiffe://cluster.local/ns/{namespace}/sa/{account}"
	m, err := NewMTLS(Stamp{Authenticator: "mesh", Realm: "mesh", Wildcard: "*"}, []CertificateRule{
		{Match: pattern(t, "spiffe://cluster.local/ns/ops/sa/admin"), Principal: policy.Principal{Tenant: "*", Roles: []string{"admin"}}},
		{Match: pattern(t, account), Principal: policy.Principal{Subject: "{account}", Tenant: "{namespace}", Roles: []string{"service", "{namespace}-service"},
			Attributes: map[string]policy.Attribute{"sa": {Values: []string{"{namespace}/{account}"}}}}},
		{Match: pattern(t, "OU={unit},CN={name}"), Principal: policy.Principal{Subject: "{name}", Tenant: "{unit}"}},
		{Match: pattern(t, "CN={name}")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, certificate string
		want              *policy.Principal
		reason            policy.Reason
	}{
		{"by pattern", "spiffe://cluster.local/ns/acme/sa/orders", &policy.Principal{Subject: "orders", Tenant: "acme", Tenants: []string{"acme"}, Roles: []string{"service", "acme-service"},
			Attributes: map[string]policy.Attribute{"sa": {Values: []string{"acme/orders"}}}}, 0},
		{"the first that matches", "spiffe://cluster.local/ns/ops/sa/admin", &policy.Principal{Subject: "spiffe://cluster.local/ns/ops/sa/admin", Tenant: "*", Wildcard: true, Roles: []string{"admin"}}, 0},
		{"a value with braces refers to nothing", "OU={name},CN=x", &policy.Principal{Subject: "x", Tenant: "{name}", Tenants: []string{"{name}"}}, 0},
		{"braces are no part of a SPIFFE ID", "spiffe://cluster.local/ns/{account}/sa/x", nil, policy.ReasonCertificateUnmatched},
		{"a subject", "CN=orders", &policy.Principal{Subject: "CN=orders"}, 0},
		{"the wildcard is not for certificates to say", "spiffe://cluster.local/ns/*/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"another trust domain", "spiffe://evil.local/ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a trust domain with a dot at its end", "spiffe://cluster.local./ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a trust domain in other case", "spiffe://Cluster.Local/ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a scheme in other case", "SPIFFE://cluster.local/ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a trust domain with a port", "spiffe://cluster.local:443/ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a trust domain with somebody before it", "spiffe://eve@cluster.local/ns/acme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a path in other case", "spiffe://cluster.local/NS/acme/SA/orders", nil, policy.ReasonCertificateUnmatched},
		{"an escaped letter", "spiffe://cluster.local/ns/%61cme/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"an escaped slash", "spiffe://cluster.local/ns/acme%2Fsa%2Fadmin/sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a percent sign", "spiffe://cluster.local/ns/acme/sa/orders%", nil, policy.ReasonCertificateUnmatched},
		{"a parent segment", "spiffe://cluster.local/ns/../sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"an empty segment", "spiffe://cluster.local/ns//sa/orders", nil, policy.ReasonCertificateUnmatched},
		{"a slash at the end", "spiffe://cluster.local/ns/acme/sa/orders/", nil, policy.ReasonCertificateUnmatched},
		{"a segment more", "spiffe://cluster.local/ns/acme/sa/orders/x", nil, policy.ReasonCertificateUnmatched},
		{"a query", "spiffe://cluster.local/ns/acme/sa/orders?x", nil, policy.ReasonCertificateUnmatched},
		{"a fragment", "spiffe://cluster.local/ns/acme/sa/orders#x", nil, policy.ReasonCertificateUnmatched},
		{"a space", "spiffe://cluster.local/ns/acme/sa/orders ", nil, policy.ReasonCertificateUnmatched},
		{"two in one, as some proxies write them", "spiffe://cluster.local/ns/acme/sa/orders,spiffe://cluster.local/ns/ops/sa/admin", nil, policy.ReasonCertificateUnmatched},
		{"none", "", nil, policy.ReasonNoCredential},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request()
			r.SourcePrincipal = tt.certificate
			in := &Input{Request: r, Now: testNow}
			if got := m.Presented(in); got != (tt.certificate != "") {
				t.Errorf("Presented = %v", got)
			}
			for range 2 { // the second time from memory
				got := m.Authenticate(t.Context(), in)
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.want != nil) {
					t.Fatalf("Authenticate = %v, %v, want %v", got.Identity, got.Reason, tt.reason)
				}
				if tt.want != nil {
					want := *tt.want
					want.Authenticator, want.Realm = "mesh", "mesh"
					if !reflect.DeepEqual(normal(*got.Identity.Principal), normal(want)) {
						t.Errorf("Authenticate = %+v, want %+v", *got.Identity.Principal, want)
					}
				}
			}
		})
	}
	for _, tt := range []struct {
		rules []CertificateRule
		want  string
	}{
		{nil, "no pattern"},
		{[]CertificateRule{{Match: pattern(t, "a/{b}"), Principal: policy.Principal{Tenant: "{c}"}}}, "{c}"},
		{[]CertificateRule{{Match: pattern(t, "a/{b}"), Principal: policy.Principal{Roles: []string{"{b"}}}}, "refers"},
	} {
		if _, err := NewMTLS(testStamp, tt.rules); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewMTLS gives %v, want %q in it", err, tt.want)
		}
	}
}

// normal has nil for every empty list.
func normal(p policy.Principal) policy.Principal {
	for _, list := range []*[]string{&p.Roles, &p.Scopes, &p.Tenants} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	return p
}

func TestMTLSBesideOtherCredentials(t *testing.T) {
	m, err := NewMTLS(Stamp{Authenticator: "mesh", Realm: "mesh"}, []CertificateRule{{Match: pattern(t, "spiffe://a/{x}")}})
	if err != nil {
		t.Fatal(err)
	}
	users := Entry{Name: "users", Kind: KindJWT, Authenticator: testJWT(t, "users", "https://corp"), Places: []Place{bearer}}
	mesh := Entry{Name: "mesh", Kind: KindMTLS, Authenticator: m}
	gateway := users
	gateway.OnlyFrom = []Origin{{Principals: []*PrincipalPattern{pattern(t, "spiffe://a/gateway")}}}
	eve := []string{"authorization", "Bearer " + sign(t, "https://corp", "eve")}
	for _, tt := range []struct {
		name        string
		entries     []Entry
		certificate string
		headers     []string
		want        string
	}{
		{"a user through a mesh, users first", []Entry{users, mesh}, "spiffe://a/gateway", eve, "eve"},
		{"a service of the mesh, users first", []Entry{users, mesh}, "spiffe://a/orders", nil, "spiffe://a/orders"},
		{"a bad user does not become the service", []Entry{users, mesh}, "spiffe://a/orders", []string{"authorization", "Bearer x"}, "token_malformed by users"},
		{"the certificate first is final", []Entry{mesh, users}, "spiffe://b/x", eve, "certificate_unmatched by mesh"},
		{"a certificate required beside a user", []Entry{gateway}, "spiffe://a/gateway", eve, "eve"},
		{"a user with another certificate", []Entry{gateway}, "spiffe://a/orders", eve, "wrong_place by users"},
		{"a user without a certificate", []Entry{gateway}, "", eve, "wrong_place by users"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(tt.headers...)
			r.SourcePrincipal = tt.certificate
			if got := who(t, testSet(t, Options{}, tt.entries...), nil, r); got != tt.want {
				t.Errorf("Authenticate = %s, want %s", got, tt.want)
			}
		})
	}
}
