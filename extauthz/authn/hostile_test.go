package authn

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A hostileBench has an authenticator for a set of two keys, and what it takes to make
// tokens that are good but for one thing.
type hostileBench struct {
	issuer *authntest.Issuer
	jwt    *JWT
	rsa    *authntest.Key // RS256
	ec     *authntest.Key // ES256
	header string         // of a good ES256 token, JSON without the closing brace
	claims string         // good claims, likewise
}

func newHostileBench(t testing.TB) *hostileBench {
	t.Helper()
	b := &hostileBench{issuer: startIssuer(t, authntest.Options{Algorithm: "RS256"})}
	b.rsa = b.issuer.Current()
	var err error
	if b.ec, err = b.issuer.Rotate("ES256"); err != nil {
		t.Fatal(err)
	}
	keys := startKeys(t, KeySetOptions{Issuer: b.issuer.URL(), UnknownKeyInterval: time.Hour})
	b.jwt = newTestJWT(t, b.issuer.URL(), keys, nil)
	b.header = fmt.Sprintf(`{"alg":"ES256","kid":%q`, b.ec.ID)
	now := time.Now().Unix()
	b.claims = fmt.Sprintf(`{"iss":%q,"aud":%q,"iat":%d,"exp":%d`, b.issuer.URL(), authntest.Audience, now, now+86400)
	return b
}

// withHeader is a token that is good but for what more adds to its header.
func (b *hostileBench) withHeader(more string) string {
	return b.ec.SignRaw([]byte(b.header+more+"}"), []byte(b.claims+`,"sub":"alice"}`))
}

// withClaims is a token that is good but for what more adds to its claims; it has no
// subject yet.
func (b *hostileBench) withClaims(more string) string {
	return b.ec.SignRaw([]byte(b.header+"}"), []byte(b.claims+more+"}"))
}

// signed signs header and claims as they are.
func (b *hostileBench) signed(header, claims string) string {
	return b.ec.SignRaw([]byte(header), []byte(claims))
}

func (b *hostileBench) good() string { return b.withClaims(`,"sub":"alice"`) }

type hostileRow struct {
	name  string
	token string
	want  policy.Reason
}

func TestHostileTokens(t *testing.T) {
	b := newHostileBench(t)
	var rows []hostileRow
	for _, more := range [][]hostileRow{
		b.goodRows(), b.formRows(), b.encodingRows(), b.headerJSONRows(), b.claimsJSONRows(),
		b.algorithmRows(t), b.keyIDRows(), b.headerRows(), b.numberRows(), b.signatureRows(t),
	} {
		rows = append(rows, more...)
	}
	if len(rows) < 200 {
		t.Errorf("%d rows, want 200 at least", len(rows))
	}
	names := make(map[string]bool)
	for _, row := range rows {
		if names[row.name] {
			t.Errorf("two rows are called %q", row.name)
		}
		names[row.name] = true
		t.Run(row.name, func(t *testing.T) {
			wantReason(t, authenticate(b.jwt, row.token), row.want)
			// The second time it may come from a cache, and must come out the same.
			wantReason(t, authenticate(b.jwt, row.token), row.want)
			if peek, ok := new(Input).peekJWT(row.token); row.want == policy.ReasonNone && (!ok || !b.jwt.Takes(peek)) {
				t.Errorf("peekJWT = %+v, %v; want it taken", peek, ok)
			}
		})
	}
}

