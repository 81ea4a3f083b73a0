package extauthz

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
)

// Paths of the identity token's keys, for upstreams that verify it.
const (
	JWKSPath      = "/.well-known/jwks.json"
	DiscoveryPath = "/.well-known/openid-configuration"
)

// NewHTTPHandler makes everything that the HTTP listener serves of the gate:
// forward-auth, AuthZEN, and the keys of the identity tokens. All else goes to next.
func NewHTTPHandler(gate *Gate, limits Limits, next http.Handler) http.Handler {
	authzen := NewAuthZEN(gate)
	mux := http.NewServeMux()
	mux.Handle("POST "+EvaluationPath, authzen)
	mux.Handle("POST "+EvaluationsPath, authzen)
	mux.HandleFunc("GET "+AuthZENConfigPath, authzen.serveConfig)
	mux.HandleFunc("GET "+JWKSPath, func(w http.ResponseWriter, r *http.Request) { serveKeys(w, gate.Snapshot()) })
	mux.HandleFunc("GET "+DiscoveryPath, func(w http.ResponseWriter, r *http.Request) { serveDiscovery(w, r, gate.Snapshot()) })
	mux.Handle("/", next)
	return NewForwardAuth(gate, limits).Handler(mux)
}

// keysMaxAge lets verifiers keep the keys: a new key has to be published this much
// earlier than it signs.
const keysMaxAge = "public, max-age=300"

// serveKeys publishes the keys of all minters of the configuration (RFC 7517).
func serveKeys(w http.ResponseWriter, s *Snapshot) {
	if s == nil || len(s.minters) == 0 {
		http.Error(w, "no identity tokens are minted here", http.StatusNotFound)
		return
	}
	keys, err := joinKeys(s.minters)
	if err != nil {
		keysUnknown(w)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", keysMaxAge)
	_, _ = w.Write(keys) // a client that has gone needs no answer
}

// serveDiscovery publishes where the keys are, and the algorithms of all of them. With
// several minters it is the first one's issuer that is named.
func serveDiscovery(w http.ResponseWriter, r *http.Request, s *Snapshot) {
	if s == nil || len(s.minters) == 0 {
		http.Error(w, "no identity tokens are minted here", http.StatusNotFound)
		return
	}
	var algorithms []string
	for _, m := range s.minters {
		own := m.Algorithms()
		if len(own) == 0 { // a verifier would keep a list that lacks some
			keysUnknown(w)
			return
		}
		for _, algorithm := range own {
			if !slices.Contains(algorithms, algorithm) {
				algorithms = append(algorithms, algorithm)
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", keysMaxAge)
	_, _ = w.Write(s.minters[0].Discovery(baseURL(r, s)+JWKSPath, algorithms))
}

// baseURL is how the client reached us: of a proxy in trusted_proxies we believe whether
// that was by TLS.
func baseURL(r *http.Request, s *Snapshot) string {
	scheme := "http"
	switch forwarded := r.Header.Values("X-Forwarded-Proto"); {
	case r.TLS != nil:
		scheme = "https"
	case s != nil && len(forwarded) == 1 && forwarded[0] == "https" && containsAddr(s.config.TrustedProxies, peerAddr(r.RemoteAddr)):
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// keysUnknown answers while the keys of a minter have not been loaded.
func keysUnknown(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "the keys are not known yet", http.StatusServiceUnavailable)
}

// mintersOf are those of a configuration, each once, the file's own first.
func mintersOf(c *Config) []*mint.Minter {
	var list []*mint.Minter
	seen := make(map[*mint.Minter]bool)
	add := func(f *Forward) {
		if f != nil && f.Token != nil && f.Token.Minter != nil && !seen[f.Token.Minter] {
			seen[f.Token.Minter] = true
			list = append(list, f.Token.Minter)
		}
	}
	add(c.Forward)
	for i := range c.Routes {
		add(c.Routes[i].Forward)
	}
	return list
}

// joinKeys makes one key set of those of all minters, each key once. Keys that are not
// known yet are an error: a verifier would keep a set that lacks them.
func joinKeys(minters []*mint.Minter) ([]byte, error) {
	joined := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}}
	seen := make(map[string]bool)
	for _, m := range minters {
		one := joined
		one.Keys = nil
		if m.JWKS() == nil {
			return nil, mint.ErrNoKeys
		}
		if err := json.Unmarshal(m.JWKS(), &one); err != nil {
			return nil, fmt.Errorf("joining key sets: %w", err)
		}
		for _, key := range one.Keys {
			if !seen[string(key)] {
				seen[string(key)] = true
				joined.Keys = append(joined.Keys, key)
			}
		}
	}
	return json.Marshal(joined)
}
