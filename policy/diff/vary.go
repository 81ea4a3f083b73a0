package diff

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxVariations bounds the requests that are tried for one region.
const maxVariations = 4096

// A blank is a part of a region's requests whose text requirements refer to.
type blank struct {
	segment int    // its index in the path
	rest    bool   // it is what follows from there on
	context string // or the context extension of this name
	header  string // or the header of this name
	method  bool   // or the method
	texts   []string
}

// variations are the requests of a region that can differ in what requirements make of
// them, the plain one first: what they refer to is absent where it can be, is a text that
// they name, or is one that nobody names, and different from others of these.
func (c *comparison) variations(r *region) iter.Seq[policy.Request] {
	blanks := c.blanks(r)
	return func(yield func(policy.Request) bool) {
		chosen := make([]int, len(blanks))
		for range maxVariations {
			if !yield(fill(r, blanks, chosen)) {
				return
			}
			i := 0
			for ; i < len(blanks); i++ {
				if chosen[i]++; chosen[i] < len(blanks[i].texts) {
					break
				}
				chosen[i] = 0
			}
			if i == len(blanks) {
				return
			}
		}
	}
}

// fill is the request with the chosen texts.
func fill(r *region, blanks []blank, chosen []int) policy.Request {
	request := r.request
	path := slices.Clone(r.segments)
	for i := range blanks {
		b, text := &blanks[i], blanks[i].texts[chosen[i]]
		switch {
		case b.method:
			request.Method = text
		case b.header != "":
			if text != "" {
				request.Headers = append(slices.Clone(request.Headers), policy.Pair{Name: b.header, Value: text})
			}
		case b.context != "":
			if text != "" {
				request.Context = append(slices.Clone(request.Context), policy.Pair{Name: b.context, Value: text})
			}
		case b.rest:
			path = path[:min(b.segment, len(path))]
			if text != "" {
				path = append(path, strings.Split(text, "/")...)
			}
		case b.segment < len(path):
			path[b.segment] = text
		}
	}
	if !request.TCP {
		request.Path = "/" + strings.Join(path, "/")
	}
	return request
}

// blanks finds what the requirements of both routes refer to.
func (c *comparison) blanks(r *region) []blank {
	var named []string // texts that conditions compare with
	type reference struct {
		name string
		m    *policy.Match
	}
	for _, side := range []*Side{&c.old, &c.new} {
		if t := side.Tenancy; t != nil && t.Default != "" && !slices.Contains(named, t.Default) {
			named = append(named, t.Default) // whose tenant is the wildcard has it
		}
	}
	var paths []reference
	var contexts []string
	for _, m := range []*policy.Match{&r.old, &r.new} {
		if m.Route == nil {
			continue
		}
		for _, t := range templates(m.Route) {
			if text, literal := t.Literal(); literal && !slices.Contains(named, text) {
				named = append(named, text)
			}
			for _, name := range t.Names(policy.RefPath) {
				paths = append(paths, reference{name, m})
			}
			for _, name := range t.Names(policy.RefContext) {
				if name != policy.RouteName && !slices.Contains(contexts, name) {
					contexts = append(contexts, name)
				}
			}
		}
	}
	var list []blank
	for _, ref := range paths {
		if b, ok := c.place(r, ref.m, ref.name, named); ok && !slices.ContainsFunc(list, func(known blank) bool { return known.segment == b.segment && known.rest == b.rest }) {
			list = append(list, b)
		}
	}
	said := sayings(r)
	for _, name := range said.contexts {
		if name != policy.RouteName && !slices.Contains(contexts, name) {
			contexts = append(contexts, name)
		}
	}
	for _, name := range contexts {
		texts := append([]string{"", "owner", "owners"}, named...)
		list = append(list, blank{context: name, segment: -1, texts: append(texts, said.texts...)})
	}
	for _, name := range said.headers {
		list = append(list, blank{header: name, segment: -1, texts: append([]string{"", "x"}, said.texts...)})
	}
	if said.methods {
		texts := []string{r.request.Method}
		for _, method := range append(slices.Clone(c.methods), usualMethods...) {
			if !slices.Contains(texts, method) {
				texts = append(texts, method)
			}
		}
		list = append(list, blank{method: true, segment: -1, texts: texts})
	}
	// What is cut is cut before a segment behind it is filled.
	slices.SortStableFunc(list, func(a, b blank) int { return a.segment - b.segment })
	return list
}

