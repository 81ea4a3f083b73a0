// Package mint makes the short-lived identity token that the upstream sees: a
// signed JWT that says who calls, so that an upstream need not trust headers, and
// never holds a credential that is good for longer or elsewhere.
//
// It signs and publishes its keys; it verifies nothing (package
// [github.com/gatehouse-authz/gatehouse/extauthz/mint/verify] does, for upstreams in
// Go). Start reading at [Minter.Mint].
package mint

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// MaxTTL is the longest life of an identity token: it is minted anew for every
// caller, so a longer one would only be a longer theft.
const MaxTTL = 24 * time.Hour

// Config says how tokens are made.
type Config struct {
	Issuer string // iss; required
	Keys   []Key  // the first signs, all are published; at least one, or a Ring
	Ring   *Ring  // instead of Keys; nil: none

	// Claims names the claims, by the field that they hold. Fields that it lacks
	// keep their default (see [Fields]).
	Claims map[string]string

	// Bind makes the named parts of the request claims: "method", "host", "path".
	Bind []string
}

// Fields are the parts of a principal that become claims, and their default names.
// `scope` is one text (RFC 8693 §4.2); under any other name scopes are a list.
func Fields() map[string]string {
	return map[string]string{
		"subject": "sub", "username": "username", "tenant": "tenant", "realm": "realm",
		"roles": "roles", "scopes": "scope", "attributes": "attributes", "authenticator": "authenticator",
	}
}

// ErrExpired says that the credential ends before a token could be of any use.
var ErrExpired = errors.New("the credential has expired")

// Minter makes identity tokens. It is immutable and safe for concurrent use.
type Minter struct {
	issuer string
	names  map[string]string
	bind   []string
	ring   *Ring     // nil: fixed
	fixed  *ringKeys // of Config.Keys
}

// New checks cfg.
func New(cfg Config) (*Minter, error) {
	if cfg.Issuer == "" {
		return nil, errors.New("an identity token needs an issuer")
	}
	if (len(cfg.Keys) == 0) == (cfg.Ring == nil) {
		return nil, errors.New("an identity token needs a signing key")
	}
	names, err := claimNames(cfg.Claims)
	if err != nil {
		return nil, err
	}
	for _, b := range cfg.Bind {
		if b != "method" && b != "host" && b != "path" {
			return nil, fmt.Errorf("binding to %q: give method, host or path", b)
		}
	}
	ids := map[string]bool{}
	for _, k := range cfg.Keys {
		if k.private == nil {
			return nil, errors.New("an identity token needs a signing key")
		}
		if ids[k.ID] {
			return nil, fmt.Errorf("two signing keys have the id %q", k.ID)
		}
		ids[k.ID] = true
	}
	m := &Minter{issuer: cfg.Issuer, names: names, bind: slices.Clone(cfg.Bind), ring: cfg.Ring}
	if cfg.Ring != nil {
		return m, nil
	}
	jwks, err := publish(cfg.Keys)
	if err != nil {
		return nil, err
	}
	m.fixed = &ringKeys{signing: []timedKey{{Key: cfg.Keys[0]}}, all: slices.Clone(cfg.Keys), jwks: jwks}
	return m, nil
}

// keys are those of now; nil if they are not known yet.
func (m *Minter) keys() *ringKeys {
	if m.ring != nil {
		return m.ring.keys.Load()
	}
	return m.fixed
}

func claimNames(given map[string]string) (map[string]string, error) {
	names := Fields()
	for field, name := range given {
		if _, known := names[field]; !known {
			return nil, fmt.Errorf("no field %q to name a claim after; there are %s", field, strings.Join(slices.Sorted(maps.Keys(Fields())), ", "))
		}
		if name == "" {
			return nil, fmt.Errorf("the claim of field %q has an empty name", field)
		}
		names[field] = name
	}
	taken := map[string]string{"iss": "issuer", "aud": "audience", "exp": "expiry", "iat": "time of issue", "nbf": "start", "jti": "token id", "unscoped": "unscoped flag", "request": "bound request"}
	for _, field := range slices.Sorted(maps.Keys(names)) {
		name := names[field]
		if other, twice := taken[name]; twice {
			return nil, fmt.Errorf("claim %q would hold both the %s and the %s", name, other, field)
		}
		taken[name] = field
	}
	return names, nil
}

// Token is one minted token.
type Token struct {
	Text string

	// Reuse is until when it may be given to further requests of the same principal
	// and audience: half its life. Zero: it is bound to this request.
	Reuse time.Time
}

