package systems

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/keycloak"
)

func testConduktor(t *testing.T, kc *keycloak.Server) {
	const consoleIssuer, consoleSecret = "https://console.example.org", "console-secret-0123456789abcdef0123456789"
	kc.Wait(t, "conduktor")
	between := front(t, kc.Base())
	kc = kc.At(between.url)
	environment := []string{
		"CDK_SSO_JWTAUTH_ISSUER=" + kc.Issuer("conduktor"), "CONSOLE_ISSUER=" + consoleIssuer, "CONSOLE_JWT_SECRET=" + consoleSecret,
		"CONSOLE_API_KEY=conduktor-key-0123456789abcdef",
	}
	s, _, e := start(t, "conduktor", "CDK", environment...)
	s.through = e.Address(t, "front")
	user := func(client, name string) string {
		return kc.Password(t, "conduktor", client, "", name, "").AccessToken
	}
	ada, key, bogus, nobody := user("console", "ada"), user("console", "key"), user("console", "bogus"), user("console-without-email", "bogus")
	console := func(expires time.Time) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": consoleIssuer, "sub": "root", "email": "root@example.org", "exp": expires.Unix()}).SignedString([]byte(consoleSecret))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	basic := func(scheme, pair string) string {
		return "Authorization: " + scheme + " " + base64.StdEncoding.EncodeToString([]byte(pair))
	}
	stranger := kc.Password(t, "horao", "horao", "", "ada", "").AccessToken

	s.run(
		Case{Requires: "CDK 1, CDK 9", Name: "any token of the issuer is good, and goes upstream unchanged", Request: "GET /api/topics", Headers: cat(bearer(ada)), Status: 200,
			Upstream: map[string]string{"authorization": "Bearer " + ada, "x-user-email": "ada@example.org", "x-groups": "team-a", "x-api-key-id": ""}},
		Case{Requires: "CDK 1", Name: "a token of another realm of the same server is refused", Request: "GET /api/topics", Headers: cat(bearer(stranger)), Status: 401},
		Case{Requires: "CDK 1", Name: "no token is refused", Request: "GET /api/topics", Status: 401},
		Case{Requires: "CDK 2", Name: "neither a good key nor an email", Request: "GET /api/topics", Headers: cat(bearer(nobody)), Status: 401},
		Case{Requires: "CDK 3", Name: "a valid key in the token is the principal", Request: "GET /api/topics", Headers: cat(bearer(key)), Status: 200,
			Upstream: map[string]string{"x-api-key-id": "k-valid", "x-user-email": "", "x-groups": "", "authorization": "Bearer " + key}},
		Case{Requires: "CDK 3", Name: "an invalid key falls back to the email", Request: "GET /api/topics", Headers: cat(bearer(bogus)), Status: 200,
			Upstream: map[string]string{"x-api-key-id": "", "x-user-email": "bogus@example.org"}},
		Case{Requires: "CDK 3", Name: "a key outside a token is nothing", Request: "GET /api/topics", Headers: cat("X-API-Key: conduktor-key-0123456789abcdef"), Status: 401},
		Case{Requires: "CDK 5", Name: "groups are mapped, strangers dropped, a forged header replaced", Request: "GET /api/topics", Headers: cat(bearer(ada), "X-Groups: admin", "X-User-Email: root@example.org"), Status: 200,
			Upstream: map[string]string{"x-groups": "team-a", "x-user-email": "ada@example.org"}},
		Case{Requires: "CDK 5", Name: "who has no groups gets none", Request: "GET /api/topics", Headers: cat(bearer(bogus), "X-Groups: team-a"), Status: 200,
			Upstream: map[string]string{"x-groups": ""}},
		Case{Requires: "CDK 6", Name: "a token of Console itself", Request: "GET /api/topics", Headers: cat(bearer(console(time.Now().Add(time.Minute)))), Status: 200,
			Upstream: map[string]string{"x-user-email": "root@example.org"}},
		Case{Requires: "CDK 6", Name: "an expired token of Console", Request: "GET /api/topics", Headers: cat(bearer(console(time.Now().Add(-time.Second)))), Status: 401},
		Case{Requires: "CDK 7", Name: "the wrong secret", Request: "GET /api/topics", Headers: cat(basic("Basic", "cdk-cli:wrong")), Status: 401},
		Case{Requires: "CDK 7", Name: "what is not base64", Request: "GET /api/topics", Headers: cat("Authorization: Basic !!!"), Status: 401},
		Case{Requires: "CDK 7", Name: "Basic and Bearer together", Request: "GET /api/topics", Headers: cat(basic("Basic", "cdk-cli:cdk-cli:secret"), bearer(ada)), Status: 400},
		Case{Requires: "CDK 8", Name: "the login is open", Request: "POST /api/login", Headers: cat("Content-Length: 0", "X-User-Email: root@example.org"), Status: 200,
			Upstream: map[string]string{"x-user-email": "", "authorization": ""}},
		Case{Requires: "CDK 8", Name: "what is called public is not", Request: "GET /api/public/topics", Status: 401},
		Case{Requires: "CDK 8", Name: "another method of the login is not", Request: "GET /api/login", Status: 401},
	)
	s.prove("CDK 7", "client credentials are exchanged once, however many requests", func(t *testing.T) {
		before := between.count("token")
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				scheme := []string{"Basic", "bAsIc"}[i%2]
				answer, err := harness.TrySend(s.through, "GET /api/topics", basic(scheme, "cdk-cli:cdk-cli:secret"))
				if err != nil {
					t.Error(err)
					return
				}
				if answer.Status != 200 {
					t.Errorf("status %d: %s", answer.Status, answer.Body)
					return
				}
				upstream := strings.Join(harness.Folded(answer.Upstream, "authorization", "x-user-email"), "\n")
				if !strings.Contains(upstream, "authorization: Bearer ey") || !strings.Contains(upstream, "x-user-email: cli@example.org") {
					t.Errorf("upstream received %s", upstream)
				}
			})
		}
		wg.Wait()
		if got := between.count("token") - before; got != 1 {
			t.Errorf("the token endpoint was asked %d times, want once", got)
		}
	})
	s.prove("CDK 7", "an outage of the token endpoint is no wrong password", func(t *testing.T) {
		between.down.Store(true)
		defer between.down.Store(false)
		answer := harness.Send(t, s.through, "GET /api/topics", basic("Basic", "other-client:secret"))
		if answer.Status != 503 || answer.Header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q, want 503", answer.Status, answer.Header.Get("Retry-After"))
		}
		if answer := harness.Send(t, s.through, "GET /api/topics", bearer(ada)); answer.Status != 200 {
			t.Errorf("a known token during the outage: %d", answer.Status)
		}
	})
	s.prove("CDK 7", "failures are limited, so that the gateway is no password oracle", func(t *testing.T) {
		before := between.count("token")
		for range 40 {
			if answer := harness.Send(t, s.through, "GET /api/topics", basic("Basic", "victim:guess")); answer.Status != 401 {
				t.Fatalf("status %d", answer.Status)
			}
		}
		if got := between.count("token") - before; got >= 40 {
			t.Errorf("each of 40 guesses was asked at the provider")
		}
	})
	s.prove("CDK 4", "a new user appears in the directory and can be disabled", func(t *testing.T) {
		conduktorDirectory(t, s, ada)
	})
	s.prove("CDK 4", "without provisioning an unknown user is refused", func(t *testing.T) {
		closed := startGatehouse(t, "conduktor", append(environment, "PROVISION=false")...)
		e := harness.StartEnvoyFile(t, "conduktor/envoy.yaml", closed.GRPC, serveEcho(t).Address())
		if answer := harness.Send(t, e.Address(t, "front"), "GET /api/topics", bearer(ada)); answer.Status != http.StatusForbidden {
			t.Errorf("status %d, want 403: %s", answer.Status, answer.Body)
		}
	})
	conduktorClaims(s, environment)
	s.prove("CDK 9", "a discovery document of another issuer is never accepted", func(t *testing.T) {
		good := idp.Start(t)
		liar := front(t, good.Issuer) // its document names the issuer behind it
		closed := startGatehouse(t, "conduktor", append(environment, "CDK_SSO_JWTAUTH_ISSUER="+liar.url)...)
		e := harness.StartEnvoyFile(t, "conduktor/envoy.yaml", closed.GRPC, serveEcho(t).Address())
		token := good.Token(t, idp.Claims{"iss": liar.url, "email": "ada@example.org"})
		if answer := harness.Send(t, e.Address(t, "front"), "GET /api/topics", bearer(token)); answer.Status != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503: %s", answer.Status, answer.Body)
		}
	})
	s.complete(9)
}

