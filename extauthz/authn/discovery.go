package authn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	openIDSuffix = "/.well-known/openid-configuration"       // OpenID Connect Discovery 1.0 §4
	oauthInfix   = "/.well-known/oauth-authorization-server" // RFC 8414 §3
)

// A discovery says where an issuer's keys are to be learned.
type discovery struct {
	url    string
	issuer string // that the document must name; empty: the one that url implies
	prefix string // what url implies: url without the well-known part
}

// newDiscovery prepares discovery from an issuer, a URL of the document, or both; at
// least one is given.
func newDiscovery(issuer, documentURL string) (*discovery, error) {
	if documentURL == "" {
		u, err := parseRemoteURL(issuer)
		if err != nil {
			return nil, fmt.Errorf("issuer: %w", err)
		}
		if u.RawQuery != "" || u.ForceQuery {
			return nil, fmt.Errorf("issuer: %q has a query", issuer)
		}
		return &discovery{
			url:    strings.TrimSuffix(issuer, "/") + openIDSuffix,
			issuer: issuer,
		}, nil
	}
	u, err := parseRemoteURL(documentURL)
	if err != nil {
		return nil, fmt.Errorf("discovery_url: %w", err)
	}
	d := &discovery{url: documentURL, issuer: issuer, prefix: impliedIssuer(documentURL, u)}
	if d.issuer == "" && d.prefix == "" {
		return nil, fmt.Errorf("discovery_url: %q does not end in %s, so it implies no issuer: give the issuer as well", documentURL, openIDSuffix)
	}
	return d, nil
}

// impliedIssuer is the issuer whose document is at raw, or empty if that cannot be told.
func impliedIssuer(raw string, u *url.URL) string {
	if prefix, ok := strings.CutSuffix(raw, openIDSuffix); ok {
		return prefix
	}
	// RFC 8414 puts the well-known part between host and path.
	if rest, ok := strings.CutPrefix(u.EscapedPath(), oauthInfix); ok && u.RawQuery == "" && (rest == "" || rest[0] == '/') {
		return u.Scheme + "://" + u.Host + rest
	}
	return ""
}

// allows tells whether the document may name issuer, byte for byte. What the URL
// implies comes without the slash that some issuers end in.
func (d *discovery) allows(issuer string) bool {
	if issuer == "" {
		return false
	}
	if issuer == d.issuer {
		return true
	}
	return d.prefix != "" && (issuer == d.prefix || issuer == d.prefix+"/")
}

// resolve fetches the document and gives the issuer that it names and where its keys
// are.
func (d *discovery) resolve(ctx context.Context, f *fetcher) (issuer, keysURL string, err error) {
	body, err := f.get(ctx, d.url)
	if err != nil {
		return "", "", err
	}
	document, err := DecodeObject(body)
	if err != nil {
		return "", "", fmt.Errorf("reading %s: %w", d.url, err)
	}
	issuer, _ = document["issuer"].(string)
	if !d.allows(issuer) {
		return "", "", fmt.Errorf("reading %s: it names the issuer %.200q, which is not the one expected", d.url, issuer)
	}
	keysURL, _ = document["jwks_uri"].(string)
	if keysURL == "" {
		return "", "", fmt.Errorf("reading %s: it has no jwks_uri", d.url)
	}
	keys, err := parseRemoteURL(keysURL)
	if err != nil {
		return "", "", fmt.Errorf("reading %s: jwks_uri: %w", d.url, err)
	}
	if keys.Scheme == "http" && !strings.HasPrefix(d.url, "http:") {
		return "", "", fmt.Errorf("reading %s: jwks_uri: %w", d.url, errors.New("an https issuer's keys are not fetched over http"))
	}
	return issuer, keysURL, nil
}
