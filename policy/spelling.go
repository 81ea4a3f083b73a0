package policy

import (
	"fmt"
	"slices"
	"strings"
)

// OtherSpellings warns of paths that an open route decides although an upstream may take
// them for one that a narrower route guards: `/ADMIN/x` under a public `/`, beside a
// guarded `/admin/`. The table compares letters as they are, and many upstreams do not.
// Where options let `;` into paths, upstreams may cut parameters off as well.
//
// A spelling that nobody wrote counts only under public routes; one that the table
// itself has elsewhere, under any route that asks for less than the guard.
func (t *Table) OtherSpellings(o PathOptions) []Problem {
	c := spellingCheck{
		builder: &builder{table: t}, options: o,
		written: make(map[string][]string), told: make(map[[2]*entry]bool),
	}
	open := false
	for i := range t.patterns {
		p := &t.patterns[i]
		if p.entry.route.Shadow {
			continue
		}
		c.note(p)
		open = open || p.entry.openness() > guarded
	}
	if !open {
		return nil
	}
	for i := range t.patterns {
		if guard := t.patterns[i]; !guard.entry.route.Shadow && guard.entry.openness() < everybody {
			c.check(guard)
		}
	}
	sortProblems(c.problems)
	return c.problems
}

type spellingCheck struct {
	*builder
	options PathOptions
	written map[string][]string // literal segments of the table, by their text in lower case
	methods []string            // of open routes; GET stands for any
	told    map[[2]*entry]bool
}

// note remembers what the check of other patterns needs of p.
func (c *spellingCheck) note(p *tablePattern) {
	for _, s := range p.segments {
		if key := lower(s.text); !s.wild && !slices.Contains(c.written[key], s.text) {
			c.written[key] = append(c.written[key], s.text)
		}
	}
	if method := c.methodOf(p.Pattern); p.entry.openness() > guarded && !slices.Contains(c.methods, method) {
		c.methods = append(c.methods, method)
	}
}

// A spelling is how a segment could be written as well.
type spelling struct {
	text    string
	written bool   // somewhere in the table
	folder  string // the kind of upstream that takes both for one
}

const (
	foldsCase      = "an upstream that does not tell upper from lower case"
	cutsParameters = "an upstream that reads parameters from paths"
)

func (c *spellingCheck) spellings(text string) []spelling {
	var list []spelling
	for _, other := range c.written[lower(text)] {
		if other != text {
			list = append(list, spelling{other, true, foldsCase})
		}
	}
	for _, other := range []string{upper(text), lower(text)} {
		if other != text {
			list = append(list, spelling{other, false, foldsCase})
		}
	}
	if c.options.AllowSemicolons {
		list = append(list, spelling{text + ";x", false, cutsParameters})
	}
	return list
}

// check asks the table for the other spellings of one guarded path. The last segments
// come first: they are what open routes above leave aside.
func (c *spellingCheck) check(guard tablePattern) {
	length := len(guard.segments)
	if guard.subtree {
		length++
	}
	methods := c.methods
	if guard.method != "" {
		methods = []string{guard.method}
	}
	host, path := c.hostOf(guard.Pattern), c.pathOf(guard.Pattern, length)
	for i := len(guard.segments) - 1; i >= 0; i-- {
		if guard.segments[i].wild {
			continue
		}
		for _, s := range c.spellings(guard.segments[i].text) {
			other := respelled(path, i, s.text)
			for _, method := range methods {
				open := c.winner(method, host, other)
				if open == nil || open.entry.openness() <= guard.entry.openness() ||
					open.entry.openness() < everybody && !s.written || c.isKnown(open, guard, method, host, path) {
					continue
				}
				c.told[[2]*entry{open.entry, guard.entry}] = true
				c.report(open, guard, Request{Method: method, Host: host, Path: other}, s)
			}
		}
	}
}

// isKnown: it was told, the operator knows, or the usual spelling is as open.
func (c *spellingCheck) isKnown(open *tablePattern, guard tablePattern, method, host, path string) bool {
	if c.told[[2]*entry{open.entry, guard.entry}] || len(c.told) >= maxOpens || slices.Contains(open.entry.route.Opens, guard.entry.route.Name) {
		return true
	}
	usual := c.winner(method, host, path)
	return usual == nil || usual.entry.openness() >= open.entry.openness()
}

func (c *spellingCheck) winner(method, host, path string) *tablePattern {
	id := c.table.enforced.match(method, host, path)
	if id == 0 {
		return nil
	}
	return &c.table.patterns[id-1]
}

func (c *spellingCheck) report(open *tablePattern, guard tablePattern, r Request, s spelling) {
	remedy := "list what is public path by path"
	switch {
	case s.folder == cutsParameters:
		remedy = "remove allow_semicolons"
	case s.written:
		remedy = "write both in the same letters"
	}
	c.add(Problem{
		Kind: ProblemSpelling, Warning: true, At: open.At, Other: guard.At, Witness: r,
		Message: fmt.Sprintf("%s falls to %q (%s), and %s takes it for %q%s",
			requestText(r), open.text, open.entry.openness(), s.folder, guard.text, parenthesis(guard.At)),
		Remedy: remedy + ", or say that no upstream does so, paths: {literal_upstreams: true}",
	})
}

// respelled replaces one segment of a path.
func respelled(path string, index int, text string) string {
	segments := strings.Split(path[1:], "/")
	segments[index] = text
	return "/" + strings.Join(segments, "/")
}

// upper and lower change ASCII letters outside of escapes, whose letters are not text.
func upper(segment string) string { return convert(segment, 'a', 'z') }
func lower(segment string) string { return convert(segment, 'A', 'Z') }

func convert(segment string, from, to byte) string {
	b := []byte(segment)
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '%':
			i += escapeWidth - 1
		case from <= c && c <= to:
			b[i] ^= 'a' - 'A'
		}
	}
	return string(b)
}
