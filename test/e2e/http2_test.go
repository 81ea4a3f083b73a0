package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// TestHTTP2 sends the rows that HTTP/2 spells differently: cookies come in pieces, which
// Envoy joins with "; ".
func TestHTTP2(t *testing.T) {
	s := start(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	defer client.CloseIdleConnections()

	for _, front := range fronts {
		for _, test := range []struct {
			name     string
			target   string
			headers  []string
			status   int
			upstream []string
		}{
			{"a token", "/me", []string{"authorization: Bearer $alice"}, 200, seenAlice},
			{"no token", "/me", nil, 401, nil},
			{"cookies in pieces", "/me", []string{"cookie: theme=dark", "cookie: access_token=$alice"}, 200, with(seenAlice, "cookie: theme=dark")},
			{"the cookie in two pieces", "/me", []string{"cookie: access_token=$alice", "cookie: access_token=$root"}, 400, nil},
			{"two tokens", "/me", []string{"authorization: Bearer $alice", "authorization: Bearer $root"}, 400, nil},
			{"a forged identity", "/assets/x", []string{"x-user: mallory", "x-tenant-id: other"}, 200, nil},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.envoy.Address(t, front)+test.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, header := range test.headers {
				name, value, _ := strings.Cut(s.expand(header), ": ")
				req.Header.Add(name, value)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != test.status || resp.ProtoMajor != 2 {
				t.Errorf("%s: %s: %s %d, %v; want %d: %s", front, test.name, resp.Proto, resp.StatusCode, err, test.status, body)
				continue
			}
			if test.status != http.StatusOK {
				continue
			}
			var received echo.Received
			if err := json.Unmarshal(body, &received); err != nil {
				t.Fatal(err)
			}
			got := harness.Folded(&received, s.owned...)
			slices.Sort(got)
			if !slices.Equal(got, test.upstream) {
				t.Errorf("%s: %s: the upstream saw %q, want %q", front, test.name, got, test.upstream)
			}
		}
	}
}
