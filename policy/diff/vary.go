package diff

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxVariations bounds the requests that are tried for one region. Where there are more, and
// none of these changes its answer, the region is [Undecided].
const maxVariations = 4096

// maxRest bounds how many texts of the rest of a path are tried, from one segment to more than
// any pattern has.
const maxRest = 32

// A blank is a part of a region's requests whose text the routes refer to.
type blank struct {
	segment int    // its index in the path
	rest    bool   // it is what follows from there on
	context string // or the context extension of this name
	query   string // or the query parameter of this name
	header  string // or the header of this name
	method  bool   // or the method
	texts   []string
}

func (b *blank) isSame(other *blank) bool {
	return b.segment == other.segment && b.rest == other.rest && b.context == other.context && b.query == other.query &&
		b.header == other.header && b.method == other.method
}

func (b *blank) add(texts ...string) {
	for _, text := range texts {
		if !slices.Contains(b.texts, text) {
			b.texts = append(b.texts, text)
		}
	}
}

// variations are the requests of a region that can differ in what the routes make of them,
// the plain one first: what they refer to is absent where it can be, is a text that makes
// two things equal, or is one that nobody names, and different from others of these.
func (c *comparison) variations(r *region) (requests iter.Seq[policy.Request], all bool) {
	blanks := c.blanks(r)
	number := 1
	for i := range blanks {
		number = min(number*len(blanks[i].texts), maxVariations+1)
	}
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
	}, number <= maxVariations
}

// fill is the request with the chosen texts.
func fill(r *region, blanks []blank, chosen []int) policy.Request {
	request := r.request
	path := slices.Clone(r.segments)
	var query []string
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
		case b.query != "":
			if text != "" {
				query = append(query, percent(b.query)+"="+percent(text))
			}
		case b.rest:
			path = path[:min(b.segment, len(path))]
			if escaped, ok := escape(text); ok {
				path = append(path, strings.Split(escaped, "/")...)
			}
		case b.segment < len(path):
			if escaped, ok := escape(text); ok && !strings.Contains(escaped, "/") {
				path[b.segment] = escaped
			}
		}
	}
	if !request.TCP {
		request.Path = "/" + strings.Join(path, "/")
		request.Query = strings.Join(query, "&")
	}
	return request
}

// blanks finds what both routes refer to, and the texts of it that matter.
func (c *comparison) blanks(r *region) []blank {
	var list []blank
	at := func(b blank) *blank {
		for i := range list {
			if list[i].isSame(&b) {
				return &list[i]
			}
		}
		list = append(list, b)
		return &list[len(list)-1]
	}
	uses := c.uses(r)
	for i := range uses {
		u := &uses[i]
		for _, name := range u.template.Names(policy.RefPath) {
			if b, ok := c.place(r, u.match, name); ok {
				at(b).add(u.texts["path."+name]...)
			}
		}
		for _, name := range u.template.Names(policy.RefContext) {
			if name != policy.RouteName {
				b := at(blank{context: name, segment: -1})
				b.add("", c.fresh, c.fresh+"y")
				b.add(u.texts["context."+name]...)
			}
		}
		for _, name := range u.template.Names(policy.RefQuery) {
			b := at(blank{query: name, segment: -1})
			b.add("", c.fresh, c.fresh+"y")
			b.add(u.texts["query."+name]...)
		}
	}
	said := sayings(r)
	for _, name := range said.contexts {
		if name != policy.RouteName {
			b := at(blank{context: name, segment: -1})
			b.add("", c.fresh, c.fresh+"y")
			b.add(said.texts...)
		}
	}
	for _, name := range said.headers {
		at(blank{header: name, segment: -1}).add(append([]string{"", c.fresh}, said.texts...)...)
	}
	if said.methods {
		b := at(blank{method: true, segment: -1})
		b.add(r.request.Method)
		b.add(c.methods...)
		b.add(usualMethods...)
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
	for _, m := range []policy.Match{r.old.Match, r.new.Match} {
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
func (c *comparison) place(r *region, m policy.Match, name string) (blank, bool) {
	if m.Pattern == nil {
		return blank{}, false
	}
	p := takeApart(m.Pattern)
	text := m.Pattern.String()
	path := strings.Split(strings.TrimPrefix(text[strings.IndexByte(text, '/'):], "/"), "/")
	for i, segment := range path {
		switch segment {
		case "{" + name + "}":
			b := blank{segment: i}
			if i < len(r.segments) {
				b.add(unescaped(r.segments[i])) // it may be another pattern's literal, or ours of the other side
			}
			b.add(c.fresh, c.fresh+"y")
			return b, true
		case "{" + name + "...}":
			b := blank{segment: len(p.segments), rest: true}
			if len(r.segments) > len(p.segments) {
				b.add(unescaped(strings.Join(r.segments[len(p.segments):], "/")))
			}
			b.add("")
			for path := c.fresh; len(b.texts) < maxRest; path = c.fresh + "/" + path {
				b.add(path, path+"y")
				if strings.Count(path, "/")+len(p.segments) > c.longest {
					break
				}
			}
			return b, true
		}
	}
	return blank{}, false
}

// unescaped is the text of a canonical path.
func unescaped(path string) string {
	r := policy.Request{Path: path}
	return r.DecodedPath()
}

// escape is the path whose decoded text is v, without its first slash; not every text is
// one.
func escape(v string) (string, bool) {
	escaped := strings.ReplaceAll(percent(v), "%2F", "/")
	r, _, ok := policy.ParseRequest("GET", defaultHost, "/"+escaped, policy.PathOptions{AllowSemicolons: true})
	if !ok || v == "" || strings.HasSuffix(v, "/") {
		return "", false
	}
	return strings.TrimPrefix(r.Path, "/"), true
}

// percent is a text as a part of a URL.
func percent(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if c := text[i]; c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