// What must go on working.
func (b *hostileBench) goodRows() []hostileRow {
	return []hostileRow{
		{"a good token is accepted", b.good(), 0},
		{"a good RSA token is accepted", b.rsa.Token(b.issuer.Claims(nil)), 0},
		{"white space in the header is accepted", b.signed(" "+b.header+" \r\n\t} ", b.claims+`,"sub":"alice"}`), 0},
		{"white space in the claims is accepted", b.signed(b.header+"}", " "+b.claims+` , "sub" : "alice" } `), 0},
		{"an escaped subject is accepted", b.withClaims(`,"sub":"al\u0069ce"`), 0},
		{"an escaped name is the name", b.withClaims(`,"\u0073ub":"alice"`), 0},
		{"an emoji by surrogates is accepted", b.withClaims(`,"sub":"alice","x":"\ud83d\ude00"`), 0},
		{"an emoji in UTF-8 is accepted", b.withClaims(`,"sub":"alice","x":"😀"`), 0},
		{"unknown header parameters are accepted", b.withHeader(`,"x":{"y":[1,2]},"nonce":"n"`), 0},
		{"a jku is not followed", b.withHeader(`,"jku":"https://evil.example/jwks"`), 0},
		{"an x5u is not followed", b.withHeader(`,"x5u":"https://evil.example/cert"`), 0},
		{"a thumbprint is not looked at", b.withHeader(`,"x5t":"AAAA","x5t#S256":"AAAA"`), 0},
		{"a claim called alg is a claim", b.withClaims(`,"sub":"alice","alg":"none"`), 0},
		{"claims that differ in case are different", b.withClaims(`,"sub":"alice","Sub":"mallory","SUB":"mallory"`), 0},
		{"null in another claim is accepted", b.withClaims(`,"sub":"alice","x":null`), 0},
		{"numbers of all forms are accepted", b.withClaims(`,"sub":"alice","x":[0,-0,1.5,1e3,1E+3,1e-3,-1.25e2,12345678901234567890]`), 0},
		{"nesting within the limit is accepted", b.withClaims(`,"sub":"alice","x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31)), 0},
		{"nbf as a fraction is accepted", b.withClaims(`,"sub":"alice","nbf":1.5`), 0},
		{"nbf as 1e9 is accepted", b.withClaims(`,"sub":"alice","nbf":1e9`), 0},
	}
}

// Not three parts.
func (b *hostileBench) formRows() []hostileRow {
	good := b.good()
	parts := strings.Split(good, ".")
	malformed := policy.ReasonTokenMalformed
	return []hostileRow{
		{"nothing is refused", "", malformed},
		{"one dot is refused", ".", malformed},
		{"two dots are refused", "..", malformed},
		{"three dots are refused", "...", malformed},
		{"four dots are refused", "....", policy.ReasonTokenEncrypted},
		{"five dots are refused", ".....", malformed},
		{"a dot at the end is refused", good + ".", malformed},
		{"a dot at the start is refused", "." + good, malformed},
		{"no signature is refused", parts[0] + "." + parts[1], malformed},
		{"an empty signature is refused", parts[0] + "." + parts[1] + ".", malformed},
		{"no header is refused", "." + parts[1] + "." + parts[2], malformed},
		{"no claims are refused", parts[0] + ".." + parts[2], malformed},
		{"parts in another order are refused", parts[1] + "." + parts[0] + "." + parts[2], malformed},
		{"an unprotected header is refused", good + "." + parts[0], malformed},
		{"two tokens are refused", good + "." + good, malformed},
		{"two tokens with a comma have five parts", good + "," + good, policy.ReasonTokenEncrypted},
		{"five parts are encrypted", good + "." + parts[0] + "." + parts[1], policy.ReasonTokenEncrypted},
		{"JSON serialisation is refused", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]), malformed},
		{"general JSON serialisation is refused", fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, parts[1], parts[0], parts[2]), malformed},
		{"a detached payload is refused", parts[0] + ".." + parts[2], malformed},
		{"an opaque value is refused", "s3cr3t", malformed},
		{"zeros are refused", "\x00\x00.\x00.\x00", malformed},
		{"as long as the limit is looked at", good + strings.Repeat("A", DefaultTokenBytes-len(good)), policy.ReasonSignatureInvalid},
		{"one byte longer than the limit is refused", good + strings.Repeat("A", DefaultTokenBytes-len(good)+1), policy.ReasonTokenTooLarge},
		{"a megabyte is refused", strings.Repeat("A", 1<<20), policy.ReasonTokenTooLarge},
		{"a megabyte of dots is refused", strings.Repeat(".", 1<<20), policy.ReasonTokenTooLarge},
	}
}

// Other spellings of the same bytes.
func (b *hostileBench) encodingRows() []hostileRow {
	good := b.good()
	parts := strings.Split(good, ".")
	var rows []hostileRow
	for i, part := range []string{"header", "claims", "signature"} {
		with := func(changed string) string {
			all := strings.Split(good, ".")
			all[i] = changed
			return strings.Join(all, ".")
		}
		for _, c := range []struct{ name, text string }{
			{"a space", " "}, {"a line feed", "\n"}, {"a carriage return", "\r"}, {"a tab", "\t"}, {"a NUL", "\x00"},
			{"an equals sign", "="}, {"a plus sign", "+"}, {"a slash", "/"}, {"a percent sign", "%"}, {"a non-ASCII letter", "ä"},
			{"a tilde", "~"}, {"a quote", `"`},
		} {
			rows = append(rows,
				hostileRow{fmt.Sprintf("%s before the %s is refused", c.name, part), with(c.text + parts[i]), policy.ReasonTokenMalformed},
				hostileRow{fmt.Sprintf("%s in the %s is refused", c.name, part), with(parts[i][:4] + c.text + parts[i][4:]), policy.ReasonTokenMalformed},
				hostileRow{fmt.Sprintf("%s after the %s is refused", c.name, part), with(parts[i] + c.text), policy.ReasonTokenMalformed},
			)
		}
		padded := parts[i] + strings.Repeat("=", (4-len(parts[i])%4)%4)
		if padded == parts[i] {
			padded += "===="
		}
		rows = append(rows, hostileRow{"padding after the " + part + " is refused", with(padded), policy.ReasonTokenMalformed})
	}
	// Bits that the last character has to spare: a signature of 64 octets leaves four.
	last := strings.IndexByte(base64URLAlphabet, parts[2][len(parts[2])-1])
	for bits := 1; bits < 16; bits++ {
		changed := parts[2][:len(parts[2])-1] + string(base64URLAlphabet[last|bits])
		rows = append(rows, hostileRow{fmt.Sprintf("stray bits %04b in the signature are refused", bits), parts[0] + "." + parts[1] + "." + changed, policy.ReasonTokenMalformed})
	}
	standard := base64.StdEncoding.EncodeToString([]byte("\xfb\xff\xfe" + b.header + "}"))
	rows = append(rows, hostileRow{"the standard alphabet is refused", standard + "." + parts[1] + "." + parts[2], policy.ReasonTokenMalformed})
	return rows
}

const base64URLAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// oddJSON are readings that must not be, for {…} with an open end before them.
var oddJSON = []struct{ name, more string }{
	{"a member twice", `,"x":1,"x":2}`},
	{"a member twice with equal values", `,"x":1,"x":1}`},
	{"a member twice, once escaped", `,"x":1,"\u0078":2}`},
	{"a member twice below", `,"x":{"y":1,"y":2}}`},
	{"a member twice in a list", `,"x":[{"y":1,"y":2}]}`},
	{"an empty name twice", `,"":1,"":2}`},
	{"a comma at the end", `,"x":1,}`},
	{"two commas", `,,"x":1}`},
	{"no end", `,"x":1`},
	{"an end too many", `}}`},
	{"something after the end", `} x`},
	{"a second object", `}{}`},
	{"a NUL after the end", "}\x00"},
	{"a name without quotes", `,x:1}`},
	{"single quotes", `,'x':1}`},
	{"a comment", `,"x":1/*y*/}`},
	{"NaN", `,"x":NaN}`},
	{"Infinity", `,"x":Infinity}`},
	{"a leading zero", `,"x":01}`},
	{"a leading plus", `,"x":+1}`},
	{"a point without digits", `,"x":1.}`},
	{"a point at the start", `,"x":.5}`},
	{"an exponent without digits", `,"x":1e}`},
	{"a minus alone", `,"x":-}`},
	{"hexadecimal", `,"x":0x10}`},
	{"True", `,"x":True}`},
	{"a truncated literal", `,"x":nul}`},
	{"a raw line feed in a string", ",\"x\":\"\n\"}"},
	{"a raw NUL in a string", ",\"x\":\"\x00\"}"},
	{"an unknown escape", `,"x":"\x41"}`},
	{"a short unicode escape", `,"x":"\u004"}`},
	{"a lone high surrogate", `,"x":"\ud800"}`},
	{"a lone low surrogate", `,"x":"\udc00"}`},
	{"surrogates in the wrong order", `,"x":"\ude00\ud83d"}`},
	{"a high surrogate and a letter", `,"x":"\ud83dx"}`},
	{"a high surrogate and an ordinary escape", `,"x":"\ud83d\u0041"}`},
	{"invalid UTF-8", ",\"x\":\"\xff\"}"},
	{"overlong UTF-8", ",\"x\":\"\xc0\xaf\"}"},
	{"a surrogate in UTF-8", ",\"x\":\"\xed\xa0\x80\"}"},
	{"invalid UTF-8 in a name", ",\"\xff\":1}"},
	{"a no-break space", ",\u00a0\"x\":1}"},
	{"a form feed", ",\f\"x\":1}"},
	{"lists nested too deep", `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`},
	{"objects nested too deep", `,"x":` + strings.Repeat(`{"y":`, 40) + "1" + strings.Repeat("}", 40) + `}`},
	{"brackets without end", `,"x":` + strings.Repeat("[", 4000)},
}

func (b *hostileBench) headerJSONRows() []hostileRow {
	claims := b.claims + `,"sub":"alice"}`
	var rows []hostileRow
	for _, odd := range oddJSON {
		rows = append(rows, hostileRow{odd.name + " in the header is refused", b.signed(b.header+odd.more, claims), policy.ReasonTokenMalformed})
	}
	for _, whole := range []struct{ name, text string }{
		{"a list", `[]`}, {"a string", `"ES256"`}, {"null", `null`}, {"a number", `1`}, {"true", `true`}, {"white space", ` `}, {"an empty object", `{}`},
		{"a byte order mark", "\ufeff" + b.header + "}"},
		{"UTF-16", "{\x00\"\x00a\x00"},
	} {
		rows = append(rows, hostileRow{whole.name + " as the header is refused", b.signed(whole.text, claims), policy.ReasonTokenMalformed})
	}
	return rows
}

func (b *hostileBench) claimsJSONRows() []hostileRow {
	claims := b.claims + `,"sub":"alice"`
	var rows []hostileRow
	for _, odd := range oddJSON {
		rows = append(rows, hostileRow{odd.name + " in the claims is refused", b.signed(b.header+"}", claims+odd.more), policy.ReasonTokenMalformed})
	}
	for _, whole := range []struct{ name, text string }{
		{"a list", `[` + claims + `}]`}, {"a string", `"alice"`}, {"null", `null`}, {"a number", `1`},
		{"a byte order mark", "\ufeff" + claims + "}"},
		{"another token", b.good()},
	} {
		rows = append(rows, hostileRow{whole.name + " as the claims is refused", b.signed(b.header+"}", whole.text), policy.ReasonTokenMalformed})
	}
	for _, name := range []string{"iss", "sub", "aud", "exp"} {
		rows = append(rows, hostileRow{"the claim " + name + " twice is refused", b.withClaims(`,"sub":"alice",` + fmt.Sprintf(`%q:"x",%q:"y"`, name, name)), policy.ReasonTokenMalformed})
	}
	now := time.Now().Unix()
	all := map[string]string{
		"iss": fmt.Sprintf("%q", b.issuer.URL()), "aud": fmt.Sprintf("%q", authntest.Audience), "sub": `"alice"`, "exp": fmt.Sprint(now + 300),
	}
	for name, want := range map[string]policy.Reason{
		"iss": policy.ReasonIssuerMismatch, "aud": policy.ReasonAudienceMismatch, "sub": policy.ReasonClaimMissing, "exp": policy.ReasonExpiryMissing,
	} {
		for _, folded := range []string{strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], name + " ", name + `\u0000`, strings.Replace(name, "s", "ſ", 1)} {
			if folded == name {
				continue
			}
			text := ""
			for other, value := range all {
				if other == name {
					other = folded
				}
				text += `,"` + other + `":` + value
			}
			rows = append(rows, hostileRow{fmt.Sprintf("the claim %q is not %s", folded, name), b.signed(b.header+"}", "{"+text[1:]+"}"), want})
		}
		text := ""
		for other, value := range all {
			if other == name {
				value = "null"
			}
			text += `,"` + other + `":` + value
		}
		rows = append(rows, hostileRow{"the claim " + name + " null is refused", b.signed(b.header+"}", "{"+text[1:]+"}"), policy.ReasonClaimType})
	}
	return rows
}

