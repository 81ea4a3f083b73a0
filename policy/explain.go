package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An Explanation is the story of one decision, told by the code that decides.
type Explanation struct {
	Decision Decision

	// Candidates are the patterns that cover the path of the request, host and method
	// left aside, the most specific first.
	Candidates []Candidate

	// Requirements are those of the route, each condition evaluated.
	Requirements []RequirementStory

	// Flip is the smallest change that turns the verdict around. Every one of the
	// changes is needed.
	Flip []Change
}

// A Candidate is a pattern that could have decided.
type Candidate struct {
	Route   *Route
	Pattern *Pattern // nil for a route that was selected by name and has none
	Fate    Fate
	Why     string // for people
}

// A Fate is what became of a candidate.
type Fate uint8

const (
	LostByHost   Fate = iota // it is for other hosts
	LostByMethod             // it is for other methods
	LostToNarrower
	LostToName // the request names another route
	LostInShadow
	Won
)

var fateNames = [...]string{"other_host", "other_method", "less_specific", "not_named", "in_shadow", "won"}

func (f Fate) String() string {
	if int(f) < len(fateNames) {
		return fateNames[f]
	}
	return fateNames[LostByHost]
}

// A RequirementStory is one requirement with what each condition came to.
type RequirementStory struct {
	At         Position
	Index      int // in Route.Allow
	Holds      bool
	Conditions []ConditionStory
}

// A ConditionStory is one condition, what it wants and what it met.
type ConditionStory struct {
	At        Position
	Condition string
	Want, Got string
	Truth     Truth
}

// A Change is something that would have to be otherwise, and where that is written.
type Change struct {
	At   Position
	Text string
}

func (c Change) String() string {
	if at := c.At.String(); at != "" {
		return c.Text + ": " + at
	}
	return c.Text
}

// Explain decides about r and p, and says why.
func (t *Table) Explain(r *Request, p *Principal) Explanation {
	m := t.Match(r)
	x := Explanation{Decision: m.Decide(p, r)}
	x.Candidates = t.candidates(r, m)
	x.Requirements = m.Requirements(r, p)
	x.Flip = t.flip(&x, r)
	return x
}

// Requirements tells what each requirement of the route makes of r and p, each of their
// conditions evaluated.
func (m Match) Requirements(r *Request, p *Principal) []RequirementStory {
	if m.entry == nil {
		return nil
	}
	s := scope{request: r, pattern: m.Pattern, principal: p, tenancy: m.tenancy()}
	var list []RequirementStory
	for i := range m.entry.clauses {
		list = append(list, m.entry.clauses[i].story(i, &s))
	}
	return list
}

// candidates tells of each pattern of the path why it did not win.
func (t *Table) candidates(r *Request, winner Match) []Candidate {
	if t == nil {
		return nil
	}
	name, named := r.ContextValue(RouteName)
	var list []Candidate
	for i := range t.patterns {
		p := t.patterns[i]
		if !p.matchesPath(r.Path) {
			continue
		}
		c := Candidate{Route: p.entry.route, Pattern: p.Pattern}
		switch {
		case p.Pattern == winner.Pattern:
			c.Fate, c.Why = Won, "the most specific that covers the request"
			if named {
				c.Why = "the request names it, and it covers the request"
			}
		case c.Route.Shadow:
			c.Fate, c.Why = LostInShadow, "mode: shadow decides nothing"
		case !p.matchesHost(r.Host):
			c.Fate, c.Why = LostByHost, fmt.Sprintf("it is for the host %s", p.HostText())
		case !p.matchesMethod(r.Method):
			c.Fate, c.Why = LostByMethod, fmt.Sprintf("it is for the method %s", p.method)
		case named && c.Route.Name != name:
			c.Fate, c.Why = LostToName, fmt.Sprintf("the request names the route %q", name)
		default:
			c.Fate, c.Why = LostToNarrower, fmt.Sprintf("%s is more specific", winner.Pattern)
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return compareRows(a.Pattern, b.Pattern) })
	if winner.Route != nil && winner.Pattern == nil {
		list = append([]Candidate{{Route: winner.Route, Fate: Won, Why: "the request selects it"}}, list...)
	}
	return list
}

