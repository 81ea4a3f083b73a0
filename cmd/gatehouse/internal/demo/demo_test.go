package demo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// TestIssuer verifies a token as a stranger would: discovery, key set, signature.
func TestIssuer(t *testing.T) {
	i, err := newIssuer("http://issuer.test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := i.Handler()
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, handler)

	var document struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if _, body := get(t, url+"/.well-known/openid-configuration"); json.Unmarshal(body, &document) != nil || document.Issuer != i.url || document.JWKS != i.url+"/jwks" {
		t.Fatalf("discovery = %s", body)
	}
	_, set := get(t, url+"/jwks")
	keys, err := keyfunc.NewJWKSetJSON(set)
	if err != nil {
		t.Fatal(err)
	}
	status, token := get(t, url+"/token/alice")
	if status != http.StatusOK {
		t.Fatalf("/token/alice = %d %s", status, token)
	}
	parsed, err := jwt.Parse(string(token), keys.Keyfunc, jwt.WithIssuer(i.url), jwt.WithAudience("orders"), jwt.WithExpirationRequired(), jwt.WithValidMethods([]string{"ES256"}))
	if err != nil {
		t.Fatal(err)
	}
	claims := parsed.Claims.(jwt.MapClaims)
	if claims["sub"] != "alice" || claims["email"] != "alice@example.com" || claims["tenant"] != "acme" {
		t.Errorf("claims of alice = %v", claims)
	}
	expired, err := i.token("alice", -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jwt.Parse(expired, keys.Keyfunc); !errors.Is(err, jwt.ErrTokenExpired) {
		t.Errorf("a token with a negative lifetime: %v, want expired", err)
	}
	if status, _ := get(t, url+"/token/mallory"); status != http.StatusNotFound {
		t.Errorf("/token/mallory = %d, want 404", status)
	}
}

func TestUpstreamTellsWhatItSaw(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/a%2fb?x=1", nil)
	r.Header.Set("X-User", "alice")
	r.Header.Set("X-Envoy-Expected-Rq-Timeout-Ms", "1")
	upstream(w, r)
	var got seen
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Path != "/a%2fb?x=1" || got.Headers["x-user"] != "alice" {
		t.Errorf("upstream = %+v", got)
	}
	if lines := strings.Join(got.shown(), "\n"); lines != "x-user: alice" {
		t.Errorf("shown = %q, want x-user only", lines)
	}
}

// TestStepCheck turns each thing that a step can get wrong wrong.
func TestStepCheck(t *testing.T) {
	allowed := step{status: 200, upstream: map[string]string{"x-user": "alice", "authorization": ""}}
	refused := step{status: 401, challenge: "Bearer"}
	good := func(headers map[string]string) observed {
		return observed{status: 200, upstream: &seen{Headers: headers}}
	}
	for _, row := range []struct {
		name string
		step step
		got  observed
		want string // part of the only complaint; "" for none
	}{
		{"as it must be", allowed, good(map[string]string{"x-user": "alice"}), ""},
		{"another status", allowed, observed{status: 500, upstream: &seen{Headers: map[string]string{"x-user": "alice"}}}, "the client got 500"},
		{"another user", allowed, good(map[string]string{"x-user": "root"}), `x-user: "root"`},
		{"no user", allowed, good(nil), `x-user: ""`},
		{"a credential that got through", allowed, good(map[string]string{"x-user": "alice", "authorization": "Bearer x"}), "authorization"},
		{"an identity header that nobody set", allowed, good(map[string]string{"x-user": "alice", "x-roles": "admin"}), `x-roles: "admin", it must not`},
		{"never arrived", allowed, observed{status: 200}, "did not see"},
		{"refused as it must be", refused, observed{status: 401, challenge: `Bearer realm="people"`}, ""},
		{"refused without challenge", refused, observed{status: 401}, "www-authenticate"},
		{"refused and forwarded all the same", refused, observed{status: 401, challenge: "Bearer", upstream: &seen{}}, "saw the request"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.step.check(row.got)
			if row.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || row.want == "" || !strings.Contains(got[0], row.want) {
				t.Errorf("check = %q, want one complaint about %q", got, row.want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLines()
		go func() {
			for _, part := range []string{"one\ntw", "o\nthree", "\n"} {
				time.Sleep(time.Second)
				if _, err := io.WriteString(l, part); err != nil {
					t.Error(err)
				}
			}
		}()
		var heard []string
		err := l.waitFor(t.Context(), "three", 0, time.Minute, func(line string) bool {
			heard = append(heard, line)
			return line == "three"
		})
		if err != nil || strings.Join(heard, ",") != "one,two,three" || l.len() != 3 {
			t.Errorf("heard %q, %v", heard, err)
		}
		if err := l.waitFor(t.Context(), "four", 0, time.Minute, func(line string) bool { return line == "four" }); err == nil || !strings.Contains(err.Error(), "nothing after 1m0s") {
			t.Errorf("waiting for what never comes: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errEnded)
		if err := l.waitFor(ctx, "four", 0, time.Minute, func(string) bool { return false }); !errors.Is(err, errEnded) {
			t.Errorf("waiting when the program has ended: %v, want %v", err, errEnded)
		}
	})
}

// TestDeps keeps out what an installed binary does not have.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"testing": "the demo is part of the product",
		"github.com/gatehouse-authz/gatehouse/test":     "an installed binary has no tests beside it",
		"github.com/gatehouse-authz/gatehouse/extauthz": "the demo runs gatehouse as everybody else does",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for path, reason := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") {
				t.Errorf("depends on %s: %s", dep, reason)
			}
		}
	}
}
