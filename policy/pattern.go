package policy

import (
	"fmt"
	"slices"
	"strings"
)

// A Pattern is one method, host and path pattern: `GET example.com/orders/{id}`.
// Only [ParsePattern] makes one; the zero Pattern matches nothing.
//
// Every path is read as if it ended in one slash. So a pattern is a number of
// segments, and then either the end of the path or (subtree) anything.
type Pattern struct {
	At Position

	text     string
	method   string // "": any
	host     string // "": any; else canonical, without the `*.` of a wildcard
	wildHost bool   // matches what ends in "." + host
	segments []segment
	subtree  bool
	rest     string // the name of what follows the segments: `{rest...}`; "" if none
	literals uint64 // depths of literal segments, see depthBit
}

// A segment is a literal or, with text as its name, a wildcard.
type segment struct {
	text string
	wild bool
}

// depthBit is the place of a depth in a 64-bit set; the last bit stands for all the
// depths beyond.
func depthBit(depth int) uint64 { return 1 << min(depth, 63) }

// ParsePattern reads `[METHOD[,METHOD…] ][HOST]/[PATH]` as [PathOptions.ParsePattern]
// does with strict paths.
func ParsePattern(text string) ([]Pattern, error) { return PathOptions{}.ParsePattern(text) }

// ParsePattern reads `[METHOD[,METHOD…] ][HOST]/[PATH]`: the syntax of net/http's
// ServeMux, with several methods (one Pattern each, in order) and `*.` hosts. Literal
// segments go through the canonicalisation of requests. Errors are [*SyntaxError].
func (o PathOptions) ParsePattern(text string) ([]Pattern, error) {
	methods := []string{""}
	rest, offset := text, 0
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		var err error
		if methods, err = parseMethods(text[:i]); err != nil {
			return nil, err
		}
		rest = strings.TrimLeft(text[i:], " \t")
		offset = len(text) - len(rest)
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return nil, patternError(offset, "the pattern has no path", `write "METHOD host/path", of which only the path is required: "/"`)
	}
	var p Pattern
	if err := p.parseHost(rest[:slash], offset); err != nil {
		return nil, err
	}
	if err := p.parsePath(rest[slash:], offset+slash, o); err != nil {
		return nil, err
	}
	patterns := make([]Pattern, len(methods))
	for i, m := range methods {
		p.method = m
		p.text = p.print(m)
		if i == 0 {
			p.pointInto(p.text, make([]segment, len(p.segments)))
		}
		p.method = p.text[:len(m)]
		patterns[i] = p
	}
	return patterns, nil
}

// pointInto makes the parts of p pieces of text, which is what p prints as, instead of
// pieces of whatever p was parsed from, which then need not be kept. segments is room for
// those of p.
func (p *Pattern) pointInto(text string, segments []segment) {
	at := 0
	piece := func(part string) string {
		at += strings.Index(text[at:], part)
		at += len(part)
		return text[at-len(part) : at]
	}
	p.method = piece(p.method)
	if p.host != "" {
		p.host = piece(p.host)
	}
	for i, s := range p.segments {
		piece("/")
		segments[i] = segment{piece(s.text), s.wild}
	}
	p.segments = segments
	if p.rest != "" {
		p.rest = piece(p.rest)
	}
}

func patternError(offset int, message, remedy string) error {
	return &SyntaxError{Offset: offset, Message: message, Remedy: remedy}
}

func parseMethods(text string) ([]string, error) {
	var methods []string
	offset := 0
	for m := range strings.SplitSeq(text, ",") {
		switch {
		case m == "":
			return nil, patternError(offset, "a method is missing", `write methods with single commas and no spaces: "GET,HEAD /path"`)
		case !isToken(m):
			if strings.Contains(m, "/") {
				return nil, patternError(offset+strings.IndexByte(m, '/'), "the path has a space", "write %20")
			}
			return nil, patternError(offset, fmt.Sprintf("%q is not a method", m), `write it as in "GET /path"`)
		case slices.Contains(methods, m):
			return nil, patternError(offset, fmt.Sprintf("the method %s is repeated", m), "remove one")
		case m != strings.ToUpper(m) && slices.Contains(usualMethods, strings.ToUpper(m)):
			return nil, patternError(offset, fmt.Sprintf("the method %q matches nothing: methods are case-sensitive", m), "write "+strings.ToUpper(m))
		}
		methods = append(methods, m)
		offset += len(m) + 1
	}
	return methods, nil
}

// usualMethods are those that people write, in the order in which witnesses use them.
var usualMethods = []string{"POST", "PUT", "DELETE", "PATCH", "GET", "HEAD", "OPTIONS", "CONNECT", "TRACE"}

func (p *Pattern) parseHost(host string, offset int) error {
	name, wild := strings.CutPrefix(host, "*.")
	if wild {
		offset += len("*.")
	}
	switch canonical, ok := canonicalHost(name); {
	case strings.Contains(name, "*"):
		return patternError(offset+strings.IndexByte(name, '*'), "a host has no other wildcard than a leading `*.`", `write "*.example.com", or leave the host out to match every host`)
	case !ok || wild && (name == "" || name[0] == '['):
		return patternError(offset, fmt.Sprintf("%q is not a host", host), `write it as in "example.com/path" or "*.example.com/path"`)
	case !strings.HasPrefix(name, "[") && strings.Contains(name, ":") || strings.Contains(name, "]:"):
		return patternError(offset+strings.LastIndexByte(name, ':'), "ports are not compared", "write the host without its port")
	default:
		p.host, p.wildHost = canonical, wild
	}
	return nil
}

