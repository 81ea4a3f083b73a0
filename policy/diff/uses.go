package diff

import (
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A use is a template of a region that refers to the request, with the texts of each
// reference for which it comes to something that other templates or principals have.
type use struct {
	topic
	template *policy.Template
	match    policy.Match
	texts    map[string][]string
}

// A topic is what the value of a template is compared with.
type topic struct {
	kind      kind
	attribute string // of byAttribute
	header    string // not "": a header of this name
}

// A mention is a template of a route with its topic.
type mention struct {
	topic
	template *policy.Template
}

// mentions are the templates of requirements.
func mentions(requirements []policy.Requirement) []mention {
	var list []mention
	add := func(k kind, attribute string, templates []policy.Template) {
		for i := range templates {
			list = append(list, mention{topic{kind: k, attribute: attribute}, &templates[i]})
		}
	}
	for i := range requirements {
		q := &requirements[i]
		for _, f := range []struct {
			kind      kind
			templates *policy.Templates
		}{{bySubject, q.Subjects}, {byUsername, q.Usernames}, {byUsername, q.Owner}, {byTenant, q.Tenant}, {byTenant, q.ReadableTenant}} {
			if f.templates != nil {
				add(f.kind, "", f.templates.Values)
			}
		}
		for j := range q.Attributes {
			a := &q.Attributes[j]
			add(byAttribute, a.Name, a.Any)
			add(byAttribute, a.Name, a.All)
			add(byAttribute, a.Name, a.None)
		}
	}
	return list
}

// uses are the templates of a region's routes that refer to the request.
func (c *comparison) uses(r *region) []use {
	var uses []use
	values := map[topic][]string{}
	note := func(t topic, texts ...string) {
		for _, text := range texts {
			if text != "" && !slices.Contains(values[t], text) {
				values[t] = append(values[t], text)
			}
		}
	}
	take := func(list []mention, m policy.Match) {
		for _, one := range list {
			if text, literal := one.template.Literal(); literal {
				note(one.topic, text)
			} else if one.template.Uses(policy.RefPath | policy.RefContext | policy.RefQuery) {
				if text, ok := one.template.Eval(&r.request, m, nil); ok { // a literal of another pattern, say
					note(one.topic, text)
				}
				uses = append(uses, use{topic: one.topic, template: one.template, match: m})
			}
		}
	}
	for _, m := range []policy.Match{r.old.Match, r.new.Match} {
		if m.Route != nil {
			take(mentions(m.Route.Allow), m)
		}
	}
	c.headerMentions(r, take)
	if len(uses) == 0 {
		return nil
	}
	for _, side := range []*Side{&c.old, &c.new} {
		for _, g := range side.Grants.List() {
			take(mentions(g.When), policy.Match{})
			for name, a := range g.Attributes {
				note(topic{kind: byAttribute, attribute: name}, a.Values...)
			}
		}
		for i := range side.Authenticators {
			for j := range side.Authenticators[i].Makes {
				m := &side.Authenticators[i].Makes[j]
				note(topic{kind: bySubject}, m.Subject.Values...)
				note(topic{kind: byUsername}, m.Username.Values...)
				note(topic{kind: byTenant}, m.Tenant.Values...)
				for name, l := range m.Attributes {
					note(topic{kind: byAttribute, attribute: name}, slices.Concat(l.All, l.Of, l.Default)...)
				}
			}
		}
	}
	uses = slices.DeleteFunc(uses, func(u use) bool { return u.match.Route == nil }) // grants have no request
	for i := range uses {
		u := &uses[i]
		u.texts = map[string][]string{}
		for _, value := range c.related(u.topic, append(values[u.topic], c.meeting(uses, u.topic)...)) {
			u.solve(value)
		}
	}
	return uses
}

// headerMentions are the templates of headers that are not made in one way on both sides.
func (c *comparison) headerMentions(r *region, take func([]mention, policy.Match)) {
	old, new := r.old.Match, r.new.Match
	if c.old.Forwarded == nil || c.new.Forwarded == nil || r.request.TCP || old.Route == nil || new.Route == nil {
		return
	}
	before, after := c.old.Forwarded(old.Route), c.new.Forwarded(new.Route)
	onePattern := old.Pattern != nil && new.Pattern != nil && old.Pattern.String() == new.Pattern.String()
	for name, v := range before {
		if w, both := after[name]; v.Template != nil && (!both || v.Text != w.Text || v.JSON != w.JSON || !onePattern) {
			take([]mention{{topic{header: name}, v.Template}}, old)
		}
	}
	for name, w := range after {
		if v, both := before[name]; w.Template != nil && (!both || v.Text != w.Text || v.JSON != w.JSON || !onePattern) {
			take([]mention{{topic{header: name}, w.Template}}, new)
		}
	}
}

// related adds to the values of a topic those that it makes a difference to: of tenants, what
// they read and who reads them.
func (c *comparison) related(t topic, values []string) []string {
	if t.kind != byTenant || t.header != "" {
		return values
	}
	list := slices.Clone(values)
	for _, side := range []*Side{&c.old, &c.new} {
		if side.Tenancy == nil {
			continue
		}
		list = append(list, side.Tenancy.Default)
		if separator := side.Tenancy.Separator; separator != "" {
			for _, v := range append([]string{c.fresh}, values...) {
				list = append(list, v+separator+c.fresh)
				for i := range v {
					if strings.HasPrefix(v[i:], separator) {
						list = append(list, v[:i])
					}
				}
			}
		}
	}
	return list
}

// meeting are values that several templates of a topic can come to at once: one begins as
// each of them may, and ends so.
func (c *comparison) meeting(uses []use, t topic) []string {
	var prefixes, suffixes []string
	for i := range uses {
		if uses[i].topic == t {
			prefix, suffix := around(uses[i].template)
			prefixes, suffixes = append(prefixes, prefix), append(suffixes, suffix)
		}
	}
	var list []string
	for _, prefix := range prefixes {
		for _, suffix := range suffixes {
			for _, middle := range []string{c.fresh, c.fresh + "y"} {
				if value := prefix + middle + suffix; !slices.Contains(list, value) {
					list = append(list, value)
				}
			}
		}
	}
	return list
}

// around is the literal text before the first reference of a template, and after the last.
func around(t *policy.Template) (before, after string) {
	parts := taken(t.String())
	return parts[0], parts[len(parts)-1]
}

// taken is a template taken apart: literal texts, and references between them.
func taken(text string) []string {
	parts := []string{""}
	for i := 0; i < len(text); i++ {
		last := &parts[len(parts)-1]
		switch c := text[i]; {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			*last += string(c)
			i++
		case c == '{':
			end := i + strings.IndexByte(text[i:], '}')
			parts = append(parts, text[i+1:end], "")
			i = end
		default:
			*last += string(c)
		}
	}
	return parts
}

// solve notes the texts of references for which the template comes to value.
func (u *use) solve(value string) {
	u.solveParts(taken(u.template.String()), value)
}

// maxSplits bounds in how many ways a value is split over several references.
const maxSplits = 64

func (u *use) solveParts(parts []string, value string) {
	rest, ok := strings.CutPrefix(value, parts[0])
	if !ok || len(parts) == 1 {
		return
	}
	note := func(text string) {
		if text != "" && !slices.Contains(u.texts[parts[1]], text) {
			u.texts[parts[1]] = append(u.texts[parts[1]], text)
		}
	}
	if len(parts) == 3 {
		if text, ok := strings.CutSuffix(rest, parts[2]); ok {
			note(text)
		}
		return
	}
	for i := 1; i <= min(len(rest), maxSplits); i++ {
		if strings.HasPrefix(rest[i:], parts[2]) {
			note(rest[:i])
			u.solveParts(parts[2:], rest[i:])
		}
	}
}
