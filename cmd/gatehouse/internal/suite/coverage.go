package suite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

// Coverage is which parts of a configuration's policy the tests exercise: each route, each
// requirement, each way in which a condition decides, each mapping of claims.
type Coverage struct {
	items []*Item // in the order of the file
	byKey map[string]*Item
}

// An Item is one thing that a test can exercise.
type Item struct {
	At      policy.Position // zero for mappings
	Text    string          // what no test does, if it is not covered
	Covered bool
}

// exercised is a principal that an authenticator has mapped.
type exercised struct {
	authenticator string
	principal     *policy.Principal
}

// NewCoverage is what the tests of runs, which are of one configuration, exercise.
func NewCoverage(runs []*Run) *Coverage {
	c := &Coverage{byKey: map[string]*Item{}}
	for _, run := range runs {
		for i := range run.Loaded.Gate.Routes {
			if r := run.Loaded.Gate.Routes[i].Policy; !r.Shadow {
				c.addRoute(r)
			}
		}
		for _, row := range run.Loaded.Gate.TCP.Rows() {
			c.addRoute(row.Route)
		}
		c.addMappings(run.Loaded)
	}
	for _, run := range runs {
		for i := range run.Results {
			c.coverTest(run.Loaded, &run.Results[i].Answer)
		}
		for _, e := range run.claims {
			c.coverMappings(e)
		}
	}
	return c
}

// Total and covered count the items.
func (c *Coverage) Counts() (covered, total int) {
	for _, item := range c.items {
		if item.Covered {
			covered++
		}
	}
	return covered, len(c.items)
}

// Percent is how much is covered, from 0 to 100. Of nothing, all is.
func (c *Coverage) Percent() float64 {
	covered, total := c.Counts()
	if total == 0 {
		return 100
	}
	return 100 * float64(covered) / float64(total)
}

// Missing are the items that no test exercises, in the order of the file.
func (c *Coverage) Missing() []*Item {
	return slices.DeleteFunc(slices.Clone(c.items), func(i *Item) bool { return i.Covered })
}

func (c *Coverage) add(key string, at policy.Position, format string, args ...any) {
	if c.byKey[key] == nil {
		item := &Item{At: at, Text: fmt.Sprintf(format, args...)}
		c.byKey[key] = item
		c.items = append(c.items, item)
	}
}

func (c *Coverage) cover(key string) {
	if item := c.byKey[key]; item != nil {
		item.Covered = true
	}
}

func routeKey(r *policy.Route) string { return "route\x00" + r.Name + "\x00" + r.At.String() }

func requirementKey(r *policy.Route, index int) string {
	return "requirement\x00" + r.Name + "\x00" + strconv.Itoa(index)
}

func branchKey(r *policy.Route, index int, b branch) string {
	return strings.Join([]string{"branch", r.Name, strconv.Itoa(index), b.condition, b.value}, "\x00")
}

func mappingKey(authenticator, field string) string {
	return "mapping\x00" + authenticator + "\x00" + field
}

func (c *Coverage) addRoute(r *policy.Route) {
	c.add(routeKey(r), r.At, "no test is decided by route %q", r.Name)
	for i := range r.Allow {
		q := &r.Allow[i]
		c.add(requirementKey(r, i), q.At, "no test passes route %q by requirement %d", r.Name, i+1)
		for _, b := range branches(q) {
			c.add(branchKey(r, i, b), b.at, "%s", b.text())
		}
	}
}

// coverTest notes what one answer has exercised.
func (c *Coverage) coverTest(loaded *config.Loaded, a *Answer) {
	d := &a.Decision
	if d.Route == nil || d.Route.Shadow {
		return
	}
	c.cover(routeKey(d.Route))
	// A request that is refused for its credential has not met the requirements.
	if d.Principal == nil || d.Reason.Outcome() == policy.Unauthenticated {
		return
	}
	m := match(loaded.Gate, &a.Request)
	for _, story := range m.Requirements(&a.Request, d.Principal) {
		if story.Holds && story.Index == d.Requirement {
			c.cover(requirementKey(d.Route, story.Index))
		}
		for _, b := range branches(&d.Route.Allow[story.Index]) {
			if b.isExercised(&story, d.Principal) {
				c.cover(branchKey(d.Route, story.Index, b))
			}
		}
	}
}

// match finds what decides a request: a route, or tcp.
func match(c *extauthz.Config, r *policy.Request) policy.Match {
	if !r.TCP {
		return c.Table.Match(r)
	}
	return c.TCP.Match(&policy.Request{Context: []policy.Pair{{Name: policy.RouteName, Value: extauthz.TCPRoute}}})
}

// A branch is one way in which a condition decides.
type branch struct {
	at        policy.Position
	condition string // as in [policy.ConditionStory]
	value     string // of the list; "": the condition as a whole is not met
	has       func(*policy.Principal) bool
}

func (b branch) text() string {
	switch _, quantity, _ := cutLast(b.condition); {
	case b.value == "":
		return fmt.Sprintf("no test fails %s", b.condition)
	case quantity == "all":
		return fmt.Sprintf("no test lacks %q of %s", b.value, b.condition)
	case quantity == "none":
		return fmt.Sprintf("no test has %q of %s", b.value, b.condition)
	}
	return fmt.Sprintf("no test passes by %q of %s", b.value, b.condition)
}

func cutLast(condition string) (what, quantity string, ok bool) {
	i := strings.LastIndexByte(condition, '.')
	if i < 0 {
		return condition, "", false
	}
	return condition[:i], condition[i+1:], true
}