// Mint makes the token for one principal.
//
// It ends ttl after now, and never after the principal's credential; ErrExpired if
// that is over. ErrNoKeys says that the store was not reached yet. An audience of "" leaves aud out. The subject is the realm and the
// subject, or the username where there is no subject, joined by a colon; colons and
// percent signs of the realm are percent-encoded, so that no two callers share one.
func (m *Minter) Mint(p *policy.Principal, r *policy.Request, audience string, ttl time.Duration, now time.Time) (Token, error) {
	keys := m.keys()
	if keys == nil {
		return Token{}, ErrNoKeys
	}
	key := keys.signer(now)
	// Whole seconds, rounded so that the token never outlives what it stands for.
	issued := now.Truncate(time.Second)
	expires := issued.Add(min(ttl, MaxTTL))
	if !p.Expires.IsZero() && p.Expires.Before(expires) {
		expires = p.Expires.Truncate(time.Second)
	}
	if !expires.After(now) {
		return Token{}, ErrExpired
	}
	var id [16]byte
	rand.Read(id[:]) // never fails
	claims := m.claims(p, r)
	claims["iss"] = m.issuer
	claims["iat"] = issued.Unix()
	claims["exp"] = expires.Unix()
	claims["jti"] = hex.EncodeToString(id[:])
	if audience != "" {
		claims["aud"] = audience
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(key.Algorithm), claims)
	t.Header["kid"] = key.ID
	text, err := t.SignedString(key.private)
	if err != nil {
		return Token{}, fmt.Errorf("signing an identity token: %w", err)
	}
	minted := Token{Text: text}
	if len(m.bind) == 0 {
		minted.Reuse = issued.Add(expires.Sub(issued) / 2)
	}
	return minted, nil
}

func (m *Minter) claims(p *policy.Principal, r *policy.Request) jwt.MapClaims {
	c := jwt.MapClaims{}
	set := func(field, value string) {
		if value != "" {
			c[m.names[field]] = value
		}
	}
	who := p.Subject
	if who == "" {
		who = p.Username
	}
	set("subject", realmEscaper.Replace(p.Realm)+":"+who)
	set("username", p.Username)
	set("tenant", p.Tenant)
	set("realm", p.Realm)
	set("authenticator", p.Authenticator)
	c[m.names["roles"]] = list(p.Roles)
	switch name := m.names["scopes"]; {
	case p.Unscoped:
		c["unscoped"] = true
	case name == "scope":
		c[name] = strings.Join(p.Scopes, " ")
	default:
		c[name] = list(p.Scopes)
	}
	if len(p.Attributes) > 0 {
		attributes := make(map[string]any, len(p.Attributes))
		for name, a := range p.Attributes {
			if a.List {
				attributes[name] = list(a.Values)
			} else if len(a.Values) == 1 {
				attributes[name] = a.Values[0]
			}
		}
		c[m.names["attributes"]] = attributes
	}
	if len(m.bind) > 0 {
		parts := map[string]any{"method": r.Method, "host": r.Host, "path": r.Path}
		maps.DeleteFunc(parts, func(k string, _ any) bool { return !slices.Contains(m.bind, k) })
		c["request"] = parts
	}
	return c
}

var realmEscaper = strings.NewReplacer("%", "%25", ":", "%3A")

// list is never null in JSON.
func list(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}

// JWKS is the published key set (RFC 7517). Shared secrets are not in it. It is nil while
// the keys are not known: an empty set would be kept by those who ask.
func (m *Minter) JWKS() []byte {
	if keys := m.keys(); keys != nil {
		return keys.jwks
	}
	return nil
}

// Algorithms are those that the published keys sign with, each once. It is empty while the
// keys are not known.
func (m *Minter) Algorithms() []string {
	var algorithms []string
	if keys := m.keys(); keys != nil {
		for _, k := range keys.all {
			if !slices.Contains(algorithms, k.Algorithm) {
				algorithms = append(algorithms, k.Algorithm)
			}
		}
	}
	return algorithms
}

// Discovery is the document that verifiers find the key set by: what OpenID Connect
// Discovery 1.0 §3 and RFC 8414 §2 have in common, no more, since this issuer has no
// endpoint that anybody could ask for a token. algorithms are those of all keys at
// jwksURL, which may be more than the minter's own.
func (m *Minter) Discovery(jwksURL string, algorithms []string) []byte {
	doc, err := json.Marshal(map[string]any{
		"issuer":                                m.issuer,
		"jwks_uri":                              jwksURL,
		"id_token_signing_alg_values_supported": list(algorithms),
		"subject_types_supported":               []string{"public"},
		"response_types_supported":              []string{},
	})
	if err != nil {
		panic(err) // strings only
	}
	return doc
}