// Other algorithms, and keys put to another use.
func (b *hostileBench) algorithmRows(t testing.TB) []hostileRow {
	claims := asJSON(b.issuer.Claims(nil))
	var rows []hostileRow
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "es256", "ES256 ", "ES256K", "ES224", "RS1", "RS257", "HS1", "A256GCM", "RSA-OAEP", "dir", "Ed25519", "Ed448", "SHA256", `ES256\u0000`} {
		header := fmt.Sprintf(`{"alg":"%s","kid":%q}`, alg, b.ec.ID)
		rows = append(rows, hostileRow{fmt.Sprintf("alg %q is refused", alg), b.signed(header, string(claims)), policy.ReasonAlgorithmRefused})
	}
	for _, alg := range []string{"5", "null", "true", `["ES256"]`, `{"ES256":1}`} {
		header := fmt.Sprintf(`{"alg":%s,"kid":%q}`, alg, b.ec.ID)
		rows = append(rows, hostileRow{"alg " + alg + " is refused", b.signed(header, string(claims)), policy.ReasonTokenMalformed})
	}
	for _, alg := range []string{"none", "None", "NONE"} {
		unsigned := authntest.Encode(fmt.Appendf(nil, `{"alg":%q}`, alg)) + "." + authntest.Encode(claims) + "."
		rows = append(rows, hostileRow{"alg " + alg + " without a signature is refused", unsigned, policy.ReasonTokenMalformed})
	}
	rows = append(rows, hostileRow{"alg in another case is refused", b.signed(fmt.Sprintf(`{"Alg":"ES256","kid":%q}`, b.ec.ID), string(claims)), policy.ReasonTokenMalformed})

	// The public key as the secret of an HMAC, in every form that it is published in.
	public := b.rsa.Private.Public().(*rsa.PublicKey)
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(public)
	jwk, err := json.Marshal(b.rsa.JWK())
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{
		"PKIX DER": pkix, "PKCS #1 DER": pkcs1,
		"PKIX PEM":                 pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PKIX PEM without its end": []byte(strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})))),
		"PKCS #1 PEM":              pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"JWK":                      jwk, "modulus": public.N.Bytes(), "nothing": nil, "kid": []byte(b.rsa.ID),
	} {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			token := signHMAC(alg, secret, fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, b.rsa.ID), string(claims))
			rows = append(rows, hostileRow{fmt.Sprintf("%s with the %s as secret is refused", alg, name), token, policy.ReasonAlgorithmRefused})
		}
		token := signHMAC("HS256", secret, fmt.Sprintf(`{"alg":"RS256","kid":%q}`, b.rsa.ID), string(claims))
		rows = append(rows, hostileRow{fmt.Sprintf("an HMAC with the %s that says RS256 is refused", name), token, policy.ReasonSignatureInvalid})
	}
	// The RSA key under another algorithm than its own.
	for _, alg := range []string{"RS384", "RS512", "PS256", "PS384", "PS512"} {
		other := *b.rsa
		other.Algorithm = alg
		rows = append(rows, hostileRow{"the RS256 key under " + alg + " is refused", other.Token(b.issuer.Claims(nil)), policy.ReasonKeyUnsuitable})
	}
	for _, alg := range []string{"ES384", "ES512", "EdDSA", "RS256"} {
		rows = append(rows, hostileRow{"the ES256 key under " + alg + " is refused", b.signed(fmt.Sprintf(`{"alg":%q,"kid":%q}`, alg, b.ec.ID), string(claims)), policy.ReasonKeyUnsuitable})
	}
	return rows
}

