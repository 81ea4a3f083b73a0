package authn

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

func TestLookup(t *testing.T) {
	p := startProvider(t)
	p.active = map[string]string{
		"a/b?c&d=e#f %+": `{"uid": "alice", "email": "alice@example.com"}`,
		"nobody":         `{"email": "x@example.com"}`,
		"empty":          `{"uid": ""}`,
		"number":         `{"uid": 7}`,
	}
	options := func() LookupOptions {
		return LookupOptions{
			URL: p.Server.URL + "/who-am-i?token={token}", Headers: map[string]string{"X-Static": "yes"}, CacheFor: time.Minute, Remote: quick,
			Mapping: &Mapping{Stamp: Stamp{Authenticator: "ecmwf-api", Realm: "ecmwf"}, Username: &Field{Claim: "uid"}, Attributes: map[string]*Field{"email": {Claim: "email"}}},
		}
	}
	l, err := NewLookup(options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	now := time.Now()
	for _, tt := range []struct {
		name, token string
		reason      policy.Reason
	}{
		{"good, and escaped on the way", "a/b?c&d=e#f %+", 0},
		{"refused", "unknown", policy.ReasonProviderRefused},
		{"nobody", "nobody", policy.ReasonClaimMissing},
		{"an empty name", "empty", policy.ReasonClaimType},
		{"a name that is no text", "number", policy.ReasonClaimType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				got := l.Authenticate(t.Context(), &Input{Value: tt.token, Request: request(), Now: now})
				if got.Reason != tt.reason || (got.Identity != nil) != (tt.reason == 0) {
					t.Fatalf("Authenticate(%q) = %v, %v (%v), want %v", tt.token, got.Identity, got.Reason, got.Detail, tt.reason)
				}
				if got.Identity != nil {
					if q := got.Identity.Principal; q.Subject != "alice" || q.Username != "alice" || q.Attributes["email"].Values[0] != "alice@example.com" {
						t.Errorf("Authenticate = %+v", q)
					}
				}
			}
		})
	}
	p.active["outage"] = `{"uid": "alice"}`
	testOutages(t, p, l, "outage")
}

// TestLookupGoesNowhereElse: a credential is somebody else's text. Wherever the URL has it,
// it names a resource there and leads to no other; what would is refused, and nobody asked.
func TestLookupGoesNowhereElse(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		fmt.Fprint(w, `{"uid": "alice"}`)
	}))
	t.Cleanup(server.Close)
	lookup := func(path string, headers map[string]string) *Lookup {
		t.Helper()
		l, err := NewLookup(LookupOptions{
			URL: server.URL + path, Headers: headers, Remote: quick,
			Mapping: &Mapping{Stamp: testStamp, Username: &Field{Claim: "uid"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		return l
	}
	inPath, inQuery := lookup("/users/{token}/me", nil), lookup("/me?token={token}", nil)
	inHeader := lookup("/me", map[string]string{"x-token": "{token}"})
	for _, tt := range []struct {
		name, credential string
		lookup           *Lookup
		asked            string // empty: nobody
	}{
		{"an ordinary one", "abc-1.2_3~", inPath, "/users/abc-1.2_3~/me"},
		{"with dots in it", "a..b.", inPath, "/users/a..b./me"},
		{"three dots", "...", inPath, "/users/.../me"},
		{"with a slash", "a/b+c=", inPath, "/users/a%2Fb%2Bc%3D/me"},
		{"with the end of the path", "a?b#c", inPath, "/users/a%3Fb%23c/me"},
		{"escaped already", "a%2Fb", inPath, "/users/a%252Fb/me"},
		{"a percent sign that escapes nothing", "100%", inPath, "/users/100%25/me"},
		{"one that is the parent", "..", inPath, ""},
		{"one that is the folder itself", ".", inPath, ""},
		{"one that climbs", "../../admin", inPath, ""},
		{"one that climbs in between", "a/../b", inPath, ""},
		{"one that climbs at the end", "a/..", inPath, ""},
		{"one that climbs with backslashes", `..\..\admin`, inPath, ""},
		{"one that climbs with parameters", "..;a=b/admin", inPath, ""},
		{"one that climbs when it is decoded", "%2e%2e", inPath, ""},
		{"one that climbs when it is decoded twice", "%252e%252e%252fadmin", inPath, ""},
		{"one that is escaped more often than anybody decodes", "%2525252e", inPath, ""},
		{"in the query there is nowhere to climb", "../a", inQuery, "/me?token=..%2Fa"},
		{"in the query there is nothing to add", "a&admin=1", inQuery, "/me?token=a%26admin%3D1"},
		{"in a header there is nowhere to climb", "../a", inHeader, "/me"},
		{"a line break in a header", "a\r\nx-admin: 1", inHeader, ""},
		{"a NUL in a header", "a\x00", inHeader, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked = nil
			got := tt.lookup.Authenticate(t.Context(), &Input{Value: tt.credential, Request: request(), Now: time.Now()})
			if tt.asked == "" {
				if got.Reason != policy.ReasonCredentialMalformed || len(asked) != 0 {
					t.Errorf("Authenticate(%q) = %v, asked %q, want it refused", tt.credential, got.Reason, asked)
				}
				return
			}
			if got.Identity == nil || len(asked) != 1 || asked[0] != tt.asked {
				t.Errorf("Authenticate(%q) = %v (%v), asked %q, want %q", tt.credential, got.Reason, got.Detail, asked, tt.asked)
			}
		})
	}
}

func TestLookupsThatDoNotLoad(t *testing.T) {
	mapping := &Mapping{Stamp: testStamp}
	for _, tt := range []struct {
		name string
		o    LookupOptions
		want string
	}{
		{"no token anywhere", LookupOptions{URL: "https://a.example/who", Mapping: mapping}, "any credential would do"},
		{"the token in the host", LookupOptions{URL: "https://{token}.example/", Mapping: mapping}, "path and the query"},
		{"plain http", LookupOptions{URL: "http://a.example/{token}", Mapping: mapping}, "https"},
		{"no mapping", LookupOptions{URL: "https://a.example/{token}"}, "mapping"},
		{"a status that is no refusal", LookupOptions{URL: "https://a.example/{token}", Mapping: mapping, RefusedStatuses: []int{500}}, "500"},
		{"a header that is none", LookupOptions{URL: "https://a.example/", Mapping: mapping, Headers: map[string]string{"a b": "{token}"}}, "cannot be set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewLookup(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("NewLookup gives %v, want %q in it", err, tt.want)
			}
		})
	}
}
