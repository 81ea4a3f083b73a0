package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Refs is a set of kinds of reference that a template may use.
type Refs uint8

const (
	RefPath      Refs = 1 << iota // {path.x}: a wildcard of the route's pattern, decoded
	RefContext                    // {context.x}: one of Envoy's context_extensions
	RefQuery                      // {query.x}: a query parameter, decoded; absent if repeated
	RefHost                       // {host}: the request's host
	RefPrincipal                  // {tenant}, {roles}, {attributes.x}, …: who was verified

	RefsInAllow   = RefPath | RefContext
	RefsInForward = RefPath | RefContext | RefQuery | RefPrincipal
)

// A Template is text that may refer to the request and, where allowed, to the
// principal: `{path.tenant}`. `{{` and `}}` are literal braces. Only [ParseTemplate]
// makes one; the zero Template has no value.
type Template struct {
	At    Position
	text  string
	parts []part
}

type partKind uint8

const (
	partLiteral partKind = iota
	partPath
	partContext
	partQuery
	partHost
	partTenant
	partTenants
	partSubject
	partUsername
	partRealm
	partRoles
	partScopes
	partAttribute
	partAuthenticator
	partIssuer
	partTokenID
)

// A part is literal text or a reference, with its name after the dot if it has one.
type part struct {
	kind partKind
	text string
}

// references are what may stand between braces. A name that ends in a dot is followed
// by another name.
var references = []struct {
	name string
	kind partKind
	refs Refs
}{
	{"path.", partPath, RefPath},
	{"context.", partContext, RefContext},
	{"query.", partQuery, RefQuery},
	{"host", partHost, RefHost},
	{"tenant", partTenant, RefPrincipal},
	{"tenants", partTenants, RefPrincipal},
	{"subject", partSubject, RefPrincipal},
	{"username", partUsername, RefPrincipal},
	{"realm", partRealm, RefPrincipal},
	{"roles", partRoles, RefPrincipal},
	{"scopes", partScopes, RefPrincipal},
	{"attributes.", partAttribute, RefPrincipal},
	{"authenticator", partAuthenticator, RefPrincipal},
	{"issuer", partIssuer, RefPrincipal},
	{"token_id", partTokenID, RefPrincipal},
}

// ParseTemplate reads text, which may refer to what allowed says. Errors are
// [*SyntaxError].
func ParseTemplate(text string, allowed Refs) (Template, error) {
	t := Template{text: text}
	var literal strings.Builder
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i += 2
		case c == '}':
			return Template{}, patternError(i, "a closing brace without an opening one", "write }} for a literal brace")
		case c == '{':
			end := strings.IndexAny(text[i+1:], "{}")
			if end < 0 || text[i+1+end] == '{' {
				return Template{}, patternError(i, "an opening brace without a closing one", "write {{ for a literal brace")
			}
			p, err := parseReference(text[i+1:i+1+end], i+1, allowed)
			if err != nil {
				return Template{}, err
			}
			if literal.Len() > 0 {
				t.parts = append(t.parts, part{partLiteral, literal.String()})
				literal.Reset()
			}
			t.parts = append(t.parts, p)
			i += end + 2
		default:
			literal.WriteByte(c)
			i++
		}
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{partLiteral, literal.String()})
	}
	return t, nil
}

// LiteralTemplate is the template whose value is text, whatever braces it has.
func LiteralTemplate(text string) Template {
	t := Template{text: escapeBraces.Replace(text)}
	if text != "" {
		t.parts = []part{{partLiteral, text}}
	}
	return t
}

var escapeBraces = strings.NewReplacer("{", "{{", "}", "}}")

func parseReference(name string, offset int, allowed Refs) (part, error) {
	var names []string
	for _, ref := range references {
		if allowed&ref.refs != 0 {
			names = append(names, ref.name)
		}
		rest, ok := strings.CutPrefix(name, ref.name)
		qualified := strings.HasSuffix(ref.name, ".")
		switch {
		case !ok || !qualified && rest != "":
			continue
		case allowed&ref.refs == 0:
			return part{}, patternError(offset, fmt.Sprintf("{%s} cannot be used here", name), "allowed are "+referenceList(allowed))
		case qualified && rest == "":
			return part{}, patternError(offset, fmt.Sprintf("{%s} lacks a name after the dot", name), "")
		}
		return part{ref.kind, rest}, nil
	}
	remedy := "allowed are " + referenceList(allowed)
	if near := nearest(name, names); near != "" {
		remedy = fmt.Sprintf("did you mean {%s}? %s", near, remedy)
	}
	return part{}, patternError(offset, fmt.Sprintf("unknown reference {%s}", name), remedy)
}

