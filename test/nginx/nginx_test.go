package nginx

import (
	"os"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

func TestBehindNginx(t *testing.T) {
	gatehouse, upstream := forwarding.Start(t)
	address := Start(t, "../../envoy/nginx.conf", gatehouse.HTTP, upstream)
	forwarding.Send(t, address, forwarding.Rows)
	key := []string{forwarding.Key}
	forwarding.Send(t, address, []forwarding.Row{
		{Name: "a path with two readings is 400", Request: "GET /me/%2e%2e/admin/", Headers: key, Status: 400},
		{Name: "two slashes are 400", Request: "GET //me/", Headers: key, Status: 400},
		{Name: "every other spelling ends at nginx", Request: "GET /me/", Headers: append(key, "X-Tenant_id: globex", "X.Roles: admin"), Status: 200, Upstream: forwarding.Identity},
		{Name: "gatehouse's own path is not to be had", Request: "GET /_gatehouse", Status: 404},
	})
	gatehouse.Stop()
	forwarding.Refused(t, address)
}
