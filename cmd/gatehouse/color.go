package main

import (
	"io"
	"os"
	"strings"
)

// colors are those of lines by how they begin, as terminals know them (ECMA-48 §8.3.117).
var colors = []struct{ prefix, code string }{
	{"WIDENS", "31"}, {"MAY WIDEN", "31"}, {"UNDECIDED", "31"}, {"FAIL", "31"}, {"  - ", "31"},
	{"NARROWS", "33"}, {"MAY NARROW", "33"},
	{"FORWARDS", "36"}, {"ANSWERS", "36"}, {"DECIDES NOTHING", "2"}, {"note", "2"},
	{"ok", "32"}, {"pass", "32"}, {"  + ", "32"},
}

// isTerminal tells whether somebody reads w on a terminal that shows colors, and has not
// said otherwise (https://no-color.org).
func (p *program) isTerminal(w io.Writer) bool {
	if v, set := p.env("NO_COLOR"); set && v != "" {
		return false
	}
	if term, _ := p.env("TERM"); term == "dumb" || term == "" {
		return false
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// show prints a text, in colors on a terminal.
func (p *program) show(text string) {
	if p.isTerminal(p.out) {
		text = colored(text)
	}
	_, _ = io.WriteString(p.out, text) // a closed pipe is not worth a message
}

// colored puts the first word of each line that is known into its color.
func colored(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		for _, c := range colors {
			if rest, ok := strings.CutPrefix(line, c.prefix); ok && (strings.HasSuffix(c.prefix, " ") || !startsWithLetter(rest)) {
				line = "\x1b[" + c.code + "m" + c.prefix + "\x1b[0m" + rest
				break
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

func startsWithLetter(s string) bool { return s != "" && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z') }
