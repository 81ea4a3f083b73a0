package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/sarif"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

func (p *program) validateCommand() *cobra.Command {
	var strict bool
	var output string
	cmd := &cobra.Command{
		Use:   "validate FILE",
		Short: "Check a configuration file and say what it holds",
		Long: `Loads the file as serve does, environment and secrets included, but asks nobody:
issuers need not be reachable. Prints every error with its line and a remedy, and
exits with 1 if there is one. Warnings are what loads and is probably not meant.

As SARIF 2.1.0 the problems can be shown by editors and code hosts. The rules that they
break are listed in the configuration reference.`,
		Example: `  gatehouse validate gatehouse.yaml
  gatehouse validate --strict gatehouse.yaml   # warnings fail too, for CI
  gatehouse validate --output json gatehouse.yaml | jq '.problems[]'
  gatehouse validate --output sarif gatehouse.yaml > gatehouse.sarif`,
		Args: oneArg("the configuration file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" && output != "sarif" {
				return usagef("invalid --output %q: give text, json or sarif", output)
			}
			loaded, report := config.Load(args[0], p.env, nil)
			if loaded != nil {
				defer loaded.Close()
			}
			refused := loaded == nil || strict && len(report.Warnings) > 0
			switch output {
			case "json":
				if err := p.printJSON(report); err != nil {
					return err
				}
			case "sarif":
				if err := p.printJSON(sarif.New(report, thisBuild().Version)); err != nil {
					return err
				}
			default:
				fmt.Fprint(p.err, report)
				if loaded != nil {
					p.printSummary(args[0], report)
				}
			}
			if refused {
				return errRefused
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings fail as well")
	formatFlag(cmd, &output, "text", "json", "sarif")
	return cmd
}

// printJSON prints v for other programs.
func (p *program) printJSON(v any) error {
	encoder := json.NewEncoder(p.out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

func (p *program) printSummary(file string, report *config.Report) {
	s := report.Summary
	fmt.Fprintf(p.out, "%s: ok%s\n", file, warnings(len(report.Warnings)))
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %s\t%s\n", name, value)
		}
	}
	row("authenticators", strings.Join(s.Authenticators, ", "))
	row("routes", fmt.Sprintf("%d, with %d patterns", s.Routes, s.Patterns))
	row("identity headers", strings.Join(s.Headers, ", "))
	row("credentials pass", strings.Join(s.PassRoutes, ", "))
	row("shadow routes", strings.Join(s.ShadowRoutes, ", "))
	row("hash", s.Hash)
	_ = w.Flush() // a closed pipe is not worth a message
}

func warnings(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", 1 warning"
	}
	return fmt.Sprintf(", %d warnings", n)
}
