package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a CA for one test, which writes what it signs into dir.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes name.crt and name.key.
func (a *authority) sign(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(a.path(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// handshake reports what the client sees: the server's common name, or an error.
func handshake(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "x") // does the handshake
		_ = conn.Close()
	}()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", l.Addr().String(), client)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// With TLS 1.3 a client learns of a refused certificate when it reads.
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	ca.sign(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	spiffe, err := url.Parse("spiffe://cluster.local/ns/edge/sa/envoy")
	if err != nil {
		t.Fatal(err)
	}
	ca.sign(t, "envoy", &x509.Certificate{URIs: []*url.URL{spiffe}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	ca.sign(t, "other", &x509.Certificate{DNSNames: []string{"other"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	foreign := newAuthority(t)
	foreign.sign(t, "envoy", &x509.Certificate{URIs: []*url.URL{spiffe}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	for _, row := range []struct {
		name   string
		mutual bool
		names  []string
		client string // path of the certificate without suffix
		max    uint16
		ok     bool
	}{
		{"a client without certificate where none is asked", false, nil, "", 0, true},
		{"TLS 1.2 is good enough", false, nil, "", tls.VersionTLS12, true},
		{"TLS 1.1 is not", false, nil, "", tls.VersionTLS11, false},
		{"a client of the CA", true, nil, ca.path("other"), 0, true},
		{"a client without certificate", true, nil, "", 0, false},
		{"a client of another CA", true, nil, foreign.path("envoy"), 0, false},
		{"a client with a listed name", true, []string{spiffe.String()}, ca.path("envoy"), 0, true},
		{"a client with another name", true, []string{spiffe.String()}, ca.path("other"), 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &transportSecurity{certFile: ca.path("server.crt"), keyFile: ca.path("server.key"), clientNames: row.names}
			if row.mutual {
				s.clientCAFile = ca.path("ca.crt")
			}
			if err := s.Reload(); err != nil {
				t.Fatal(err)
			}
			client := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: row.max}
			if row.client != "" {
				pair, err := tls.LoadX509KeyPair(row.client+".crt", row.client+".key")
				if err != nil {
					t.Fatal(err)
				}
				client.Certificates = []tls.Certificate{pair}
			}
			if _, err := handshake(t, s.Config(), client); (err == nil) != row.ok {
				t.Errorf("handshake: %v, want success: %v", err, row.ok)
			}
		})
	}
}

func TestTLSReload(t *testing.T) {
	ca := newAuthority(t)
	ca.sign(t, "server", &x509.Certificate{DNSNames: []string{"localhost"}})
	s := &transportSecurity{certFile: ca.path("server.crt"), keyFile: ca.path("server.key")}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}

	renewed := newAuthority(t)
	renewed.cert, renewed.key = ca.cert, ca.key
	renewed.sign(t, "renewed", &x509.Certificate{DNSNames: []string{"localhost"}})
	for _, suffix := range []string{".crt", ".key"} {
		if err := os.Rename(renewed.path("renewed"+suffix), ca.path("server"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	config := s.Config()
	if name, err := handshake(t, config, client); err != nil || name != "server" {
		t.Errorf("before Reload the server is %q, %v, want the old one", name, err)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if name, err := handshake(t, config, client); err != nil || name != "renewed" {
		t.Errorf("after Reload the server is %q, %v, want the new one", name, err)
	}
	if err := os.WriteFile(ca.path("server.crt"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("Reload of garbage succeeds")
	}
	if name, err := handshake(t, config, client); err != nil || name != "renewed" {
		t.Errorf("after a broken Reload the server is %q, %v, want the one before", name, err)
	}
}
