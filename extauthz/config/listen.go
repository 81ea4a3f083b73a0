package config

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// checkListen checks the listeners, which the caller opens.
func (b *builder) checkListen() {
	listen := b.config.GetListen()
	if b.reuse != nil && !proto.Equal(listen, b.reuse.Config.GetListen()) {
		b.errorf(b.pos.field(b.config, "listen"), "restart gatehouse, or undo the change", "a change of listen needs a restart")
	}
	taken := map[string]string{}
	for _, l := range []struct {
		name     string
		listener *configv1.Listener
	}{{"grpc", listen.GetGrpc()}, {"http", listen.GetHttp()}, {"admin", listen.GetAdmin()}, {"ops", listen.GetOps()}} {
		if l.listener == nil || l.listener.GetAddress() == "" {
			continue
		}
		b.checkListener(l.name, l.listener)
		if other := taken[l.listener.GetAddress()]; other != "" && !strings.HasSuffix(l.listener.GetAddress(), ":0") {
			b.errorf(b.pos.field(l.listener, "address"), "give each a port of its own", "listeners %s and %s have the same address", quote(other), quote(l.name))
		}
		taken[l.listener.GetAddress()] = l.name
	}
	for i, text := range b.config.GetTrustedProxies() {
		if prefix, ok := parsePrefix(text); ok {
			b.gate.TrustedProxies = append(b.gate.TrustedProxies, prefix)
		} else {
			b.errorf(b.pos.item(b.config, "trusted_proxies", i), "write an address or a network as 10.0.0.0/8", "%s is not a network", quote(text))
		}
	}
}

// checkTracing checks where spans go.
func (b *builder) checkTracing() {
	if m := b.config.GetTracing(); m != nil {
		b.checkCollector(m, "http", "https")
	}
}

// checkCollector checks the otlp_endpoint of m. A collector is usually on the same
// machine or in the same cluster, and gets no secrets: it may be asked without encryption.
func (b *builder) checkCollector(m interface {
	proto.Message
	GetOtlpEndpoint() string
}, schemes ...string,
) {
	u, err := url.Parse(m.GetOtlpEndpoint())
	remedy := ""
	switch {
	case err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		remedy = "write http://collector:4318"
		if slices.Contains(schemes, "grpc") {
			remedy += " or grpc://collector:4317"
		}
	case strings.HasPrefix(u.Scheme, "grpc") && u.Path != "":
		remedy = "write grpc://collector:4317, without a path"
	default:
		return
	}
	p := b.src.problem(ruleSetting, b.pos.field(m, "otlp_endpoint"), "it is not the URL of a collector", remedy)
	p.Source = "" // it may hold a password
	b.errors = append(b.errors, p)
}

func (b *builder) checkListener(name string, l *configv1.Listener) {
	socket := strings.HasPrefix(l.GetAddress(), "unix:")
	switch {
	case socket && (!strings.HasPrefix(l.GetAddress(), "unix:///") || len(l.GetAddress()) == len("unix:///")):
		b.errorf(b.pos.field(l, "address"), "write unix:///run/gatehouse.sock", "%s is not the address of a socket", quote(l.GetAddress()))
	case !socket && !isHostPort(l.GetAddress()):
		b.errorf(b.pos.field(l, "address"), `write "127.0.0.1:9191", ":9191" or unix:///path`, "%s is not host:port", quote(l.GetAddress()))
	}
	if l.GetMode() != "" && !socket {
		b.errorf(b.pos.field(l, "mode"), "remove the line", "mode is for Unix sockets")
	}
	if l.GetPprof() && name != "ops" {
		b.errorf(b.pos.field(l, "pprof"), "move it to listen.ops", "pprof is for the ops listener")
	}
	if l.GetMaxConnectionAge() != nil && name != "grpc" {
		b.errorf(b.pos.field(l, "max_connection_age"), "remove the line", "max_connection_age is for the grpc listener")
	}
	switch {
	case l.GetMaxConnectionsPerSource() > 0 && socket:
		b.errorf(b.pos.field(l, "max_connections_per_source"), "remove the line", "connections to a Unix socket have no source address")
	case l.GetMaxConnections() > 0 && l.GetMaxConnectionsPerSource() > l.GetMaxConnections():
		b.errorf(b.pos.field(l, "max_connections_per_source"), "give at most as many as max_connections", "one source may have more connections than all together")
	}
	if name == "admin" && !socket && l.GetTls().GetClientCaFile() == "" {
		b.errorf(b.pos.field(l, "address"), "listen on a Unix socket, or give tls.client_ca_file", "the admin listener is open to everybody who reaches its port")
	}
	if t := l.GetTls(); t != nil {
		b.checkTLS(t)
	}
}

func (b *builder) checkTLS(t *configv1.Tls) {
	certificate, key := b.file(t, "cert_file", t.GetCertFile()), b.file(t, "key_file", t.GetKeyFile())
	if certificate != nil && key != nil {
		if _, err := tls.X509KeyPair(certificate, key); err != nil {
			b.errorf(b.pos.field(t, "cert_file"), "check that the two files belong together", "certificate and key cannot be used: %v", err)
		}
	}
	b.certificates(t, "client_ca_file", t.GetClientCaFile())
	if len(t.GetClientNames()) > 0 && t.GetClientCaFile() == "" {
		b.errorf(b.pos.field(t, "client_names"), "give client_ca_file as well", "client_names without a CA admits nobody")
	}
}

// certificates reads CA certificates, PEM; nil if there are none or they were reported.
func (b *builder) certificates(m proto.Message, field, path string) []byte {
	data := b.file(m, field, path)
	if data != nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
		b.errorf(b.pos.field(m, field), "check the file", "%s holds no certificate in PEM", quote(path))
		return nil
	}
	return data
}

func isHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsAny(host, " /") {
		return false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(number, 10) == port
}

// parsePrefix reads a network, or an address as the network of it alone.
func parsePrefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	return prefix.Masked(), true
}

// remoteURL checks a URL that gatehouse will ask: https, or http on loopback.
func (b *builder) remoteURL(m proto.Message, field, text string) bool {
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		b.errorf(b.pos.field(m, field), "write https://host/path", "%s is not a URL", quote(text))
	case u.User != nil:
		p := b.src.problem(ruleSetting, b.pos.field(m, field), "the URL holds a name or password", "remove it")
		p.Source = ""
		b.errors = append(b.errors, p)
	case u.Fragment != "":
		b.errorf(b.pos.field(m, field), "remove what follows #", "the URL has a fragment")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return true
	default:
		b.errorf(b.pos.field(m, field), "write https://", "%s would be asked without encryption, which is for loopback addresses only", quote(text))
	}
	return false
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