func (b *hostileBench) keyIDRows() []hostileRow {
	claims := string(asJSON(b.issuer.Claims(nil)))
	unknown := policy.ReasonUnknownKey
	var rows []hostileRow
	for _, kid := range []string{
		`"../../../../dev/null"`, `"/dev/null"`, `"' OR 1=1 --"`, `"key-2' UNION SELECT 'x"`, `"key-2\u0000"`, `"key-2 "`, `" key-2"`, `"KEY-2"`, `"key-2;rm -rf /"`,
		`"http://evil.example/key"`, `"${jndi:ldap://evil.example}"`, `"<script>"`, `"кey-2"`, `"*"`, `"key-%"`, `"` + strings.Repeat("k", maxKeyIDBytes) + `"`, `""`,
	} {
		rows = append(rows, hostileRow{fmt.Sprintf("the kid %.40s is unknown", kid), b.signed(`{"alg":"ES256","kid":`+kid+`}`, claims), unknown})
	}
	for _, kid := range []string{"5", "null", "true", `["key-2"]`, `{"key-2":1}`, "1.5", `"` + strings.Repeat("k", maxKeyIDBytes+1) + `"`} {
		rows = append(rows, hostileRow{fmt.Sprintf("the kid %.40s is refused", kid), b.signed(`{"alg":"ES256","kid":`+kid+`}`, claims), policy.ReasonTokenMalformed})
	}
	rows = append(rows,
		hostileRow{"the kid of another key is refused", b.signed(fmt.Sprintf(`{"alg":"ES256","kid":%q}`, b.rsa.ID), claims), policy.ReasonKeyUnsuitable},
		hostileRow{"no kid is accepted with one key for the algorithm", b.signed(`{"alg":"ES256"}`, claims), 0},
		hostileRow{"kid in another case is no kid", b.signed(`{"alg":"ES256","Kid":"x"}`, claims), 0},
		hostileRow{"no kid and no key for the algorithm is refused", b.signed(`{"alg":"ES384"}`, claims), unknown},
		hostileRow{"two kids are refused", b.signed(fmt.Sprintf(`{"alg":"ES256","kid":"x","kid":%q}`, b.ec.ID), claims), policy.ReasonTokenMalformed},
	)
	return rows
}

