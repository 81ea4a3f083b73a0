package jsontext

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	var w Writer
	w.Begin()
	w.Text("empty", "")
	w.Text("text", "a")
	w.Texts("none", nil)
	w.Texts("texts", []string{"a", "b"})
	w.Int("int", -7)
	w.True("no", false)
	w.True("yes", true)
	w.BeginList("list")
	for range 2 {
		w.Begin()
		w.Text("a", "b")
		w.End()
	}
	w.EndList()
	w.BeginObject("object")
	w.Key("a\"b")
	w.Buffer = AppendString(w.Buffer, "")
	w.End()
	w.End()
	want := `{"text":"a","texts":["a","b"],"int":-7,"yes":true,"list":[{"a":"b"},{"a":"b"}],"object":{"a\"b":""}}`
	if got := string(w.Buffer); got != want {
		t.Errorf("wrote %s\nwant  %s", got, want)
	}
}

// FuzzAppendString reads back what was written: the text, with U+FFFD for what is no UTF-8.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain", "a\"b\\c", "\x00\x1f\x7f\b\f\n\r\t", "naïve 🚪", "\xff\xfea\xff", "\u2028<&>", "é\xff", "\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString(nil, s)
		var got string
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("AppendString(%q) = %s: %v", s, text, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); got != want {
			t.Errorf("AppendString(%q) reads %q, want %q", s, got, want)
		}
		if strings.ContainsAny(string(text), "\n\r") {
			t.Errorf("AppendString(%q) breaks the line", s)
		}
	})
}

// TestDeps keeps reflection out of what runs for every decision.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"encoding/json": "it reflects; lines are written by hand",
		"fmt":           "it reflects; lines are written by hand",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		if reason, bad := forbidden[strings.TrimSpace(dep)]; bad {
			t.Errorf("imports %s: %s", strings.TrimSpace(dep), reason)
		}
	}
}
