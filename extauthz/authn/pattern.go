package authn

import (
	"errors"
	"fmt"
	"strings"
)

// A PrincipalPattern matches the principals of certificates: SPIFFE IDs, other names,
// subjects. `{name}` stands for one or more characters without a slash; everything
// else is literal, case included. In a SPIFFE ID it stands for a whole segment, or a
// part of one, that such an ID can have: what no issuer may write is nobody's name.
type PrincipalPattern struct {
	text   string
	spiffe bool
	parts  []patternPart
}

const spiffeScheme = "spiffe://"

// A patternPart is literal text and the parameter that follows it, "" for none.
type patternPart struct{ literal, parameter string }

// ParsePrincipalPattern parses text. Parameters have distinct names of letters,
// digits and underscores, and two of them do not touch: it would be unclear where
// one ends.
func ParsePrincipalPattern(text string) (*PrincipalPattern, error) {
	p := &PrincipalPattern{text: text, spiffe: strings.HasPrefix(text, spiffeScheme)}
	if text == "" {
		return nil, errors.New("the pattern is empty")
	}
	seen := make(map[string]bool)
	for rest := text; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, fmt.Errorf("pattern %q has a } without a {", text)
		}
		if !found {
			p.parts = append(p.parts, patternPart{literal: literal})
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return nil, fmt.Errorf("pattern %q has a { without a }", text)
		case !isParameterName(name):
			return nil, fmt.Errorf("pattern %q: {%s} is not a name of letters, digits and underscores", text, name)
		case seen[name]:
			return nil, fmt.Errorf("pattern %q names {%s} twice", text, name)
		case literal == "" && len(p.parts) > 0:
			return nil, fmt.Errorf("pattern %q: nothing separates {%s} from what is before it", text, name)
		}
		seen[name] = true
		p.parts = append(p.parts, patternPart{literal: literal, parameter: name})
		rest = tail
	}
	return p, nil
}

func isParameterName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphaNumeric(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != ""
}

// String is the pattern as written.
func (p *PrincipalPattern) String() string { return p.text }

// Has tells whether p has the parameter name.
func (p *PrincipalPattern) Has(name string) bool {
	for _, part := range p.parts {
		if part.parameter != "" && part.parameter == name {
			return true
		}
	}
	return false
}

// Matches tells whether principal is one of those that p stands for. An empty one
// never is.
func (p *PrincipalPattern) Matches(principal string) bool {
	_, ok := p.Match(principal)
	return ok
}

// Match gives the values of the parameters of p in principal.
//
// Each parameter ends where the text that follows it first occurs: with a segment
// per parameter, which is what slashes make of it, there is only one reading.
func (p *PrincipalPattern) Match(principal string) (map[string]string, bool) {
	values := make(map[string]string, len(p.parts))
	rest := principal
	for i, part := range p.parts {
		if !strings.HasPrefix(rest, part.literal) {
			return nil, false
		}
		rest = rest[len(part.literal):]
		if part.parameter == "" {
			continue
		}
		end := len(rest)
		if i+1 < len(p.parts) {
			if end = strings.Index(rest, p.parts[i+1].literal); end < 0 {
				return nil, false
			}
		}
		value := rest[:end]
		if value == "" || strings.Contains(value, "/") || p.spiffe && !isSPIFFESegment(value) {
			return nil, false
		}
		values[part.parameter] = value
		rest = rest[end:]
	}
	return values, rest == "" && principal != ""
}

// isSPIFFESegment tells whether s can be a segment of a SPIFFE ID's path (SPIFFE-ID
// §2.2): letters, digits, dots, hyphens and underscores, but neither `.` nor `..`.
func isSPIFFESegment(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphaNumeric(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return s != "." && s != ".."
}
