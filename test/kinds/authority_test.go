package kinds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"testing"
	"time"
)

// An authority makes certificates, as that of a mesh does.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw, key := a.make(template)
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	a.certificate, a.key = certificate, key
	return a
}

func (a *authority) make(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return raw, key
}

// leaf is what a certificate says.
func leaf(name string, uri *url.URL) *x509.Certificate {
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if uri != nil {
		template.URIs = []*url.URL{uri}
	}
	return template
}

// pem makes a certificate and its key, both PEM.
func (a *authority) pem(template *x509.Certificate) (certificate, key string) {
	a.t.Helper()
	raw, private := a.make(template)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return encode("CERTIFICATE", raw), encode("PRIVATE KEY", der)
}

// client makes the certificate of a client with a URI such as a SPIFFE ID.
func (a *authority) client(uri string) *tls.Certificate {
	a.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.pair(leaf("client", u))
}

// expired makes one that was good until a minute ago.
func (a *authority) expired(uri string) *tls.Certificate {
	a.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		a.t.Fatal(err)
	}
	template := leaf("client", u)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	return a.pair(template)
}

func (a *authority) pair(template *x509.Certificate) *tls.Certificate {
	a.t.Helper()
	certificate, key := a.pem(template)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	return &pair
}

func (a *authority) certificatePEM() string { return encode("CERTIFICATE", a.certificate.Raw) }

func encode(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}
