package main

import (
	"os"
	"strings"
	"testing"
)

// TestColors: a terminal shows what widens and what fails in red; a file has no colors.
func TestColors(t *testing.T) {
	got := colored("WIDENS: GET /x\n  old: refused\nMAY WIDEN OR NARROW: a\nokay\nok   a.yaml\n  - outcome: allowed\n")
	want := "\x1b[31mWIDENS\x1b[0m: GET /x\n  old: refused\n\x1b[31mMAY WIDEN\x1b[0m OR NARROW: a\nokay\n\x1b[32mok\x1b[0m   a.yaml\n\x1b[31m  - \x1b[0moutcome: allowed\n"
	if got != want {
		t.Errorf("colored = %q, want %q", got, want)
	}
	p := &program{env: func(name string) (string, bool) { return "xterm", name == "TERM" }}
	var b strings.Builder
	if p.isTerminal(&b) {
		t.Error("a text is no terminal")
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if !p.isTerminal(null) {
		t.Error("a character device is as good as a terminal")
	}
	p.env = func(string) (string, bool) { return "1", true }
	if p.isTerminal(null) {
		t.Error("NO_COLOR asks for none")
	}
}
