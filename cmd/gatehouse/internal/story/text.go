package story

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Colours of a terminal (ECMA-48 SGR); the zero palette has none.
type palette struct{ good, bad, faint, bold, reset string }

var ansi = palette{good: "\x1b[32m", bad: "\x1b[31m", faint: "\x1b[2m", bold: "\x1b[1m", reset: "\x1b[0m"}

// A Printer writes stories for people.
type Printer struct {
	w      io.Writer
	colour palette
}

// NewPrinter makes a Printer. colour is for terminals.
func NewPrinter(w io.Writer, colour bool) *Printer {
	p := &Printer{w: w}
	if colour {
		p.colour = ansi
	}
	return p
}

// printf writes args so that a terminal shows them: much of a story was written by whoever
// made the request.
func (p *Printer) printf(format string, args ...any) {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = Visible(text, p.colour.good, p.colour.bad, p.colour.faint, p.colour.bold, p.colour.reset)
		}
	}
	fmt.Fprintf(p.w, format, args...) // a closed pipe shows when the command ends
}

func (p *Printer) paint(colour, text string) string {
	if colour == "" {
		return text
	}
	return colour + text + p.colour.reset
}

func (p *Printer) verdictColour(good bool) string {
	if good {
		return p.colour.good
	}
	return p.colour.bad
}

// requestLine is the request as people write it.
func (s *Story) requestLine() string {
	if s.Reason == policy.ReasonNotHTTP.String() {
		return "a connection, without an HTTP request"
	}
	return fmt.Sprintf("%s %s%s", s.Request.Method, s.Request.Host, s.Request.Path)
}

// Verdict writes the decision in a few lines: what, why, and what would turn it around.
func (p *Printer) Verdict(s *Story) {
	p.printf("%s %s\n", p.paint(p.verdictColour(s.Allowed()), strings.ToUpper(s.Outcome)), s.requestLine())
	p.field("reason", s.Reason)
	if s.Route != "" {
		p.field("route", s.Route)
	}
	if s.Position != "" {
		p.field("position", s.Position)
	}
	if s.Detail != "" {
		p.field("detail", s.Detail)
	}
	if s.Shadow != nil {
		p.field("shadow", fmt.Sprintf("route %s would have said %s: %s", s.Shadow.Route, s.Shadow.Outcome, s.Shadow.Reason))
	}
	if !s.Allowed() {
		p.flip(s)
	}
	if s.Allowed() {
		for _, h := range s.Set {
			p.field("upstream", h.Name+": "+h.Value)
		}
		if len(s.Removed) > 0 {
			p.field("removed", strings.Join(s.Removed, " "))
		}
		return
	}
	p.field("client", s.StatusText())
	for _, h := range s.Response {
		if h.Name == "www-authenticate" || h.Name == "location" || h.Name == "retry-after" {
			p.field("", h.Name+": "+h.Value)
		}
	}
}

func (p *Printer) flip(s *Story) {
	for i, c := range s.Flip {
		name := "change"
		if i > 0 {
			name = "and"
		}
		text := c.Text
		if c.Position != "" {
			text += p.paint(p.colour.faint, " ("+c.Position+")")
		}
		p.field(name, text)
	}
}

func (p *Printer) field(name, value string) {
	p.printf("  %-9s %s\n", name, value)
}

func (p *Printer) heading(text string) { p.printf("\n%s\n", p.paint(p.colour.bold, text)) }

// Story writes everything, in the order in which it is decided.
func (p *Printer) Story(s *Story) {
	p.printf("%s\n", p.paint(p.colour.bold, "Request"))
	p.printf("  %s\n", s.requestLine())
	p.candidates(s)
	p.authenticators(s)
	p.principal(s)
	p.requirements(s)
	p.heading("Verdict")
	p.Verdict(s)
	p.recorded(s)
	if s.Allowed() && len(s.Flip) > 0 {
		p.heading("What would turn it around")
		p.flip(s)
	}
}

