// Command fetch installs every program that the tests run, pinned ones into the cache and
// those of the machine as root only, so that "make test" says what it downloads or misses
// before the first test waits for it. Where ACCEPTANCE is set it builds the control planes
// of test/mesh/live as well, which takes minutes the first time.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/gatehouse-authz/gatehouse/envoy"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/mesh/programs"
	"github.com/gatehouse-authz/gatehouse/test/otel"
	"github.com/gatehouse-authz/gatehouse/test/sarif"
	"github.com/gatehouse-authz/gatehouse/test/tools"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := fetch(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(ctx context.Context) error {
	if err := tools.System(ctx, os.Stdout); err != nil {
		return err
	}
	type tool struct {
		name string
		get  func(context.Context) (string, error)
	}
	wanted := []tool{
		{"Envoy", func(ctx context.Context) (string, error) { return envoy.Find(ctx, os.Stdout) }},
		{"oidc-provider", idp.Install},
		{"Keycloak", tools.Keycloak},
		{"hadolint", tools.Hadolint},
		{"SARIF's schema", sarif.Install},
	}
	if os.Getenv("ACCEPTANCE") != "" {
		wanted = append(wanted, tool{"the OpenTelemetry collector", otel.Install})
		for _, program := range programs.All {
			wanted = append(wanted, tool{program.Name, program.Install})
		}
	}
	for _, tool := range wanted {
		path, err := tool.get(ctx)
		if err != nil {
			return err
		}
		fmt.Println(tool.name+":", path)
	}
	return nil
}
