package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// The shape of Wycheproof's JWS and JWK vectors. A field that is not here fails the
// test: it might be what a vector is about.
type (
	vectorFile struct {
		GeneratorVersion string            `json:"generatorVersion"`
		NumberOfTests    int               `json:"numberOfTests"`
		Header           []string          `json:"header"`
		Notes            map[string]any    `json:"notes"`
		Schema           string            `json:"schema"`
		TestGroups       []json.RawMessage `json:"testGroups"`
	}
	vectorGroup struct {
		Type    string          `json:"type"`
		Source  any             `json:"source"`
		Comment string          `json:"comment"`
		Private json.RawMessage `json:"private"`
		Public  json.RawMessage `json:"public"`
		Tests   []vector        `json:"tests"`
	}
	vector struct {
		ID      int      `json:"tcId"`
		Comment string   `json:"comment"`
		JWS     string   `json:"jws"`
		Result  string   `json:"result"`
		Flags   []string `json:"flags"`
	}
)

func decodeStrictly(t *testing.T, data []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("decoding a vector: %v", err)
	}
}

func readVectors(t *testing.T, name string) []vectorGroup {
	t.Helper()
	data, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	decodeStrictly(t, data, &file)
	var groups []vectorGroup
	count := 0
	for _, raw := range file.TestGroups {
		var g vectorGroup
		decodeStrictly(t, raw, &g)
		groups = append(groups, g)
		count += len(g.Tests)
	}
	if count != file.NumberOfTests {
		t.Fatalf("%s has %d vectors, and says %d", name, count, file.NumberOfTests)
	}
	return groups
}

// verifyVector verifies jws as a JWT authenticator would, but for the claims: the
// payloads are no JSON.
func (g *vectorGroup) verify(jws string) error {
	token, _, err := parseCompact(jws, DefaultTokenBytes)
	if err != nil {
		return err
	}
	key, err := g.key(token.header)
	if err != nil {
		return err
	}
	return key.verify(&token)
}

// key finds the key for a token: in the group's published set, or its secret as a
// shared secret.
func (g *vectorGroup) key(h header) (*verificationKey, error) {
	if len(g.Public) > 0 {
		body := g.Public
		if !bytes.Contains(body, []byte(`"keys"`)) {
			body = fmt.Appendf(nil, `{"keys":[%s]}`, body)
		}
		set, err := parseKeySet(body, publishable())
		if err != nil {
			return nil, err
		}
		key, _, err := set.find(h)
		return key, err
	}
	return g.secret(h)
}

func publishable() []algorithm {
	all, err := publishedAlgorithms(AsymmetricAlgorithms())
	if err != nil {
		panic(err)
	}
	return all
}

// secret is the group's symmetric key, if it has just one of the kid and it is for the
// algorithm, as an operator would configure it.
func (g *vectorGroup) secret(h header) (*verificationKey, error) {
	type jwk struct{ Kty, Use, Alg, Kid, K string }
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(g.Private, &set); err != nil {
		return nil, err
	}
	if set.Keys == nil {
		set.Keys = make([]jwk, 1)
		if err := json.Unmarshal(g.Private, &set.Keys[0]); err != nil {
			return nil, err
		}
	}
	var found []jwk
	for _, k := range set.Keys {
		if k.Kty != "oct" {
			return nil, errors.New("a shared secret has no place beside public keys")
		}
		if k.Kid == h.keyID {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return nil, errors.New("not exactly one secret")
	}
	k := found[0]
	if k.Alg != h.algorithm {
		return nil, errors.New("the secret is for another algorithm")
	}
	octets, err := decodeBase64URL(k.K)
	if err != nil {
		return nil, err
	}
	j, err := NewJWT(JWTOptions{
		AnyIssuer: true, AnyAudience: true, Map: mapSubject,
		SharedSecret: NewSecret(string(octets)), Algorithms: []string{h.algorithm},
	})
	if err != nil {
		return nil, err
	}
	if w := j.Warnings(); len(w) > 0 {
		return nil, errors.New(w[0]) // a warning for an operator, a refusal for Wycheproof
	}
	return j.secrets[h.algorithm], nil
}

// wycheproofDiffers are the JWS vectors that we decide otherwise, and why.
var wycheproofDiffers = map[int]string{
	346: "the key's alg is PS256, the token's PS384: a key serves the alg that it names",
	347: "the key's alg is ES521, which does not exist",
	350: "the key's alg is PS256, the token's PS384: a key serves the alg that it names",
	351: "the key's alg is ES521, which does not exist",
	367: "byte for byte the same as the valid vector 357",
	370: "byte for byte the same as the valid vector 357",
	372: "a question mark in the header is no base64url",
	373: "a question mark in the payload is no base64url",
}

func TestWycheproofJWS(t *testing.T) {
	for _, g := range readVectors(t, "json_web_signature_test.json") {
		for _, v := range g.Tests {
			t.Run(fmt.Sprintf("%d %s %s", v.ID, g.Comment, v.Comment), func(t *testing.T) {
				err := g.verify(v.JWS)
				want := v.Result == "valid"
				if why, ok := wycheproofDiffers[v.ID]; ok {
					if (err == nil) == want {
						t.Errorf("we agree by now; it was to differ because %s", why)
					}
					return
				}
				if (err == nil) != want {
					t.Errorf("verifying %.60q gave %v, want it %s", v.JWS, err, v.Result)
				}
			})
		}
	}
}

func TestWycheproofJWK(t *testing.T) {
	for _, g := range readVectors(t, "json_web_key_test.json") {
		for _, v := range g.Tests {
			t.Run(fmt.Sprintf("%d %s %s", v.ID, g.Comment, v.Comment), func(t *testing.T) {
				err := g.verify(v.JWS)
				if (err == nil) != (v.Result == "valid") {
					t.Errorf("verifying %.60q gave %v, want it %s", v.JWS, err, v.Result)
				}
			})
		}
	}
}

// A set that publishes its private or symmetric keys has given them away.
func TestWycheproofPrivateKeysArePublished(t *testing.T) {
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json"} {
		for _, g := range readVectors(t, name) {
			body := g.Private
			if !bytes.Contains(body, []byte(`"keys"`)) {
				body = fmt.Appendf(nil, `{"keys":[%s]}`, body)
			}
			set, err := parseKeySet(body, publishable())
			if g.Comment == "jws_mixedSymmetryKeyset" { // one of its two keys is public
				if err != nil || set.keys != 1 {
					t.Errorf("%s: got %v, want the one public key", g.Comment, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s: a private set gives %d keys, want an error", g.Comment, set.keys)
			}
		}
	}
}

// What is not a JWS in compact form is refused for what it is.
func TestWycheproofTokensAreNoClaims(t *testing.T) {
	j, _ := NewJWT(JWTOptions{AnyIssuer: true, AnyAudience: true, Map: mapSubject, SharedSecret: NewSecret("x")})
	for _, g := range readVectors(t, "json_web_signature_test.json") {
		for _, v := range g.Tests {
			if r := authenticate(j, v.JWS); r.Identity != nil || r.Reason == policy.ReasonNone || r.Reason == policy.ReasonInternal {
				t.Errorf("vector %d gave %+v, want a refusal", v.ID, r)
			}
		}
	}
}
