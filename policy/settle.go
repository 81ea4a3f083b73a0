package policy

import "strings"

// Settle makes t as small as it gets, for a process that only decides; it comes before the
// table is used. Decisions stay the same.
//
// The requirements of all routes as they were written are let go: Route.Allow is empty
// from now on, and whoever reads routes, to compare tables say, finds nothing there. What
// is left of the routes moves together: while a file is read, small pieces that stay are
// made among many more that do not, and would keep the memory between them from being
// given back.
func (t *Table) Settle() {
	if t == nil {
		return
	}
	var p packer
	for i := range t.entries {
		p.count(t.entries[i].route)
	}
	p.make()
	t.names = make(map[string]*entry, len(t.names))
	next := 0
	for i := range t.entries {
		e := &t.entries[i]
		e.route.Allow = nil
		p.pack(e.route)
		if e.route.Name != "" {
			t.names[e.route.Name] = e
		}
		for j := range e.route.Patterns {
			t.patterns[next].Pattern = &e.route.Patterns[j]
			next++
		}
	}
}

// A packer moves routes into memory that it takes at once.
type packer struct {
	patterns []Pattern
	segments []segment
	text     strings.Builder
	sizes    struct{ patterns, segments, text int }
}

// count makes room for r.
func (p *packer) count(r *Route) {
	if !sharesText(r) {
		p.sizes.text += len(r.Name)
	}
	p.sizes.patterns += len(r.Patterns)
	for i := range r.Patterns {
		p.sizes.text += len(r.Patterns[i].text)
		if !sharesSegments(r, i) {
			p.sizes.segments += len(r.Patterns[i].segments)
		}
	}
}

func (p *packer) make() {
	p.patterns = make([]Pattern, 0, p.sizes.patterns)
	p.segments = make([]segment, 0, p.sizes.segments)
	p.text.Grow(p.sizes.text)
}

// pack moves the name and the patterns of r.
func (p *packer) pack(r *Route) {
	shared := sharesText(r)
	first := len(p.patterns)
	for i := range r.Patterns {
		moved := r.Patterns[i]
		moved.text = p.put(moved.text)
		if sharesSegments(r, i) {
			moved.segments = nil
		}
		at := len(p.segments)
		p.segments = p.segments[:at+len(moved.segments)]
		moved.pointInto(moved.text, p.segments[at:len(p.segments):len(p.segments)])
		if sharesSegments(r, i) {
			moved.segments = p.patterns[len(p.patterns)-1].segments
		}
		p.patterns = append(p.patterns, moved)
	}
	r.Patterns = p.patterns[first:len(p.patterns):len(p.patterns)]
	if shared {
		r.Name = r.Patterns[0].text
	} else {
		r.Name = p.put(r.Name)
	}
}

// put gives a copy of s that is a piece of the text of all routes.
func (p *packer) put(s string) string {
	at := p.text.Len()
	p.text.WriteString(s)
	return p.text.String()[at:]
}

// sharesText reports whether r is named by its first pattern.
func sharesText(r *Route) bool { return len(r.Patterns) > 0 && r.Patterns[0].text == r.Name }

// sharesSegments reports whether the i-th pattern of r has the segments of the one before:
// one text was written for several methods.
func sharesSegments(r *Route, i int) bool {
	if i == 0 {
		return false
	}
	a, b := r.Patterns[i-1].segments, r.Patterns[i].segments
	return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0]
}
