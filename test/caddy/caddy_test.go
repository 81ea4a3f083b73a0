package caddy

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestBehindCaddy(t *testing.T) {
	gatehouse, upstream := forwarding.Start(t)
	address := Start(t, "../../envoy/Caddyfile", gatehouse.HTTP, upstream)
	forwarding.Send(t, address, forwarding.Rows)
	key := []string{forwarding.Key}
	forwarding.Send(t, address, []forwarding.Row{
		{Name: "a path with two readings is 400", Request: "GET /me/%2e%2e/admin/", Headers: key, Status: 400},
		{Name: "two slashes are 400", Request: "GET //me/", Headers: key, Status: 400},
		{Name: "a spelling that the file does not remove is 400", Request: "GET /me/", Headers: append(key, "X-Tenant_id: globex"), Status: 400},
		{Name: "nor one with dots", Request: "GET /", Headers: []string{"x.roles: admin"}, Status: 400},
	})
	gatehouse.Stop()
	forwarding.Refused(t, address)
}
