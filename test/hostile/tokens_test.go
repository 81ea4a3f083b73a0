package hostile

import (
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

// hmacSigned signs header and claims with a secret.
func hmacSigned(secret []byte, new func() hash.Hash, header, claims string) string {
	input := authntest.Encode([]byte(header)) + "." + authntest.Encode([]byte(claims))
	mac := hmac.New(new, secret)
	mac.Write([]byte(input))
	return input + "." + authntest.Encode(mac.Sum(nil))
}

// consoleToken is a token of the issuer that shares its secret.
func consoleToken(changes map[string]any) string {
	now := time.Now().Unix()
	claims := map[string]any{"iss": "https://console.example", "aud": "orders", "sub": "bob", "iat": now, "exp": now + 300}
	maps.Copy(claims, changes)
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return hmacSigned([]byte(consoleSecret), sha256.New, `{"alg":"HS256","typ":"JWT"}`, string(text))
}

func (s *stack) formRows() []row {
	good := s.token(nil)
	h, rest, _ := strings.Cut(good, ".")
	p, sig, _ := strings.Cut(rest, ".")
	rows := []row{}
	add := func(name, token, want string) { rows = append(rows, row{name, s.me(token), want}) }
	for name, token := range map[string]string{
		"one part":                            h,
		"two parts":                           h + "." + p,
		"no signature":                        h + "." + p + ".",
		"no payload":                          h + ".." + sig,
		"no header":                           "." + p + "." + sig,
		"dots only":                           "..",
		"four parts":                          good + ".x",
		"five parts, as if encrypted":         good + ".x.y",
		"six parts":                           good + ".x.y.z",
		"a dot before":                        "." + good,
		"a dot behind":                        good + ".",
		"padding behind the signature":        good + "=",
		"padding of two":                      good + "==",
		"padding inside":                      h + "=." + p + "." + sig,
		"padding of the payload":              h + "." + p + "==." + sig,
		"the standard alphabet":               strings.NewReplacer("-", "+", "_", "/").Replace(h+"."+p+".") + "+/" + sig,
		"the header twice":                    h + h + "." + p + "." + sig,
		"payload and header swapped":          p + "." + h + "." + sig,
		"a tilde":                             h + "~." + p + "." + sig,
		"the signature of another token":      h + "." + p + "." + s.goodSignature(),
		"the payload of another token":        h + "." + strings.Split(s.token(map[string]any{"sub": "mallory"}), ".")[1] + "." + sig,
		"the signature in standard padding":   h + "." + p + "." + base64.StdEncoding.EncodeToString([]byte("0123456789")),
		"a JSON serialization":                authntest.Encode([]byte(`{"payload":"` + p + `","protected":"` + h + `","signature":"` + sig + `"}`)),
		"header in base64 of base64":          authntest.Encode([]byte(h)) + "." + p + "." + sig,
		"a signature of a zero byte":          h + "." + p + ".AA",
		"a signature of zero bytes":           h + "." + p + "." + authntest.Encode(make([]byte, 256)),
		"a signature of 0xff":                 h + "." + p + "." + authntest.Encode([]byte(strings.Repeat("\xff", 256))),
		"a signature that is one byte longer": h + "." + p + "." + sig + "AAAA",
		"a signature with a zero in front":    h + "." + p + "." + authntest.Encode(append([]byte{0}, decode(sig)...)),
		"a signature without its last byte":   h + "." + p + "." + authntest.Encode(decode(sig)[:255]),
	} {
		add(name, token, "401")
	}
	for _, size := range []int{16 << 10, 32 << 10, 48 << 10} {
		add(fmt.Sprintf("a token of %d KiB", size>>10), h+"."+strings.Repeat("A", size)+"."+sig, "401 token_too_large")
	}
	add("a token beyond what headers may be", h+"."+strings.Repeat("A", 200<<10)+"."+sig, "400 headers_too_large")
	return rows
}

func decode(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// mutationRows change one character of a good token, all over it, in two ways each.
func (s *stack) mutationRows() []row {
	good := s.token(map[string]any{"jti": "mutated"})
	var rows []row
	step := len(good)/220 + 1
	for i := 0; i < len(good); i += step {
		for _, by := range []byte{'A', '_'} {
			if good[i] == by {
				by = 'Q'
			}
			rows = append(rows, row{fmt.Sprintf("character %d becomes %c", i, by), s.me(good[:i] + string(by) + good[i+1:]), "401"})
		}
	}
	// The last character of a part has bits to spare, which a lenient decoder ignores.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := good[len(good)-1]
	for i := range len(alphabet) {
		if alphabet[i] != last {
			rows = append(rows, row{fmt.Sprintf("the last character becomes %c", alphabet[i]), s.me(good[:len(good)-1] + alphabet[i:i+1]), "401"})
		}
	}
	for i := 0; i < len(good); i += len(good)/20 + 1 {
		rows = append(rows,
			row{fmt.Sprintf("cut off at %d", i), s.me(good[:i]), "401"},
			row{fmt.Sprintf("character %d is left out", i), s.me(good[:i] + good[i+1:]), "401"},
			row{fmt.Sprintf("a zero byte at %d", i), s.me(good[:i] + "\x00" + good[i:]), "401"},
			row{fmt.Sprintf("a blank at %d", i), s.me(good[:i] + " " + good[i:]), blankAt(i)},
			row{fmt.Sprintf("a line break at %d", i), s.me(good[:i] + "\n" + good[i:]), "401"},
			row{fmt.Sprintf("a comma at %d", i), s.me(good[:i] + "," + good[i:]), "400 credential_repeated"},
			row{fmt.Sprintf("a character outside ASCII at %d", i), s.me(good[:i] + "é" + good[i:]), "401"},
		)
	}
	return rows
}

// blankAt is what a blank before a token is worth: RFC 9110 allows several.
func blankAt(i int) string {
	if i == 0 {
		return "200 requirement_met"
	}
	return "401"
}

func (s *stack) headerRows(t *testing.T) []row {
	var rows []row
	add := func(name, token, want string) { rows = append(rows, row{name, s.me(token), want}) }
	claims := s.claims() + "}"
	public := s.issuer.Current().Private.Public().(*rsa.PublicKey)
	id := s.issuer.Current().ID
	unsigned := func(header string) string {
		return authntest.Encode([]byte(header)) + "." + authntest.Encode([]byte(claims)) + "."
	}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "none ", " none", "no\\u006ee", ""} {
		header := fmt.Sprintf(`{"alg":"%s","kid":%q}`, alg, id)
		add("alg "+alg+", unsigned", unsigned(header), "401")
		add("alg "+alg+", signed", s.signed(header, claims), "401")
		add("alg "+alg+", with a byte for a signature", unsigned(header)+"AA", "401")
	}
	// The public key as an HMAC secret, in every form that a library could take it in.
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(s.issuer.Current().JWK())
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	secrets := map[string][]byte{
		"PKIX": pkix, "PKCS #1": pkcs1, "JWK": jwk, "modulus": public.N.Bytes(), "modulus in base64url": []byte(authntest.Encode(public.N.Bytes())),
		"PKIX PEM":                      pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PKIX PEM without a line break": []byte(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})))),
		"PKCS #1 PEM":                   pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"kid":                           []byte(id), "nothing": nil, "a zero byte": {0},
	}
	for form, secret := range secrets {
		for alg, new := range map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New} {
			add(alg+" with "+form, hmacSigned(secret, new, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, id), claims), "401")
		}
	}
	for _, alg := range []string{
		"RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "ES256K", "HS256", "RSA", "RS1", "RSA1_5", "RSA-OAEP",
		"dir", "A128KW", "rs256", "RS256 ", " RS256", "RS256\\u0000", "RS-256", "SHA256withRSA", "Ed25519", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
	} {
		add("alg says "+alg, s.signed(fmt.Sprintf(`{"alg":"%s","kid":%q}`, alg, id), claims), "401")
	}
	for _, value := range []string{"null", "1", "true", "{}", "[]", `["RS256"]`, `{"alg":"RS256"}`} {
		add("alg is "+value, s.signed(fmt.Sprintf(`{"alg":%s,"kid":%q}`, value, id), claims), "401 token_malformed")
		add("kid is "+value, s.signed(fmt.Sprintf(`{"alg":"RS256","kid":%s}`, value), claims), "401 token_malformed")
		add("typ is "+value, s.signed(s.head()+`,"typ":`+value+"}", claims), "401 token_malformed")
	}
	add("no alg", s.signed(fmt.Sprintf(`{"kid":%q}`, id), claims), "401 token_malformed")
	for _, kid := range []string{
		"", "other", id + " ", " " + id, strings.ToUpper(id), id + "\\u0000", "../" + id, "../../../../dev/null", "/dev/null", "' OR 1=1 --", "%s%n",
		"http://evil.example/jwks", "file:///etc/passwd", "${ISSUER}", "*", "key-", id + id, "é", strings.Repeat("k", 1024), "\\n", "{{.}}", "$(id)",
	} {
		add("kid "+kid, s.signed(fmt.Sprintf(`{"alg":"RS256","kid":"%s"}`, kid), claims), "401")
	}
	add("kid beyond its limit", s.signed(fmt.Sprintf(`{"alg":"RS256","kid":"%s"}`, strings.Repeat("k", 1025)), claims), "401 token_malformed")
	for _, parameter := range []string{
		`"crit":["exp"]`, `"crit":[]`, `"crit":null`, `"crit":"b64"`, `"crit":["b64"],"b64":false`, `"b64":false`, `"b64":true`, `"crit":["alg"]`, `"crit":["x"],"x":1`,
	} {
		add("with "+parameter, s.signed(s.head()+","+parameter+"}", claims), "401 critical_header")
	}
	mallory := foreign(t, id, "RS256")
	embedded, err := json.Marshal(mallory.JWK())
	if err != nil {
		t.Fatal(err)
	}
	for _, parameter := range []string{`"jwk":` + string(embedded), `"x5c":["MIIB"]`, `"jwk":null`, `"x5c":[]`, `"jwk":{}`} {
		add("embeds "+parameter[:7]+fmt.Sprint(len(parameter)), mallory.SignRaw([]byte(s.head()+","+parameter+"}"), []byte(claims)), "401 key_unsuitable")
	}
	for _, parameter := range []string{`"zip":"DEF"`, `"enc":"A128GCM"`, `"zip":null`} {
		add("as if encrypted: "+parameter, s.signed(s.head()+","+parameter+"}", claims), "401 token_malformed")
	}
	for _, parameter := range []string{`"jku":"http://127.0.0.1:1/jwks"`, `"x5u":"http://127.0.0.1:1/c.pem"`, `"x5t":"AAAA"`, `"x5t#S256":"AAAA"`} {
		add("another's key, with "+parameter, mallory.SignRaw([]byte(s.head()+","+parameter+"}"), []byte(claims)), "401 signature_invalid")
	}
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} {
		key := foreign(t, id, alg)
		add("a stranger's "+alg+" under the name of ours", key.SignRaw([]byte(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, id)), []byte(claims)), "401")
		add("a stranger's "+alg+" that says RS256", key.SignRaw([]byte(s.head()+"}"), []byte(claims)), "401 signature_invalid")
		add("a stranger's "+alg+" under a name of its own", key.SignRaw([]byte(fmt.Sprintf(`{"alg":%q,"kid":"stranger-%s"}`, alg, alg)), []byte(claims)), "401 unknown_key")
	}
	// The shared secret serves its own issuer, and only it.
	now := time.Now().Unix()
	console := fmt.Sprintf(`{"iss":"https://console.example","aud":"orders","sub":"bob","iat":%d,"exp":%d}`, now, now+300)
	add("the console's claims, signed by corp", s.signed(s.head()+"}", console), "401")
	add("corp's claims, signed with the console's secret", hmacSigned([]byte(consoleSecret), sha256.New, `{"alg":"HS256"}`, claims), "401")
	add("the console's claims with HS384", hmacSigned([]byte(consoleSecret), sha512.New384, `{"alg":"HS384"}`, console), "401")
	add("the console's claims with another secret", hmacSigned([]byte("x"+consoleSecret), sha256.New, `{"alg":"HS256"}`, console), "401 signature_invalid")
	add("the console's claims with no secret", hmacSigned(nil, sha256.New, `{"alg":"HS256"}`, console), "401 signature_invalid")
	add("the console's claims, unsigned", authntest.Encode([]byte(`{"alg":"HS256"}`))+"."+authntest.Encode([]byte(console))+".", "401")
	return rows
}

