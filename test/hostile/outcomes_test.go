package hostile

import "fmt"

// outcomeRows are rows of the tables that other authorization services test themselves
// with, put into this configuration: who, does what, and what comes of it.
func (s *stack) outcomeRows() []row {
	var rows []row
	who := map[string][]header{
		"nobody":                nil,
		"reader":                s.bearer(s.token(nil)),
		"writer":                s.bearer(s.token(map[string]any{"groups": []string{}, "scope": "orders:write other"})),
		"both":                  s.bearer(s.token(map[string]any{"scope": []string{"orders:read", "orders:write"}})),
		"scopeless":             s.bearer(s.token(map[string]any{"groups": "reader", "scope": nil})),
		"admin":                 s.bearer(s.token(map[string]any{"groups": []string{"ops-team"}, "amr": []string{"pwd", "mfa"}})),
		"admin without mfa":     s.bearer(s.token(map[string]any{"groups": []string{"ops-team"}, "amr": nil})),
		"admin of another name": s.bearer(s.token(map[string]any{"groups": []string{"administrator", "admins", "Admin", "admin "}, "amr": []string{"mfa"}})),
		"child":                 s.bearer(s.token(map[string]any{"tenant": "acme:child"})),
		"other":                 s.bearer(s.token(map[string]any{"tenant": "other", "department": "support"})),
		"tenantless":            s.bearer(s.token(map[string]any{"tenant": nil, "department": nil})),
		"department of two":     s.bearer(s.token(map[string]any{"tenant": "third", "department": []string{"hr", "sales"}})),
		"service":               {{"x-api-key", batchKey}},
		"acme key":              {{"x-api-key", acmeKey}},
		"adam":                  {basic("adam", adamPassword)},
		"console":               s.bearer(consoleToken(map[string]any{"sub": "alice", "groups": []string{"admin"}, "tenant": "acme"})),
	}
	const (
		read, write         = "GET /tenants/acme/orders/1", "POST /tenants/acme/orders"
		yes, no, scope      = "200 requirement_met", "403 requirement_not_met", "403 insufficient_scope"
		hidden, credential  = "404 requirement_not_met", "401 no_credential"
		expression, nowhere = "403 expression_error", "403 no_route"
	)
	for _, r := range []struct{ who, does, want string }{
		{"nobody", read, credential}, {"reader", read, yes}, {"writer", read, no}, {"both", read, yes}, {"scopeless", read, yes}, {"admin", read, yes}, {"child", read, yes},
		{"other", read, no}, {"tenantless", read, no}, {"department of two", read, no}, {"service", read, yes}, {"acme key", read, no}, {"adam", read, no}, {"console", read, no},
		{"nobody", write, credential}, {"reader", write, scope}, {"writer", write, yes}, {"both", write, yes}, {"scopeless", write, scope}, {"admin", write, scope}, {"child", write, no},
		{"other", write, no}, {"tenantless", write, no}, {"department of two", write, no}, {"service", write, no}, {"acme key", write, scope}, {"adam", write, yes}, {"console", write, no},
		{"nobody", "GET /admin/", credential}, {"reader", "GET /admin/", hidden}, {"admin", "GET /admin/", yes}, {"admin", "DELETE /admin/x", yes}, {"admin without mfa", "GET /admin/", hidden},
		{"admin of another name", "GET /admin/", hidden}, {"service", "GET /admin/", hidden}, {"console", "GET /admin/", hidden}, {"adam", "GET /admin/", hidden},
		{"reader", "GET /users/alice", yes}, {"reader", "GET /users/bob", no}, {"console", "GET /users/alice", no}, {"service", "GET /users/alice", no}, {"nobody", "GET /users/alice", credential},
		{"reader", "GET /sales/", yes}, {"other", "GET /sales/", yes}, {"department of two", "GET /sales/", yes}, {"tenantless", "GET /sales/", no}, {"service", "GET /sales/", no},
		{"reader", "GET /broken/", yes}, {"other", "GET /broken/", yes}, {"tenantless", "GET /broken/", expression}, {"department of two", "GET /broken/", expression}, {"service", "GET /broken/", expression},
		{"reader", "POST /orders.Orders/Get", yes}, {"adam", "POST /orders.Orders/Get", no}, {"nobody", "POST /orders.Orders/Get", credential}, {"reader", "GET /orders.Orders/Get", nowhere},
		{"reader", "POST /orders.Order/Get", nowhere}, {"reader", "POST /orders.Orders", yes}, {"admin", "GET /internal/x", "403 route_forbids"}, {"nobody", "GET /internal/x", "403 route_forbids"},
		{"nobody", "GET /nowhere", nowhere}, {"admin", "GET /nowhere", nowhere}, {"nobody", "GET /public/x", "200 public"}, {"admin", "GET /public/x", "200 public"}, {"nobody", "POST /login", "200 public"},
		{"reader", "PUT /cors/x", yes}, {"nobody", "PUT /cors/x", credential}, {"reader", "GET /keep/", yes}, {"adam", "GET /me/", yes}, {"acme key", "GET /names/", "200 public"},
	} {
		var method, path string
		if _, err := fmt.Sscan(r.does, &method, &path); err != nil {
			panic(err)
		}
		rows = append(rows, row{r.who + ": " + r.does, request{method: method, host: "h.example", path: path, headers: who[r.who]}, r.want})
	}
	return rows
}
