package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// tableRow is one pattern, for other programs.
type tableRow struct {
	Pattern  string   `json:"pattern,omitempty"` // empty: reachable by name only
	Route    string   `json:"route"`
	Access   string   `json:"access"` // public, forbid, or allow
	Accept   []string `json:"accept,omitempty"`
	Shadow   bool     `json:"shadow,omitempty"`
	Position string   `json:"position"`
}

func (p *program) routesCommand() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:   "routes --config FILE",
		Short: "Print the route table as the matcher sees it, most specific first",
		Example: `  gatehouse routes --config gatehouse.yaml
  gatehouse routes --config gatehouse.yaml --output json | jq '.[] | select(.access == "public")'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			loaded, err := p.load(path)
			if err != nil {
				return err
			}
			defer loaded.Close()
			rows := []tableRow{}
			for _, row := range loaded.Gate.Table.Rows() {
				rows = append(rows, newTableRow(row))
			}
			if output == "json" {
				encoder := json.NewEncoder(p.out)
				encoder.SetIndent("", "  ")
				return encoder.Encode(rows)
			}
			w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "PATTERN\tROUTE\tACCESS\tACCEPT\tPOSITION")
			for _, r := range rows {
				fmt.Fprintln(w, strings.Join([]string{orDash(r.Pattern), r.Route, r.access(), orDash(strings.Join(r.Accept, ",")), r.Position}, "\t"))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "the configuration `file`")
	outputFlag(cmd, &output)
	return cmd
}

func newTableRow(row policy.Row) tableRow {
	r := tableRow{Route: row.Route.Name, Accept: row.Route.Accept, Shadow: row.Route.Shadow, Position: row.Route.At.String()}
	if row.Pattern != nil {
		r.Pattern, r.Position = row.Pattern.String(), row.Pattern.At.String()
	}
	switch {
	case row.Route.Public:
		r.Access = "public"
	case row.Route.Forbid:
		r.Access = "forbid"
	default:
		r.Access = "allow"
	}
	return r
}

func (r tableRow) access() string {
	if r.Shadow {
		return r.Access + " (shadow)"
	}
	return r.Access
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
