package portal

import (
	"crypto/x509"
	"net"
)

// peerName is the name of a client certificate as Envoy reports it: the first URI SAN,
// else the first DNS SAN, else the subject.
func peerName(cert *x509.Certificate) string {
	switch {
	case len(cert.URIs) > 0:
		return cert.URIs[0].String()
	case len(cert.DNSNames) > 0:
		return cert.DNSNames[0]
	}
	return cert.Subject.String()
}

// unixConn finds the Unix socket in a connection that may be wrapped.
func unixConn(conn net.Conn) (*net.UnixConn, bool) {
	for {
		switch c := conn.(type) {
		case *net.UnixConn:
			return c, true
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil, false
		}
	}
}
