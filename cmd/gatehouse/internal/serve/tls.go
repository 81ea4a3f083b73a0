package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
)

// transportSecurity is the TLS of one listener. Reload reads its files again; a file that
// is broken then leaves what was there.
type transportSecurity struct {
	certFile, keyFile string
	clientCAFile      string   // "": clients show no certificate
	clientNames       []string // DNS or URI names, one of which a client must have; empty: any
	protocols         []string // ALPN, in order of preference

	current atomic.Pointer[tls.Config]
}

// Reload reads the files, and uses them if they are good.
func (s *transportSecurity) Reload() error {
	config, err := s.read()
	if err == nil {
		s.current.Store(config)
	}
	return err
}

// read makes of the files what connections from now on need.
func (s *transportSecurity) read() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
	if err != nil {
		return nil, fmt.Errorf("loading the certificate %s and its key %s: %w", s.certFile, s.keyFile, err)
	}
	config := &tls.Config{
		// 1.3 is chosen where the client has it.
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{certificate},
		NextProtos:   s.protocols,
	}
	if s.clientCAFile != "" {
		pem, err := os.ReadFile(s.clientCAFile)
		if err != nil {
			return nil, fmt.Errorf("loading the client CA: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("loading the client CA: no certificate in %s", s.clientCAFile)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		// Runs for resumed sessions too, unlike VerifyPeerCertificate.
		config.VerifyConnection = s.verifyClient
	}
	return config, nil
}

// Config is for a listener. It follows Reload.
func (s *transportSecurity) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: s.protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load(), nil
		},
	}
}

// wrap puts TLS on a listener; a nil s leaves it as it is.
func (s *transportSecurity) wrap(l net.Listener) net.Listener {
	if s == nil {
		return l
	}
	return tls.NewListener(l, s.Config())
}

var errClientName = errors.New("the client's certificate has none of the names that are let in")

func (s *transportSecurity) verifyClient(state tls.ConnectionState) error {
	if len(s.clientNames) == 0 {
		return nil
	}
	if len(state.PeerCertificates) == 0 {
		return errClientName
	}
	leaf := state.PeerCertificates[0]
	for _, name := range leaf.DNSNames {
		if slices.Contains(s.clientNames, name) {
			return nil
		}
	}
	for _, uri := range leaf.URIs {
		if slices.Contains(s.clientNames, uri.String()) {
			return nil
		}
	}
	return errClientName
}