// isExercised tells whether the branch has decided: a value of a list by being what a
// passing principal has, or what a refused one lacks or must not have.
func (b branch) isExercised(q *policy.RequirementStory, p *policy.Principal) bool {
	i := slices.IndexFunc(q.Conditions, func(c policy.ConditionStory) bool { return c.Condition == b.condition })
	if i < 0 {
		return false
	}
	met := q.Conditions[i].Truth == policy.True
	switch _, quantity, _ := cutLast(b.condition); {
	case b.value == "":
		return !met
	case quantity == "all":
		return !met && !b.has(p)
	case quantity == "none":
		return !met && b.has(p)
	}
	return q.Holds && b.has(p)
}

// branches lists the ways in which the conditions of q decide.
func branches(q *policy.Requirement) []branch {
	var list []branch
	whole := func(at policy.Position, condition string) {
		list = append(list, branch{at: at, condition: condition})
	}
	values := func(at policy.Position, condition string, values []string, has func(p *policy.Principal, v string) bool) {
		_, quantity, _ := cutLast(condition)
		every := quantity == "all" || quantity == "none"
		if !every && len(values) > 0 {
			whole(at, condition)
		}
		if len(values) == 1 && !every {
			return // the requirement as a whole has passed by it
		}
		for _, v := range values {
			list = append(list, branch{at, condition, v, func(p *policy.Principal) bool { return has(p, v) }})
		}
	}
	names := func(n *policy.Names, condition string, field func(*policy.Principal) string) {
		if n != nil {
			values(n.At, condition, n.Values, func(p *policy.Principal, v string) bool { return field(p) == v })
		}
	}
	templates := func(t *policy.Templates, condition string, field func(*policy.Principal) string) {
		if t == nil {
			return
		}
		values(t.At, condition, literals(t.Values), func(p *policy.Principal, v string) bool { return field(p) == v })
		if len(literals(t.Values)) == 0 {
			whole(t.At, condition)
		}
	}
	sets := func(s *policy.Sets, name string, field func(*policy.Principal) []string) {
		if s == nil {
			return
		}
		has := func(p *policy.Principal, v string) bool { return slices.Contains(field(p), v) }
		values(s.At, name+".any", s.Any, has)
		values(s.At, name+".all", s.All, has)
		values(s.At, name+".none", s.None, has)
	}
	names(q.Authenticators, "authenticators", func(p *policy.Principal) string { return p.Authenticator })
	names(q.Realms, "realms", func(p *policy.Principal) string { return p.Realm })
	templates(q.Subjects, "subjects", func(p *policy.Principal) string { return p.Subject })
	templates(q.Usernames, "usernames", func(p *policy.Principal) string { return p.Username })
	templates(q.Tenant, "tenant", func(p *policy.Principal) string { return p.Tenant })
	if q.ReadableTenant != nil {
		whole(q.ReadableTenant.At, "readable_tenant")
	}
	if q.Owner != nil {
		whole(q.Owner.At, "owner")
	}
	sets(q.Roles, "roles", func(p *policy.Principal) []string { return p.Roles })
	sets(q.Scopes, "scopes", func(p *policy.Principal) []string { return p.Scopes })
	for i := range q.Attributes {
		a := &q.Attributes[i]
		condition := "attributes." + a.Name
		has := func(p *policy.Principal, v string) bool { return slices.Contains(p.Attributes[a.Name].Values, v) }
		if a.Present {
			whole(a.At, condition+".present")
		}
		values(a.At, condition+".any", literals(a.Any), has)
		values(a.At, condition+".all", literals(a.All), has)
		values(a.At, condition+".none", literals(a.None), has)
	}
	if q.When != nil {
		whole(q.When.At, "when")
	}
	return list
}

func literals(templates []policy.Template) []string {
	var values []string
	for i := range templates {
		if v, ok := templates[i].Literal(); ok {
			values = append(values, v)
		}
	}
	return values
}

// mappingOf is how an authenticator maps claims; nil if it maps none.
func mappingOf(a *configv1.Authenticator) *configv1.PrincipalMapping {
	for _, m := range []*configv1.PrincipalMapping{a.GetJwt().GetPrincipal(), a.GetIntrospection().GetPrincipal(), a.GetLookup().GetPrincipal()} {
		if m != nil {
			return m
		}
	}
	return nil
}

func (c *Coverage) addMappings(loaded *config.Loaded) {
	for _, a := range loaded.Config.GetAuthenticators() {
		m := mappingOf(a)
		if m == nil {
			continue
		}
		for _, field := range []struct {
			name  string
			given bool
		}{
			{"subject", m.GetSubject() != nil}, {"username", m.GetUsername() != nil}, {"tenant", m.GetTenant() != nil},
			{"roles", m.GetRoles() != nil}, {"scopes", m.GetScopes() != nil},
		} {
			if field.given {
				c.addMapping(a.GetName(), field.name)
			}
		}
		for _, name := range sortedKeys(m.GetAttributes()) {
			c.addMapping(a.GetName(), "attributes."+name)
		}
	}
}

func (c *Coverage) addMapping(authenticator, field string) {
	c.add(mappingKey(authenticator, field), policy.Position{}, "no test has claims of which authenticator %q maps %s", authenticator, field)
}

func (c *Coverage) coverMappings(e exercised) {
	p := e.principal
	for field, given := range map[string]bool{
		"subject": p.Subject != "", "username": p.Username != "", "tenant": p.Tenant != "", "roles": len(p.Roles) > 0, "scopes": len(p.Scopes) > 0,
	} {
		if given {
			c.cover(mappingKey(e.authenticator, field))
		}
	}
	for name := range p.Attributes {
		c.cover(mappingKey(e.authenticator, "attributes."+name))
	}
}
