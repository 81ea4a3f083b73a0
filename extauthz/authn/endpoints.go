package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// endpointsFor is how long discovered endpoints count before they are read again.
const endpointsFor = 10 * time.Minute

// endpoints are where an authorization server takes requests: as configured, else as
// the discovery document of the issuer says.
type endpoints struct {
	token, introspection string // as configured; "": discovered
	keys                 *KeySet
	provider             *provider

	mu       sync.Mutex
	document map[string]any
	until    time.Time
}

// newEndpoints checks what is configured. jwt is the authenticator whose issuer it is.
func newEndpoints(token, introspection string, needIntrospection bool, jwt *JWT, r *provider) (*endpoints, error) {
	for _, e := range []struct{ name, address string }{{"token_url", token}, {"introspection_url", introspection}} {
		if e.address == "" {
			continue
		}
		if _, err := parseRemoteURL(e.address); err != nil {
			return nil, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	missing := token == "" || needIntrospection && introspection == ""
	keys := jwt.Keys()
	if missing && (keys == nil || keys.discovery == nil) {
		return nil, errors.New("the issuer is not discovered, so its endpoints have to be given")
	}
	return &endpoints{token: token, introspection: introspection, keys: keys, provider: r}, nil
}

func (e *endpoints) tokenURL(ctx context.Context) (string, error) {
	if e.token != "" {
		return e.token, nil
	}
	return e.discovered(ctx, "token_endpoint")
}

func (e *endpoints) introspectionURL(ctx context.Context) (string, error) {
	if e.introspection != "" {
		return e.introspection, nil
	}
	return e.discovered(ctx, "introspection_endpoint")
}

// discovered reads an endpoint out of the discovery document. The last good document
// serves while a newer one cannot be had.
func (e *endpoints) discovered(ctx context.Context, name string) (string, error) {
	e.mu.Lock()
	document, until := e.document, e.until
	e.mu.Unlock()
	if document == nil || !time.Now().Before(until) {
		fresh, err := e.read(ctx)
		if err != nil && document == nil {
			return "", err
		}
		if err == nil {
			document = fresh
			e.mu.Lock()
			e.document, e.until = fresh, time.Now().Add(endpointsFor)
			e.mu.Unlock()
		}
	}
	address, _ := document[name].(string)
	if address == "" {
		return "", fmt.Errorf("discovering: the document has no %s", name)
	}
	u, err := parseRemoteURL(address)
	if err != nil {
		return "", fmt.Errorf("discovering: %s: %w", name, err)
	}
	if u.Scheme == "http" && !strings.HasPrefix(e.keys.discovery.url, "http:") {
		return "", fmt.Errorf("discovering: %s of an https issuer is not https", name)
	}
	return address, nil
}

func (e *endpoints) read(ctx context.Context) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.keys.discovery.url, nil)
	if err != nil {
		return nil, fmt.Errorf("discovering: %w", err)
	}
	answer, err := e.provider.do(request)
	if err != nil {
		return nil, fmt.Errorf("discovering: %w", err)
	}
	if answer.status != http.StatusOK {
		return nil, fmt.Errorf("discovering: status %d", answer.status)
	}
	document, err := DecodeObject(answer.body)
	if err != nil {
		return nil, fmt.Errorf("discovering: %w", err)
	}
	if issuer, _ := document["issuer"].(string); !e.keys.discovery.allows(issuer) {
		return nil, fmt.Errorf("discovering: the document names the issuer %.200q, which is not the one expected", issuer)
	}
	return document, nil
}

// An accessToken is a token endpoint's answer (RFC 6749 §5.1).
type accessToken struct {
	token   string
	expires time.Time // zero: the answer does not say
}

// errRefused is a token endpoint's refusal of the credential, as opposed to its being
// out of order.
var errRefused = errors.New("the token endpoint refused")

// exchange sends a token request and reads the answer. The error codes in blame (RFC
// 6749 §5.2) are [errRefused]; everything else that is not a token is an outage, our
// own mistakes included. now is when the token's lifetime starts.
func (e *endpoints) exchange(request *http.Request, now time.Time, blame []string) (accessToken, error) {
	answer, err := e.provider.do(request)
	if err != nil {
		return accessToken{}, err
	}
	document, err := DecodeObject(answer.body)
	if answer.status == http.StatusBadRequest || answer.status == http.StatusUnauthorized {
		code := ""
		if err == nil {
			code, _ = document["error"].(string)
		}
		if code == "" && answer.status == http.StatusUnauthorized {
			code = "invalid_client" // what 401 means there
		}
		if slices.Contains(blame, code) {
			return accessToken{}, fmt.Errorf("%w: %s", errRefused, code)
		}
		return accessToken{}, fmt.Errorf("exchanging: status %d, error %.60q", answer.status, code)
	}
	if answer.status != http.StatusOK {
		return accessToken{}, fmt.Errorf("exchanging: status %d", answer.status)
	}
	if err != nil {
		return accessToken{}, fmt.Errorf("exchanging: %w", err)
	}
	token, _ := document["access_token"].(string)
	kind, _ := document["token_type"].(string)
	if token == "" || !equalFold(kind, "Bearer") {
		return accessToken{}, errors.New("exchanging: the answer holds no bearer token")
	}
	got := accessToken{token: token}
	if seconds, present := document["expires_in"]; present {
		lifetime, err := lifetimeOf(seconds)
		if err != nil {
			return accessToken{}, fmt.Errorf("exchanging: %w", err)
		}
		got.expires = now.Add(lifetime)
	}
	return got, nil
}

// maxLifetime bounds what an answer says: no clock runs over.
const maxLifetime = 10 * 365 * 24 * time.Hour

// lifetimeOf reads expires_in, in seconds. Some servers write the number as a text.
func lifetimeOf(v any) (time.Duration, error) {
	text, ok := plainText(v)
	if !ok {
		return 0, errors.New("expires_in is not a number")
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0) {
		return 0, errors.New("expires_in is not a number")
	}
	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second)), nil
}
