// Package verify is for upstreams in Go: it checks the identity token that gatehouse
// put into a request. Upstreams in other languages use any JWT library with the key
// set that gatehouse publishes.
//
//	v, err := verify.New(ctx, "http://gatehouse:9180/.well-known/jwks.json", "https://gatehouse.example.com", "orders")
//	…
//	who, err := v.Request(r)
package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

// Identity is what a token says, under the default claim names.
type Identity struct {
	jwt.RegisteredClaims
	Username      string         `json:"username"`
	Tenant        string         `json:"tenant"`
	Realm         string         `json:"realm"`
	Authenticator string         `json:"authenticator"`
	Roles         []string       `json:"roles"`
	Scope         string         `json:"scope"` // space separated
	Unscoped      bool           `json:"unscoped"`
	Attributes    map[string]any `json:"attributes"`
	Bound         *Bound         `json:"request"`
}

// Bound is the request that the token was minted for. Parts that are not bound are empty.
type Bound struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
}

// ErrNoToken says that the request carries no identity token.
var ErrNoToken = errors.New("no identity token in the request")

// Verifier checks identity tokens. It is safe for concurrent use.
type Verifier struct {
	keys   keyfunc.Keyfunc
	parser *jwt.Parser
}

// New fetches the key set, and keeps it fresh until ctx ends. issuer and audience are
// those of the configuration of gatehouse; an audience is required, since a token that
// was minted for another upstream is good for nothing here.
func New(ctx context.Context, jwksURL, issuer, audience string) (*Verifier, error) {
	if issuer == "" || audience == "" {
		return nil, errors.New("verifying identity tokens needs an issuer and an audience")
	}
	keys, err := keyfunc.NewDefaultCtx(ctx, []string{jwksURL})
	if err != nil {
		return nil, fmt.Errorf("fetching the key set of %s: %w", issuer, err)
	}
	return &Verifier{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256", "EdDSA", "RS256"}),
		jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
	)}, nil
}

// Request checks the bearer token of r. A token that is bound to a request must be
// bound to this one; its path is compared in the escaped form that r.URL has.
func (v *Verifier) Request(r *http.Request) (*Identity, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, ErrNoToken
	}
	id, err := v.Token(token)
	if err != nil {
		return nil, err
	}
	if b := id.Bound; b != nil {
		path := r.URL.EscapedPath()
		if len(path) > 1 {
			path = strings.TrimSuffix(path, "/")
		}
		host := hostname(r.Host)
		if b.Method != "" && b.Method != r.Method || b.Path != "" && b.Path != path || b.Host != "" && b.Host != host {
			return nil, errors.New("the identity token was minted for another request")
		}
	}
	return id, nil
}

// hostname drops the port and one trailing dot; IPv6 addresses keep their brackets.
func hostname(host string) string {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

// Token checks one token. It does not look at what the token is bound to.
func (v *Verifier) Token(token string) (*Identity, error) {
	var id Identity
	if _, err := v.parser.ParseWithClaims(token, &id, v.keys.Keyfunc); err != nil {
		return nil, fmt.Errorf("verifying an identity token: %w", err)
	}
	return &id, nil
}
