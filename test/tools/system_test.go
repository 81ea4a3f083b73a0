package tools

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemNamesWhatIsMissing runs with nothing in PATH, so that even root has no apt-get.
func TestSystemNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := System(t.Context(), io.Discard)
	if err == nil {
		t.Fatal("System succeeds without any program")
	}
	for _, want := range []string{"node is not in PATH", "npm", "apt-get install maven"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("System = %v, want in it %q", err, want)
		}
	}
}

func TestFound(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "here"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		p    program
		want bool
	}{
		{"in PATH", program{name: "here"}, true},
		{"nowhere", program{name: "nowhere"}, false},
		{"nowhere, with a pattern", program{name: "nowhere", also: filepath.Join(dir, "*", "nowhere")}, false},
		{"beside PATH", program{name: "nowhere", also: filepath.Join(dir, "h*")}, true},
	} {
		if got := found(test.p); got != test.want {
			t.Errorf("%s: found = %v, want %v", test.name, got, test.want)
		}
	}
}