// A saying is what the expressions of a region's routes may be about, as far as their text
// shows. What it misses costs a witness that expressions confirm, and nothing else.
type saying struct {
	contexts, headers []string
	texts             []string // that they compare with
	methods           bool
}

var (
	parts  = regexp.MustCompile(`"([^"\\]+)" in request\.(context|headers)|request\.(context|headers)\["([^"\\]+)"\]`)
	quoted = regexp.MustCompile(`"([^"\\]*)"|'([^'\\]*)'`)
)

func sayings(r *region) saying {
	var s saying
	add := func(list *[]string, text string) {
		if text != "" && !slices.Contains(*list, text) {
			*list = append(*list, text)
		}
	}
	for _, m := range []policy.Match{r.old, r.new} {
		if m.Route == nil {
			continue
		}
		for i := range m.Route.Allow {
			e := m.Route.Allow[i].When
			if e == nil || e.Condition == nil {
				continue
			}
			source := e.Condition.String()
			s.methods = s.methods || strings.Contains(source, "request.method") && !r.request.TCP
			for _, found := range parts.FindAllStringSubmatch(source, -1) {
				if found[2]+found[3] == "context" {
					add(&s.contexts, found[1]+found[4])
				} else {
					add(&s.headers, strings.ToLower(found[1]+found[4]))
				}
			}
			for _, found := range quoted.FindAllStringSubmatch(source, -1) {
				add(&s.texts, found[1]+found[2])
			}
		}
	}
	return s
}

// place is where a wildcard of a pattern stands in the region's path.
func (c *comparison) place(r *region, m *policy.Match, name string, named []string) (blank, bool) {
	if m.Pattern == nil {
		return blank{}, false
	}
	p := takeApart(m.Pattern)
	text := m.Pattern.String()
	path := strings.Split(strings.TrimPrefix(text[strings.IndexByte(text, '/'):], "/"), "/")
	for i, segment := range path {
		switch segment {
		case "{" + name + "}":
			b := blank{segment: i, texts: []string{c.fresh, c.fresh + "y"}}
			if i < len(r.segments) && r.segments[i] != c.fresh {
				b.texts[0] = r.segments[i] // another pattern's literal, or ours of the other side
			}
			for _, v := range named {
				if escaped, ok := escape(v); ok && !strings.Contains(escaped, "/") {
					b.texts = append(b.texts, escaped)
				}
			}
			return b, true
		case "{" + name + "...}":
			b := blank{segment: len(p.segments), rest: true, texts: []string{"", c.fresh, c.fresh + "y"}}
			if len(r.segments) > len(p.segments) {
				b.texts[0] = strings.Join(r.segments[len(p.segments):], "/")
				b.texts = append(b.texts, "")
			}
			for _, v := range named {
				if escaped, ok := escape(v); ok {
					b.texts = append(b.texts, escaped)
				}
			}
			return b, true
		}
	}
	return blank{}, false
}

// escape is the path whose decoded text is v, without its first slash; not every text is
// one.
func escape(v string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if c := v[i]; c == '/' || c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	r, _, ok := policy.ParseRequest("GET", defaultHost, "/"+b.String(), policy.PathOptions{AllowSemicolons: true})
	if !ok || v == "" || strings.HasSuffix(v, "/") {
		return "", false
	}
	return strings.TrimPrefix(r.Path, "/"), true
}

// templates are those of a route's requirements.
func templates(r *policy.Route) []*policy.Template {
	var list []*policy.Template
	for i := range r.Allow {
		q := &r.Allow[i]
		for _, t := range []*policy.Templates{q.Subjects, q.Usernames, q.Tenant, q.ReadableTenant, q.Owner} {
			if t != nil {
				for j := range t.Values {
					list = append(list, &t.Values[j])
				}
			}
		}
		for j := range q.Attributes {
			a := &q.Attributes[j]
			for _, values := range [][]policy.Template{a.Any, a.All, a.None} {
				for k := range values {
					list = append(list, &values[k])
				}
			}
		}
	}
	return list
}
