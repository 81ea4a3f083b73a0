package replay

import (
	"cmp"
	"slices"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxExamples are shown of one kind of flip.
const maxExamples = 3

// A tally is what one worker has counted.
type tally struct {
	records int
	flips   map[flipKey]*Flip
	notes   [kinds]Note
}

type flipKey struct {
	before, after, oldRoute, newRoute, reason string
	at                                        policy.Position
}

func newTally() *tally { return &tally{flips: map[flipKey]*Flip{}} }

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

// note counts a line that a kind of note is about.
func (t *tally) note(k Kind, at Place, cause string) {
	if t.notes[k].Count++; t.notes[k].Count == 1 {
		t.notes[k].First, t.notes[k].Cause = at, cause
	}
}

// merge adds the workers' counts; the most frequent flips come first.
func merge(tallies []*tally) *Result {
	result := &Result{}
	flips := map[flipKey]*Flip{}
	var notes [kinds]Note
	for _, t := range tallies {
		result.Records += t.records
		for key, f := range t.flips {
			if flips[key] == nil {
				flips[key] = f
				result.Flips = append(result.Flips, f)
				continue
			}
			flips[key].Count += f.Count
			flips[key].Examples = append(flips[key].Examples, f.Examples...)
		}
		for k, n := range t.notes {
			have := &notes[k]
			if n.Count > 0 && (have.Count == 0 || comparePlaces(n.First, have.First) < 0) {
				have.First, have.Cause = n.First, n.Cause
			}
			have.Count += n.Count
		}
	}
	for k, n := range notes {
		if n.Kind = Kind(k); n.Count > 0 {
			result.Notes = append(result.Notes, n)
			if n.Kind.IsSkipped() {
				result.Skipped += n.Count
			}
		}
	}
	for _, f := range result.Flips {
		slices.SortFunc(f.Examples, func(a, b Example) int { return comparePlaces(a.At, b.At) })
		f.Examples = f.Examples[:min(len(f.Examples), maxExamples)]
	}
	slices.SortFunc(result.Flips, func(a, b *Flip) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), comparePlaces(a.Examples[0].At, b.Examples[0].At))
	})
	return result
}
