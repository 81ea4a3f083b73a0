package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/doctor"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

func (p *program) doctorCommand() *cobra.Command {
	var envoyConfig, gatehouseConfig, output string
	var strict bool
	cmd := &cobra.Command{
		Use:   "doctor --envoy-config FILE",
		Short: "Say whether an Envoy configuration really guards its routes",
		Long: `Reads what Envoy was told: a bootstrap file, the answer of /config_dump, or a listener
that a control plane sent, in JSON or YAML. Says whether every route is asked about, and
fails closed; each finding has its place and a remedy.

With --config it also knows which headers gatehouse needs and which come from it alone.

Exits with 1 if requests can pass that nobody was asked about.`,
		Example: `  gatehouse doctor --envoy-config envoy.yaml --config gatehouse.yaml
  curl -s 127.0.0.1:9901/config_dump | gatehouse doctor --envoy-config - --config gatehouse.yaml
  istioctl proxy-config all deploy/orders -o json | gatehouse doctor --envoy-config -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if envoyConfig == "" {
				return usagef("--envoy-config is missing")
			}
			if output != "text" && output != "json" {
				return outputError(output)
			}
			needs, err := p.needs(gatehouseConfig)
			if err != nil {
				return err
			}
			text, err := p.readFile(envoyConfig)
			if err != nil {
				return err
			}
			report, err := doctor.Examine(text, needs)
			if err != nil {
				return fmt.Errorf("%s: %w", envoyConfig, err)
			}
			if output == "json" {
				encoder := json.NewEncoder(p.out)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(report); err != nil {
					return err
				}
			} else {
				p.printExamination(envoyConfig, report)
			}
			if report.Errors() > 0 || strict && len(report.Findings) > 0 {
				return errRefused
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&envoyConfig, "envoy-config", "", "what Envoy was told; - for standard input")
	cmd.Flags().StringVarP(&gatehouseConfig, "config", "c", "", "the configuration of gatehouse")
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings fail as well")
	outputFlag(cmd, &output)
	return cmd
}

// readFile reads a file, or standard input for "-".
func (p *program) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(p.in)
	}
	return os.ReadFile(name)
}

// needs is what a configuration expects of Envoy; of none it is what each expects.
func (p *program) needs(file string) (doctor.Needs, error) {
	if file == "" {
		return doctor.Needs{}, nil
	}
	loaded, report := config.Load(file, p.env, nil)
	if loaded == nil {
		fmt.Fprint(p.err, report)
		return doctor.Needs{}, errRefused
	}
	defer loaded.Close()
	gate := loaded.Gate
	selection := []string{gate.SelectHeader, gate.UsernameHeader}
	var n doctor.Needs
	for _, h := range report.Summary.Headers {
		if h != "authorization" && !slices.Contains(selection, h) {
			n.Identity = append(n.Identity, h)
		}
	}
	need := func(header string) {
		if header != "" && !slices.Contains(n.Headers, header) {
			n.Headers = append(n.Headers, header)
		}
	}
	need(gate.SelectHeader)
	need(gate.UsernameHeader)
	need(loaded.Config.GetCredentials().GetRealmHeader())
	for _, place := range gate.Set.Places() {
		switch place.Kind {
		case authn.InHeader:
			need(place.Name)
		case authn.InCookie:
			need("cookie")
		}
	}
	for _, a := range loaded.Config.GetAuthenticators() {
		for _, origin := range a.GetOnlyFrom() {
			n.Sources = n.Sources || len(origin.GetSources()) > 0
		}
		if peer := a.GetPeer(); peer != nil {
			n.Sources = n.Sources || peer.Strict == nil || peer.GetStrict()
			if s := peer.GetSignature(); s != nil {
				n.Body = n.Body || len(s.GetComponents()) == 0 || slices.Contains(s.GetComponents(), "content-digest")
				need("signature")
				need("signature-input")
			}
		}
	}
	n.Message = gate.Limits.MessageBytes
	if n.Message == 0 {
		n.Message = extauthz.DefaultMessageBytes
	}
	return n, nil
}

func (p *program) printExamination(file string, report *doctor.Report) {
	for _, f := range report.Findings {
		fmt.Fprintf(p.out, "%s:%d:%d: %s: %s\n  at %s\n  %s\n", file, f.Line, f.Column, f.Severity, f.Message, f.Path, f.Remedy)
	}
	if len(report.Guarded) > 0 {
		fmt.Fprintf(p.out, "asks gatehouse: %s\n", strings.Join(report.Guarded, ", "))
	}
	if len(report.Skipped) > 0 {
		fmt.Fprintf(p.out, "outbound, not looked at: %s\n", strings.Join(report.Skipped, ", "))
	}
	if len(report.Own) > 0 {
		fmt.Fprintf(p.out, "the proxy's own, not looked at: %s\n", strings.Join(report.Own, ", "))
	}
	if len(report.Findings) == 0 {
		fmt.Fprintln(p.out, "nothing to mend")
	}
}
