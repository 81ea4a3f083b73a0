package diff

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A pattern is one of a side's, taken apart. Segments are literals or, "" here, wildcards.
type pattern struct {
	*policy.Pattern
	segments []string
	subtree  bool
	changed  bool // the other side has no equal one whose route says the same
}

func newComparison(old, new Side) *comparison {
	c := &comparison{old: old, new: new, regions: map[regionKey]*region{}, bare: newBare()}
	c.identity = old.whoIs() != new.whoIs()
	same := map[string]string{}
	seen := map[string]bool{}
	for _, side := range []*Side{&c.old, &c.new} {
		for _, r := range side.Routes {
			if r.Shadow {
				continue
			}
			c.preflights = c.preflights || r.Preflight
			says := side.says(r)
			for i := range r.Patterns {
				p := takeApart(&r.Patterns[i])
				key := p.String()
				if first, known := same[key]; known {
					p.changed = first != says
					seen[key] = !p.changed
				} else {
					same[key] = says
				}
				c.patterns = append(c.patterns, p)
				c.longest = max(c.longest, len(p.segments))
			}
		}
	}
	for i := range c.patterns {
		if p := &c.patterns[i]; !seen[p.String()] {
			p.changed = true
		}
	}
	c.fresh, c.hosts, c.methods = freshSegment(c.patterns), c.kindsOfHosts(), c.kindsOfMethods()
	return c
}

// says is what a route means, in a form in which equal texts mean the same.
func (s *Side) says(r *policy.Route) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%t %t %t", r.Public, r.Forbid, r.Preflight)
	for _, name := range s.consults(r) {
		b.WriteString(s.authenticatorText(name))
	}
	var requirements []string
	for i := range r.Allow {
		requirements = append(requirements, describe(&r.Allow[i]))
	}
	sort.Strings(requirements)
	fmt.Fprintf(&b, " %q", slices.Compact(requirements))
	if s.Forwarded != nil {
		values := s.Forwarded(r)
		for _, name := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, " %q %q %t", name, values[name].Text, values[name].JSON)
		}
	}
	for _, why := range refusals {
		if s.Refused != nil {
			fmt.Fprintf(&b, " %q", s.Refused(r, why))
		}
	}
	return b.String() + " " + s.common()
}

// authenticatorText is an authenticator with all that it makes.
func (s *Side) authenticatorText(name string) string {
	if s.texts == nil {
		s.texts = map[string]string{}
		for _, a := range s.Authenticators {
			s.texts[a.Name] = fmt.Sprintf(" %+v", a)
		}
	}
	return s.texts[name]
}

// common is what all routes of a side say: who principals are.
func (s *Side) common() string {
	if s.who == "" {
		s.who = s.whoIs()
	}
	return s.who
}

// whoIs is what makes principals others than authenticators have made them.
func (s *Side) whoIs() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %t %t %+v", s.conditions(), s.Select, s.Impersonate, s.Anonymous)
	for _, g := range s.Grants.List() {
		b.WriteString(grantText(g))
	}
	return b.String()
}

// conditions is what conditions of grants ask beside principals themselves.
func (s *Side) conditions() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%+v", s.Tenancy)
	for _, a := range s.Authenticators {
		fmt.Fprintf(&b, " %q %q %q %t %t %t", a.Name, a.As, a.Realm, a.Unscoped, a.Impersonate, a.Wildcard)
	}
	return b.String()
}

// grantText is a grant in a form in which equal texts mean the same.
func grantText(g *policy.Grant) string {
	var b strings.Builder
	fmt.Fprintf(&b, " %q %q", g.Roles, g.Scopes)
	for _, name := range slices.Sorted(maps.Keys(g.Attributes)) {
		fmt.Fprintf(&b, " %q %q", name, g.Attributes[name].Values)
	}
	for i := range g.When {
		fmt.Fprintf(&b, " %q", describe(&g.When[i]))
	}
	return b.String()
}

func takeApart(p *policy.Pattern) pattern {
	path := p.String()
	path = strings.TrimPrefix(path[strings.IndexByte(path, ' ')+1:], p.HostText())
	t := pattern{Pattern: p, subtree: strings.HasSuffix(path, "/") || strings.HasSuffix(path, "...}")}
	path = strings.Trim(path, "/")
	if path == "" {
		return t
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "{$}" || strings.HasSuffix(segment, "...}"):
		case segment[0] == '{':
			t.segments = append(t.segments, "")
		default:
			t.segments = append(t.segments, segment)
		}
	}
	return t
}

