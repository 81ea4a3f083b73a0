package authn

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// The keys and tokens of the appendices of RFC 7515, 7517, 7519 and 8037.
const (
	rfcClaims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

	rfc7515A1Secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"
	rfc7515A1       = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + rfcClaims + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

	rfc7515A2Key = `{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`
	rfc7515A2    = "eyJhbGciOiJSUzI1NiJ9." + rfcClaims + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"

	rfc7515A3Key = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	rfc7515A3    = "eyJhbGciOiJFUzI1NiJ9." + rfcClaims + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

	rfc7515A4Key = `{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}`
	rfc7515A4    = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"

	rfc7515A5 = "eyJhbGciOiJub25lIn0." + rfcClaims + "."
	rfc7515A6 = `{"payload":"` + rfcClaims + `","signatures":[{"protected":"eyJhbGciOiJSUzI1NiJ9","header":{"kid":"2010-12-29"},"signature":"x"}]}`

	rfc7517A1 = `{"keys":[
		{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
		{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}]}`

	rfc7519A1 = "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.QR1Owv2ug2WyPBnbQrRARTeEk9kDO2w8qDcjiHnSJflSdv1iNqhWXaKH4MqAkQtM.AxY8DCtDaGlsbGljb3RoZQ.MKOle7UQrG6nSxTLX6Mqwt0orbHvAKeWnDYvpIAeZ72deHxz3roJDXQyhxx0wKaMHDjUEOKIwrtkHthpqEanSBNYHZgmNOV7sln1Eu9g3J8.fiK51VwhsxJ-siBMR-YFiA"

	rfc8037Key = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc8037A4  = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)

func TestRFCSignatures(t *testing.T) {
	for _, row := range []struct{ name, key, token string }{
		{"RFC 7515 A.2, RS256", rfc7515A2Key, rfc7515A2},
		{"RFC 7515 A.3, ES256", rfc7515A3Key, rfc7515A3},
		{"RFC 7515 A.4, ES512", rfc7515A4Key, rfc7515A4},
		{"RFC 8037 A.4, EdDSA", rfc8037Key, rfc8037A4},
	} {
		t.Run(row.name, func(t *testing.T) {
			set, err := parseKeySet(fmt.Appendf(nil, `{"keys":[%s]}`, row.key), publishable())
			if err != nil {
				t.Fatal(err)
			}
			token, _, err := parseCompact(row.token, DefaultTokenBytes)
			if err != nil {
				t.Fatal(err)
			}
			key, _, err := set.find(token.header)
			if err != nil {
				t.Fatal(err)
			}
			if err := key.verify(&token); err != nil {
				t.Error(err)
			}
			for i := 0; i < len(token.signature); i += 5 {
				token.signature[i] ^= 1
				if key.verify(&token) == nil {
					t.Errorf("a signature with byte %d changed verifies", i)
				}
				token.signature[i] ^= 1
			}
		})
	}
}

func TestRFCTokens(t *testing.T) {
	secret, err := decodeBase64URL(rfc7515A1Secret)
	if err != nil {
		t.Fatal(err)
	}
	j := newTestJWT(t, "joe", nil, func(o *JWTOptions) {
		o.SharedSecret = NewSecret(string(secret))
		o.Audiences, o.AnyAudience = nil, true
		o.Map = func(claims Claims) (*policy.Principal, policy.Reason, error) {
			if claims["http://example.com/is_root"] != true {
				t.Errorf("claims = %v, want is_root", claims)
			}
			return &policy.Principal{Subject: "joe"}, policy.ReasonNone, nil
		}
	})
	before := time.Unix(1300819380, 0).Add(-time.Second)
	for _, row := range []struct {
		name, token string
		now         time.Time
		want        policy.Reason
	}{
		{"RFC 7515 A.1, RFC 7519 3.1, before it expires", rfc7515A1, before, 0},
		{"RFC 7515 A.1 when it expires", rfc7515A1, before.Add(time.Second), policy.ReasonExpired},
		{"RFC 7515 A.2 is for a key, not a secret", rfc7515A2, before, policy.ReasonAlgorithmRefused},
		{"RFC 7515 A.5, RFC 7519 6.1, not signed", rfc7515A5, before, policy.ReasonTokenMalformed},
		{"RFC 7515 A.6, not compact", rfc7515A6, before, policy.ReasonTokenMalformed},
		{"RFC 7519 A.1, encrypted", rfc7519A1, before, policy.ReasonTokenEncrypted},
		{"RFC 8037 A.4, not claims", rfc8037A4, before, policy.ReasonTokenMalformed},
	} {
		t.Run(row.name, func(t *testing.T) { wantReason(t, authenticateAt(j, row.token, row.now), row.want) })
	}
}

func TestRFC7517KeySet(t *testing.T) {
	set, err := parseKeySet([]byte(rfc7517A1), publishable())
	if err != nil {
		t.Fatal(err)
	}
	if set.keys != 1 || len(set.refused) != 1 {
		t.Errorf("%d keys, refused %q; want the RSA key, and the one for encryption refused", set.keys, set.refused)
	}
	for _, row := range []struct {
		header header
		want   policy.Reason
	}{
		{header{algorithm: "RS256", keyID: "2011-04-29", hasKeyID: true}, 0},
		{header{algorithm: "RS256"}, 0},
		{header{algorithm: "PS256", keyID: "2011-04-29", hasKeyID: true}, policy.ReasonKeyUnsuitable},
		{header{algorithm: "ES256", keyID: "1", hasKeyID: true}, policy.ReasonKeyUnsuitable},
		{header{algorithm: "ES256"}, policy.ReasonUnknownKey},
		{header{algorithm: "RS256", keyID: "2", hasKeyID: true}, policy.ReasonUnknownKey},
	} {
		if _, got, _ := set.find(row.header); got != row.want {
			t.Errorf("find(%+v) = %v, want %v", row.header, got, row.want)
		}
	}
}
