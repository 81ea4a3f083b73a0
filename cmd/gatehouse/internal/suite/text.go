package suite

import (
	"fmt"
	"io"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Print tells which tests of the run failed and why, and with verbose which passed.
func (r *Run) Print(w io.Writer, verbose bool) {
	for i := range r.Results {
		result := &r.Results[i]
		switch {
		case !result.Passed():
			fmt.Fprintf(w, "FAIL %s: %s\n", result.Test.At, result.Test.Name)
			for _, line := range result.lines() {
				fmt.Fprintf(w, "  %s\n", line)
			}
		case verbose:
			fmt.Fprintf(w, "pass %s: %s\n", result.Test.At, result.Test.Name)
		}
	}
	state := "ok  "
	if r.Failed() > 0 {
		state = "FAIL"
	}
	fmt.Fprintf(w, "%s %s: %d of %d tests pass\n", state, r.Suite.File, len(r.Results)-r.Failed(), len(r.Results))
}

// lines are the request, what was wanted and what came, and why.
func (r *Result) lines() []string {
	p := r.Answer.Decision.Principal
	if p == nil {
		p = r.caller
	}
	lines := []string{r.Test.Line + ", " + Describe(p)}
	for _, d := range r.Differences {
		if d.Want != "" {
			lines = append(lines, fmt.Sprintf("- %s: %s", d.What, d.Want))
		}
		lines = append(lines, fmt.Sprintf("+ %s: %s", d.What, d.Got))
	}
	return append(lines, r.Answer.Because()...)
}

// Describe names a principal by what it has.
func Describe(p *policy.Principal) string {
	if p == nil {
		return "by nobody"
	}
	parts := []string{"authenticator " + p.Authenticator}
	for _, field := range []struct{ name, value string }{
		{"subject", p.Subject}, {"username", p.Username}, {"tenant", p.Tenant},
		{"roles", strings.Join(p.Roles, " ")}, {"scopes", strings.Join(p.Scopes, " ")},
	} {
		if field.value != "" {
			parts = append(parts, field.name+" "+field.value)
		}
	}
	for _, name := range sortedKeys(p.Attributes) {
		parts = append(parts, name+" "+strings.Join(p.Attributes[name].Values, " "))
	}
	return "by " + strings.Join(parts, ", ")
}

// Print tells how much is covered and, item by item, what is not.
func (c *Coverage) Print(w io.Writer, name string) {
	covered, total := c.Counts()
	fmt.Fprintf(w, "coverage of %s: %.1f %% (%d of %d)\n", name, c.Percent(), covered, total)
	for _, item := range c.Missing() {
		if at := item.At.String(); at != "" {
			fmt.Fprintf(w, "  %s: %s\n", at, item.Text)
		} else {
			fmt.Fprintf(w, "  %s\n", item.Text)
		}
	}
}

// Print tells how many mutants died, and which did not.
func (m *Mutation) Print(w io.Writer, name string) {
	fmt.Fprintf(w, "mutants of %s: %d of %d killed\n", name, m.Killed, m.Killed+len(m.Survived))
	for _, alive := range m.Survived {
		fmt.Fprintf(w, "  %s: no test notices if %s\n", alive.At, alive.Text)
	}
}
