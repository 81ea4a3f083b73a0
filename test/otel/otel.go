// Package otel runs the OpenTelemetry collector, so that what gatehouse exports is read by
// the program that is for it. The module in the folder collector pins it and says of which
// parts it is made. Start reading at [Start].
package otel

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

// startTimeout is how long the collector may take to listen.
const startTimeout = 30 * time.Second

// Install returns the path of the collector. Its first call builds it, which takes some
// 90 s of CPU.
func Install(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/gatehouse-authz/gatehouse").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	return tools.GoProgram(ctx, filepath.Join(strings.TrimSpace(string(root)), "test", "otel", "collector"), ".", "otel-collector")
}

// A Collector receives OTLP at two addresses, host:port.
type Collector struct {
	*harness.Process
	GRPC, HTTP string
}

// Start runs a collector, until the test ends, that passes on what it receives to the URL
// to, by OTLP/HTTP.
func Start(t *testing.T, to string) *Collector {
	t.Helper()
	program, err := Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := &Collector{GRPC: fmt.Sprintf("127.0.0.1:%d", idp.FreePort(t)), HTTP: fmt.Sprintf("127.0.0.1:%d", idp.FreePort(t))}
	config := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q}
      http: {endpoint: %q}
exporters:
  otlphttp: {endpoint: %q}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp]}
    logs: {receivers: [otlp], exporters: [otlphttp]}
`, c.GRPC, c.HTTP, to)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Process = harness.Start(t, "otel-collector", exec.Command(program, "--config", config))
	for _, address := range []string{c.GRPC, c.HTTP} {
		harness.Eventually(t, startTimeout, func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
	return c
}
