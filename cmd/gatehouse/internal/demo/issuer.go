package demo

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenLifetime lets somebody play for a while.
const tokenLifetime = time.Hour

// keyID is the kid of the issuer's one key.
const keyID = "demo-1"

// people are those who can get a token, by name, with their claims.
var people = map[string]jwt.MapClaims{
	"alice": {"email": "alice@example.com", "tenant": "acme", "roles": []string{"reader"}},
	"bob":   {"email": "bob@example.com", "tenant": "globex", "roles": []string{"reader", "writer"}},
	"carol": {"email": "carol@example.com", "tenant": "acme", "roles": []string{"admin"}},
}

// An issuer signs tokens with a key that it makes at start, and publishes it as OpenID
// Connect Discovery 1.0 says. Whoever can reach it gets a token: it is for the demo only,
// on loopback.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
	now func() time.Time
}

func newIssuer(url string, now func() time.Time) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the issuer's key: %w", err)
	}
	return &issuer{url: url, key: key, now: now}, nil
}

// token is a signed token of a person, good for ttl from now; a negative ttl has expired.
func (i *issuer) token(person string, ttl time.Duration) (string, error) {
	claims := jwt.MapClaims{"iss": i.url, "sub": person, "aud": "orders", "iat": i.now().Unix(), "exp": i.now().Add(ttl).Unix()}
	for name, value := range people[person] {
		claims[name] = value
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = keyID
	signed, err := token.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("signing a token of %s: %w", person, err)
	}
	return signed, nil
}

// Handler serves discovery, the key set, and tokens as plain text at /token/NAME.
func (i *issuer) Handler() (http.Handler, error) {
	point, err := i.key.PublicKey.Bytes() // SEC 1, uncompressed: 4, x, y
	if err != nil {
		return nil, fmt.Errorf("encoding the issuer's key: %w", err)
	}
	b64 := base64.RawURLEncoding
	set := map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "kid": keyID, "use": "sig", "alg": "ES256",
		"x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:]),
	}}}
	document := map[string]any{
		"issuer":                                i.url,
		"jwks_uri":                              i.url + "/jwks",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", serveJSON(document))
	mux.HandleFunc("GET /jwks", serveJSON(set))
	mux.HandleFunc("GET /token/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if people[name] == nil {
			http.Error(w, "nobody of that name: try alice, bob or carol", http.StatusNotFound)
			return
		}
		token, err := i.token(name, tokenLifetime)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, token) // the client went away: nobody is left to tell
	})
	return mux, nil
}

func serveJSON(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client went away: nobody is left to tell
	}
}
