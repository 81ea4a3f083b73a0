// Package authntest runs a live token issuer for tests: OpenID discovery and a key set
// over a real socket, keys that rotate and are withdrawn while requests run, and faults
// of all kinds on demand.
//
// Start reading at [Start] and [Fault].
package authntest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Audience is what tokens of an issuer are for unless they say otherwise.
const Audience = "orders"

// Options say how an [Issuer] starts. The zero value is an ES256 issuer over plain HTTP.
type Options struct {
	Address   string // to listen on; default a free port of 127.0.0.1
	Path      string // of the issuer, such as /realms/corp
	Algorithm string // of the first key; default ES256
	TLS       bool   // serve with a certificate that [Issuer.CAPEM] vouches for
}

// An Issuer is a running token issuer. It is safe for concurrent use.
type Issuer struct {
	options  Options
	url      string
	listener net.Listener
	server   *http.Server
	caPEM    []byte
	good     tls.Certificate
	wrong    tls.Certificate // for another name, from nobody
	hung     chan struct{}   // closed by Close: lets hanging answers go

	mu        sync.Mutex
	keys      []*Key
	extra     []any // further members of the key set
	current   *Key
	made      int
	fault     Fault
	faultAt   Endpoint
	discovery int // requests
	keySet    int
}

// Start starts an issuer. Close ends it.
func Start(options Options) (*Issuer, error) {
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	if options.Algorithm == "" {
		options.Algorithm = "ES256"
	}
	i := &Issuer{options: options, hung: make(chan struct{})}
	if _, err := i.Rotate(options.Algorithm); err != nil {
		return nil, err
	}
	var err error
	if i.listener, err = net.Listen("tcp", options.Address); err != nil {
		return nil, fmt.Errorf("starting an issuer: %w", err)
	}
	scheme := "http"
	i.server = &http.Server{Handler: i, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)} // faults are on purpose
	if options.TLS {
		scheme = "https"
		if err := i.makeCertificates(); err != nil {
			return nil, err
		}
		i.server.TLSConfig = &tls.Config{GetCertificate: i.certificate}
		go func() { _ = i.server.ServeTLS(i.listener, "", "") }()
	} else {
		go func() { _ = i.server.Serve(i.listener) }()
	}
	i.url = scheme + "://" + i.listener.Addr().String() + options.Path
	return i, nil
}

// Close stops the issuer at once, answers under way included.
func (i *Issuer) Close() {
	close(i.hung)
	_ = i.server.Close()
}

// URL is the issuer's name, as in iss.
func (i *Issuer) URL() string { return i.url }

// DiscoveryURL is where its discovery document is.
func (i *Issuer) DiscoveryURL() string { return i.url + "/.well-known/openid-configuration" }

// JWKSURL is where its key set is.
func (i *Issuer) JWKSURL() string { return i.url + "/jwks" }

// CAPEM is the certificate of the authority that the issuer's own comes from; nil
// without TLS.
func (i *Issuer) CAPEM() []byte { return i.caPEM }

// Rotate makes and publishes a new key, and signs with it from now on. The keys before
// it stay published.
func (i *Issuer) Rotate(algorithm string) (*Key, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.made++
	key, err := NewKey(fmt.Sprintf("key-%d", i.made), algorithm)
	if err != nil {
		return nil, err
	}
	i.keys = append(i.keys, key)
	i.current = key
	return key, nil
}

// Current is the key that tokens are signed with.
func (i *Issuer) Current() *Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current
}

// Withdraw takes a key out of the set.
func (i *Issuer) Withdraw(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = slices.DeleteFunc(i.keys, func(k *Key) bool { return k.ID == id })
}

// Publish puts members into the key set, beside the issuer's keys.
func (i *Issuer) Publish(members ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = append(i.extra, members...)
}

// Claims are good claims: of this issuer, for [Audience], about alice, from now for
// five minutes. What is in changes replaces or, if nil, removes a claim.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{"iss": i.url, "aud": Audience, "sub": "alice", "iat": now, "exp": now + 300}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// Token is a good token, but for changes, which are as for [Issuer.Claims].
func (i *Issuer) Token(changes map[string]any) string { return i.Current().Token(i.Claims(changes)) }

// Requests counts what was asked for since the start.
func (i *Issuer) Requests() (discovery, keySet int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.discovery, i.keySet
}

// ServeHTTP answers like the issuer's own socket does.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var at Endpoint
	var document map[string]any
	i.mu.Lock()
	switch strings.TrimPrefix(r.URL.Path, i.options.Path) {
	case "/.well-known/openid-configuration":
		i.discovery++
		at = Discovery
		document = map[string]any{
			"issuer":   i.url,
			"jwks_uri": i.url + "/jwks",

			"authorization_endpoint":                i.url + "/authorize",
			"token_endpoint":                        i.url + "/token",
			"response_types_supported":              []string{"code"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{i.options.Algorithm},
		}
	case "/jwks":
		i.keySet++
		at = KeySet
		members := slices.Clone(i.extra)
		for _, key := range i.keys {
			members = append(members, key.JWK())
		}
		document = map[string]any{"keys": members}
	}
	fault := NoFault
	if i.faultAt == Everywhere || i.faultAt == at {
		fault = i.fault
	}
	i.mu.Unlock()
	if document == nil {
		http.NotFound(w, r)
		return
	}
	i.answer(w, r, document, fault)
}

func (i *Issuer) makeCertificates() error {
	authorityKey, authority, err := newCertificate(nil, nil, "authority", nil)
	if err != nil {
		return err
	}
	i.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	key, own, err := newCertificate(authorityKey, authority, "issuer", []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback})
	if err != nil {
		return err
	}
	i.good = tls.Certificate{Certificate: [][]byte{own.Raw}, PrivateKey: key}
	key, other, err := newCertificate(nil, nil, "somebody.example", nil)
	if err != nil {
		return err
	}
	i.wrong = tls.Certificate{Certificate: [][]byte{other.Raw}, PrivateKey: key}
	return nil
}

func (i *Issuer) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fault == WrongCertificate {
		return &i.wrong, nil
	}
	return &i.good, nil
}

// newCertificate makes a certificate for addresses, signed by parent, or by itself.
func newCertificate(parentKey *ecdsa.PrivateKey, parent *x509.Certificate, name string, addresses []net.IP) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		IPAddresses:           addresses,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  parent == nil,
		BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("making a certificate: %w", err)
	}
	return key, certificate, nil
}

func (i *Issuer) port() int { return i.listener.Addr().(*net.TCPAddr).Port }
