package config

import (
	"fmt"
	"strings"
)

// maxValueBytes bounds one scalar after expansion.
const maxValueBytes = 1 << 20

// expansionError is what is wrong with a variable in a scalar.
type expansionError struct {
	offset          int // byte in the text
	message, remedy string
}

// expand replaces `${NAME}` and `${NAME:-default}` in a scalar; `$${` is a literal
// `${`, and any other `$` is itself. A variable that is empty counts as unset, as
// `:-` does in a shell; unset without a default is an error.
func expand(text string, env func(string) (string, bool)) (result string, expanded bool, bad *expansionError) {
	if !strings.Contains(text, "${") {
		return text, false, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		next := strings.Index(text[i:], "${")
		if next < 0 {
			b.WriteString(text[i:])
			break
		}
		if next > 0 && text[i+next-1] == '$' {
			b.WriteString(text[i:i+next-1] + "${")
			i += next + 2
			continue
		}
		b.WriteString(text[i : i+next])
		i += next
		reference, rest, bad := parseReference(text, i)
		if bad != nil {
			return "", true, bad
		}
		if reference.list {
			return "", true, &expansionError{i, fmt.Sprintf("%q is a list in the middle of a text", text[i:rest]),
				"it can only be an item of a list, alone in its quotes"}
		}
		value, _ := env(reference.name)
		switch {
		case value != "":
			b.WriteString(value)
		case reference.hasDefault:
			b.WriteString(reference.fallback)
		default:
			return "", true, &expansionError{i, fmt.Sprintf("variable %s is not set or empty", reference.name),
				fmt.Sprintf("set it, or give a default: ${%s:-default}", reference.name)}
		}
		if b.Len() > maxValueBytes {
			return "", true, &expansionError{i, fmt.Sprintf("the value is over %d bytes", maxValueBytes), "shorten it"}
		}
		i = rest
	}
	if b.Len() > maxValueBytes {
		return "", true, &expansionError{0, fmt.Sprintf("the value is over %d bytes", maxValueBytes), "shorten it"}
	}
	return b.String(), true, nil
}

// expandList gives the items that `${NAME[]}` or `${NAME[]:-a,b}` stands for: the
// variable split at commas, trimmed, empties dropped. isList is false if text is
// anything else.
func expandList(text string, env func(string) (string, bool)) (items []string, isList bool, bad *expansionError) {
	if !strings.HasPrefix(text, "${") {
		return nil, false, nil
	}
	reference, rest, bad := parseReference(text, 0)
	if bad != nil || !reference.list || rest != len(text) {
		return nil, false, nil // expand says what is wrong with it
	}
	value, set := env(reference.name)
	switch {
	case value != "":
	case reference.hasDefault:
		value = reference.fallback
	case !set:
		return nil, true, &expansionError{0, fmt.Sprintf("variable %s is not set", reference.name),
			fmt.Sprintf("set it, or give a default: ${%s[]:-a,b}", reference.name)}
	}
	if len(value) > maxValueBytes {
		return nil, true, &expansionError{0, fmt.Sprintf("the value is over %d bytes", maxValueBytes), "shorten it"}
	}
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items, true, nil
}

type reference struct {
	name       string
	list       bool // ${NAME[]}
	hasDefault bool
	fallback   string
}

// parseReference reads the reference that begins at text[at:], and says where it ends.
func parseReference(text string, at int) (r reference, rest int, bad *expansionError) {
	body := text[at+2:]
	end := strings.IndexByte(body, '}')
	if end < 0 {
		return r, 0, &expansionError{at, `"${" without "}"`, `write ${NAME}, or $${ for a literal "${"`}
	}
	body, rest = body[:end], at+2+end+1
	name, fallback, hasDefault := strings.Cut(body, ":-")
	r.hasDefault, r.fallback = hasDefault, fallback
	r.name, r.list = strings.CutSuffix(name, "[]")
	if !isVariable(r.name) {
		return r, 0, &expansionError{at, fmt.Sprintf("%q is not a reference to a variable", text[at:rest]),
			`write ${NAME} or ${NAME:-default}, or $${ for a literal "${"`}
	}
	return r, rest, nil
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
