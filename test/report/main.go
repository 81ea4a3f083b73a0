// Command report reads "go test -json" from standard input and prints what a person needs:
// the closing line of each package, the whole output of what failed, the slowest tests and
// the sums.
//
// It ends with status 1 if anything failed, if any test was skipped (a test that cannot run
// must say so by failing: a skip is how a broken test stays unseen), or if none ran.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is one line of test2json (go doc test2json), or of a build that failed.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// slowest is how many tests the summary names.
const slowest = 10

// test is one test or subtest, or a package where name is empty.
type test struct{ pkg, name string }

type result struct {
	test
	seconds float64
}

type summary struct {
	passed, failed, skipped int
	output                  map[test][]string
	times                   []result
	broken                  bool // a package failed, by a test or otherwise
}

func main() {
	s, err := read(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the output of go test:", err)
		os.Exit(1)
	}
	if !s.close(os.Stdout) {
		os.Exit(1)
	}
}

// read follows the run and prints as it goes.
func read(in io.Reader, out io.Writer) (*summary, error) {
	s := &summary{output: map[test][]string{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				fmt.Fprint(out, line) // what go itself says, not as an event
			} else {
				s.take(e, out)
			}
		}
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (s *summary) take(e event, out io.Writer) {
	this := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "build-fail":
		s.broken = true
	case "output":
		// The closing line of a package: "ok  	package	0.01s", "FAIL ..." or "?   ...".
		if e.Test == "" && (strings.HasPrefix(e.Output, "ok  ") || strings.HasPrefix(e.Output, "FAIL\t") || strings.HasPrefix(e.Output, "?   ")) {
			fmt.Fprint(out, e.Output)
			return
		}
		s.output[this] = append(s.output[this], e.Output)
	case "pass", "fail", "skip":
		s.finish(this, e, out)
		delete(s.output, this)
	}
}

func (s *summary) finish(this test, e event, out io.Writer) {
	if this.name == "" {
		if e.Action == "fail" {
			s.broken = true
			fmt.Fprint(out, strings.Join(s.output[this], ""))
		}
		return // a package without tests is a "skip" that hides nothing
	}
	s.times = append(s.times, result{this, e.Elapsed})
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
		fmt.Fprintf(out, "SKIPPED %s %s\n%s", this.pkg, this.name, strings.Join(s.output[this], ""))
	case "fail":
		s.failed++
		fmt.Fprintf(out, "FAILED %s %s\n%s", this.pkg, this.name, strings.Join(s.output[this], ""))
	}
}

// close prints the sums and reports whether all is well.
func (s *summary) close(out io.Writer) bool {
	slices.SortStableFunc(s.times, func(a, b result) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintln(out, "slowest:")
	for _, r := range s.times[:min(slowest, len(s.times))] {
		fmt.Fprintf(out, "  %6.1fs %s %s\n", r.seconds, r.pkg, r.name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	switch {
	case s.failed > 0 || s.broken:
		fmt.Fprintln(out, "FAIL")
	case s.skipped > 0:
		fmt.Fprintln(out, "FAIL: a test was skipped")
	case s.passed == 0:
		fmt.Fprintln(out, "FAIL: no test ran")
	default:
		fmt.Fprintln(out, "PASS")
		return true
	}
	return false
}
