package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxSourceColumns is how much of a source line a problem shows, in characters.
// Longer lines are cut around the caret.
const maxSourceColumns = 160

// maxProblems bounds a report, so that a file of a million mistakes stays readable.
const maxProblems = 1000

// A Problem is one thing that is wrong, or doubtful, in the configuration.
type Problem struct {
	Rule    Rule
	At      policy.Position
	Message string // a sentence without a period
	Remedy  string // what to do about it; may be empty
	Source  string // the line of the file; empty if it cannot or must not be shown
}

// String is the problem as operators read it: position, sentence, remedy, the line
// and a caret below the place.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.At.String())
	b.WriteString(": ")
	b.WriteString(p.Message)
	if p.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(p.Remedy)
	}
	if p.Source == "" {
		return b.String()
	}
	line, column := cutAround(p.Source, p.At.Column)
	number := fmt.Sprintf("%4d", p.At.Line)
	fmt.Fprintf(&b, "\n%s | %s", number, line)
	fmt.Fprintf(&b, "\n%s | %s^", strings.Repeat(" ", len(number)), strings.Repeat(".", column-1))
	return b.String()
}

// cutAround shortens a line to what a terminal shows, and says at which column the
// caret then is. Columns count characters from 1.
func cutAround(line string, column int) (string, int) {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, line)
	column = max(column, 1)
	runes := []rune(line)
	if len(runes) <= maxSourceColumns {
		return line, min(column, len(runes)+1)
	}
	start := max(0, min(column-maxSourceColumns/2, len(runes)-maxSourceColumns))
	end := min(len(runes), start+maxSourceColumns)
	column = min(column, len(runes)) - start
	shown := string(runes[start:end])
	if end < len(runes) {
		shown += "…"
	}
	if start > 0 {
		return "…" + shown, column + 1
	}
	return shown, column
}

// A Report is everything that loading had to say. A configuration with Errors does
// not load; Warnings do not stop it.
type Report struct {
	Errors   []Problem
	Warnings []Problem
	Summary  Summary
}

// A Summary says what was loaded. It is zero if there are errors.
type Summary struct {
	Authenticators []string `json:"authenticators,omitempty"`
	Routes         int      `json:"routes"`
	Patterns       int      `json:"patterns"`
	Headers        []string `json:"headers,omitempty"` // identity headers, all of which are set or removed
	PassRoutes     []string `json:"pass_routes,omitempty"`
	ShadowRoutes   []string `json:"shadow_routes,omitempty"`
	Hash           string   `json:"hash,omitempty"`
}

// OK says whether there are no errors.
func (r *Report) OK() bool { return len(r.Errors) == 0 }

// String is all errors, then all warnings, in file order.
func (r *Report) String() string {
	var b strings.Builder
	for _, p := range r.Errors {
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	for _, p := range r.Warnings {
		b.WriteString("warning: ")
		b.WriteString(p.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// problemJSON is the form for editors and continuous integration: flat, and with
// the severity that SARIF calls level.
type problemJSON struct {
	Level   string `json:"level"`
	Rule    string `json:"rule"`
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// MarshalJSON gives {"ok", "problems", "summary"}, errors first.
func (r *Report) MarshalJSON() ([]byte, error) {
	problems := []problemJSON{}
	for _, group := range []struct {
		level    string
		problems []Problem
	}{{"error", r.Errors}, {"warning", r.Warnings}} {
		for _, p := range group.problems {
			problems = append(problems, problemJSON{
				Level: group.level, Rule: p.Rule.Text().Name, File: p.At.File, Line: p.At.Line, Column: p.At.Column,
				Message: p.Message, Remedy: p.Remedy,
			})
		}
	}
	return json.Marshal(struct {
		OK       bool          `json:"ok"`
		Problems []problemJSON `json:"problems"`
		Summary  Summary       `json:"summary"`
	}{r.OK(), problems, r.Summary})
}

// finish sorts by place, drops what was said twice and bounds the number.
func (r *Report) finish() {
	r.Errors = tidy(r.Errors)
	r.Warnings = tidy(r.Warnings)
}

func tidy(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.At.File, b.At.File), cmp.Compare(a.At.Line, b.At.Line),
			cmp.Compare(a.At.Column, b.At.Column), cmp.Compare(a.Message, b.Message))
	})
	problems = slices.CompactFunc(problems, func(a, b Problem) bool { return a.At == b.At && a.Message == b.Message })
	if len(problems) > maxProblems {
		more := len(problems) - maxProblems
		problems = append(problems[:maxProblems:maxProblems], Problem{
			At:      problems[maxProblems].At,
			Message: fmt.Sprintf("%d more problems are not shown", more),
		})
	}
	return problems
}

// quote writes a name or value in a sentence. Long ones are cut: they may be a key
// that somebody pasted.
func quote(s string) string {
	const most = 80
	if len(s) <= most && !strings.ContainsAny(s, "\n\t\r\"") {
		return `"` + s + `"`
	}
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return `"` + strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`, `"`, `\"`).Replace(s) + `"`
}

// list writes names in a sentence: "a", "b" and "c".
func list(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = quote(name)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " and " + quoted[last]
}