func (c *clause) story(index int, s *scope) RequirementStory {
	story := RequirementStory{At: c.at, Index: index, Holds: c.holds(s)}
	for i := range c.conditions {
		k := &c.conditions[i]
		story.Conditions = append(story.Conditions, ConditionStory{
			At: k.at, Condition: k.name(), Want: k.wanted(s), Got: k.had(s), Truth: k.holds(s),
		})
	}
	return story
}

// flip finds the smallest change that turns the verdict around.
func (t *Table) flip(x *Explanation, r *Request) []Change {
	d := &x.Decision
	switch d.Reason {
	case ReasonPublic:
		return []Change{{d.At, fmt.Sprintf("route %q would have to be no longer public", d.Route.Name)}}
	case ReasonMet:
		return x.flipAllowed()
	case ReasonRouteForbids:
		return []Change{{d.At, fmt.Sprintf("route %q would have to allow somebody, instead of forbid: true", d.Route.Name)}}
	case ReasonNoCredential:
		return []Change{{d.At, "a credential is missing"}}
	case ReasonNoRoute:
		return flipNoRoute(x.Candidates, r)
	case ReasonRouteUnknown, ReasonRouteMismatch:
		return t.flipNamed(d.Reason, r)
	case ReasonNotHTTP:
		return []Change{{Text: "tcp: {allow: [...]} is missing, or does not hold"}}
	}
	var changes []Change
	for _, u := range d.Unmet() {
		changes = append(changes, Change{u.At, u.String()})
	}
	return changes
}

// flipAllowed takes from each requirement that holds the condition which asks most
// plainly.
func (x *Explanation) flipAllowed() []Change {
	var changes []Change
	for _, q := range x.Requirements {
		if !q.Holds {
			continue
		}
		c := q.Conditions[0]
		changes = append(changes, Change{c.At, fmt.Sprintf("%s would have to be other than %s", c.Condition, orElse(c.Got, "it is"))})
	}
	return changes
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// flipNoRoute names the most specific pattern that lacks only the method, else only
// the host.
func flipNoRoute(candidates []Candidate, r *Request) []Change {
	for _, c := range candidates {
		if c.Fate == LostByMethod {
			return []Change{{c.Pattern.At, fmt.Sprintf("%q would have to be for the method %s too", c.Pattern, r.Method)}}
		}
	}
	for _, c := range candidates {
		if c.Fate == LostByHost {
			return []Change{{c.Pattern.At, fmt.Sprintf("%q would have to be for the host %s too", c.Pattern, strconv.Quote(r.Host))}}
		}
	}
	return []Change{{Text: fmt.Sprintf("a route for %s is missing", requestText(*r))}}
}

func (t *Table) flipNamed(reason Reason, r *Request) []Change {
	name, _ := r.ContextValue(RouteName)
	if route, ok := t.Route(name); ok && reason == ReasonRouteMismatch {
		return []Change{{route.At, fmt.Sprintf("route %q would have to cover %s", name, requestText(*r))}}
	}
	text := fmt.Sprintf("a route named %q is missing", name)
	if t != nil {
		b := builder{table: t}
		if near := b.nearestRoute(name); near != "" {
			text += fmt.Sprintf(", or %s should be %q", RouteName, near)
		}
	}
	return []Change{{Text: text}}
}

// String says what is missing, as a person would.
func (u Unmet) String() string {
	what, quantity, _ := strings.Cut(u.Condition, ".")
	switch {
	case u.Error:
		return fmt.Sprintf("the expression %s could not be evaluated", u.Want)
	case u.Condition == "when":
		return fmt.Sprintf("the expression %s does not hold", u.Want)
	case (what == "roles" || what == "scopes") && len(u.Missing) > 0:
		return memberSentence(strings.TrimSuffix(what, "s"), quantity, u.Missing)
	}
	return fmt.Sprintf("%s must be %s, is %s", u.Condition, u.Want, orElse(u.Got, nothing))
}

func memberSentence(what, quantity string, values []string) string {
	list := quoted(values...)
	switch {
	case quantity == "none" && len(values) == 1:
		return fmt.Sprintf("%s %s is one too many", what, list)
	case quantity == "none":
		return fmt.Sprintf("%ss %s are too many", what, list)
	case len(values) == 1:
		return fmt.Sprintf("%s %s is missing", what, list)
	case quantity == "any":
		return fmt.Sprintf("one of the %ss %s is missing", what, list)
	}
	return fmt.Sprintf("%ss %s are missing", what, list)
}
