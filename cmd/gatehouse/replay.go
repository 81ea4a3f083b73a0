package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/replay"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
)

func (p *program) replayCommand() *cobra.Command {
	var log, file, failOn, output string
	cmd := &cobra.Command{
		Use:   "replay --log FILE --config FILE",
		Short: "Decide recorded decisions again, and say which come out differently",
		Long: `Reads a decision log and decides each of its records by a configuration: a new one, say,
before it is rolled out. Counts those that come out differently, by route and outcome, with
the first examples of each.

A record holds the principal, not its credential, so that the routes and grants are what is
tried. In a log with pseudonyms names are compared by their hashes, with the key of the
configuration's decision_log. Grants that are gone are not taken back. Records that do not
hold what the new decision depends on are counted as open.`,
		Example: `  gatehouse replay --log decisions.jsonl --config new.yaml
  zcat decisions.jsonl.*.gz | gatehouse replay --log - --config new.yaml --fail-on any
  gatehouse replay --log decisions.jsonl --config new.yaml --output json | jq '.flips[].count'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case output != "text" && output != "json":
				return outputError(output)
			case !slices.Contains([]string{"widen", "narrow", "any"}, failOn):
				return usagef("invalid --fail-on %q: give widen, narrow or any", failOn)
			case log == "":
				return usagef("--log is missing")
			}
			loaded, err := p.load(file)
			if err != nil {
				return err
			}
			defer loaded.Close()
			in := p.in
			if log != "-" {
				f, err := os.Open(log)
				if err != nil {
					return fmt.Errorf("reading the decision log: %w", err)
				}
				defer f.Close()
				in = f
			}
			result, err := replay.Run(cmd.Context(), in, loaded)
			if err != nil {
				return err
			}
			if result.Records == 0 {
				return fmt.Errorf("%s holds no record of a decision (%d other lines): give the file of decision_log", log, result.Skipped)
			}
			if output == "json" {
				encoder := json.NewEncoder(p.out)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(newReplayed(result)); err != nil {
					return err
				}
			} else {
				printReplay(p.out, result)
			}
			if slices.ContainsFunc(result.Flips, func(f *replay.Flip) bool {
				return failOn == "any" || failOn == "widen" && f.Widens() || failOn == "narrow" && f.Narrows()
			}) {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&log, "log", "", "the decision log: a `file`, or - for standard input")
	flags.StringVarP(&file, "config", "c", "", "the configuration `file` to decide by")
	flags.StringVar(&failOn, "fail-on", "widen", "exit with 1 on `flips` of this kind: widen, narrow or any")
	outputFlag(cmd, &output)
	return cmd
}

// replayed is the JSON of a replay, for other programs.
type replayed struct {
	Records int            `json:"records"`
	Skipped int            `json:"skipped"`
	Open    int            `json:"open"`
	Hidden  int            `json:"hidden"`
	Flips   []replayedFlip `json:"flips"`
}

type replayedFlip struct {
	Before   string            `json:"before"`
	After    string            `json:"after"`
	OldRoute string            `json:"old_route,omitempty"`
	NewRoute string            `json:"new_route,omitempty"`
	Position string            `json:"position,omitempty"`
	Reason   string            `json:"reason"`
	Count    int               `json:"count"`
	Examples []replayedExample `json:"examples"`
}

type replayedExample struct {
	Line    int    `json:"line"`
	ID      string `json:"id,omitempty"`
	Request string `json:"request"`
}

func newReplayed(r *replay.Result) *replayed {
	out := &replayed{Records: r.Records, Skipped: r.Skipped, Open: r.Open, Hidden: r.Hidden, Flips: []replayedFlip{}}
	for _, f := range r.Flips {
		flip := replayedFlip{
			Before: f.Before, After: f.After, OldRoute: f.OldRoute, NewRoute: f.NewRoute, Position: f.At.String(), Reason: f.Reason, Count: f.Count,
		}
		for _, e := range f.Examples {
			flip.Examples = append(flip.Examples, replayedExample{e.Line, e.ID, e.Request})
		}
		out.Flips = append(out.Flips, flip)
	}
	return out
}

func printReplay(w io.Writer, r *replay.Result) {
	flipped := 0
	for _, f := range r.Flips {
		flipped += f.Count
		fmt.Fprintf(w, "%d: %s -> %s (%s)\n", f.Count, f.Before, f.After, f.Reason)
		fmt.Fprintf(w, "  old: %s\n", routeText(f.OldRoute, ""))
		fmt.Fprintf(w, "  new: %s\n", routeText(f.NewRoute, f.At.String()))
		for _, e := range f.Examples {
			fmt.Fprintf(w, "  line %d: %s %s\n", e.Line, e.Request, suite.Describe(e.Caller))
		}
	}
	fmt.Fprintf(w, "%d records, %d come out differently\n", r.Records, flipped)
	if r.Open > 0 {
		fmt.Fprintf(w, "%d are open: the log does not hold what the new decision depends on\n", r.Open)
	}
	if r.Hidden > 0 {
		fmt.Fprintf(w, "%d have pseudonyms, and no key is known: conditions on names do not hold; give decision_log.pseudonym_key in the configuration\n", r.Hidden)
	}
	if r.Skipped > 0 {
		fmt.Fprintf(w, "%d lines are no records of decisions\n", r.Skipped)
	}
}

func routeText(name, position string) string {
	switch {
	case name == "":
		return "no route"
	case position == "":
		return fmt.Sprintf("route %q", name)
	}
	return fmt.Sprintf("route %q (%s)", name, position)
}