// freshSegment is x, or as many of them as no pattern has.
func freshSegment(patterns []pattern) string {
	longest := 0
	for i := range patterns {
		for _, s := range patterns[i].segments {
			if strings.Trim(s, "x") == "" {
				longest = max(longest, len(s))
			}
		}
	}
	return strings.Repeat("x", longest+1)
}

// walk finds every region of unnamed requests. Any request has the same winners as one
// whose host, method and segments are named by the patterns or fresh, and which is no
// longer than the longest pattern and one: that is what is walked.
func (c *comparison) walk() {
	for _, host := range c.hosts {
		for _, method := range c.methods {
			var live []*pattern
			for i := range c.patterns {
				if p := &c.patterns[i]; p.takesMethod(method) && p.takesHost(host) {
					live = append(live, p)
				}
			}
			c.descend(policy.Request{Method: method, Host: host, Scheme: "https"}, nil, live)
		}
	}
	c.walkPreflights(c.patterns, policy.Request{Scheme: "https"})
}

// walkPreflights finds the regions of CORS preflights of which one side lets some pass. A
// preflight is decided by the patterns that take the method it asks for, and by those that
// take OPTIONS.
func (c *comparison) walkPreflights(patterns []pattern, r policy.Request) {
	if !c.preflights {
		return
	}
	for _, r.Host = range c.hosts {
		for _, method := range c.methods {
			if !isAskable(method) {
				continue
			}
			r.Method = method
			var live []*pattern
			for i := range patterns {
				if p := &patterns[i]; p.takesHost(r.Host) && (p.takesMethod(method) || p.takesMethod("OPTIONS")) {
					live = append(live, p)
				}
			}
			c.descend(asking(r), nil, live)
		}
	}
}

// descend visits the paths that begin with the given segments, of which live are the
// patterns that match so far. Where nothing has changed, both tables have the same
// winner.
func (c *comparison) descend(r policy.Request, path []string, live []*pattern) {
	if !slices.ContainsFunc(live, func(p *pattern) bool { return p.changed }) {
		return
	}
	c.visit(r, path)
	depth := len(path)
	var wild []*pattern                 // that match whatever comes next
	literals := map[string][]*pattern{} // that match one segment, by its text
	ends, goOn := false, false
	for _, p := range live {
		switch {
		case len(p.segments) > depth && p.segments[depth] != "":
			literals[p.segments[depth]] = append(literals[p.segments[depth]], p)
			goOn = true
		case len(p.segments) > depth:
			wild = append(wild, p)
			goOn = true
		case p.subtree:
			wild = append(wild, p)
		default:
			ends = true
		}
	}
	if !goOn && (!ends || len(wild) == 0) {
		return // what is longer has the same winners, or none
	}
	texts := make([]string, 0, len(literals))
	for text := range literals {
		texts = append(texts, text)
	}
	sort.Strings(texts)
	for _, text := range texts {
		c.descend(r, append(path[:depth:depth], text), append(literals[text], wild...))
	}
	if len(wild) > 0 {
		c.descend(r, append(path[:depth:depth], c.fresh), wild)
	}
}

// visit notes the winners of a path, with the shortest path of each pair.
func (c *comparison) visit(r policy.Request, path []string) {
	if !r.TCP {
		r.Path = "/" + strings.Join(path, "/")
	}
	old, new := c.rule(&c.old, &r), c.rule(&c.new, &r)
	if old.Route == nil && new.Route == nil || len(r.Headers) > 0 && (old.asked.Route == nil) == (new.asked.Route == nil) {
		return // none covers it, or it is no preflight to either side, or passes as one on both
	}
	key := keyOf(old, new)
	known := c.regions[key]
	if known == nil {
		c.regions[key] = &region{request: r, segments: path, old: old, new: new}
		return
	}
	if len(known.segments) > len(path) {
		r, known.request, known.segments = known.request, r, path
	}
	if len(known.others) < maxOthers && !isLike(&r, &known.request) && !slices.ContainsFunc(known.others, func(o policy.Request) bool { return isLike(&r, &o) }) {
		known.others = append(known.others, r)
	}
}

// maxOthers bounds how many methods and hosts of a region are remembered.
const maxOthers = 64

// isLike tells whether two requests differ in nothing but their paths.
func isLike(a, b *policy.Request) bool {
	return a.Method == b.Method && a.Host == b.Host && slices.Equal(a.Headers, b.Headers)
}