func (s *stack) claimRows() []row {
	var rows []row
	now := time.Now().Unix()
	add := func(name string, changes map[string]any, want string) {
		rows = append(rows, row{name, s.me(s.token(changes)), want})
	}
	odd := map[string]any{
		"null": json.RawMessage("null"), "true": true, "a string": "soon", "a list": []any{now + 300}, "an object": map[string]any{"at": now + 300},
		"a number as a string": fmt.Sprint(now + 300), "negative": -1, "beyond any date": json.RawMessage("1e300"), "an overflow": json.RawMessage("1e999"),
	}
	for _, claim := range []string{"exp", "nbf", "iat"} {
		for form, value := range odd {
			add(claim+" is "+form, map[string]any{claim: value}, "401 claim_type")
		}
		add(claim+" is the largest of integers", map[string]any{claim: json.RawMessage("9223372036854775807")}, "401 claim_type")
		add(claim+" is one more", map[string]any{claim: json.RawMessage("9223372036854775808")}, "401 claim_type")
	}
	add("no exp", map[string]any{"exp": nil}, "401 expiry_missing")
	add("exp at the beginning of time", map[string]any{"exp": 0}, "401 expired")
	add("exp a minute ago", map[string]any{"exp": now - 60}, "401 expired")
	add("exp in milliseconds", map[string]any{"exp": (now + 300) * 1000}, "401")
	add("exp as a fraction to come", map[string]any{"exp": float64(now) + 299.5}, "200 requirement_met")
	add("exp with an exponent", map[string]any{"exp": json.RawMessage("4.102e9")}, "200 requirement_met")
	add("nbf in five minutes", map[string]any{"nbf": now + 300}, "401 not_yet_valid")
	add("nbf in the past", map[string]any{"nbf": now - 300}, "200 requirement_met")
	add("iat in five minutes", map[string]any{"iat": now + 300}, "401 issued_in_future")
	add("no iat", map[string]any{"iat": nil}, "200 requirement_met")

	issuer := s.issuer.URL()
	for _, other := range []string{
		"", issuer + "/", issuer + " ", " " + issuer, strings.ToUpper(issuer), strings.Replace(issuer, "http://", "https://", 1), strings.Replace(issuer, "127.0.0.1", "localhost", 1),
		strings.TrimPrefix(issuer, "http://"), issuer + "/.well-known/openid-configuration", issuer + "#", issuer + "?", issuer + "\x00", "https://evil.example", issuer + "@evil.example",
		"https://evil.example/" + issuer, issuer + "," + issuer, "*", "null", "https://console.example/", "http://console.example",
	} {
		add("iss "+fmt.Sprintf("%q", strings.ReplaceAll(other, issuer, "ISSUER")), map[string]any{"iss": other}, "401 unknown_issuer")
	}
	for form, value := range map[string]any{"a list": []string{issuer}, "an object": map[string]any{"url": issuer}, "null": json.RawMessage("null"), "a number": 1, "true": true} {
		add("iss is "+form, map[string]any{"iss": value}, "401")
	}
	add("no iss", map[string]any{"iss": nil}, "401 unknown_issuer")

	for _, other := range []any{
		"", "order", "orders ", " orders", "ORDERS", "orders,billing", "orders billing", "*", "billing", []string{}, []string{"billing"}, []string{"orders "}, []string{"order", "s"},
		"orders\x00", "https://orders", "ordеrs",
	} {
		add(fmt.Sprintf("aud %#q", fmt.Sprint(other)), map[string]any{"aud": other}, "401 audience_mismatch")
	}
	for form, value := range map[string]any{
		"null": json.RawMessage("null"), "a number": 1, "true": true, "an object": map[string]any{"orders": true}, "a list of lists": []any{[]any{"orders"}},
		"a list with a number": []any{"orders", 1}, "a list with null": []any{"orders", nil},
	} {
		add("aud is "+form, map[string]any{"aud": value}, "401 claim_type")
	}
	add("no aud", map[string]any{"aud": nil}, "401 audience_mismatch")
	add("orders among others", map[string]any{"aud": []string{"billing", "orders"}}, "200 requirement_met")

	for form, value := range map[string]any{"null": json.RawMessage("null"), "empty": "", "a number": 7, "a list": []string{"alice"}, "an object": map[string]any{"id": "alice"}, "true": true} {
		add("sub is "+form, map[string]any{"sub": value}, "401")
		if form != "null" && form != "empty" {
			add("email is "+form, map[string]any{"email": value}, "401 claim_type")
			add("tenant is "+form, map[string]any{"tenant": value}, "401 claim_type")
		}
	}
	for form, value := range map[string]any{"a number": 7, "an object": map[string]any{"admin": true}, "true": true, "a list with a number": []any{"reader", 1}, "a list of lists": []any{[]any{"admin"}}, "a list with null": []any{nil}} {
		add("groups is "+form, map[string]any{"groups": value}, "401 claim_type")
		add("scope is "+form, map[string]any{"scope": value}, "401 claim_type")
	}
	add("no sub", map[string]any{"sub": nil}, "401 claim_missing")
	add("jti is a number", map[string]any{"jti": 7}, "401 claim_type")
	// What cannot be a header does not become one.
	for name, value := range map[string]string{"a line break": "a\r\nx-roles: admin", "a zero byte": "a\x00", "a tab": "a\tb", "DEL": "a\x7f", "a C1 control": "a\u0085b"} {
		for _, claim := range []string{"sub", "email", "tenant", "department"} {
			add(claim+" holds "+name, map[string]any{claim: value}, "403 invalid_identity")
		}
		add("groups holds "+name, map[string]any{"groups": []string{value}}, "403 invalid_identity")
	}
	add("an identity too large for a header", map[string]any{"email": strings.Repeat("é", 1500)}, "403 identity_too_large")
	return rows
}

