package main

import (
	"io"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	const pass = `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}` + "\n"
	const packageLine = `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}` + "\n"
	tests := []struct {
		name  string
		input string
		want  bool
		print string
	}{
		{"a run that passes", pass + packageLine, true, "ok  \tp\t0.1s\n"},
		{"the sums come last", pass, true, "1 passed, 0 failed, 0 skipped\nPASS\n"},
		{"a package without tests hides nothing", pass + `{"Action":"skip","Package":"q"}`, true, "PASS"},
		{"a test that fails shows what it printed", `{"Action":"output","Package":"p","Test":"TestA","Output":"got 1\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestA"}`, false, "FAILED p TestA\ngot 1\n"},
		{"a test that is skipped", pass + `{"Action":"skip","Package":"p","Test":"TestB"}`, false, "SKIPPED p TestB\n"},
		{"a package that does not build", pass + `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}` + "\n" + `{"ImportPath":"p","Action":"build-fail"}`, false, "p.go:1: no\n"},
		{"a package that dies outside its tests", pass + `{"Action":"output","Package":"p","Output":"panic: no\n"}` + "\n" + `{"Action":"fail","Package":"p"}`, false, "panic: no\n"},
		{"no test at all", "", false, "no test ran"},
		{"go's own words", "go: no such module\n" + pass, true, "go: no such module\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			s, err := read(strings.NewReader(test.input), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.close(&out); got != test.want {
				t.Errorf("close = %v, want %v\n%s", got, test.want, &out)
			}
			if !strings.Contains(out.String(), test.print) {
				t.Errorf("printed %q, want in it %q", &out, test.print)
			}
		})
	}
}

func TestReadError(t *testing.T) {
	r, w := io.Pipe()
	w.CloseWithError(io.ErrUnexpectedEOF)
	if _, err := read(r, io.Discard); err == nil {
		t.Error("a run whose output breaks off is no error")
	}
}
