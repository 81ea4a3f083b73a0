package suite

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Mutant is a policy with one mistake in it. Tests that are worth their name notice.
type Mutant struct {
	At    policy.Position
	Route string
	Text  string // what was changed, reading on after "no test notices if"

	key   string
	route policy.Route // as changed
	moved bool         // its patterns are others
	tcp   bool         // it is not a route, but what decides connections
}

// Mutation is what came of changing a policy in every way that Mutants lists.
type Mutation struct {
	Killed   int
	Survived []*Mutant // that no test notices, in the order of the file
}

// Mutate looks for mistakes in the policy that no test of runs, which are of one
// configuration and pass, would notice. Only what the table decides is compared.
func Mutate(runs []*Run) Mutation {
	var order []*Mutant
	survived := map[string]bool{}
	for _, run := range runs {
		tests := newJury(run)
		for _, m := range mutants(run.Loaded.Gate) {
			alive, known := survived[m.key]
			if known && !alive {
				continue
			}
			verdict := tests.judge(m)
			if verdict == wouldNotLoad {
				continue
			}
			if !known {
				order = append(order, m)
			}
			survived[m.key] = verdict == unnoticed
		}
	}
	var result Mutation
	for _, m := range order {
		if survived[m.key] {
			result.Survived = append(result.Survived, m)
		} else {
			result.Killed++
		}
	}
	return result
}

// mutants changes each route that decides something in every way there is.
func mutants(c *extauthz.Config) []*Mutant {
	var list []*Mutant
	for i := range c.Routes {
		r := c.Routes[i].Policy
		if r.Shadow {
			continue
		}
		change := func(at policy.Position, text string, changed policy.Route) {
			changed.Index = 0
			list = append(list, &Mutant{
				At: at, Route: r.Name, Text: text, route: changed,
				key: r.Name + "\x00" + text + "\x00" + at.String(),
			})
		}
		mutateWay(r, change)
		for j := range r.Allow {
			mutateRequirement(r, j, c.Tenancy != nil, change)
		}
		for j := range r.Patterns {
			for _, wider := range widened(&r.Patterns[j], c.Paths) {
				changed := *r
				changed.Patterns = slices.Clone(r.Patterns)
				changed.Patterns[j] = wider
				before := len(list)
				change(r.Patterns[j].At, fmt.Sprintf("%s of route %q is widened to %s", r.Patterns[j], r.Name, wider), changed)
				list[before].moved = true
			}
		}
	}
	for _, row := range c.TCP.Rows() {
		r := row.Route
		change := func(at policy.Position, text string, changed policy.Route) {
			list = append(list, &Mutant{At: at, Route: r.Name, Text: text, route: changed, tcp: true, key: "tcp\x00" + text + "\x00" + at.String()})
		}
		for j := range r.Allow {
			mutateRequirement(r, j, c.Tenancy != nil, change)
		}
	}
	return list
}

type changeFunc func(at policy.Position, text string, changed policy.Route)

// mutateWay changes who passes a route at all.
func mutateWay(r *policy.Route, change changeFunc) {
	way := func(text string, set func(*policy.Route)) {
		changed := *r
		changed.Public, changed.Forbid, changed.Allow = false, false, nil
		set(&changed)
		change(r.At, fmt.Sprintf(text, r.Name), changed)
	}
	if !r.Public {
		way("route %q is public", func(c *policy.Route) { c.Public = true })
	}
	if !r.Forbid {
		way("route %q forbids everything", func(c *policy.Route) { c.Forbid = true })
	}
	if r.Public || r.Forbid {
		way("route %q allows any verified caller", func(c *policy.Route) {
			c.Allow = []policy.Requirement{{Authenticated: &policy.Flag{}}}
		})
	}
}

