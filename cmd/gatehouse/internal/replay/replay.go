// Package replay decides recorded decisions again, by another configuration, and counts
// those that come out differently. Start reading at [Run]; read.go finds the lines of
// logs, decide.go decides one, tally.go counts.
package replay

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Log is one file of records, as it is or compressed by gzip.
type Log struct {
	Name string // as places name it
	In   io.Reader
}

// A Result is what came of a replay.
type Result struct {
	Records int // that were decided again
	Skipped int // lines that are no record of a decision that can be read
	Flips   []*Flip
	Notes   []Note // what else is to be known, by kind
}

// A Flip is a kind of difference: records of one route that come out differently in one way.
type Flip struct {
	Before, After      string // outcomes
	OldRoute, NewRoute string // by name; "": none
	At                 policy.Position
	Reason             string // of the new outcome
	Count              int
	Examples           []Example // the first ones in the logs
}

// Widens tells whether what was refused passes.
func (f *Flip) Widens() bool { return f.After == policy.Allowed.String() }

// Narrows tells whether what passed is refused.
func (f *Flip) Narrows() bool { return f.Before == policy.Allowed.String() }

// An Example is a record that flips.
type Example struct {
	At      Place
	ID      string
	Request string // method, host and path
	Caller  *policy.Principal
}

// A Place is a line of a log.
type Place struct {
	Log  string
	Line int // counted from 1

	index int // of the log
}

func (p Place) String() string { return fmt.Sprintf("%s:%d", p.Log, p.Line) }

func comparePlaces(a, b Place) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.Line, b.Line))
}

// A Note is about lines or records that a replay could do nothing, or not everything, with.
type Note struct {
	Kind  Kind
	Count int
	First Place
	Cause string // of the first one; may be empty
}

// A Kind is what a note is about.
type Kind uint8

const (
	Open     Kind = iota // the log does not hold what the new decision depends on
	Hidden               // pseudonyms, and no key is known: conditions on names do not hold
	OtherKey             // pseudonyms of another key: conditions on names do not hold
	Foreign              // written by another version: with something that is unknown here
	Broken               // begins like a record, and is no JSON
	Cut                  // so, and is the last line of its log: the writer was killed, or still writes
	NoRecord             // something else, such as the lines of the log of the process

	kinds
)

var kindNames = [kinds]string{"open", "hidden", "other_key", "foreign", "broken", "cut", "no_record"}

func (k Kind) String() string { return kindNames[k] }

// IsSkipped tells whether a note is about lines that were not decided.
func (k Kind) IsSkipped() bool { return k >= Foreign }

// Of gives the note of a kind; its count is 0 if there is nothing to note.
func (r *Result) Of(k Kind) Note {
	if i := slices.IndexFunc(r.Notes, func(n Note) bool { return n.Kind == k }); i >= 0 {
		return r.Notes[i]
	}
	return Note{Kind: k}
}

// Run decides every record of the logs again by loaded, several at a time. The logs are
// read in their order.
func Run(ctx context.Context, logs []Log, loaded *config.Loaded) (*Result, error) {
	batches := make(chan *batch, runtime.GOMAXPROCS(0))
	tallies := make([]*tally, runtime.GOMAXPROCS(0))
	judge := newJudge(loaded)
	var workers sync.WaitGroup
	for i := range tallies {
		tallies[i] = newTally()
		workers.Go(func() {
			for b := range batches {
				start := 0
				for j, end := range b.ends {
					at := Place{b.log, b.first + j, b.index}
					judge.line(b.lines[start:end], at, b.cut && j == len(b.ends)-1, tallies[i])
					start = end
				}
			}
		})
	}
	err := readAll(ctx, logs, batches)
	close(batches)
	workers.Wait()
	if err != nil {
		return nil, err
	}
	return merge(tallies), nil
}
