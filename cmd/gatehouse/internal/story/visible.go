package story

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible is text as a terminal may get it: characters that control one, or that change
// the direction of what follows, are escaped as in Go. Who made a request wrote its path,
// and whoever an issuer believes wrote the names in a token. Texts of keep stay as they are.
func Visible(text string, keep ...string) string {
	if !strings.ContainsFunc(text, isControl) && utf8.ValidString(text) {
		return text
	}
	var b strings.Builder
	for text != "" {
		if i := slices.IndexFunc(keep, func(k string) bool { return k != "" && strings.HasPrefix(text, k) }); i >= 0 {
			b.WriteString(keep[i])
			text = text[len(keep[i]):]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		if isControl(r) || r == utf8.RuneError && size == 1 {
			quoted := strconv.QuoteToASCII(text[:size])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(text[:size])
		}
		text = text[size:]
	}
	return b.String()
}

// isControl: controls, formats such as the marks of direction, and separators of lines.
func isControl(r rune) bool { return unicode.Is(unicode.C, r) || r == '\u2028' || r == '\u2029' }
