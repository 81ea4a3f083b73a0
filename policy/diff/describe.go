package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// describe is a requirement as a text; equal texts ask the same of equal patterns.
func describe(q *policy.Requirement) string {
	var b strings.Builder
	templates := func(name string, list []policy.Template) {
		if list == nil {
			return
		}
		var texts []string
		for i := range list {
			texts = append(texts, list[i].String())
		}
		slices.Sort(texts)
		fmt.Fprintf(&b, "%s%q ", name, slices.Compact(texts))
	}
	names := func(name string, list []string) {
		if list == nil {
			return
		}
		sorted := slices.Clone(list)
		slices.Sort(sorted)
		fmt.Fprintf(&b, "%s%q ", name, slices.Compact(sorted))
	}
	sets := func(name string, s *policy.Sets) {
		if s != nil {
			b.WriteString(name)
			names("any", s.Any)
			names("all", s.All)
			names("none", s.None)
		}
	}
	if q.Authenticated != nil {
		b.WriteString("authenticated ")
	}
	if q.Authenticators != nil {
		names("authenticators", q.Authenticators.Values)
	}
	if q.Realms != nil {
		names("realms", q.Realms.Values)
	}
	for _, t := range []struct {
		name      string
		templates *policy.Templates
	}{{"subjects", q.Subjects}, {"usernames", q.Usernames}, {"tenant", q.Tenant}, {"readable", q.ReadableTenant}, {"owner", q.Owner}} {
		if t.templates != nil {
			templates(t.name, t.templates.Values)
		}
	}
	sets("roles ", q.Roles)
	sets("scopes ", q.Scopes)
	for i := range q.Attributes {
		a := &q.Attributes[i]
		fmt.Fprintf(&b, "attribute %q %t ", a.Name, a.Present)
		templates("any", a.Any)
		templates("all", a.All)
		templates("none", a.None)
	}
	if q.When != nil && q.When.Condition != nil {
		fmt.Fprintf(&b, "when %q", q.When.Condition.String())
	}
	return b.String()
}
