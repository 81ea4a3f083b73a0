package authn

import (
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// PlaceKind is where in a request a credential can be.
type PlaceKind uint8

const (
	InHeader PlaceKind = iota + 1
	InCookie
	InQuery
)

// A Place is where a credential is looked for.
type Place struct {
	Kind   PlaceKind
	Name   string // of the header (lower case), cookie or query parameter
	Scheme string // of a header's credential (RFC 9110 §11.4), in any case; "": the whole value is the credential
}

// String is the place as the configuration writes it.
func (p Place) String() string {
	switch {
	case p.Kind == InCookie:
		return "cookie " + p.Name
	case p.Kind == InQuery:
		return "query parameter " + p.Name
	case p.Scheme != "":
		return "header " + p.Name + " " + p.Scheme
	}
	return "header " + p.Name
}

// Header gives the value that puts credential back into the header p: `Bearer x`.
func (p Place) Header(credential string) string {
	if p.Scheme == "" {
		return credential
	}
	return p.Scheme + " " + credential
}

// A presence is what a place was found to hold. Its zero value has not been looked at.
type presence uint8

const (
	unread presence = iota
	absent
	present
	malformed // something is there and it is not a credential of the scheme
	repeated  // two values, or a value that can be read in two ways
)

// A reading is what one slot holds.
type reading struct {
	state  presence
	scheme int // index in slot.schemes, or anyScheme
	value  string
	more   []part // the other parts of a combined header; only where combination is on
}

// anyScheme is the scheme of what is wrong whatever scheme one looks for.
const anyScheme = -1

// A part is one credential of a combined Authorization header.
type part struct {
	scheme int // index in slot.schemes; -1: nobody's
	value  string
}

// A slot is a header, cookie or query parameter that holds at most one credential,
// with the schemes that are asked for there.
type slot struct {
	kind     PlaceKind
	name     string
	schemes  []string // as configured; [""] for everything without a scheme
	combined bool     // a list of credentials is allowed (headers only)
}

func (s *slot) read(r *policy.Request) reading {
	switch s.kind {
	case InHeader:
		if s.schemes[0] == "" {
			return readBare(r, s.name)
		}
		if s.combined {
			return s.readCombined(r)
		}
		return s.readScheme(r)
	case InCookie:
		return readCookie(r, s.name)
	case InQuery:
		return readQuery(r.Query, s.name)
	}
	return reading{state: absent}
}

// readBare reads a header whose whole value is the credential. A comma can be the
// seam of two lines, so that such a value can be read in two ways.
func readBare(r *policy.Request, name string) reading {
	found := reading{state: absent}
	for i := range r.Headers {
		if r.Headers[i].Name != name {
			continue
		}
		if found.state != absent {
			return reading{state: repeated}
		}
		found = reading{state: malformed}
		value := trimSpace(r.Headers[i].Value)
		if strings.IndexByte(value, ',') >= 0 {
			return reading{state: repeated}
		}
		if isText(value) {
			found = reading{state: present, value: value}
		}
	}
	return found
}

// readScheme reads a header of the form `scheme token68` (RFC 9110 §11.4). Envoy
// joins several lines with a comma; where any of the parts has a scheme of ours, a
// second part makes the request one with two readings.
func (s *slot) readScheme(r *policy.Request) reading {
	found := reading{state: absent}
	parts, ours := 0, 0
	for i := range r.Headers {
		if r.Headers[i].Name != s.name {
			continue
		}
		rest, more := r.Headers[i].Value, true
		for more {
			var one string
			one, rest, more = strings.Cut(rest, ",")
			parts++
			one = trimSpace(one)
			if scheme, credential, ok := s.matchScheme(one); ok {
				ours++
				found = reading{state: malformed, scheme: scheme}
				if token, ok := token68(credential); ok {
					found = reading{state: present, scheme: scheme, value: token}
				}
			}
		}
	}
	if ours > 0 && parts > 1 {
		return reading{state: repeated}
	}
	return found
}

// maxCombined is how many credentials one combined header may hold.
const maxCombined = 3

// readCombined reads a comma-separated list of `scheme token68`: at most three, at
// most one of a scheme, where Plain is Basic. Whatever is not of this form is
// malformed as a whole.
func (s *slot) readCombined(r *policy.Request) reading {
	found := reading{state: absent}
	var seen [maxCombined]string
	parts := 0
	for i := range r.Headers {
		if r.Headers[i].Name != s.name {
			continue
		}
		for one := range strings.SplitSeq(r.Headers[i].Value, ",") {
			one = trimSpace(one)
			scheme, _, _ := strings.Cut(one, " ")
			token, ok := token68(one[len(scheme):])
			if !ok || parts == maxCombined {
				return reading{state: malformed, scheme: anyScheme}
			}
			if equalFold(scheme, "Plain") {
				scheme = "Basic"
			}
			for _, other := range seen[:parts] {
				if equalFold(scheme, other) {
					return reading{state: malformed, scheme: anyScheme}
				}
			}
			seen[parts] = scheme
			parts++
			index := s.schemeIndex(scheme)
			if index < 0 {
				continue
			}
			if found.state == absent {
				found = reading{state: present, scheme: index, value: token}
			} else {
				found.more = append(found.more, part{scheme: index, value: token})
			}
		}
	}
	return found
}

// credential gives what r holds for scheme.
func (r *reading) credential(scheme int) (string, bool) {
	if r.scheme == scheme {
		return r.value, true
	}
	for _, p := range r.more {
		if p.scheme == scheme {
			return p.value, true
		}
	}
	return "", false
}

func (s *slot) schemeIndex(scheme string) int {
	for i, own := range s.schemes {
		if equalFold(own, scheme) {
			return i
		}
	}
	return -1
}

// matchScheme tells whether value begins with a scheme of ours, and gives what
// follows it. What follows need not be well-formed: `Bearer` and `Bearer:x` are
// bad credentials of ours, `BearerX y` is somebody else's.
func (s *slot) matchScheme(value string) (scheme int, rest string, ok bool) {
	end := 0
	for end < len(value) && isTokenChar(value[end]) {
		end++
	}
	scheme = s.schemeIndex(value[:end])
	return scheme, value[end:], scheme >= 0
}

// token68 parses `1*SP token68` (RFC 9110 §11.2).
func token68(s string) (string, bool) {
	start := 0
	for start < len(s) && s[start] == ' ' {
		start++
	}
	token := s[start:]
	end := 0
	for ; len(token)-end >= 8; end += 8 { // nearly all of a token; the loop below finds its exact end
		if c := token[end : end+8]; foreign[c[0]]|foreign[c[1]]|foreign[c[2]]|foreign[c[3]]|foreign[c[4]]|foreign[c[5]]|foreign[c[6]]|foreign[c[7]] != 0 {
			break
		}
	}
	for end < len(token) && foreign[token[end]] == 0 {
		end++
	}
	if start == 0 || end == 0 {
		return "", false
	}
	for i := end; i < len(token); i++ {
		if token[i] != '=' {
			return "", false
		}
	}
	return token, true
}

// readQuery reads a query parameter. Some servers also split the query at
// semicolons: both readings must find the same.
func readQuery(query, name string) reading {
	raw, n := findParameter(query, name, false)
	other, m := findParameter(query, name, true)
	switch {
	case n == 0 && m == 0:
		return reading{state: absent}
	case n != 1 || m != 1 || raw != other:
		return reading{state: repeated}
	}
	value, err := url.QueryUnescape(raw)
	if err != nil || !isText(value) {
		return reading{state: malformed}
	}
	return reading{state: present, value: value}
}

// findParameter gives the raw value of the last parameter called name, and how many
// there are.
func findParameter(query, name string, semicolons bool) (value string, n int) {
	for query != "" {
		end := strings.IndexByte(query, '&')
		if semicolons {
			end = strings.IndexAny(query, "&;")
		}
		one := query
		query = ""
		if end >= 0 {
			one, query = one[:end], one[end+1:]
		}
		key, v, _ := strings.Cut(one, "=")
		if sameParameter(key, name) {
			value, n = v, n+1
		}
	}
	return value, n
}

func sameParameter(raw, name string) bool {
	if raw == name {
		return true
	}
	if strings.IndexByte(raw, '%') < 0 && strings.IndexByte(raw, '+') < 0 {
		return false
	}
	decoded, err := url.QueryUnescape(raw)
	return err == nil && decoded == name
}

// QuerySpellings gives the distinct spellings, escapes and all, under which query
// holds the parameter called name. Envoy removes parameters by spelling.
func QuerySpellings(query, name string) []string {
	var spellings []string
	for query != "" {
		var one string
		one, query, _ = strings.Cut(query, "&")
		key, _, _ := strings.Cut(one, "=")
		if sameParameter(key, name) && !slices.Contains(spellings, key) {
			spellings = append(spellings, key)
		}
	}
	return spellings
}

// isText tells whether s can be a credential without a scheme: visible ASCII with
// blanks only inside.
func isText(s string) bool {
	if s == "" || s != trimSpace(s) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// trimSpace cuts optional white space (RFC 9110 §5.6.3) off both ends.
func trimSpace(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// equalFold compares ASCII without case. strings.EqualFold would also take the
// Kelvin sign for a K.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func isAlphaNumeric(c byte) bool {
	return 'a' <= lower(c) && lower(c) <= 'z' || '0' <= c && c <= '9'
}

func isTokenChar(c byte) bool {
	return isAlphaNumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// foreign is 0 for each byte that may be in a token68 before its padding (RFC 9110
// §11.2), and 1 for others. Tokens are long, and this is looked up for every byte of
// every one.
var foreign = func() (table [256]uint8) {
	for c := range table {
		if !isAlphaNumeric(byte(c)) && strings.IndexByte("-._~+/", byte(c)) < 0 {
			table[c] = 1
		}
	}
	return table
}()
