package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/gatehouse-authz/gatehouse/extauthz"
)

func (p *program) healthcheckCommand() *cobra.Command {
	var h healthcheck
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running gatehouse whether it serves, for containers",
		Long: `Asks the gRPC health service of a listener, as Envoy does. Exits with 0 if it says
SERVING and with 1 otherwise.`,
		Example: `  gatehouse healthcheck
  gatehouse healthcheck --address unix:///run/gatehouse/grpc.sock
  gatehouse healthcheck --address gatehouse:9191 --ca-file ca.pem`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := h.ask(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(p.out, status)
			if status != healthpb.HealthCheckResponse_SERVING {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&h.address, "address", "127.0.0.1:9191", "`host:port` or unix:///path of the grpc listener")
	flags.DurationVar(&h.timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	flags.StringVar(&h.caFile, "ca-file", "", "use TLS, and trust the CA in this `file`")
	flags.StringVar(&h.certFile, "cert-file", "", "the client certificate, a `file`, where the listener asks for one")
	flags.StringVar(&h.keyFile, "key-file", "", "its key, a `file`")
	flags.StringVar(&h.serverName, "server-name", "", "the `name` in the listener's certificate, if it is not the host")
	return cmd
}

type healthcheck struct {
	address, caFile, certFile, keyFile, serverName string
	timeout                                        time.Duration
}

func (h *healthcheck) ask(ctx context.Context) (healthpb.HealthCheckResponse_ServingStatus, error) {
	transport, err := h.credentials()
	if err != nil {
		return 0, err
	}
	conn, err := grpc.NewClient(h.address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return 0, usagef("invalid --address %q: %w", h.address, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	answer, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: extauthz.ServiceName})
	if err != nil {
		return 0, fmt.Errorf("asking %s: %w", h.address, err)
	}
	return answer.Status, nil
}

func (h *healthcheck) credentials() (credentials.TransportCredentials, error) {
	if h.caFile == "" {
		if h.certFile != "" || h.keyFile != "" || h.serverName != "" {
			return nil, usagef("--cert-file, --key-file and --server-name need --ca-file")
		}
		return insecure.NewCredentials(), nil
	}
	pem, err := os.ReadFile(h.caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: h.serverName}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading the CA: no certificate in %s", h.caFile)
	}
	if h.certFile != "" || h.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(h.certFile, h.keyFile)
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
