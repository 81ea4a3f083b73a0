package systems

import (
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/nginx"
)

func odjThroughNginx(t *testing.T, g *harness.Gatehouse, aad, myapi string) {
	const ui, api = "Host: ui.example", "Host: api.example"
	s := &Suite{t: t, proven: map[string][]string{}, through: nginx.Start(t, "odj/nginx.conf", g.HTTP, serveEcho(t).Address())}
	location := map[string]string{"location": "https://ui.example/authenticate?redirect_uri=%2Fapp%3Fa%3Db"}
	s.run(
		Case{Requires: "ODJ 6", Name: "a valid token", Request: "GET /things", Headers: cat(api, bearer(aad), "X-Auth-Id: root"), Status: 200,
			Upstream: map[string]string{"x-auth-source": "aad", "x-auth-id": "ada-1", "x-auth-email": "ada@example.org", "x-auth-products": "", "authorization": ""}},
		Case{Requires: "ODJ 6", Name: "no token", Request: "GET /things", Headers: cat(api), Status: 401},
		Case{Requires: "ODJ 6", Name: "an empty token", Request: "GET /things", Headers: cat(api, "Authorization: Bearer "), Status: 401},
		Case{Requires: "ODJ 6", Name: "an invalid token", Request: "GET /things", Headers: cat(api, bearer("garbage")), Status: 401},
		Case{Requires: "ODJ 6", Name: "a machine on its route", Request: "POST /core/x", Headers: cat(api, bearer(myapi), "Content-Length: 0"), Status: 200},
		Case{Requires: "ODJ 6", Name: "a user on a machine's route", Request: "POST /core/x", Headers: cat(api, bearer(aad), "Content-Length: 0"), Status: 403},
		Case{Requires: "ODJ 5", Name: "sign-in through nginx", Request: "GET /app?a=b", Headers: cat(ui), Status: 302, Client: location},
		Case{Requires: "ODJ 5", Name: "the landing page through nginx", Request: "GET /", Headers: cat(ui), Status: 200, Upstream: map[string]string{"x-auth-id": ""}},
		Case{Requires: "ODJ 6", Name: "a client cannot say another path", Request: "GET /things", Headers: cat(api, "X-Original-URI: /", "X-Original-Host: ui.example", "X-Forwarded-Uri: /", "X-Forwarded-Host: ui.example"), Status: 401},
	)
}

func authotronThroughNginx(t *testing.T, g *harness.Gatehouse, good, bad string) {
	s := &Suite{t: t, proven: map[string][]string{}, through: nginx.Start(t, "auth-o-tron/nginx.conf", g.HTTP, serveEcho(t).Address())}
	s.run(Case{Requires: "AOT 2", Name: "a wrong password", Request: "GET /x", Headers: cat(bad), Status: 401})
	if claims := minted(t, s.through, good); claims["realm"] != "ecmwf" || claims["username"] != "adam" {
		t.Errorf("minted claims = %v", claims)
	}
}