// conduktorDirectory disables somebody who was seen.
func conduktorDirectory(t *testing.T, s *Suite, ada string) {
	harness.Eventually(t, 10*time.Second, func() error { // people are written in batches
		if people := s.gatehouse(t, "users", "list"); !strings.Contains(people, "ada@example.org") || !strings.Contains(people, "team-a") {
			return fmt.Errorf("the directory does not show the user and the group: %s", people)
		}
		return nil
	})
	status := func(want int) {
		t.Helper()
		harness.Eventually(t, 2*time.Second, func() error { // the promise is one second
			if got := harness.Send(t, s.through, "GET /api/topics", bearer(ada)).Status; got != want {
				return fmt.Errorf("status %d, want %d", got, want)
			}
			return nil
		})
	}
	s.gatehouse(t, "users", "disable", "ada@example.org")
	status(http.StatusForbidden)
	s.gatehouse(t, "users", "enable", "ada@example.org")
	status(http.StatusOK)
}

// conduktorClaims tries claims that Keycloak would not make.
func conduktorClaims(s *Suite, environment []string) {
	issuer := idp.Start(s.t)
	g := startGatehouse(s.t, "conduktor", append(environment, "CDK_SSO_JWTAUTH_ISSUER="+issuer.Issuer, "CDK_SSO_JWTAUTH_USERNAMECLAIM=mail")...)
	e := harness.StartEnvoyFile(s.t, "conduktor/envoy.yaml", g.GRPC, serveEcho(s.t).Address())
	through := e.Address(s.t, "front")
	with := func(requires, name string, claims idp.Claims, status int, upstream map[string]string) Case {
		return Case{Requires: requires, Name: name, Through: through, Request: "GET /api/topics", Headers: cat(bearer(issuer.Token(s.t, claims))), Status: status, Upstream: upstream}
	}
	mail := map[string]string{"x-user-email": "m@example.org", "x-api-key-id": ""}
	s.run(
		with("CDK 2", "the name of the email claim is configuration", idp.Claims{"mail": "m@example.org", "email": "e@example.org"}, 200, mail),
		with("CDK 2", "the default name is then nothing", idp.Claims{"email": "e@example.org"}, 401, nil),
		with("CDK 3", "an empty key counts as absent", idp.Claims{"apikey": "", "mail": "m@example.org"}, 200, mail),
		with("CDK 3", "a number for a key counts as absent", idp.Claims{"apikey": 7, "mail": "m@example.org"}, 200, mail),
		with("CDK 3", "a list for a key counts as absent", idp.Claims{"apikey": []any{"conduktor-key-0123456789abcdef"}, "mail": "m@example.org"}, 200, mail),
		with("CDK 3", "an email that is a list", idp.Claims{"mail": []any{"m@example.org"}}, 401, nil),
		with("CDK 3", "an email that is empty", idp.Claims{"mail": ""}, 401, nil),
		with("CDK 3", "an email that is true", idp.Claims{"mail": true}, 401, nil),
		with("CDK 5", "one group as a text", idp.Claims{"mail": "m@example.org", "groups": "project-b"}, 200, map[string]string{"x-groups": "team-b"}),
		with("CDK 5", "both groups", idp.Claims{"mail": "m@example.org", "groups": []any{"project-a", "zzz", "project-b"}}, 200, map[string]string{"x-groups": "team-a,team-b"}),
		with("CDK 5", "what the next token lacks is gone", idp.Claims{"mail": "m@example.org", "groups": []any{"project-b"}}, 200, map[string]string{"x-groups": "team-b"}),
	)
}
