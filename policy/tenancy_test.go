package policy

import (
	"slices"
	"testing"
)

// The table of tenant selection in the multi-tenant system that this is for, row by row.
func TestSemantics35TenantSelection(t *testing.T) {
	tenantOf := func(tenant string, trusted bool) *Principal {
		return orchestrate.Resolve(Principal{Authenticator: "a", Tenant: tenant, Username: "kept"}, trusted)
	}
	const cleared = ""
	for _, tt := range []struct {
		name     string
		p        *Principal
		want     Selection
		tenant   string
		username string
		readable []string
		reason   Reason // ReasonNone: selected
	}{
		{"nothing selected", tenantOf("foo", false), Selection{}, "foo", "kept", []string{"_", "foo"}, ReasonNone},
		{"its own tenant", tenantOf("foo", false), Selection{Tenant: "foo"}, "foo", cleared, []string{"_", "foo"}, ReasonNone},
		{"the default", tenantOf("foo", false), Selection{Tenant: "_"}, "_", cleared, []string{"_"}, ReasonNone},
		{"another", tenantOf("foo", false), Selection{Tenant: "bar"}, "", "", nil, ReasonTenantNotSelectable},
		{"the wildcard", tenantOf("foo", false), Selection{Tenant: "*"}, "", "", nil, ReasonTenantNotSelectable},
		{"a child", tenantOf("foo", false), Selection{Tenant: "foo:child"}, "", "", nil, ReasonTenantNotSelectable},
		{"nested, nothing selected", tenantOf("a:b:c", false), Selection{}, "a:b:c", "kept", []string{"_", "a", "a:b", "a:b:c"}, ReasonNone},
		{"its outermost ancestor", tenantOf("a:b:c", false), Selection{Tenant: "a"}, "a", cleared, []string{"_", "a"}, ReasonNone},
		{"an ancestor", tenantOf("a:b:c", false), Selection{Tenant: "a:b"}, "a:b", cleared, []string{"_", "a", "a:b"}, ReasonNone},
		{"nested, itself", tenantOf("a:b:c", false), Selection{Tenant: "a:b:c"}, "a:b:c", cleared, []string{"_", "a", "a:b", "a:b:c"}, ReasonNone},
		{"nested, a child", tenantOf("a:b:c", false), Selection{Tenant: "a:b:c:d"}, "", "", nil, ReasonTenantNotSelectable},
		{"nested, another", tenantOf("a:b:c", false), Selection{Tenant: "b"}, "", "", nil, ReasonTenantNotSelectable},
		{"a wildcard caller, nothing selected", tenantOf("*", true), Selection{}, "_", "kept", []string{"*"}, ReasonNone},
		{"a wildcard caller, any name", tenantOf("*", true), Selection{Tenant: "x:y"}, "x:y", cleared, []string{"_", "x", "x:y"}, ReasonNone},
		{"a wildcard caller, the default", tenantOf("*", true), Selection{Tenant: "_"}, "_", cleared, []string{"_"}, ReasonNone},
		{"a wildcard caller, the wildcard", tenantOf("*", true), Selection{Tenant: "*"}, "", "", nil, ReasonTenantNotSelectable},
		{"a wildcard claim that is not trusted", tenantOf("*", false), Selection{Tenant: "x"}, "", "", nil, ReasonTenantNotSelectable},

		{"an empty last part", tenantOf("foo", false), Selection{Tenant: "foo:"}, "", "", nil, ReasonTenantNotSelectable},
		{"an empty first part", tenantOf("*", true), Selection{Tenant: ":a"}, "", "", nil, ReasonTenantNotSelectable},
		{"an empty part in the middle", tenantOf("*", true), Selection{Tenant: "a::b"}, "", "", nil, ReasonTenantNotSelectable},
		{"the wildcard as a part", tenantOf("*", true), Selection{Tenant: "a:*"}, "", "", nil, ReasonTenantNotSelectable},

		{"a user, where the authenticator may name one", tenantOf("*", true), Selection{Tenant: "foo", Username: "u", Impersonate: true}, "foo", "u", []string{"_", "foo"}, ReasonNone},
		{"a user without a tenant", tenantOf("*", true), Selection{Username: "u", Impersonate: true}, "_", "u", []string{"*"}, ReasonNone},
		{"a user, where it may not", tenantOf("foo", false), Selection{Username: "u"}, "", "", nil, ReasonTenantNotSelectable},
		{"its own name, where it may not", tenantOf("foo", false), Selection{Username: "kept"}, "", "", nil, ReasonTenantNotSelectable},

		{"two header lines joined", tenantOf("*", true), Selection{Tenant: "foo,bar"}, "", "", nil, ReasonSelectionRepeated},
		{"two users joined", tenantOf("*", true), Selection{Username: "a,b", Impersonate: true}, "", "", nil, ReasonSelectionRepeated},
		{"space around", tenantOf("foo", false), Selection{Tenant: " foo"}, "", "", nil, ReasonSelectionRepeated},
		{"a control character", tenantOf("foo", false), Selection{Tenant: "foo\x00"}, "", "", nil, ReasonSelectionRepeated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := *tt.p
			got, reason, ok := orchestrate.Select(tt.p, tt.want)
			if tt.reason != ReasonNone {
				if ok || got != nil || reason != tt.reason {
					t.Fatalf("Select = %+v, %v, %v, want %v", got, reason, ok, tt.reason)
				}
				return
			}
			if !ok || got.Tenant != tt.tenant || got.Username != tt.username || !slices.Equal(got.Tenants, tt.readable) {
				t.Fatalf("Select = %+v, %v, want tenant %q, username %q, readable %q", got, reason, tt.tenant, tt.username, tt.readable)
			}
			if tt.p.Tenant != before.Tenant || tt.p.Username != before.Username {
				t.Errorf("Select changed the principal it was given: %+v", tt.p)
			}
			if tt.want.Tenant != "" && got.Wildcard {
				t.Error("who selected a tenant still reads all of them")
			}
		})
	}
	if p, _, ok := orchestrate.Select(nil, Selection{Tenant: "foo"}); p != nil || !ok {
		t.Errorf("Select without a principal = %v, %v, want none, and no refusal", p, ok)
	}
	if _, reason, ok := (*Tenancy)(nil).Select(tenantOf("foo", false), Selection{Tenant: "foo"}); ok || reason != ReasonTenantNotSelectable {
		t.Errorf("Select without tenancy = %v, %v, want refused", reason, ok)
	}
}

func TestSelectedWildcardUsername(t *testing.T) {
	p := orchestrate.Resolve(Principal{Tenant: "*"}, true)
	got, _, ok := orchestrate.Select(p, Selection{Tenant: "foo", Username: "*", Impersonate: true})
	if !ok || !got.WildcardOwner || got.Username != "*" {
		t.Errorf("Select = %+v, %v, want every owner", got, ok)
	}
}
