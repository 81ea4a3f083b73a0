package main

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/metrics"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/serve"
	"github.com/gatehouse-authz/gatehouse/extauthz"
)

// defaultDrainDelay gives Envoy's health checks time to notice: the shipped configuration
// asks every second.
const defaultDrainDelay = 5 * time.Second

func (p *program) serveCommand() *cobra.Command {
	var o serve.Options
	var format, level, transport string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Answer Envoy",
		Long: `Loads the configuration and answers checks until SIGTERM or SIGINT. A broken file
does not start: every error is printed, with its line.

A changed file is loaded by itself, the files that it names included; SIGHUP reads them
too. One that is broken changes nothing, and is reported in the log, in a metric and in
/readyz?verbose. SIGTERM drains: health says NOT_SERVING, checks
are answered for --drain-delay more, those in flight are finished.

An issuer that cannot be reached does not keep the service from starting: its tokens are
answered with 503 until its keys are there.`,
		Example: `  gatehouse serve --config gatehouse.yaml
  gatehouse serve --config gatehouse.yaml --log-format console --log-level warn
  gatehouse serve --config gatehouse.yaml --shadow-all   # first day: decide, log, let pass`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Config == "" {
				return usagef("--config is missing")
			}
			if !slices.Contains(serve.LogFormats, format) {
				return usagef("invalid --log-format %q: give json or console", format)
			}
			at, err := zapcore.ParseLevel(level)
			if err != nil {
				return usagef("invalid --log-level %q: give debug, info, warn or error", level)
			}
			if o.Plain && !cmd.Flags().Changed("transport") {
				transport = extauthz.Transports[extauthz.GRPCGo]
			}
			if o.Transport, err = extauthz.ParseTransport(transport); err != nil {
				return usagef("invalid --transport %q: give one of %s", transport, strings.Join(extauthz.Transports, ", "))
			}
			if o.DrainDelay < 0 {
				return usagef("invalid --drain-delay %s: it is negative", o.DrainDelay)
			}
			if o.Log, err = serve.NewLog(p.err, format, at); err != nil {
				return err
			}
			b := thisBuild()
			o.Build = metrics.Build{Version: b.Version, Revision: b.Revision, Go: b.Go}
			o.Env, o.Err = p.env, p.err
			if err := serve.Run(cmd.Context(), o); errors.Is(err, serve.ErrConfiguration) {
				return errRefused
			} else if err != nil {
				return err
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.Config, "config", "c", "", "the configuration `file`")
	flags.DurationVar(&o.DrainDelay, "drain-delay", defaultDrainDelay, "how long to go on answering after SIGTERM")
	flags.BoolVar(&o.ShadowAll, "shadow-all", false, "let refused requests pass, without identity; malformed ones stay refused")
	flags.BoolVar(&o.Plain, "plain", false, "use generated code, and grpc-go, on the hot path: slower, to compare with")
	flags.StringVar(&transport, "transport", extauthz.Transports[extauthz.Direct], "what carries Envoy's calls: direct, or grpc-go, which takes more CPU time")
	flags.StringVar(&format, "log-format", serve.LogFormats[0], "json or console")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error; a decision is info, an outage warn")
	for name, values := range map[string][]string{"transport": extauthz.Transports, "log-format": serve.LogFormats, "log-level": {"debug", "info", "warn", "error"}} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}