func referenceList(allowed Refs) string {
	var list []string
	for _, ref := range references {
		if allowed&ref.refs == 0 {
			continue
		}
		name := ref.name
		if strings.HasSuffix(name, ".") {
			name += "…"
		}
		list = append(list, "{"+name+"}")
	}
	return strings.Join(list, ", ")
}

// nearest is the one of names that a person may have meant by name, or "". A name in
// names that ends in a dot is compared up to the dot.
func nearest(name string, names []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, candidate := range names {
		head, tail, dotted := strings.Cut(name, ".")
		prefix, isPrefix := strings.CutSuffix(candidate, ".")
		var d int
		switch {
		case isPrefix && dotted:
			d = editDistance(head, prefix)
		case isPrefix:
			d, tail = editDistance(name, prefix), "x"
		default:
			d, tail = editDistance(name, candidate), ""
		}
		if d < distance {
			best, distance = candidate+tail, d
		}
	}
	return best
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitute := diagonal
			if a[i-1] != b[j-1] {
				substitute++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, substitute)
		}
	}
	return row[len(b)]
}

// String is the template as written.
func (t Template) String() string { return t.text }

// Literal is the value of a template without references.
func (t *Template) Literal() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", t.text == ""
	case len(t.parts) == 1 && t.parts[0].kind == partLiteral:
		return t.parts[0].text, true
	}
	return "", false
}

// Uses reports whether t refers to any of refs.
func (t *Template) Uses(refs Refs) bool {
	for _, p := range t.parts {
		if p.kind.refs()&refs != 0 {
			return true
		}
	}
	return false
}

// Names are the names after the dot of t's references of one kind: the wildcards that
// a template with {path.…} needs ([RefPath]), or the attributes of the principal
// ([RefPrincipal]).
func (t *Template) Names(refs Refs) []string {
	var names []string
	for _, p := range t.parts {
		if p.kind.refs()&refs != 0 && p.text != "" && !slices.Contains(names, p.text) {
			names = append(names, p.text)
		}
	}
	return names
}

