package meshtest

import "net/http"

// What the application sees of the callers below.
var (
	// Reader is a workload of the namespace demo.
	Reader = []string{"x-roles: reader", "x-tenant-id: demo", "x-user: demo/client"}
	// Alice is a person with the group reader.
	Alice  = []string{"x-roles: reader", "x-user: alice@example.com"}
	writer = []string{"x-roles: reader,writer", "x-tenant-id: billing", "x-user: billing/reports"}
)

// Forged are identity headers that a client made up.
var Forged = http.Header{"X-User": {"root"}, "X-Roles": {"writer"}, "X-Tenant-Id": {"billing"}}

// Bearer is the header with a token.
func Bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// SidecarRows hold for each policy: all targets are below /api/. alice is a token of hers
// with the group reader.
func SidecarRows(alice string) []Row {
	return []Row{
		{"a workload reads", Sidecar, "ns/demo/sa/client", "GET /api/orders", nil, 200, Reader},
		{"forged identity headers do not arrive", Sidecar, "ns/demo/sa/client", "GET /api/orders", Forged, 200, Reader},
		{"a forged certificate header gives no identity", Sidecar, "ns/demo/sa/client", "POST /api/orders",
			http.Header{"X-Forwarded-Client-Cert": {"By=spiffe://cluster.local/ns/demo/sa/echo;Hash=00;Subject=\"\";URI=spiffe://cluster.local/ns/billing/sa/reports"}}, 403, nil},
		{"a workload of another namespace has the roles of its pattern", Sidecar, "ns/billing/sa/reports", "POST /api/orders", nil, 200, writer},
		{"a role that the pattern does not give is missing", Sidecar, "ns/demo/sa/client", "POST /api/orders", nil, 403, nil},
		{"an identity that no pattern names is nobody", Sidecar, "system/node", "GET /api/orders", nil, 401, nil},
		{"an identity with more segments than the pattern is nobody", Sidecar, "ns/billing/sa/reports/x", "GET /api/orders", nil, 401, nil},
		{"a token goes before the certificate", Sidecar, "ns/billing/sa/reports", "POST /api/orders", Bearer(alice), 403, nil},
		{"a token's bearer reads", Sidecar, "ns/billing/sa/reports", "GET /api/orders", Bearer(alice), 200, Alice},
		{"a broken token is not made good by a certificate", Sidecar, "ns/billing/sa/reports", "GET /api/orders", Bearer(alice + "x"), 401, nil},
		{"dot segments are resolved before the check", Sidecar, "ns/demo/sa/client", "GET /public/../api/orders", nil, 200, Reader},
	}
}

// GatewayRows hold for each policy as well. No caller has an identity here.
func GatewayRows(alice string) []Row {
	return []Row{
		{"nobody is refused", Gateway, "", "GET /api/orders", nil, 401, nil},
		{"forged identity headers make nobody somebody", Gateway, "", "GET /api/orders", Forged, 401, nil},
		{"a certificate header from outside gives no identity", Gateway, "", "GET /api/orders",
			http.Header{"X-Forwarded-Client-Cert": {"URI=spiffe://cluster.local/ns/billing/sa/reports"}}, 401, nil},
		{"a token's bearer reads", Gateway, "", "GET /api/orders", Bearer(alice), 200, Alice},
		{"a token's bearer does not write", Gateway, "", "POST /api/orders", Bearer(alice), 403, nil},
	}
}

// EveryRequestRows are what the policy for every request (rules: [{}]) is for.
func EveryRequestRows(alice string) []Row {
	return []Row{
		{"two slashes have two readings", Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 400, nil},
		{"an encoded slash has two readings", Sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 400, nil},
		{"capitals are another path", Sidecar, "ns/demo/sa/client", "GET /API/orders", nil, 403, nil},
		{"what no route covers is forbidden", Gateway, "", "GET /elsewhere", Bearer(alice), 403, nil},
		{"a public route is public", Gateway, "", "GET /healthz", nil, 200, nil},
		{"on a public route forged identity headers do not arrive", Gateway, "", "GET /healthz", Forged, 200, nil},
	}
}

// NamedPathsRows are why envoy/istio says rules: [{}]: a policy for /api/* leaves these out.
func NamedPathsRows() []Row {
	return []Row{
		{"a policy that names paths does not ask about two slashes", Sidecar, "ns/demo/sa/client", "GET //api/orders", nil, 200, nil},
		{"nor about an encoded slash", Sidecar, "ns/demo/sa/client", "GET /%2fapi/orders", nil, 200, nil},
		{"nor about capitals", Sidecar, "ns/demo/sa/client", "GET /API/orders", nil, 200, nil},
	}
}

// OutageRows hold while nobody answers for gatehouse.
func OutageRows() []Row {
	return []Row{
		{"an outage is no refusal", Sidecar, "ns/billing/sa/reports", "GET /api/orders", nil, 503, nil},
		{"a public route is closed as well", Gateway, "", "GET /healthz", nil, 503, nil},
		{"an outage at the gateway is no refusal either", Gateway, "", "GET /api/orders", nil, 503, nil},
	}
}
