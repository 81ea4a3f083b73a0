package authn

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

// Nothing panics; nothing is accepted that the libraries refuse with the same keys;
// and of all that is made from a good token only the good token itself is accepted,
// byte for byte.
func FuzzJWT(f *testing.F) {
	b := newHostileBench(f)
	good := b.good()
	claims := map[string]any{"iss": b.issuer.URL(), "aud": authntest.Audience, "sub": "alice", "exp": time.Now().Unix() + 300}
	for _, rows := range [][]hostileRow{
		b.goodRows(), b.formRows(), b.encodingRows(), b.headerJSONRows(), b.claimsJSONRows(),
		b.algorithmRows(f), b.keyIDRows(), b.headerRows(), b.numberRows(), b.signatureRows(f),
	} {
		for _, row := range rows {
			if len(row.token) < 2048 {
				f.Add(row.token, "", "", uint16(0), byte(0))
			}
		}
	}
	f.Add("", b.header+"}", string(asJSON(claims)), uint16(0), byte(0))
	f.Add("", `{"alg":"ES256"}`, b.claims+`,"sub":"x"}`, uint16(7), byte(1))
	for at := range 40 {
		f.Add("", "", "", uint16(at*11), byte(1<<(at%8)))
	}

	var set m
	if err := json.Unmarshal(asJSON(m{"keys": []any{b.rsa.JWK(), b.ec.JWK()}}), &set); err != nil {
		f.Fatal(err)
	}
	oracleKeys, err := keyfunc.NewJWKSetJSON(asJSON(set))
	if err != nil {
		f.Fatal(err)
	}
	oracle := jwt.NewParser(jwt.WithValidMethods(AsymmetricAlgorithms()), jwt.WithIssuer(b.issuer.URL()),
		jwt.WithAudience(authntest.Audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	check := func(t *testing.T, token string) bool {
		now := time.Now()
		in := &Input{Value: token, Now: now, Local: true}
		accepted := b.jwt.Authenticate(context.Background(), in).Identity != nil
		if again := b.jwt.Authenticate(context.Background(), in).Identity != nil; again != accepted {
			t.Errorf("%q is accepted (%v) and then not", token, accepted)
		}
		peek, ok := new(Input).peekJWT(token)
		if accepted && (!ok || !b.jwt.Takes(peek)) {
			t.Errorf("%q is accepted though peekJWT = %+v, %v", token, peek, ok)
		}
		if accepted {
			if _, err := oracle.Parse(token, oracleKeys.Keyfunc); err != nil {
				t.Errorf("%q is accepted; golang-jwt says %v", token, err)
			}
		}
		return accepted
	}
	f.Fuzz(func(t *testing.T, token, header, claims string, at uint16, flip byte) {
		if token != "" {
			check(t, token)
		}
		if header != "" || claims != "" {
			check(t, b.signed(header, claims)) // with a good signature, whatever they are
		}
		changed := []byte(good)
		changed[int(at)%len(changed)] ^= flip
		if check(t, string(changed)) != (flip == 0) {
			t.Errorf("the good token with byte %d changed by %x: %q is accepted (%v)", int(at)%len(changed), flip, changed, flip != 0)
		}
	})
}

// A published set never makes a panic, and never gives a key that is not bound to an
// algorithm, or one key for two families.
func FuzzKeySet(f *testing.F) {
	bench := newJWKBench(f)
	for _, key := range []m{bench.rsa, bench.ec, bench.ec521, bench.ed} {
		f.Add(asJSON(m{"keys": []any{key}}))
	}
	f.Add([]byte(rfc7517A1))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""},{"kty":"EC","crv":"P-256","x":"","y":""},{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		set, err := parseKeySet(body, publishable())
		if err != nil {
			return
		}
		families := make(map[[32]byte]keyFamily)
		for name, key := range set.byName {
			if key == nil || key.algorithm.family == familyNone || key.algorithm.family == familyHMAC || key.algorithm.name != name.algorithm {
				t.Fatalf("parseKeySet(%q) binds %v to %+v", body, name, key)
			}
			if family, ok := families[key.material]; ok && family != key.algorithm.family {
				t.Fatalf("parseKeySet(%q) gives one key that serves two families", body)
			}
			families[key.material] = key.algorithm.family
		}
	})
}
