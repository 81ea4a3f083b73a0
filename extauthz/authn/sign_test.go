package authn

import (
	"crypto"
	"crypto/hmac"
	"encoding/json"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
)

var hmacHashes = map[string]crypto.Hash{"HS256": crypto.SHA256, "HS384": crypto.SHA384, "HS512": crypto.SHA512}

// signHMAC signs header and claims, which are JSON already or become it, with the hash
// of algorithm, whatever the header says.
func signHMAC(algorithm string, secret []byte, header, claims any) string {
	input := authntest.Encode(asJSON(header)) + "." + authntest.Encode(asJSON(claims))
	mac := hmac.New(hmacHashes[algorithm].New, secret)
	mac.Write([]byte(input))
	return input + "." + authntest.Encode(mac.Sum(nil))
}

func asJSON(v any) []byte {
	if raw, ok := v.(string); ok {
		return []byte(raw)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