// mutateRequirement changes one requirement of a route.
func mutateRequirement(r *policy.Route, index int, tenancy bool, change changeFunc) {
	q := &r.Allow[index]
	name := fmt.Sprintf("requirement %d of route %q", index+1, r.Name)
	if len(r.Allow) > 1 {
		changed := *r
		changed.Allow = slices.Delete(slices.Clone(r.Allow), index, index+1)
		change(q.At, name+" is dropped", changed)
	}
	replace := func(at policy.Position, text string, with policy.Requirement) {
		changed := *r
		changed.Allow = slices.Clone(r.Allow)
		changed.Allow[index] = with
		change(at, text+" in "+name, changed)
	}
	drop := func(at policy.Position, what string, clear func(*policy.Requirement)) {
		with := *q
		clear(&with)
		if isEmpty(&with) {
			with.Authenticated = &policy.Flag{At: q.At}
		}
		replace(at, what+" is dropped", with)
	}
	if q.Authenticators != nil {
		drop(q.Authenticators.At, "authenticators", func(q *policy.Requirement) { q.Authenticators = nil })
	}
	if q.Realms != nil {
		drop(q.Realms.At, "realms", func(q *policy.Requirement) { q.Realms = nil })
	}
	for _, t := range []struct {
		name  string
		field func(*policy.Requirement) **policy.Templates
	}{
		{"subject", func(q *policy.Requirement) **policy.Templates { return &q.Subjects }},
		{"username", func(q *policy.Requirement) **policy.Templates { return &q.Usernames }},
		{"tenant", func(q *policy.Requirement) **policy.Templates { return &q.Tenant }},
		{"readable_tenant", func(q *policy.Requirement) **policy.Templates { return &q.ReadableTenant }},
		{"owner", func(q *policy.Requirement) **policy.Templates { return &q.Owner }},
	} {
		if condition := *t.field(q); condition != nil {
			drop(condition.At, t.name, func(q *policy.Requirement) { *t.field(q) = nil })
		}
	}
	if tenancy && q.Tenant != nil && q.ReadableTenant == nil {
		with := *q
		with.Tenant, with.ReadableTenant = nil, q.Tenant
		replace(q.Tenant.At, "tenant is readable_tenant", with)
	}
	mutateSets("roles", q.Roles, func(at policy.Position, text string, s *policy.Sets) {
		with := *q
		with.Roles = s
		replaceOrOpen(&with, at, text, q.At, replace)
	})
	mutateSets("scopes", q.Scopes, func(at policy.Position, text string, s *policy.Sets) {
		with := *q
		with.Scopes = s
		replaceOrOpen(&with, at, text, q.At, replace)
	})
	for i := range q.Attributes {
		mutateAttribute(&q.Attributes[i], func(at policy.Position, text string, a *policy.AttributeMatch) {
			with := *q
			with.Attributes = slices.Clone(q.Attributes)
			if a == nil {
				with.Attributes = slices.Delete(with.Attributes, i, i+1)
			} else {
				with.Attributes[i] = *a
			}
			replaceOrOpen(&with, at, text, q.At, replace)
		})
	}
	if q.When != nil {
		drop(q.When.At, "when", func(q *policy.Requirement) { q.When = nil })
	}
}

// replaceOrOpen replaces a requirement; one that has nothing left asks for any caller.
func replaceOrOpen(with *policy.Requirement, at policy.Position, text string, whole policy.Position, replace func(policy.Position, string, policy.Requirement)) {
	if isEmpty(with) {
		with.Authenticated = &policy.Flag{At: whole}
	}
	replace(at, text, *with)
}

func isEmpty(q *policy.Requirement) bool {
	return q.Authenticated == nil && q.Authenticators == nil && q.Realms == nil && q.Subjects == nil && q.Usernames == nil &&
		q.Tenant == nil && q.ReadableTenant == nil && q.Owner == nil && q.Roles == nil && q.Scopes == nil && len(q.Attributes) == 0 && q.When == nil
}

// mutateSets drops each part and each of several values, and swaps any and all.
func mutateSets(name string, s *policy.Sets, change func(policy.Position, string, *policy.Sets)) {
	if s == nil {
		return
	}
	tidy := func(with policy.Sets) *policy.Sets {
		if with.Any == nil && with.All == nil && with.None == nil {
			return nil
		}
		return &with
	}
	for _, part := range []struct {
		name   string
		values []string
		set    func(*policy.Sets, []string)
	}{
		{"any", s.Any, func(w *policy.Sets, v []string) { w.Any = v }},
		{"all", s.All, func(w *policy.Sets, v []string) { w.All = v }},
		{"none", s.None, func(w *policy.Sets, v []string) { w.None = v }},
	} {
		if part.values == nil {
			continue
		}
		with := *s
		part.set(&with, nil)
		change(s.At, name+"."+part.name+" is dropped", tidy(with))
		for i, v := range part.values {
			if len(part.values) > 1 {
				with := *s
				part.set(&with, slices.Delete(slices.Clone(part.values), i, i+1))
				change(s.At, strconv.Quote(v)+" of "+name+"."+part.name+" is dropped", &with)
			}
		}
	}
	if len(s.Any) > 1 && s.All == nil {
		change(s.At, name+".any is all", &policy.Sets{At: s.At, All: s.Any, None: s.None})
	}
	if len(s.All) > 1 && s.Any == nil {
		change(s.At, name+".all is any", &policy.Sets{At: s.At, Any: s.All, None: s.None})
	}
}

func mutateAttribute(a *policy.AttributeMatch, change func(policy.Position, string, *policy.AttributeMatch)) {
	name := "attributes." + a.Name
	change(a.At, name+" is dropped", nil)
	with := *a
	if len(a.Any) > 1 && a.All == nil {
		with.Any, with.All = nil, a.Any
		change(a.At, name+".any is all", &with)
	}
	if len(a.All) > 1 && a.Any == nil {
		with := *a
		with.Any, with.All = a.All, nil
		change(a.At, name+".all is any", &with)
	}
}