func (s *stack) jsonRows() []row {
	var rows []row
	add := func(name, header, claims string) {
		rows = append(rows, row{name, s.me(s.signed(header, claims)), "401 token_malformed"})
	}
	head, claims := s.head()+"}", s.claims()+"}"
	for name, extra := range map[string]string{
		"sub twice": `,"sub":"mallory"`, "exp twice": `,"exp":9999999999`, "iss twice": `,"iss":"https://evil.example"`, "aud twice": `,"aud":"orders"`, "groups twice": `,"groups":["admin"]`,
		"sub twice, escaped": `,"\u0073ub":"mallory"`, "a member twice, inside": `,"x":{"a":1,"a":2}`, "a lone surrogate": `,"x":"\ud800"`, "surrogates the wrong way round": `,"x":"\udc00\ud800"`,
		"a leading zero": `,"x":01`, "a plus": `,"x":+1`, "hexadecimal": `,"x":0x1`, "NaN": `,"x":NaN`, "Infinity": `,"x":Infinity`, "a dot without digits": `,"x":1.`, "no digits before the dot": `,"x":.5`,
		"an exponent without digits": `,"x":1e`, "a single quote": `,'x':1`, "no quotes": `,x:1`, "a comment": `,"x":1/* */`, "a trailing comma": `,`, "two commas": `,,"x":1`, "a raw line break in a string": ",\"x\":\"\n\"",
		"a raw zero byte in a string": ",\"x\":\"\x00\"", "bytes that are no UTF-8": ",\"x\":\"\xff\"", "an overlong slash": ",\"x\":\"\xc0\xaf\"", "an encoded surrogate": ",\"x\":\"\xed\xa0\x80\"",
		"an unknown escape": `,"x":"\q"`, "a short escape": `,"x":"\u12"`, "TRUE": `,"x":TRUE`, "nul": `,"x":nul`, "no value": `,"x":`, "no colon": `,"x"`, "a string left open": `,"x":"`,
		"deep lists": `,"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "deep objects": `,"x":` + strings.Repeat(`{"a":`, 500) + "1" + strings.Repeat("}", 500), "a form feed": ",\f\"x\":1", "a no-break space": ",\u00a0\"x\":1",
	} {
		add("claims: "+name, head, s.claims()+extra+"}")
	}
	for name, extra := range map[string]string{
		"alg twice": `,"alg":"none"`, "kid twice": `,"kid":"other"`, "alg twice, escaped": `,"\u0061lg":"none"`, "a lone surrogate": `,"x":"\ud800"`, "a trailing comma": ",", "a comment": "//", "a member twice, inside": `,"x":{"a":1,"a":2}`,
	} {
		add("header: "+name, s.head()+extra+"}", claims)
	}
	for _, document := range []string{"", " ", "null", "true", "1", `"x"`, "[]", "[{}]", "{", "}", "{}}", "{}{}", "\ufeff" + claims, claims + "x", claims + "\x00", claims + claims, "\x00", "[" + claims + "]", `"` + authntest.Encode([]byte(claims)) + `"`} {
		name := fmt.Sprintf("%.3q…%q of %d bytes", document, document[max(0, len(document)-2):], len(document))
		add("the claims are "+name, head, document)
		add("the header is "+name, document, claims)
	}
	return rows
}
