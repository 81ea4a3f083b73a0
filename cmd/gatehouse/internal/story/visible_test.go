package story

import (
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"acme", "acme"},
		{"Ünïcode 測試", "Ünïcode 測試"},
		{"a\x1b[2Jb", `a\x1b[2Jb`},
		{"a\nFORBIDDEN", `a\nFORBIDDEN`},
		{"a\u202eb", `a\u202eb`},
		{"a\u2028b", `a\u2028b`},
		{"a\u009bb", `a\u009bb`},
		{"a\xffb", `a\xffb`},
		{"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"},
		{"\x1b[32mgreen", `\x1b[32mgreen`},
	} {
		if got := Visible(row.text, "\x1b[31m", "\x1b[0m", ""); got != row.want {
			t.Errorf("Visible(%q) = %q, want %q", row.text, got, row.want)
		}
	}
}

// TestNothingHostileReachesTheTerminal: names in a token cannot write lines of a story.
func TestNothingHostileReachesTheTerminal(t *testing.T) {
	const hostile = "x\x1b[2J\r\n  reason    requirement_met\u202e"
	s := &Story{
		Request: Request{Method: hostile, Host: hostile, Path: hostile}, Outcome: "forbidden", Reason: hostile, Detail: hostile,
		Principal:    &Principal{Subject: hostile, Roles: []string{hostile}, Attributes: map[string][]string{hostile: {hostile}}},
		Requirements: []Requirement{{Conditions: []Condition{{Condition: hostile, Want: hostile, Got: hostile}}}},
		Flip:         []Change{{Text: hostile}}, Response: []Header{{Name: "location", Value: hostile}},
	}
	for _, colour := range []bool{false, true} {
		var b strings.Builder
		NewPrinter(&b, colour).Story(s)
		text := b.String()
		for _, code := range []string{ansi.good, ansi.bad, ansi.faint, ansi.bold, ansi.reset} {
			text = strings.ReplaceAll(text, code, "")
		}
		if strings.ContainsAny(text, "\x1b\r\u202e") || strings.Contains(text, "\n  reason    requirement_met") {
			t.Errorf("colour %t:\n%q", colour, text)
		}
	}
}
