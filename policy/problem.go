package policy

import (
	"cmp"
	"slices"
)

// A SyntaxError is what is wrong with a pattern or a template, where in its text,
// and what to write instead.
type SyntaxError struct {
	Offset  int // bytes into the text
	Message string
	Remedy  string // "" if the message says it all
}

func (e *SyntaxError) Error() string {
	if e.Remedy == "" {
		return e.Message
	}
	return e.Message + "; " + e.Remedy
}

// ProblemKind says what is wrong with a table.
type ProblemKind uint8

const (
	ProblemInvalid         ProblemKind = iota // a route that is not one of public, allow and forbid
	ProblemConflict                           // two patterns match a request and neither is narrower
	ProblemDuplicate                          // two routes have one name
	ProblemOpens                              // a broad route opens what a narrower path guards
	ProblemShadowed                           // a pattern that other patterns leave nothing
	ProblemNeverHolds                         // a requirement that contradicts itself
	ProblemSelfOverlap                        // one route's patterns overlap and it uses {path.…}
	ProblemUnknownName                        // opens: a route that does not exist
	ProblemUnqualifiedName                    // usernames or subjects without authenticators or realms
	ProblemSpelling                           // an open route decides another spelling of a guarded path
)

var problemNames = [...]string{
	"invalid", "conflict", "duplicate", "opens", "shadowed", "never_holds", "self_overlap", "unknown_name",
	"unqualified_name", "spelling",
}

func (k ProblemKind) String() string {
	if int(k) < len(problemNames) {
		return problemNames[k]
	}
	return problemNames[ProblemInvalid]
}

// A Problem is something that an operator must change (or, if Warning, should look
// at) before a table serves.
type Problem struct {
	Kind    ProblemKind
	Warning bool

	At    Position // the line to change
	Other Position // the other line that matters; zero if none

	Message string  // what is wrong, without the position
	Remedy  string  // ready to paste where possible; "" if the message says it
	Witness Request // a request that shows it; its Method is empty if none
}

func (p Problem) String() string {
	s := p.Message
	if at := p.At.String(); at != "" {
		s = at + ": " + s
	}
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}

// sortProblems puts problems in the order of the file.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(comparePositions(a.At, b.At), cmp.Compare(a.Kind, b.Kind), comparePositions(a.Other, b.Other))
	})
}

func comparePositions(a, b Position) int {
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}