// widened are patterns that match more than p: any method, any host, what is below the
// path, and any segment at its end.
func widened(p *policy.Pattern, options policy.PathOptions) []policy.Pattern {
	host := p.HostText()
	path := strings.TrimPrefix(strings.TrimPrefix(p.String(), p.Method()+" "), host)
	method := ""
	if p.Method() != "" {
		method = p.Method() + " "
	}
	var texts []string
	if method != "" {
		texts = append(texts, host+path)
	}
	if host != "" {
		texts = append(texts, method+path)
	}
	if path != "/" && !strings.HasSuffix(path, "/") && !strings.HasSuffix(path, "...}") {
		texts = append(texts, method+host+strings.TrimSuffix(path, "{$}")+"/")
	}
	trimmed := strings.TrimSuffix(path, "/")
	if i := strings.LastIndexByte(trimmed, '/'); i >= 0 && trimmed[i+1:] != "" && trimmed[i+1] != '{' {
		texts = append(texts, method+host+trimmed[:i]+"/{any_}"+path[len(trimmed):])
	}
	var list []policy.Pattern
	for _, text := range texts {
		text = strings.ReplaceAll(text, "//", "/")
		parsed, err := options.ParsePattern(text)
		if err == nil && len(parsed) == 1 && parsed[0].String() != p.String() {
			parsed[0].At = p.At
			list = append(list, parsed[0])
		}
	}
	return list
}

// A jury is the tests of a run, ready to judge mutants.
type jury struct {
	run     *Run
	byRoute map[string][]*Result
}

func newJury(run *Run) *jury {
	j := &jury{run, map[string][]*Result{}}
	for i := range run.Results {
		r := &run.Results[i]
		name := routeName(&r.Answer.Decision)
		j.byRoute[name] = append(j.byRoute[name], r)
	}
	return j
}

type verdict uint8

const (
	unnoticed verdict = iota
	noticed
	wouldNotLoad
)

// judge tells whether a test fails if the policy is m.
func (j *jury) judge(m *Mutant) verdict {
	table, _ := policy.NewTable([]*policy.Route{&m.route}, j.run.Loaded.Gate.Tenancy)
	if table == nil {
		return wouldNotLoad
	}
	if m.tcp {
		for i := range j.run.Results {
			if j.noticesConnection(&j.run.Results[i], &extauthz.Config{TCP: table}) {
				return noticed
			}
		}
		return unnoticed
	}
	if !m.moved {
		for _, r := range j.byRoute[m.Route] {
			if j.notices(r, table) {
				return noticed
			}
		}
		return unnoticed
	}
	beside := map[*policy.Route]*policy.Table{nil: table}
	for i := range j.run.Results {
		r := &j.run.Results[i]
		if !slices.ContainsFunc(m.route.Patterns, func(p policy.Pattern) bool { return p.Matches(&r.Answer.Request) }) {
			continue
		}
		winner := r.Answer.Decision.Route
		if winner != nil && winner.Name == m.Route {
			winner = nil
		}
		both, known := beside[winner]
		if !known {
			other := *winner
			other.Opens = nil
			both, _ = policy.NewTable([]*policy.Route{&m.route, &other}, j.run.Loaded.Gate.Tenancy)
			beside[winner] = both
		}
		if both == nil {
			return wouldNotLoad
		}
		if j.notices(r, both) {
			return noticed
		}
	}
	return unnoticed
}

// notices tells whether the test of r would fail if table decided its request.
func (j *jury) notices(r *Result, table *policy.Table) bool {
	a := &r.Answer
	d := &a.Decision
	if _, named := a.Request.ContextValue(policy.RouteName); d.Outcome == policy.Malformed || a.Request.TCP || named && d.Route == nil {
		return false // no change of a route changes that
	}
	m := table.Match(&a.Request)
	principal := r.principal(m.Route)
	refused := d.Outcome == policy.Unavailable || d.Outcome == policy.Unauthenticated && d.Reason != policy.ReasonNoCredential
	if refused && m.Route != nil && !m.Route.Public && !m.Route.Forbid {
		return false // the credential is refused as before
	}
	got := m.Decide(principal, &a.Request)
	w := &r.Test.Want
	return got.Outcome != w.Outcome || w.IsReason && got.Reason != w.Reason || w.Route != "" && routeName(&got) != w.Route
}

// noticesConnection tells whether the test of r would fail if c decided its connection.
func (j *jury) noticesConnection(r *Result, c *extauthz.Config) bool {
	a := &r.Answer
	principal := a.Decision.Principal
	if principal == nil {
		principal = r.caller
	}
	if !a.Request.TCP || principal == nil || a.Decision.Outcome == policy.Unavailable {
		return false
	}
	got := match(c, &a.Request).Decide(principal, &a.Request)
	return (got.Outcome == policy.Allowed) != (r.Test.Want.Outcome == policy.Allowed)
}

// principal is who makes the test's request on a route; nil if the route does not ask.
func (r *Result) principal(route *policy.Route) *policy.Principal {
	p := r.Answer.Decision.Principal
	if p == nil {
		p = r.caller
	}
	if p == nil || route == nil || route.Accept != nil && !slices.Contains(route.Accept, p.Authenticator) {
		return nil
	}
	return p
}
