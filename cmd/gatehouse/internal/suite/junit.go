package suite

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The JUnit form that continuous integration reads: one testsuite for each file.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"` // schemas ask for it: there are none
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Seconds  string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Seconds string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Type    string `xml:"type,attr"` // what differs first
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes runs in the form of JUnit.
func WriteJUnit(w io.Writer, runs []*Run) error {
	var all junitSuites
	for _, run := range runs {
		s := junitSuite{Name: run.Suite.File, Tests: len(run.Results), Failures: run.Failed(), Seconds: fmt.Sprintf("%.6f", run.Elapsed.Seconds())}
		for i := range run.Results {
			r := &run.Results[i]
			c := junitCase{Class: run.Suite.File, Name: r.Test.Name, File: r.Test.At.File, Line: r.Test.At.Line, Seconds: fmt.Sprintf("%.6f", r.Elapsed.Seconds())}
			if !r.Passed() {
				first := r.Differences[0]
				c.Failure = &junitFailure{
					Type:    first.What,
					Message: fmt.Sprintf("%s is %s, not %s", first.What, first.Got, first.Want),
					Text:    strings.Join(r.lines(), "\n"),
				}
			}
			s.Cases = append(s.Cases, c)
		}
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
