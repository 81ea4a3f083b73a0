package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/replay"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/story"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

func (p *program) replayCommand() *cobra.Command {
	var logs []string
	var file, failOn, output string
	cmd := &cobra.Command{
		Use:   "replay --log FILE --config FILE [FILE...]",
		Short: "Decide recorded decisions again, and say which come out differently",
		Long: `Reads decision logs and decides each of their records by a configuration: a new one, say,
before it is rolled out. Counts those that come out differently, by route and outcome, with
the first examples of each. Logs are read in the order given, as they are or compressed by
gzip; rotated ones have to be named.

A record holds the principal, not its credential, so that the routes and grants are what is
tried. In a log with pseudonyms names are compared by their hashes, with the key of the
configuration's decision_log. Grants that are gone are not taken back. Records that do not
hold what the new decision depends on are counted as open, and lines that cannot be read
are named.

Exits with 1 if a record passes that was refused (--fail-on widen, the default).

With --output json: records and skipped are numbers of lines; flips have before, after,
old_route, new_route, position, reason, count and examples (place, id, request); notes have
kind (open, hidden, other_key, foreign, broken, cut, no_record), count, first and cause.`,
		Example: `  gatehouse replay --log decisions.jsonl --config new.yaml
  gatehouse replay --config new.yaml decisions.jsonl.2.gz decisions.jsonl.1 decisions.jsonl
  zcat archive.gz | gatehouse replay --log - --config new.yaml --fail-on any
  gatehouse replay --log decisions.jsonl --config new.yaml --output json | jq '.flips[].count'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			logs := append(logs, args...)
			switch {
			case output != "text" && output != "json":
				return outputError(output)
			case !slices.Contains([]string{"widen", "narrow", "any"}, failOn):
				return usagef("invalid --fail-on %q: give widen, narrow or any", failOn)
			case len(logs) == 0:
				return usagef("--log is missing")
			}
			loaded, err := p.load(file)
			if err != nil {
				return err
			}
			defer loaded.Close()
			result, err := p.replay(cmd.Context(), logs, loaded)
			if err != nil {
				return err
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
	flags.StringArrayVar(&logs, "log", nil, "a decision log: a `file`, or - for standard input; may be given again")
	flags.StringVarP(&file, "config", "c", "", "the configuration `file` to decide by")
	flags.StringVar(&failOn, "fail-on", "widen", "exit with 1 on `flips` of this kind: widen, narrow or any")
	outputFlag(cmd, &output)
	return cmd
}

// replay opens the logs and decides their records again.
func (p *program) replay(ctx context.Context, names []string, loaded *config.Loaded) (*replay.Result, error) {
	var logs []replay.Log
	for _, name := range names {
		if name == "-" {
			logs = append(logs, replay.Log{Name: "standard input", In: p.in})
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading the decision log: %w", err)
		}
		defer f.Close()
		logs = append(logs, replay.Log{Name: name, In: f})
	}
	result, err := replay.Run(ctx, logs, loaded)
	if err != nil {
		return nil, err
	}
	if result.Records == 0 {
		for _, n := range result.Notes {
			fmt.Fprintln(p.err, noteText(n))
		}
		return nil, fmt.Errorf("%s: no record of a decision among %d lines: give the file of decision_log", strings.Join(names, ", "), result.Skipped)
	}
	return result, nil
}

// replayed is the JSON of a replay, for other programs.
type replayed struct {
	Records int            `json:"records"`
	Skipped int            `json:"skipped"`
	Flips   []replayedFlip `json:"flips"`
	Notes   []replayedNote `json:"notes"`
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
	Place   string `json:"place"` // file:line of the log
	ID      string `json:"id,omitempty"`
	Request string `json:"request"`
}

type replayedNote struct {
	Kind  string `json:"kind"`
	Count int    `json:"count"`
	First string `json:"first"` // file:line of the log
	Cause string `json:"cause,omitempty"`
}

func newReplayed(r *replay.Result) *replayed {
	out := &replayed{Records: r.Records, Skipped: r.Skipped, Flips: []replayedFlip{}, Notes: []replayedNote{}}
	for _, f := range r.Flips {
		flip := replayedFlip{
			Before: f.Before, After: f.After, OldRoute: f.OldRoute, NewRoute: f.NewRoute, Position: f.At.String(), Reason: f.Reason, Count: f.Count,
		}
		for _, e := range f.Examples {
			flip.Examples = append(flip.Examples, replayedExample{e.At.String(), e.ID, e.Request})
		}
		out.Flips = append(out.Flips, flip)
	}
	for _, n := range r.Notes {
		out.Notes = append(out.Notes, replayedNote{n.Kind.String(), n.Count, n.First.String(), n.Cause})
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
			fmt.Fprintf(w, "  %s: %s %s\n", e.At, story.Visible(e.Request), suite.Describe(e.Caller))
		}
	}
	fmt.Fprintf(w, "%d records, %d come out differently\n", r.Records, flipped)
	for _, n := range r.Notes {
		fmt.Fprintln(w, noteText(n))
	}
}

// noteTexts say how many lines a note is about, and what to do.
var noteTexts = map[replay.Kind]string{
	replay.Open:     "%d are open: the log does not hold what the new decision depends on",
	replay.Hidden:   "%d have pseudonyms, and no key is known: conditions on names do not hold; give decision_log.pseudonym_key in the configuration",
	replay.OtherKey: "%d have pseudonyms of another key: conditions on names do not hold; give the decision_log.pseudonym_key that they were written with",
	replay.Foreign:  "%d were written by another version of gatehouse, and are not decided: replay them with that version",
	replay.Broken:   "%d begin like a record and are not JSON",
	replay.Cut:      "%d end with their log, in the middle of a record: the writer was killed, or still writes",
	replay.NoRecord: "%d lines are no records of decisions",
}

func noteText(n replay.Note) string {
	text := fmt.Sprintf(noteTexts[n.Kind], n.Count) + " (first: " + n.First.String()
	if n.Cause != "" {
		text += ", " + n.Cause
	}
	return text + ")"
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
