// Package sarif writes what loading a configuration had to say as SARIF 2.1.0 (OASIS),
// which editors show beside the lines and code hosts as annotations. It writes what a
// reader of one file needs, and no more of the standard.
package sarif

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz/config"
)

// Schema is where the JSON schema of what [New] makes is published.
const Schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

// A Log is a SARIF file (§3.13).
type Log struct {
	Schema  string `json:"$schema"`
	Version string `json:"version"`
	Runs    []Run  `json:"runs"`
}

// A Run is one look at one configuration (§3.14).
type Run struct {
	Tool        Tool         `json:"tool"`
	Invocations []Invocation `json:"invocations"`
	ColumnKind  string       `json:"columnKind"`
	Results     []Result     `json:"results"` // empty, not absent: it looked and found nothing
}

// A Tool is gatehouse (§3.18).
type Tool struct {
	Driver Driver `json:"driver"`
}

// A Driver names the program and all rules that it knows (§3.19).
type Driver struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Rules   []Rule `json:"rules"`
}

// A Rule is what a result breaks (§3.49).
type Rule struct {
	ID                   string        `json:"id"`
	ShortDescription     Text          `json:"shortDescription"`
	Help                 Text          `json:"help"`
	DefaultConfiguration Configuration `json:"defaultConfiguration"`
}

// A Configuration is how bad a result of a rule usually is (§3.50).
type Configuration struct {
	Level string `json:"level"`
}

// A Text is a message (§3.11).
type Text struct {
	Text string `json:"text"`
}

// An Invocation tells that the program ran to its end (§3.20).
type Invocation struct {
	ExecutionSuccessful bool `json:"executionSuccessful"`
}

// A Result is one problem (§3.27).
type Result struct {
	RuleID    string     `json:"ruleId"`
	RuleIndex int        `json:"ruleIndex"`
	Level     string     `json:"level"`
	Message   Text       `json:"message"`
	Locations []Location `json:"locations"`
}

// A Location is a place in a file (§3.28).
type Location struct {
	PhysicalLocation PhysicalLocation `json:"physicalLocation"`
}

// A PhysicalLocation is a file and a place in it (§3.29).
type PhysicalLocation struct {
	ArtifactLocation ArtifactLocation `json:"artifactLocation"`
	Region           Region           `json:"region"`
}

// An ArtifactLocation is a file (§3.4).
type ArtifactLocation struct {
	URI string `json:"uri"`
}

// A Region begins at a line and column, counted from 1, in characters (§3.30).
type Region struct {
	StartLine   int   `json:"startLine"`
	StartColumn int   `json:"startColumn"`
	Snippet     *Text `json:"snippet,omitempty"`
}

const (
	levelError   = "error"
	levelWarning = "warning"
)

// New makes the log of a report. version is that of the program; "" leaves it out.
func New(report *config.Report, version string) Log {
	run := Run{
		Tool:        Tool{Driver{Name: "gatehouse", Version: version}},
		Invocations: []Invocation{{ExecutionSuccessful: true}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []Result{},
	}
	for _, r := range config.Rules() {
		level := levelError
		if r.Warning {
			level = levelWarning
		}
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, Rule{
			ID: r.Name, ShortDescription: Text{r.Short}, Help: Text{r.Remedy}, DefaultConfiguration: Configuration{level},
		})
	}
	for _, p := range report.Errors {
		run.Results = append(run.Results, result(p, levelError))
	}
	for _, p := range report.Warnings {
		run.Results = append(run.Results, result(p, levelWarning))
	}
	return Log{Schema: Schema, Version: "2.1.0", Runs: []Run{run}}
}

func result(p config.Problem, level string) Result {
	message := p.Message
	if p.Remedy != "" {
		message += "; " + p.Remedy
	}
	region := Region{StartLine: max(p.At.Line, 1), StartColumn: max(p.At.Column, 1)}
	if p.Source != "" {
		region.Snippet = &Text{p.Source}
	}
	return Result{
		RuleID: p.Rule.Text().Name, RuleIndex: int(p.Rule), Level: level, Message: Text{message},
		Locations: []Location{{PhysicalLocation{ArtifactLocation{uri(p.At.File)}, region}}},
	}
}

// uri is the path of a file as a reference (RFC 3986): relative to wherever the reader
// has the sources, unless the path is absolute.
func uri(path string) string {
	path = filepath.ToSlash(path)
	if filepath.IsAbs(path) {
		return (&url.URL{Scheme: "file", Path: path}).String()
	}
	return strings.TrimPrefix((&url.URL{Path: path}).String(), "./")
}