// References lists what t refers to, each as it is written between the braces.
func (t *Template) References() []string {
	var names []string
	for _, p := range t.parts {
		if name := p.reference(); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// reference is what a part refers to; "" for literal text.
func (p *part) reference() string {
	for i := range references {
		if references[i].kind == p.kind {
			return references[i].name + p.text
		}
	}
	return ""
}

// Bind fills in what t says of a request, so that what is left depends on the principal
// alone. If any of it is absent, so is the whole value, and ok is false.
func (t *Template) Bind(r *Request, m Match) (bound Template, ok bool) {
	s := scope{request: r, pattern: m.Pattern, tenancy: m.tenancy()}
	bound = Template{At: t.At}
	var text strings.Builder
	for i := range t.parts {
		p := t.parts[i]
		if p.kind.refs()&RefPrincipal != 0 {
			text.WriteString("{" + p.reference() + "}")
			bound.parts = append(bound.parts, p)
			continue
		}
		value := s.single(&p)
		if value == "" {
			return Template{}, false
		}
		text.WriteString(escapeBraces.Replace(value))
		if last := len(bound.parts) - 1; last >= 0 && bound.parts[last].kind == partLiteral {
			bound.parts[last].text += value
		} else {
			bound.parts = append(bound.parts, part{partLiteral, value})
		}
	}
	bound.text = text.String()
	return bound, len(t.parts) > 0
}

func (k partKind) refs() Refs {
	for i := range references {
		if references[i].kind == k {
			return references[i].refs
		}
	}
	return 0
}

// A Value is what one part of a template came to.
type Value struct {
	Text    string   // of literal text or a single value
	Items   []string // of a list; not empty
	List    bool
	Literal bool // the text stands in the template, not in the request or principal
}

// Expand gives the value of each part, so that a caller can encode what comes from
// outside, item by item. One reference that is absent or empty makes the whole
// template absent. p may be nil.
func (t *Template) Expand(r *Request, m Match, p *Principal) ([]Value, bool) {
	return t.AppendValues(nil, r, m, p)
}

// AppendValues is [Template.Expand] with the values after those of dst.
func (t *Template) AppendValues(dst []Value, r *Request, m Match, p *Principal) ([]Value, bool) {
	if len(t.parts) == 0 {
		return nil, false
	}
	s := scope{request: r, pattern: m.Pattern, principal: p, tenancy: m.tenancy()}
	for i := range t.parts {
		var v Value
		v.Items, v.List = s.list(&t.parts[i])
		switch {
		case v.List && len(v.Items) == 0:
			return nil, false
		case !v.List:
			v.Literal = t.parts[i].kind == partLiteral
			if v.Text = s.single(&t.parts[i]); v.Text == "" {
				return nil, false
			}
		}
		dst = append(dst, v)
	}
	return dst, true
}

// Eval gives the value of t, with the items of lists joined by commas, and whether it
// has one. One reference that is absent or empty makes the whole value absent. p may
// be nil. It allocates only where text has to be joined or decoded.
func (t *Template) Eval(r *Request, m Match, p *Principal) (string, bool) {
	s := scope{request: r, pattern: m.Pattern, principal: p, tenancy: m.tenancy()}
	return s.eval(t)
}

// A scope is what templates and conditions are evaluated against.
type scope struct {
	request   *Request
	pattern   *Pattern // nil if the route was selected by name and has none
	principal *Principal
	tenancy   *Tenancy
}

func (s *scope) eval(t *Template) (string, bool) {
	switch len(t.parts) {
	case 0:
		return "", false
	case 1:
		v := s.text(&t.parts[0])
		return v, v != ""
	}
	var b strings.Builder
	for i := range t.parts {
		v := s.text(&t.parts[i])
		if v == "" {
			return "", false
		}
		b.WriteString(v)
	}
	return b.String(), true
}

func (s *scope) text(p *part) string {
	if items, ok := s.list(p); ok {
		return strings.Join(items, ",")
	}
	return s.single(p)
}

// single is the value of a part that is no list; "" if absent.
func (s *scope) single(p *part) string {
	switch p.kind {
	case partLiteral:
		return p.text
	case partPath:
		if s.pattern == nil || s.request == nil {
			return ""
		}
		v, _ := s.pattern.param(s.request.Path, p.text)
		return unescape(v)
	case partContext:
		if s.request == nil {
			return ""
		}
		v, _ := s.request.ContextValue(p.text)
		return v
	case partQuery:
		if s.request == nil {
			return ""
		}
		v, _ := s.request.QueryValue(p.text)
		return v
	case partHost:
		if s.request == nil {
			return ""
		}
		return s.request.Host
	}
	if s.principal == nil {
		return ""
	}
	switch p.kind {
	case partTenant:
		return s.principal.Tenant
	case partSubject:
		return s.principal.Subject
	case partUsername:
		return s.principal.Username
	case partRealm:
		return s.principal.Realm
	case partAuthenticator:
		return s.principal.Authenticator
	case partIssuer:
		return s.principal.Issuer
	case partTokenID:
		return s.principal.TokenID
	case partAttribute:
		if values := s.principal.Attributes[p.text].Values; len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

// list is the value of a part that is a list, and whether it is one.
func (s *scope) list(p *part) ([]string, bool) {
	switch p.kind {
	case partTenants, partRoles, partScopes, partAttribute:
	default:
		return nil, false
	}
	if s.principal == nil {
		return nil, p.kind != partAttribute
	}
	switch p.kind {
	case partTenants:
		return s.tenancy.readable(s.principal), true
	case partRoles:
		return s.principal.Roles, true
	case partScopes:
		return s.principal.Scopes, true
	}
	a := s.principal.Attributes[p.text]
	return a.Values, a.List
}

// equals reports whether t has a value and it is want. "" equals nothing.
func (s *scope) equals(t *Template, want string) bool {
	v, ok := s.eval(t)
	return ok && v == want
}
