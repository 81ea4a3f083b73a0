// Package replay decides recorded decisions again, by another configuration, and counts
// those that come out differently. Start reading at [Run]; decide.go is one record.
package replay

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

const (
	// maxLine bounds one record, in bytes; a path may be some 60 KiB.
	maxLine = 4 << 20
	// batchBytes is how much of a log one worker gets at a time.
	batchBytes = 256 << 10
	// maxExamples are shown of one kind of flip.
	maxExamples = 3
)

// A Result is what came of a replay.
type Result struct {
	Records int // that were decided again
	Skipped int // lines that are no record of a decision
	Open    int // records of which the log does not hold what decides; see Verdict
	Hidden  int // pseudonymous records, whose names could not be compared for want of a key
	Flips   []*Flip
}

// A Flip is a kind of difference: records of one route that come out differently in one way.
type Flip struct {
	Before, After      string // outcomes
	OldRoute, NewRoute string // by name; "": none
	At                 policy.Position
	Reason             string // of the new outcome
	Count              int
	Examples           []Example // the first ones in the log
}

// Widens tells whether what was refused passes.
func (f *Flip) Widens() bool { return f.After == policy.Allowed.String() }

// Narrows tells whether what passed is refused.
func (f *Flip) Narrows() bool { return f.Before == policy.Allowed.String() }

// An Example is a record that flips.
type Example struct {
	Line    int // in the log, counted from 1
	ID      string
	Request string // method, host and path
	Caller  *policy.Principal
}

// A batch is some lines of a log.
type batch struct {
	first int // number of its first line
	lines []byte
	ends  []int // of each line, in lines
}

// Run decides every record of log again by loaded, several at a time.
func Run(ctx context.Context, log io.Reader, loaded *config.Loaded) (*Result, error) {
	batches := make(chan *batch, runtime.GOMAXPROCS(0))
	tallies := make([]*tally, runtime.GOMAXPROCS(0))
	judge := newJudge(loaded)
	var workers sync.WaitGroup
	for i := range tallies {
		tallies[i] = &tally{flips: map[flipKey]*Flip{}}
		workers.Go(func() {
			for b := range batches {
				start := 0
				for j, end := range b.ends {
					judge.line(b.lines[start:end], b.first+j, tallies[i])
					start = end
				}
			}
		})
	}
	err := read(ctx, log, batches)
	close(batches)
	workers.Wait()
	if err != nil {
		return nil, err
	}
	return merge(tallies), nil
}

// read splits a log into batches of whole lines.
func read(ctx context.Context, log io.Reader, batches chan<- *batch) error {
	scanner := bufio.NewScanner(log)
	scanner.Buffer(make([]byte, 0, batchBytes), maxLine)
	next := &batch{first: 1}
	number := 0
	for scanner.Scan() {
		number++
		next.lines = append(next.lines, scanner.Bytes()...)
		next.ends = append(next.ends, len(next.lines))
		if len(next.lines) < batchBytes {
			continue
		}
		select {
		case batches <- next:
		case <-ctx.Done():
			return ctx.Err()
		}
		next = &batch{first: number + 1, lines: make([]byte, 0, batchBytes+batchBytes/4)}
	}
	if err := scanner.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("reading the decision log: line %d is over %d MiB", number+1, maxLine>>20)
		}
		return fmt.Errorf("reading the decision log: %w", err)
	}
	select {
	case batches <- next:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A tally is what one worker has counted.
type tally struct {
	records, skipped, open, hidden int
	flips                          map[flipKey]*Flip
}

type flipKey struct {
	before, after, oldRoute, newRoute, reason string
	at                                        policy.Position
}

func (t *tally) add(f Flip, e Example) {
	key := flipKey{f.Before, f.After, f.OldRoute, f.NewRoute, f.Reason, f.At}
	known := t.flips[key]
	if known == nil {
		known = &f
		t.flips[key] = known
	}
	known.Count++
	if len(known.Examples) < maxExamples {
		known.Examples = append(known.Examples, e) // a worker sees lines in order
	}
}

// merge adds the workers' counts; the most frequent flips come first.
func merge(tallies []*tally) *Result {
	result := &Result{}
	flips := map[flipKey]*Flip{}
	for _, t := range tallies {
		result.Records += t.records
		result.Skipped += t.skipped
		result.Open += t.open
		result.Hidden += t.hidden
		for key, f := range t.flips {
			if flips[key] == nil {
				flips[key] = f
				result.Flips = append(result.Flips, f)
				continue
			}
			flips[key].Count += f.Count
			flips[key].Examples = append(flips[key].Examples, f.Examples...)
		}
	}
	for _, f := range result.Flips {
		slices.SortFunc(f.Examples, func(a, b Example) int { return cmp.Compare(a.Line, b.Line) })
		f.Examples = f.Examples[:min(len(f.Examples), maxExamples)]
	}
	slices.SortFunc(result.Flips, func(a, b *Flip) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Examples[0].Line, b.Examples[0].Line))
	})
	return result
}
