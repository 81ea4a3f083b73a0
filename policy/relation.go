package policy

// A relation is how the requests that one pattern matches lie to those of another.
type relation uint8

const (
	disjoint    relation = iota // no request is matched by both
	equal                       // the same requests
	narrower                    // the first matches some of the second's
	wider                       // the first matches all of the second's, and more
	overlapping                 // some in common, and each has its own
)

// and is the relation of two patterns whose parts relate as a and b.
func (a relation) and(b relation) relation {
	switch {
	case a == disjoint || b == disjoint:
		return disjoint
	case a == equal || a == b:
		return b
	case b == equal:
		return a
	}
	return overlapping
}

// compare is which of p and q wins a request that both match: by host and, between
// equal hosts, by method and path.
func (p *Pattern) compare(q *Pattern) relation {
	if rel := compareHosts(p, q); rel != equal {
		return rel
	}
	return comparePatterns(p, q)
}

// comparePatterns relates methods and paths. Hosts are left aside: between different
// hosts the narrower wins before methods and paths are looked at.
func comparePatterns(p, q *Pattern) relation {
	return compareMethods(p.method, q.method).and(comparePaths(p, q))
}

func compareMethods(p, q string) relation {
	switch {
	case p == q:
		return equal
	case p == "", p == "GET" && q == "HEAD":
		return wider
	case q == "", q == "GET" && p == "HEAD":
		return narrower
	}
	return disjoint
}

// comparePaths relates two paths segment by segment, as net/http.ServeMux does. It
// compares sets of requests exactly, since any segment can hold a text that no
// pattern mentions.
func comparePaths(p, q *Pattern) relation {
	rel := equal
	for i := 0; i < len(p.segments) && i < len(q.segments); i++ {
		a, b := p.segments[i], q.segments[i]
		switch {
		case a.wild && !b.wild:
			rel = rel.and(wider)
		case !a.wild && b.wild:
			rel = rel.and(narrower)
		case !a.wild && a.text != b.text:
			return disjoint
		}
	}
	switch {
	case len(p.segments) > len(q.segments) && !q.subtree,
		len(p.segments) < len(q.segments) && !p.subtree:
		return disjoint
	case len(p.segments) > len(q.segments), q.subtree && !p.subtree:
		return rel.and(narrower)
	case len(p.segments) < len(q.segments), p.subtree && !q.subtree:
		return rel.and(wider)
	}
	return rel
}

// compareHosts relates the hosts that two patterns match.
func compareHosts(p, q *Pattern) relation {
	switch {
	case p.host == q.host && p.wildHost == q.wildHost:
		return equal
	case p.host == "":
		return wider
	case q.host == "":
		return narrower
	case p.wildHost && p.matchesHost(q.host):
		return wider
	case q.wildHost && q.matchesHost(p.host):
		return narrower
	}
	return disjoint
}

// meet is the pattern of exactly those requests that p and q, of one host, both match.
func meet(p, q *Pattern) Pattern {
	m := Pattern{host: p.host, wildHost: p.wildHost, method: p.method, subtree: p.subtree && q.subtree}
	if compareMethods(q.method, p.method) == narrower {
		m.method = q.method
	}
	long, short := p, q
	if len(q.segments) > len(p.segments) {
		long, short = q, p
	}
	m.segments = make([]segment, len(long.segments))
	copy(m.segments, long.segments)
	for i, s := range short.segments {
		if !s.wild {
			m.segments[i] = s
		}
	}
	for i, s := range m.segments {
		if !s.wild {
			m.literals |= depthBit(i)
		}
	}
	m.text = m.print(m.method)
	return m
}