// recorded compares with what was decided then.
func (p *Printer) recorded(s *Story) {
	r := s.Recorded
	if r == nil {
		return
	}
	p.heading("As recorded")
	verdict := "the same"
	same := r.Outcome == s.Outcome && r.Reason == s.Reason && r.Route == s.Route
	if !same {
		verdict = "otherwise"
	}
	p.field("verdict", p.paint(p.verdictColour(same), verdict)+": "+r.Outcome+", "+r.Reason)
	if r.Route != "" {
		p.field("route", r.Route)
	}
	if r.Position != "" {
		p.field("position", r.Position)
	}
	p.field("time", r.Time)
	p.field("decision", r.ID)
	p.field("hash", r.Hash+" of the configuration")
	if !same && r.Outcome == "unauthenticated" {
		p.field("note", "records hold no credential: what was refused then is not there to be refused again")
	}
}

func (p *Printer) candidates(s *Story) {
	p.heading("Routes of this path, the most specific first")
	if len(s.Candidates) == 0 {
		p.printf("  none\n")
	}
	for _, c := range s.Candidates {
		mark, colour := " ", p.colour.faint
		if c.Fate == "won" {
			mark, colour = ">", p.colour.good
		}
		pattern := c.Pattern
		if pattern == "" {
			pattern = "(by name)"
		}
		p.printf("%s %s  %s  %s\n", p.paint(colour, mark), pattern, c.Route, p.paint(p.colour.faint, c.Position))
		p.printf("      %s\n", c.Why)
	}
}

func (p *Printer) authenticators(s *Story) {
	if len(s.Authenticators) == 0 {
		return
	}
	p.heading("Authenticators, in order")
	for _, a := range s.Authenticators {
		mark := " "
		if a.Decided {
			mark = p.paint(p.verdictColour(s.Principal != nil), ">")
		}
		text := a.Saw
		if a.Place != "" {
			text += ", in " + a.Place
		}
		switch {
		case a.Consulted:
		case s.Route == "":
			text += p.paint(p.colour.faint, " (not consulted: no route)")
		default:
			text += p.paint(p.colour.faint, " (not consulted: the route does not accept it)")
		}
		p.printf("%s %s (%s)  %s\n", mark, a.Name, a.Kind, text)
	}
}

func (p *Printer) principal(s *Story) {
	p.heading("Principal")
	q := s.Principal
	if q == nil {
		p.printf("  nobody\n")
		return
	}
	row := func(name string, values ...string) {
		if text := strings.Join(values, ", "); text != "" {
			p.printf("  %-14s %s\n", name, text)
		}
	}
	row("authenticator", q.Authenticator)
	row("realm", q.Realm)
	row("issuer", q.Issuer)
	row("subject", q.Subject)
	row("username", q.Username)
	row("tenant", q.Tenant)
	row("reads", q.Tenants...)
	row("roles", q.Roles...)
	row("scopes", q.Scopes...)
	for _, name := range slices.Sorted(maps.Keys(q.Attributes)) {
		row(name, q.Attributes[name]...)
	}
}

func (p *Printer) requirements(s *Story) {
	if len(s.Requirements) == 0 {
		return
	}
	p.heading("Requirements, any of which suffices")
	for _, r := range s.Requirements {
		verdict := "does not hold"
		if r.Holds {
			verdict = "holds"
		}
		p.printf("  %s %s\n", p.paint(p.verdictColour(r.Holds), verdict), p.paint(p.colour.faint, r.Position))
		for _, c := range r.Conditions {
			mark := map[string]string{"true": "yes", "false": "no", "error": "error"}[c.Truth]
			text := c.Condition + " " + c.Want
			if c.Got != "" {
				text += ", got " + c.Got
			}
			p.printf("    %s %s  %s\n", p.paint(p.verdictColour(c.Truth == "true"), fmt.Sprintf("%-5s", mark)), text, p.paint(p.colour.faint, c.Position))
		}
	}
}
