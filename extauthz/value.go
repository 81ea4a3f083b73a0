package extauthz

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Limits of identity headers, after encoding. Common upstreams take 8 KiB a line and
// not much more than 32 KiB in all.
const (
	maxValueBytes    = 8 << 10
	maxIdentityBytes = 32 << 10
)

var (
	errControl  = errors.New("an identity value holds a control character")
	errTooLarge = errors.New("the identity headers are too large")
)

// appendText writes s as a header value: what is not ASCII and `%` are
// percent-encoded, so that the value can be decoded again without doubt, and so are
// blanks at either end, which would get lost on the way: `admin ` is not `admin`.
// A control character is an error.
func appendText(b []byte, s string) ([]byte, error) { return appendEncoded(b, s, false) }

// appendLiteral writes what the configuration itself says: as it is, as far as a
// header can hold it.
func appendLiteral(b []byte, s string) ([]byte, error) {
	if isVisible(s) {
		return append(b, s...), nil
	}
	return appendText(b, s)
}

// appendItem is appendText for an item of a comma-separated list.
func appendItem(b []byte, s string) ([]byte, error) { return appendEncoded(b, s, true) }

func appendEncoded(b []byte, s string, item bool) ([]byte, error) {
	const hex = "0123456789ABCDEF"
	first := len(s) - len(strings.TrimLeft(s, " "))
	last := len(strings.TrimRight(s, " "))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c == 0x7f || isC1(s, i) {
			return b, errControl
		}
		if c > '~' || c == '%' || i < first || i >= last || item && c == ',' {
			b = append(b, '%', hex[c>>4], hex[c&15])
			continue
		}
		b = append(b, c)
	}
	return b, nil
}

// isC1 tells whether a control character of the range U+0080 to U+009F begins at i.
func isC1(s string, i int) bool {
	return s[i] == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0 && s[i+1] >= 0x80
}

// appendList writes items, comma-separated and without blanks. Empty ones are left
// out: a list `,` has no reading that everybody shares.
func appendList(b []byte, items []string) ([]byte, error) {
	start := len(b)
	for _, item := range items {
		if item == "" {
			continue
		}
		if len(b) > start {
			b = append(b, ',')
		}
		var err error
		if b, err = appendItem(b, item); err != nil {
			return b, err
		}
	}
	return b, nil
}

// appendJSONList writes items as a JSON array in ASCII. JSON has its own escapes, so
// nothing is percent-encoded.
func appendJSONList(b []byte, items []string) ([]byte, error) {
	b = append(b, '[')
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		for j := range len(item) {
			if c := item[j]; c < ' ' || c == 0x7f || isC1(item, j) {
				return b, errControl
			}
		}
		b = appendJSONString(b, item)
	}
	return append(b, ']'), nil
}

// appendJSONString writes s as a JSON string in ASCII. What is not UTF-8 becomes
// U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	escape := func(r rune) {
		b = append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
	}
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= ' ' && r < utf8.RuneSelf && r != 0x7f:
			b = append(b, byte(r))
		case r < 0x10000:
			escape(r)
		default:
			r -= 0x10000
			escape(0xd800 + r>>10)
			escape(0xdc00 + r&0x3ff)
		}
	}
	return append(b, '"')
}
