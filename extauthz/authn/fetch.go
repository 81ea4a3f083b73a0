package authn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRedirects is how many redirects to the same host are followed.
const maxRedirects = 3

// A fetcher gets documents from an issuer. Only what the operator configured, or a
// document of the issuer named, is ever fetched; never what a token names.
type fetcher struct {
	client   *http.Client
	maxBytes int64
}

// newFetcher makes a fetcher whose TLS trusts the certificates in roots, PEM, or the
// system's if there are none. A nil transport is a network.
func newFetcher(roots []byte, maxBytes int64, transport http.RoundTripper) (*fetcher, error) {
	if transport == nil {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if len(roots) > 0 {
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(roots) {
				return nil, errors.New("the CA file holds no PEM certificate")
			}
		}
		transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     config,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     30 * time.Second,
			// Headers count against no body limit, so they get their own.
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &fetcher{
		client:   &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		maxBytes: maxBytes,
	}, nil
}

// checkRedirect lets a redirect through only to where the request went first.
func checkRedirect(request *http.Request, via []*http.Request) error {
	first := via[0].URL
	if request.URL.Scheme != first.Scheme || !strings.EqualFold(request.URL.Host, first.Host) {
		return errors.New("redirected to another host")
	}
	if len(via) > maxRedirects {
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	}
	return nil
}

// get fetches address. Only a whole answer with status 200 and at most maxBytes is one.
// The limit of time is ctx.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", address, err)
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	request.Header.Set("User-Agent", "gatehouse")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching: %w", err) // holds method and URL
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching %s: status %d", address, response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, f.maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("fetching %s: %w", address, err)
	}
	if int64(len(body)) > f.maxBytes {
		return nil, fmt.Errorf("fetching %s: the answer is longer than %d bytes", address, f.maxBytes)
	}
	return body, nil
}

func (f *fetcher) close() { f.client.CloseIdleConnections() }

// parseRemoteURL checks that raw is a URL whose answer can be trusted as far as its
// certificate: https, or http where nobody can be in between, on this very machine.
func parseRemoteURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL") // the cause would quote it, credentials included
	}
	switch {
	case u.Host == "" || u.Opaque != "":
		return nil, fmt.Errorf("%q is not an absolute URL", u.Redacted())
	case u.User != nil:
		return nil, fmt.Errorf("%q holds credentials", u.Redacted())
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, fmt.Errorf("%q has a fragment", raw)
	case u.Scheme == "https":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	case u.Scheme == "http":
		return nil, fmt.Errorf("%q is not https; http is for loopback hosts only", raw)
	default:
		return nil, fmt.Errorf("%q is not https", raw)
	}
	return u, nil
}

// isLoopback tells whether host is this machine whatever a resolver says (RFC 6761 §6.3).
func isLoopback(host string) bool {
	host = strings.ToLower(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