func (b *hostileBench) headerRows() []hostileRow {
	jwk := string(asJSON(b.ec.JWK()))
	return []hostileRow{
		{"crit is refused", b.withHeader(`,"crit":["exp"],"exp":1`), policy.ReasonCriticalHeader},
		{"an unknown crit is refused", b.withHeader(`,"crit":["x"],"x":1`), policy.ReasonCriticalHeader},
		{"an empty crit is refused", b.withHeader(`,"crit":[]`), policy.ReasonCriticalHeader},
		{"a crit that is null is refused", b.withHeader(`,"crit":null`), policy.ReasonCriticalHeader},
		{"a crit that is a string is refused", b.withHeader(`,"crit":"x"`), policy.ReasonCriticalHeader},
		{"crit with alg is refused", b.withHeader(`,"crit":["alg"]`), policy.ReasonCriticalHeader},
		{"b64 with crit is refused", b.withHeader(`,"b64":false,"crit":["b64"]`), policy.ReasonCriticalHeader},
		{"b64 without crit is refused", b.withHeader(`,"b64":false`), policy.ReasonCriticalHeader},
		{"b64 true is refused", b.withHeader(`,"b64":true`), policy.ReasonCriticalHeader},
		{"an embedded key is refused even if it is the right one", b.withHeader(`,"jwk":` + jwk), policy.ReasonKeyUnsuitable},
		{"an embedded key that is null is refused", b.withHeader(`,"jwk":null`), policy.ReasonKeyUnsuitable},
		{"an embedded certificate is refused", b.withHeader(`,"x5c":["MIIB"]`), policy.ReasonKeyUnsuitable},
		{"enc is refused", b.withHeader(`,"enc":"A128GCM"`), policy.ReasonTokenMalformed},
		{"zip is refused", b.withHeader(`,"zip":"DEF"`), policy.ReasonTokenMalformed},
		{"a typ that is a number is refused", b.withHeader(`,"typ":5`), policy.ReasonTokenMalformed},
		{"a typ that is null is refused", b.withHeader(`,"typ":null`), policy.ReasonTokenMalformed},
		{"a cty that is a list is refused", b.withHeader(`,"cty":[]`), policy.ReasonTokenMalformed},
		{"a jku that is a list is refused", b.withHeader(`,"jku":[]`), policy.ReasonTokenMalformed},
		{"an x5u that is an object is refused", b.withHeader(`,"x5u":{}`), policy.ReasonTokenMalformed},
		{"an x5t that is a number is refused", b.withHeader(`,"x5t":1`), policy.ReasonTokenMalformed},
	}
}

