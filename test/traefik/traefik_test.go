package traefik

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/gatehouse-authz/gatehouse/test/forwarding"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv("ACCEPTANCE") == "" {
		fmt.Println("The live Traefik is part of make acceptance.")
		return
	}
	os.Exit(harness.Main(m))
}

func TestBehindTraefik(t *testing.T) {
	gatehouse, upstream := forwarding.Start(t)
	address := Start(t, "../../envoy/traefik", gatehouse.HTTP, upstream)
	// It listens before it has read its routes.
	harness.Eventually(t, 30*time.Second, func() error {
		if got, err := harness.TrySend(address, "GET /"); err != nil || got.Status != 200 {
			return fmt.Errorf("%d, %w", got.Status, err)
		}
		return nil
	})
	forwarding.Send(t, address, forwarding.Rows)
	key := []string{forwarding.Key}
	forwarding.Send(t, address, []forwarding.Row{
		// What Traefik resolves is decided on as resolved, and goes on like that.
		{Name: "dots do not lead around a decision", Request: "GET /me/../admin/", Headers: key, Status: 403},
		{Name: "nor encoded ones", Request: "GET /me/%2e%2e/admin/", Headers: key, Status: 403},
		{Name: "nor slashes", Request: "GET //admin/", Headers: key, Status: 403},
		{Name: "two slashes become one", Request: "GET //me/", Headers: key, Status: 200, Upstream: forwarding.Identity, Target: "/me/"},
		{Name: "what is encoded without need is decoded", Request: "GET /%6de/%61?q=%61", Headers: key, Status: 200, Upstream: forwarding.Identity, Target: "/me/a?q=%61"},
		{Name: "an encoded backslash is 400", Request: "GET /me/a%5Cb", Headers: key, Status: 400},
		{Name: "an encoded NUL is 400", Request: "GET /me/a%00b", Headers: key, Status: 400},
		{Name: "an encoded percent sign is 400", Request: "GET /me/%252e%252e/admin/", Headers: key, Status: 400},
		{Name: "a fragment is 400", Request: "GET /me/#/../admin/", Headers: key, Status: 400},
		{Name: "a target of another host is decided as that", Request: "GET http://ui.example.com/admin/", Headers: key, Status: 403},
		// Headers that forwardAuth itself knows, and spellings that the file does not remove.
		{Name: "a mixed spelling is 400", Request: "GET /me/", Headers: append(key, "X-Tenant_id: globex"), Status: 400},
		{Name: "dots are 400", Request: "GET /", Headers: []string{"x.roles: admin"}, Status: 400},
		{Name: "a second identity header is replaced as well", Request: "GET /me/", Headers: append(key, "X-Tenant-Id: a", "x-tenant-id: b"), Status: 200, Upstream: forwarding.Identity},
		{Name: "a credential that Connection names ends at Traefik", Request: "GET /me/", Headers: append(key, "Connection: X-Api-Key"), Status: 401},
		{Name: "Connection takes no identity from the upstream", Request: "GET /me/", Headers: append(key, "Connection: X-Tenant-Id, X-User, X-Roles"), Status: 200, Upstream: forwarding.Identity},
		{Name: "another scheme changes nothing", Request: "GET /me/", Headers: append(key, "X-Forwarded-Proto: https", "X-Forwarded-Port: 443"), Status: 200, Upstream: forwarding.Identity},
		{Name: "a cookie is as good as a header", Request: "GET /me/", Headers: []string{forwarding.Cookie}, Status: 200, Upstream: forwarding.Identity},
		{Name: "a wrong cookie is 401", Request: "GET /me/", Headers: []string{"Cookie: key=wrong"}, Status: 401},
	})
	t.Run("a body arrives whole", func(t *testing.T) {
		body := strings.Repeat("0123456789abcdef", 4096)
		got := harness.SendFrom(t, forwarding.Client, address, "POST /me/", forwarding.Key, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
		if got.Upstream == nil || got.Upstream.Body != body || got.Upstream.Method != "POST" {
			t.Errorf("POST: %d, %.200s", got.Status, got.Body)
		}
	})
	t.Run("the upstream is told where a request comes from by Traefik only", func(t *testing.T) {
		got := harness.SendFrom(t, forwarding.Client, address, "GET /", "X-Forwarded-For: 192.0.2.1", "X-Real-Ip: 192.0.2.1", "X-Forwarded-Host: evil.example")
		have := harness.Folded(got.Upstream, "x-forwarded-for", "x-real-ip", "x-forwarded-host")
		if want := "[X-Forwarded-For: 127.0.0.2 X-Forwarded-Host: example.com X-Real-Ip: 127.0.0.2]"; fmt.Sprint(have) != want {
			t.Errorf("the upstream received %v, want %s", have, want)
		}
	})
	t.Run("a cookie that is a credential goes on", func(t *testing.T) { // envoy/README.md says so
		got := harness.SendFrom(t, forwarding.Client, address, "GET /me/", forwarding.Cookie)
		if have := harness.Folded(got.Upstream, "cookie"); len(have) != 1 || have[0] != forwarding.Cookie {
			t.Errorf("the upstream received %q", have)
		}
	})
	t.Run("a websocket is decided at its handshake", func(t *testing.T) { socket(t, address) })
	gatehouse.Stop()
	forwarding.Refused(t, address)
}

// socket opens one with a credential, and none without.
func socket(t *testing.T, address string) {
	open := func(cookie string) (*websocket.Conn, error) {
		config, err := websocket.NewConfig("ws://"+address+"/me/socket", "http://"+address)
		if err != nil {
			t.Fatal(err)
		}
		config.Header.Set("Cookie", cookie)
		config.Dialer = forwarding.Dialer()
		return websocket.DialConfig(config)
	}
	if conn, err := open("a=1"); err == nil {
		conn.Close()
		t.Error("a websocket without a credential opens")
	}
	_, cookie, _ := strings.Cut(forwarding.Cookie, ": ")
	conn, err := open(cookie)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := websocket.Message.Send(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(conn, &back); err != nil || back != "hello" {
		t.Errorf("the websocket gives back %q, %v", back, err)
	}
}
