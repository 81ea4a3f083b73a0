package e2e

import (
	"slices"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

// spellings are ways to write an identity header that some upstream folds together with
// it.
func spellings(name string) []string {
	underscored, dotted, upper := []byte(name), []byte(name), []byte(name)
	for i, c := range []byte(name) {
		switch {
		case c == '-':
			underscored[i], dotted[i] = '_', '.'
		case i == 0 || name[i-1] == '-':
			upper[i] = c - 'a' + 'A'
		}
	}
	mixed := slices.Clone(underscored)
	mixed[len(mixed)-1] = mixed[len(mixed)-1] - 'a' + 'A'
	return []string{name, string(upper), string(underscored), string(dotted), string(mixed)}
}

// TestIdentityHeaders proves for each identity header, on a public and on a guarded route,
// that it comes from gatehouse or not at all: without a credential, with one, and with one
// and a forged header in every spelling.
func TestIdentityHeaders(t *testing.T) {
	s := start(t)
	rows := []row{
		{name: "public, no credential: no identity", request: "GET /assets/logo", status: 200},
		{name: "public, credential: her identity", request: "GET /assets/logo", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "guarded, no credential: refused", request: "GET /me", status: 401, reason: "no_credential"},
		{name: "guarded, credential: her identity", request: "GET /me", headers: []string{"authorization: Bearer $alice"}, status: 200, upstream: seenAlice},
		{name: "an identity without values has no headers", request: "GET /me", headers: []string{"authorization: Bearer $nobody"}, status: 200},
	}
	for _, header := range []string{"x-tenant-id", "x-user", "x-roles", "x-department"} {
		for _, spelling := range spellings(header) {
			forged := spelling + ": mallory"
			refusedByEnvoy := 0
			if slices.Contains([]byte(spelling), '_') {
				refusedByEnvoy = 400
			}
			rows = append(rows,
				row{name: "public, no credential, forged " + spelling, request: "GET /assets/logo", headers: []string{forged}, status: 200, hardened: refusedByEnvoy},
				row{name: "public, credential, forged " + spelling, request: "GET /assets/logo", headers: []string{forged, "authorization: Bearer $alice", forged}, status: 200, upstream: seenAlice, hardened: refusedByEnvoy},
				row{name: "public, bad credential, forged " + spelling, request: "GET /assets/logo", headers: []string{forged, "authorization: Bearer $expired"}, status: 200, hardened: refusedByEnvoy},
				row{name: "guarded, no credential, forged " + spelling, request: "GET /me", headers: []string{forged}, status: 401, hardened: refusedByEnvoy},
				row{name: "guarded, credential, forged " + spelling, request: "GET /me", headers: []string{forged, "authorization: Bearer $alice"}, status: 200, upstream: seenAlice, hardened: refusedByEnvoy},
				row{name: "guarded, credential without values, forged " + spelling, request: "GET /me", headers: []string{forged, "authorization: Bearer $nobody", forged}, status: 200, hardened: refusedByEnvoy},
				row{name: "API key, forged " + spelling, request: "GET /me", headers: []string{"x-api-key: $key", forged}, status: 200, upstream: seenBatch, hardened: refusedByEnvoy},
			)
		}
	}
	s.run(t, rows)
}

// TestSemantics13RequestOverrides: an upstream that obeys these would serve another request
// than the one that was decided.
func TestSemantics13RequestOverrides(t *testing.T) {
	s := start(t)
	overrides := []string{"x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"}
	for _, front := range fronts {
		for _, request := range []string{"GET /me", "GET /assets/logo"} {
			for _, name := range overrides {
				for _, spelling := range spellings(name) {
					if front == "hardened" && slices.Contains([]byte(spelling), '_') {
						continue // refused by Envoy
					}
					answer := harness.Send(t, s.envoy.Address(t, front), request, s.expand("authorization: Bearer $alice"), spelling+": DELETE")
					if answer.Upstream == nil {
						t.Fatalf("%s: %s: status %d, want 200: %s", front, request, answer.Status, answer.Body)
					}
					if got := harness.Folded(answer.Upstream, name); len(got) > 0 {
						t.Errorf("%s: %s: %v reached the upstream", front, request, got)
					}
				}
			}
		}
	}
}
