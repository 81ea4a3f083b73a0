package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/story"
)

func (p *program) checkCommand() *cobra.Command {
	var q question
	var output string
	cmd := &cobra.Command{
		Use:   "check --config FILE --path PATH",
		Short: "Decide one request offline",
		Long: `Decides a request as serve would, by the same code, and says why. Exits with 0 if it
is allowed and with 1 if not, or if the configuration is broken.

A token is verified with its issuer's keys, which are fetched. Where they are out of
reach, or where there is no token, --principal says who asks.`,
		Example: `  gatehouse check --config gatehouse.yaml --path / --host www.example.com
  gatehouse check --config gatehouse.yaml --method POST --path /tenants/acme/orders \
    --header "authorization: Bearer $TOKEN"
  gatehouse check --config gatehouse.yaml --path /tenants/acme/orders/1 \
    --principal authenticator=people,tenant=acme,roles=reader,roles=writer`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.answer(cmd, &q, output, (*story.Printer).Verdict)
		},
	}
	q.requestFlags(cmd)
	outputFlag(cmd, &output)
	return cmd
}

func (p *program) explainCommand() *cobra.Command {
	var q question
	var output string
	cmd := &cobra.Command{
		Use:   "explain --config FILE --path PATH",
		Short: "Tell how a decision comes about, and what would turn it around",
		Long: `Decides a request by the same code as serve and tells the whole story: which routes
cover the path and why each lost, what each authenticator saw, each requirement with its
place in the file and what it met, and the smallest change that would turn the verdict
around. Exits as check does.

The request is described by flags, or is a curl line, a CheckRequest as JSON, or a record
of the decision log, which is decided again by the configuration of today. A curl line is
only read: nothing is sent.`,
		Example: `  gatehouse explain --config gatehouse.yaml --path /admin/ --principal authenticator=people,roles=reader
  gatehouse explain --config gatehouse.yaml --curl "curl -H 'x-api-key: $KEY' https://api.example.com/orders/1"
  gatehouse explain --config gatehouse.yaml --record decisions.log:1042
  gatehouse explain --config gatehouse.yaml --check-request request.json --output json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.answer(cmd, &q, output, (*story.Printer).Story)
		},
	}
	q.requestFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&q.curl, "curl", "", "the request as a curl `line`")
	flags.StringVar(&q.checkRequest, "check-request", "", "the request as a CheckRequest in JSON, in a `file` or - for standard input")
	flags.StringVar(&q.record, "record", "", "the request of a record of the decision log: `FILE`, whose last one counts,\nFILE:LINE or FILE:ID")
	outputFlag(cmd, &output)
	return cmd
}

// answer decides and prints.
func (p *program) answer(cmd *cobra.Command, q *question, output string, print func(*story.Printer, *story.Story)) error {
	if output != "text" && output != "json" {
		return outputError(output)
	}
	told, err := p.ask(cmd, q)
	if err != nil {
		return err
	}
	if output == "json" {
		encoder := json.NewEncoder(p.out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(told); err != nil {
			return err
		}
	} else {
		print(story.NewPrinter(p.out, p.colourful()), told)
	}
	if !told.Allowed() {
		return errRefused
	}
	return nil
}