// Dates that are none.
func (b *hostileBench) numberRows() []hostileRow {
	var rows []hostileRow
	for _, name := range []string{"nbf", "iat", "exp"} {
		for _, value := range []string{
			`"1700000000"`, `""`, `true`, `false`, `null`, `[]`, `[1700000000]`, `{}`, `{"$numberLong":"1"}`,
			`-1`, `-1e9`, `-1e400`, `1e400`, `1e309`, `1e20`, `9223372036854775807`, `9223372036854775808`, `18446744073709551615`, `253402300800`,
			`1` + strings.Repeat("0", 400),
		} {
			now := time.Now().Unix()
			claims := map[string]string{"iss": fmt.Sprintf("%q", b.issuer.URL()), "aud": `"` + authntest.Audience + `"`, "sub": `"alice"`, "exp": fmt.Sprint(now + 300)}
			claims[name] = value
			text := ""
			for n, v := range claims {
				text += fmt.Sprintf(`,%q:%s`, n, v)
			}
			rows = append(rows, hostileRow{fmt.Sprintf("%s %.30s is refused", name, value), b.signed(b.header+"}", "{"+text[1:]+"}"), policy.ReasonClaimType})
		}
	}
	return rows
}

// Signatures that are none.
func (b *hostileBench) signatureRows(t testing.TB) []hostileRow {
	invalid := policy.ReasonSignatureInvalid
	good := b.good()
	input := good[:strings.LastIndexByte(good, '.')]
	signature, err := decodeBase64URL(good[len(input)+1:])
	if err != nil {
		t.Fatal(err)
	}
	with := func(s []byte) string { return input + "." + authntest.Encode(s) }
	forger, err := authntest.NewKey(b.ec.ID, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	forgerRSA, err := authntest.NewKey(b.rsa.ID, "RS256")
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 64)
	one := append(append(make([]byte, 31), 1), append(make([]byte, 31), 1)...)
	der := append([]byte{0x30, 0x44, 0x02, 0x20}, signature[:32]...)
	der = append(append(der, 0x02, 0x20), signature[32:]...)
	rsaToken := b.rsa.Token(b.issuer.Claims(nil))
	rsaInput := rsaToken[:strings.LastIndexByte(rsaToken, '.')]
	rsaSignature, err := decodeBase64URL(rsaToken[len(rsaInput)+1:])
	if err != nil {
		t.Fatal(err)
	}
	withRSA := func(s []byte) string { return rsaInput + "." + authntest.Encode(s) }
	rows := []hostileRow{
		{"somebody else's signature is refused", forger.Token(b.issuer.Claims(nil)), invalid},
		{"somebody else's RSA signature is refused", forgerRSA.Token(b.issuer.Claims(nil)), invalid},
		{"zeros are no signature (CVE-2022-21449)", with(zero), invalid},
		{"ones are no signature", with(one), invalid},
		{"a DER signature is refused", with(der), invalid},
		{"a signature too short is refused", with(signature[:63]), invalid},
		{"a signature too long is refused", with(append(signature[:64:64], 0)), invalid},
		{"a signature with a zero before is refused", with(append([]byte{0}, signature...)), invalid},
		{"half a signature is refused", with(signature[:32]), invalid},
		{"one byte is no signature", with([]byte{1}), invalid},
		{"the halves exchanged are refused", with(append(signature[32:64:64], signature[:32]...)), invalid},
		{"the signature of another token is refused", input + "." + authntest.Encode(b.ec.Signature(input+"x")), invalid},
		{"the RSA signature of another token is refused", withRSA(b.rsa.Signature(input)), invalid},
		{"an RSA signature too short is refused", withRSA(rsaSignature[:255]), invalid},
		{"an RSA signature with a zero before is refused", withRSA(append([]byte{0}, rsaSignature...)), invalid},
		{"an RSA signature of zeros is refused", withRSA(make([]byte, 256)), invalid},
		{"an RSA signature of one is refused", withRSA(append(make([]byte, 255), 1)), invalid},
		{"an RSA signature of ones is refused", withRSA([]byte(strings.Repeat("\xff", 256))), invalid},
		{"an empty RSA signature is refused", rsaInput + ".", policy.ReasonTokenMalformed},
	}
	for _, part := range []string{"header", "claims"} {
		changed := strings.Split(good, ".")
		if part == "header" {
			changed[0] = authntest.Encode([]byte(b.header + " }"))
		} else {
			changed[1] = authntest.Encode([]byte(b.claims + `,"sub":"mallory"}`))
		}
		rows = append(rows, hostileRow{"other " + part + " under a good signature are refused", strings.Join(changed, "."), invalid})
	}
	return rows
}
