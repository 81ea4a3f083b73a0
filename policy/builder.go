package policy

import (
	"fmt"
	"strconv"
)

// A builder fills a table and collects what is wrong with it.
type builder struct {
	table    *Table
	problems []Problem

	enforced, shadows forest // of which the matchers of the table are made

	conditions []condition          // see compile
	questions  map[string]*question // by their keys
	key        []byte               // of the question that is asked; kept for the next
	fresh      string               // a segment that no pattern has as a literal
}

func (b *builder) add(p Problem) { b.problems = append(b.problems, p) }

// addName makes e reachable by its name.
func (b *builder) addName(e *entry) {
	name := e.route.Name
	if name == "" {
		return
	}
	if other := b.table.names[name]; other != nil {
		b.add(Problem{
			Kind: ProblemDuplicate, At: e.route.At, Other: other.route.At,
			Message: fmt.Sprintf("two routes are named %q, the other %s", name, place(other.route.At)),
			Remedy:  "give one of them another name",
		})
		return
	}
	b.table.names[name] = e
}

// place is where a position is, for the middle of a sentence about another one.
func place(at Position) string {
	if at.Line == 0 {
		return "elsewhere"
	}
	return "in line " + strconv.Itoa(at.Line)
}

// describe is how messages call a pattern of a route: by its name too, if it has one
// of its own.
func describe(p tablePattern) string {
	line := ""
	if p.At.Line > 0 {
		line = ", line " + strconv.Itoa(p.At.Line)
	}
	if name := p.entry.route.Name; name != "" && name != p.text {
		return fmt.Sprintf("route %q (%s%s)", name, p.text, line)
	}
	if line != "" {
		return fmt.Sprintf("%q (%s)", p.text, line[2:])
	}
	return strconv.Quote(p.text)
}

// addPatterns puts the patterns of e into the forest it belongs to. Of equal patterns
// the first stays.
func (b *builder) addPatterns(e *entry) {
	f := b.forest(e)
	for i := range e.route.Patterns {
		p := &e.route.Patterns[i]
		b.table.patterns = append(b.table.patterns, tablePattern{p, e})
		id := int32(len(b.table.patterns))
		first := f.insert(p, id)
		if first == 0 {
			continue
		}
		other := b.table.patterns[first-1]
		if other.entry == e {
			b.add(Problem{
				Kind: ProblemShadowed, At: p.At, Other: other.At,
				Message: fmt.Sprintf("%q is there twice in one route", p.text),
				Remedy:  "remove one; a path and the same path with {$} are one",
			})
			continue
		}
		b.add(Problem{
			Kind: ProblemConflict, At: p.At, Other: other.At, Witness: b.witness(p, len(p.segments)),
			Message: fmt.Sprintf("%s and %s match the same requests", describe(b.table.patterns[id-1]), describe(other)),
			Remedy:  "remove one, or give each the part of the requests that it is for",
		})
	}
}

// layFlat makes the matchers, once all patterns are there.
func (b *builder) layFlat() {
	b.table.enforced, b.table.shadows = newMatcher(&b.enforced), newMatcher(&b.shadows)
}

func (b *builder) forest(e *entry) *forest {
	if e.route.Shadow {
		return &b.shadows
	}
	return &b.enforced
}
