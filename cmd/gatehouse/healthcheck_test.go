package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-authz/gatehouse/extauthz"
)

func TestHealthcheck(t *testing.T) {
	services := health.NewServer()
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, services)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(tcp) }()
	go func() { _ = server.Serve(unix) }()
	t.Cleanup(server.Stop)

	for _, address := range []string{tcp.Addr().String(), "unix://" + socket} {
		services.SetServingStatus(extauthz.ServiceName, healthpb.HealthCheckResponse_SERVING)
		if got := runLine(t, "", "healthcheck", "--address", address); got.code != exitOK || got.out != "SERVING\n" {
			t.Errorf("serving at %s: exit %d, %q, %q", address, got.code, got.out, got.err)
		}
		services.SetServingStatus(extauthz.ServiceName, healthpb.HealthCheckResponse_NOT_SERVING)
		if got := runLine(t, "", "healthcheck", "--address", address); got.code != exitRefused || got.out != "NOT_SERVING\n" {
			t.Errorf("draining at %s: exit %d, %q, %q", address, got.code, got.out, got.err)
		}
	}
	if got := runLine(t, "", "healthcheck", "--address", "127.0.0.1:1", "--timeout", "1s"); got.code != exitRefused || !strings.Contains(got.err, "asking 127.0.0.1:1") {
		t.Errorf("nobody there: exit %d, %q", got.code, got.err)
	}
	if got := runLine(t, "", "healthcheck", "--server-name", "x"); got.code != exitUsage {
		t.Errorf("TLS flags without a CA: exit %d, %q; want 2", got.code, got.err)
	}
}
