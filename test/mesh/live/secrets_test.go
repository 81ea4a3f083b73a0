package live

import (
	"crypto/tls"
	"net"
	"testing"

	corepb "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlspb "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoverypb "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretpb "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/gatehouse-authz/gatehouse/test/mesh/meshtest"
)

// secrets serves the certificate of one workload and the roots of the mesh over SDS, as the
// agent beside each of Istio's proxies does.
type secrets struct {
	secretpb.UnimplementedSecretDiscoveryServiceServer
	byName map[string]*anypb.Any
}

// serveSecrets returns the address at which a proxy finds its secrets.
func serveSecrets(t testing.TB, ca *meshtest.Authority, certificate tls.Certificate) string {
	t.Helper()
	chain, key := meshtest.PEM(t, certificate)
	text := func(s string) *corepb.DataSource {
		return &corepb.DataSource{Specifier: &corepb.DataSource_InlineString{InlineString: s}}
	}
	s := &secrets{byName: map[string]*anypb.Any{}}
	for _, secret := range []*tlspb.Secret{
		{Name: "default", Type: &tlspb.Secret_TlsCertificate{TlsCertificate: &tlspb.TlsCertificate{CertificateChain: text(chain), PrivateKey: text(key)}}},
		{Name: "ROOTCA", Type: &tlspb.Secret_ValidationContext{ValidationContext: &tlspb.CertificateValidationContext{TrustedCa: text(ca.Root())}}},
	} {
		packed, err := anypb.New(secret)
		if err != nil {
			t.Fatal(err)
		}
		s.byName[secret.Name] = packed
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	secretpb.RegisterSecretDiscoveryServiceServer(server, s)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// StreamSecrets answers each first question about a name; nothing ever changes after that.
func (s *secrets) StreamSecrets(stream secretpb.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.ResponseNonce != "" {
			continue // an acknowledgement
		}
		answer := &discoverypb.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: request.TypeUrl}
		for _, name := range request.ResourceNames {
			if secret := s.byName[name]; secret != nil {
				answer.Resources = append(answer.Resources, secret)
			}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}
