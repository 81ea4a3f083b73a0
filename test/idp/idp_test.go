package idp

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// decode reads a part of a JWT without verifying it.
func decode(t *testing.T, token string, part int) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[part])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// keys lists the kids of the published set.
func keys(t *testing.T, p *Provider) string {
	t.Helper()
	resp, err := http.Get(p.Issuer + "/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestProvider proves that the issuer does what the tests that use it rely on.
func TestProvider(t *testing.T) {
	p := Start(t)

	for alg, kid := range map[string]string{"RS256": "rsa-1", "ES256": "ec-1", "EdDSA": "ed-1"} {
		header := decode(t, p.TokenSignedWith(t, alg, nil), 0)
		if want := (map[string]any{"alg": alg, "typ": "at+jwt", "kid": kid}); !reflect.DeepEqual(header, want) {
			t.Errorf("header of an %s token = %v, want %v", alg, header, want)
		}
	}

	odd := map[string]any{"tenant_id": "acme"}
	claims := decode(t, p.Token(t, Claims{"sub": "alice", "https://api.example.com/claims": odd, "jti": nil}), 1)
	if claims["sub"] != "alice" || claims["iss"] != p.Issuer || claims["aud"] != Audience || claims["jti"] != nil ||
		!reflect.DeepEqual(claims["https://api.example.com/claims"], odd) {
		t.Errorf("claims = %v", claims)
	}

	opaque := p.OpaqueToken(t, Claims{"roles": []string{"reader"}})
	answer, err := p.Introspect(t.Context(), opaque)
	if err != nil || answer["active"] != true || !reflect.DeepEqual(answer["roles"], []any{"reader"}) {
		t.Errorf("Introspect = %v, %v", answer, err)
	}

	p.AddKey(t, "rsa-2", "RS256")
	if kid := decode(t, p.Token(t, nil), 0)["kid"]; kid != "rsa-2" {
		t.Errorf("after AddKey tokens are signed by %v", kid)
	}
	p.WithdrawKey(t, "rsa-1")
	if set := keys(t, p); strings.Contains(set, "rsa-1") || !strings.Contains(set, "rsa-2") {
		t.Errorf("after WithdrawKey the set is %s", set)
	}

	p.SetOutage(t, http.StatusServiceUnavailable)
	if set := keys(t, p); strings.Contains(set, "keys") {
		t.Errorf("during an outage the set is served: %s", set)
	}
	if n := p.Requests(t)["/jwks"]; n != 2 {
		t.Errorf("/jwks was asked for %d times, want 2", n)
	}
	p.SetOutage(t, 0)
	if set := keys(t, p); !strings.Contains(set, "rsa-2") {
		t.Errorf("after the outage the set is %s", set)
	}
}
