package policy

import "strings"

// witness is a request of the given number of segments that p matches, and that no
// pattern matches which is not wider than p where p is vague: its segments there, its
// host under a wildcard and its method are in no pattern.
func (b *builder) witness(p *Pattern, length int) Request {
	return Request{Method: b.methodOf(p), Host: b.hostOf(p), Path: b.pathOf(p, length)}
}

// pathOf is a path of p with a fresh segment wherever any segment would do.
func (b *builder) pathOf(p *Pattern, length int) string {
	if length == 0 {
		return "/"
	}
	var path strings.Builder
	for i := range length {
		text := b.freshSegment()
		if i < len(p.segments) && !p.segments[i].wild {
			text = p.segments[i].text
		}
		path.WriteString("/" + text)
	}
	return path.String()
}

// freshSegment is a text that is no literal of any pattern: x, or more of them.
func (b *builder) freshSegment() string {
	if b.fresh != "" {
		return b.fresh
	}
	longest := 0
	for i := range b.table.patterns {
		for _, s := range b.table.patterns[i].segments {
			if !s.wild && len(s.text) > longest && strings.Trim(s.text, "x") == "" {
				longest = len(s.text)
			}
		}
	}
	b.fresh = strings.Repeat("x", longest+1)
	return b.fresh
}

// hostOf is a host that p matches and, if there is a choice, no narrower host does.
// For patterns of any host it is none.
func (b *builder) hostOf(p *Pattern) string {
	if !p.wildHost {
		return p.host
	}
	label := "x"
	for b.isHostOfTable(label + "." + p.host) {
		label += "x"
	}
	return label + "." + p.host
}

func (b *builder) isHostOfTable(host string) bool {
	for _, f := range []*forest{&b.enforced, &b.shadows} {
		if f.exact[host] != nil || f.wildcard[host] != nil {
			return true
		}
	}
	return b.table.enforced.hasHost(host) || b.table.shadows.hasHost(host)
}

// methodOf is the method that p names, else the first usual one: a reader should
// not wonder about it.
func (b *builder) methodOf(p *Pattern) string {
	if p.method != "" {
		return p.method
	}
	return "GET"
}