func (p *Pattern) parsePath(path string, offset int, opts PathOptions) error {
	if path == "/" {
		p.subtree = true
		return nil
	}
	text := path[1:]
	offset++
	if strings.HasSuffix(text, "/") {
		p.subtree = true
		text = text[:len(text)-1]
	}
	for {
		written, rest, more := strings.Cut(text, "/")
		if written == "" || written[0] != '{' {
			if err := p.addLiteral(written, offset, opts); err != nil {
				return err
			}
		} else if err := p.addWildcard(written, offset, !more && !p.subtree); err != nil {
			return err
		}
		if !more {
			return nil
		}
		offset += len(written) + 1
		text = rest
	}
}

func (p *Pattern) addLiteral(written string, offset int, opts PathOptions) error {
	if i := strings.IndexAny(written, "{}"); i >= 0 {
		return patternError(offset+i, "a wildcard is a whole segment", "write {name} between slashes, or %7B and %7D for literal braces")
	}
	canonical, f := canonicalSegment(written, opts)
	if f.what != "" {
		return patternError(offset+f.at, "the path "+f.what, "")
	}
	p.literals |= depthBit(len(p.segments))
	p.segments = append(p.segments, segment{text: canonical})
	return nil
}

// addWildcard adds `{name}`, `{name...}` or `{$}`.
func (p *Pattern) addWildcard(written string, offset int, last bool) error {
	name, closed := strings.CutSuffix(written[1:], "}")
	if !closed || strings.ContainsAny(name, "{}") {
		return patternError(offset, "a wildcard is a whole segment", "write {name} between slashes, or %7B and %7D for literal braces")
	}
	if name == "$" {
		if !last {
			return patternError(offset, "{$} is not at the end", "{$} stands for the end of the path: remove what follows it")
		}
		return nil
	}
	name, multi := strings.CutSuffix(name, "...")
	if !isIdentifier(name) {
		return patternError(offset+1, fmt.Sprintf("%q is not a name of a wildcard", name), "use letters, digits and _, beginning with no digit")
	}
	if p.HasParam(name) {
		return patternError(offset+1, fmt.Sprintf("the wildcard {%s} is there twice", name), "rename one")
	}
	if multi {
		if !last {
			return patternError(offset, fmt.Sprintf("{%s...} is not at the end", name), "it takes all that follows: remove what is written after it")
		}
		p.rest, p.subtree = name, true
		return nil
	}
	p.segments = append(p.segments, segment{text: name, wild: true})
	return nil
}

func isIdentifier(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isLetter(c) && c != '_' && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

// print is the canonical text of p with another method.
func (p *Pattern) print(method string) string {
	var b strings.Builder
	if method != "" {
		b.WriteString(method + " ")
	}
	b.WriteString(p.HostText())
	for _, s := range p.segments {
		if s.wild {
			b.WriteString("/{" + s.text + "}")
		} else {
			b.WriteString("/" + s.text)
		}
	}
	switch {
	case p.rest != "":
		b.WriteString("/{" + p.rest + "...}")
	case p.subtree:
		b.WriteString("/")
	case len(p.segments) == 0:
		b.WriteString("/{$}")
	}
	return b.String()
}

// String is the pattern in its canonical form; parsing it gives an equal pattern.
func (p Pattern) String() string { return p.text }

// Method is the method that p matches, or "" for any.
func (p *Pattern) Method() string { return p.method }

// HostText is the host as it is written, with `*.` if it is a wildcard; "" for any.
func (p *Pattern) HostText() string {
	if p.wildHost {
		return "*." + p.host
	}
	return p.host
}

// HostIsLiteral reports whether p matches exactly one host.
func (p *Pattern) HostIsLiteral() bool { return p.host != "" && !p.wildHost }

// Params are the names of p's wildcards, from left to right.
func (p *Pattern) Params() []string {
	var names []string
	for _, s := range p.segments {
		if s.wild {
			names = append(names, s.text)
		}
	}
	if p.rest != "" {
		names = append(names, p.rest)
	}
	return names
}

// HasParam reports whether p has a wildcard called name.
func (p *Pattern) HasParam(name string) bool {
	for _, s := range p.segments {
		if s.wild && s.text == name {
			return true
		}
	}
	return name != "" && p.rest == name
}

// param finds the escaped text of the wildcard called name in a path that p matches.
func (p *Pattern) param(path, name string) (string, bool) {
	remaining := path
	if remaining == "/" {
		remaining = ""
	}
	for _, s := range p.segments {
		var text string
		text, remaining = nextSegment(remaining)
		if s.wild && s.text == name {
			return text, text != ""
		}
	}
	if p.rest == "" || p.rest != name {
		return "", false
	}
	return strings.TrimPrefix(remaining, "/"), true
}

// nextSegment splits "/a/b/c" into "a" and "/b/c".
func nextSegment(path string) (segment, rest string) {
	if path == "" {
		return "", ""
	}
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}

// Matches reports whether p matches r. It is the plain definition: a [Table] finds
// the one that wins, and says the same.
func (p *Pattern) Matches(r *Request) bool {
	return p.text != "" && p.matchesMethod(r.Method) && p.matchesHost(r.Host) && p.matchesPath(r.Path)
}

func (p *Pattern) matchesMethod(method string) bool {
	return p.method == "" || p.method == method || p.method == "GET" && method == "HEAD"
}

func (p *Pattern) matchesHost(host string) bool {
	if p.wildHost {
		prefix, ok := strings.CutSuffix(host, p.host)
		return ok && len(prefix) > 1 && prefix[len(prefix)-1] == '.'
	}
	return p.host == "" || p.host == host
}

func (p *Pattern) matchesPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	if path == "/" {
		path = ""
	}
	for _, s := range p.segments {
		var text string
		text, path = nextSegment(path)
		if text == "" || !s.wild && s.text != text {
			return false
		}
	}
	return path == "" || p.subtree
}