// walkNames finds the regions of requests that name a route which has changed.
func (c *comparison) walkNames() {
	type named struct{ old, new *policy.Route }
	routes := map[string]*named{}
	for _, r := range c.old.Routes {
		if !r.Shadow && r.Name != "" {
			routes[r.Name] = &named{old: r}
		}
	}
	for _, r := range c.new.Routes {
		if r.Shadow || r.Name == "" {
			continue
		}
		if routes[r.Name] == nil {
			routes[r.Name] = &named{}
		}
		routes[r.Name].new = r
	}
	for name, pair := range routes {
		r := policy.Request{Method: "GET", Host: defaultHost, Scheme: "https", Context: []policy.Pair{{Name: policy.RouteName, Value: name}}}
		if pair.old != nil && pair.new != nil && samePatterns(pair.old, pair.new) && c.old.says(pair.old) == c.new.says(pair.new) {
			continue
		}
		var patterns []pattern
		anywhere := false // a route without patterns covers whatever names it
		for _, route := range []*policy.Route{pair.old, pair.new} {
			if route == nil {
				continue
			}
			anywhere = anywhere || len(route.Patterns) == 0
			for i := range route.Patterns {
				p := takeApart(&route.Patterns[i])
				p.changed = true
				patterns = append(patterns, p)
			}
		}
		if anywhere {
			patterns = append(patterns, pattern{Pattern: &policy.Pattern{}, subtree: true, changed: true})
		}
		for _, host := range c.hosts {
			for _, method := range c.methods {
				r.Host, r.Method = host, method
				var live []*pattern
				for i := range patterns {
					if p := &patterns[i]; p.takesMethod(method) && p.takesHost(host) {
						live = append(live, p)
					}
				}
				c.descend(r, nil, live)
			}
		}
		c.walkPreflights(patterns, r)
	}
}

// walkTCP finds the region of connections without HTTP.
func (c *comparison) walkTCP() { c.visit(policy.Request{TCP: true}, nil) }

func samePatterns(a, b *policy.Route) bool {
	return slices.EqualFunc(a.Patterns, b.Patterns, func(p, q policy.Pattern) bool { return p.String() == q.String() })
}

func (p *pattern) takesMethod(method string) bool {
	m := p.Method()
	return m == "" || m == method || m == "GET" && method == "HEAD"
}

func (p *pattern) takesHost(host string) bool {
	text := p.HostText()
	if suffix, wild := strings.CutPrefix(text, "*"); wild {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return text == "" || text == host
}

// defaultHost is that of witnesses for which any host would do.
const defaultHost = "localhost"

// kindsOfHosts are one of each kind that the patterns tell apart: each literal host, one below
// each wildcard, and one that no pattern names.
func (c *comparison) kindsOfHosts() []string {
	named, suffixes := map[string]bool{}, map[string]bool{}
	for i := range c.patterns {
		if host, wild := strings.CutPrefix(c.patterns[i].HostText(), "*"); wild {
			suffixes[host] = true
		} else if host != "" {
			named[host] = true
		}
	}
	taken := func(host string) bool {
		if named[host] {
			return true
		}
		for i := strings.IndexByte(host, '.'); i >= 0; {
			if suffixes[host[i:]] {
				return true
			}
			next := strings.IndexByte(host[i+1:], '.')
			if next < 0 {
				break
			}
			i += 1 + next
		}
		return false
	}
	other := defaultHost
	for taken(other) {
		other += "x"
	}
	hosts := []string{other}
	for host := range named {
		hosts = append(hosts, host)
	}
	for suffix := range suffixes {
		label := "x"
		for named[label+suffix] || suffixes["."+label+suffix] {
			label += "x"
		}
		hosts = append(hosts, label+suffix)
	}
	sort.Strings(hosts[1:])
	return hosts
}

// usualMethods are those that a reader expects, in the order in which witnesses use them.
var usualMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}

// kindsOfMethods are those that the patterns name, and one that none does: a usual one if there
// is one left. HEAD is there where GET is.
func (c *comparison) kindsOfMethods() []string {
	named := map[string]bool{}
	for i := range c.patterns {
		if m := c.patterns[i].Method(); m != "" {
			named[m] = true
			named["HEAD"] = named["HEAD"] || m == "GET"
		}
	}
	other := "PURGE"
	if i := slices.IndexFunc(usualMethods, func(m string) bool { return !named[m] && m != "HEAD" }); i >= 0 {
		other = usualMethods[i]
	}
	for named[other] {
		other += "X"
	}
	named[other] = true
	var methods []string
	for _, m := range usualMethods {
		if named[m] {
			methods = append(methods, m)
			delete(named, m)
		}
	}
	rest := make([]string, 0, len(named))
	for m := range named {
		rest = append(rest, m)
	}
	sort.Strings(rest)
	return append(methods, rest...)
}
