package policy

import (
	"strings"
	"unicode/utf8"
)

// PathOptions are what an operator may loosen about paths. The zero value is the
// strict reading.
type PathOptions struct {
	AllowSemicolons bool // `;` is a character like any other; upstreams that cut parameters disagree
}

// A fault is why a path has no single reading, and where. The zero fault is none.
type fault struct {
	at   int    // byte offset
	what string // reads on after "the path "
}

const (
	faultNoSlash    = "does not begin with a slash"
	faultEmpty      = "has an empty segment (//)"
	faultDots       = "has a dot segment"
	faultControl    = "has a control character"
	faultSpace      = "has a space; write %20"
	faultBackslash  = "has a backslash"
	faultFragment   = "has a fragment; write %23 for a literal #"
	faultQuery      = "has a query; write %3F for a literal ?"
	faultRaw        = "has a byte outside ASCII that is not escaped"
	faultEscape     = "has an escape that is not % and two hexadecimal digits"
	faultSeparator  = "has an escaped slash, backslash or percent sign"
	faultSemicolon  = "has a semicolon; set paths: {allow_semicolons: true} if the upstream reads it literally"
	faultUTF8       = "has escapes that are not UTF-8"
	upperHex        = "0123456789ABCDEF"
	escapeWidth     = len("%XX")
	pcharUnreserved = "-._~!$&'()*+,=:@"
)

// canonicalPath gives the one spelling of a path: each escape decoded once, what is
// no path character (RFC 3986 §3.3, pchar) written as upper-case %XX, and no
// trailing slash but that of "/" itself. What could be read in two ways is a fault.
// It allocates only when path is not canonical already, and is idempotent.
func canonicalPath(path string, opts PathOptions) (string, fault) {
	if path == "" || path[0] != '/' {
		return "", fault{0, faultNoSlash}
	}
	if path == "/" {
		return path, fault{}
	}
	path = strings.TrimSuffix(path, "/")
	var b []byte // the canonical form, once it differs from path
	for start := 1; start <= len(path); {
		end := len(path)
		if i := strings.IndexByte(path[start:], '/'); i >= 0 {
			end = start + i
		}
		written := path[start:end]
		segment, f := canonicalSegment(written, opts)
		if f.what != "" {
			f.at += start
			return "", f
		}
		if b == nil && segment != written {
			b = append(make([]byte, 0, len(path)+8), path[:start-1]...)
		}
		if b != nil {
			b = append(append(b, '/'), segment...)
		}
		start = end + 1
	}
	if b != nil {
		return string(b), fault{}
	}
	return path, fault{}
}

// canonicalSegment is canonicalPath for what stands between two slashes.
func canonicalSegment(segment string, opts PathOptions) (string, fault) {
	if segment == "" {
		return "", fault{0, faultEmpty}
	}
	var b []byte                  // the canonical form, once it differs from segment
	var partial [utf8.UTFMax]byte // the bytes of a character that is still incomplete
	n := 0
	for i := 0; i < len(segment); {
		c, width := segment[i], 1
		switch {
		case c == '%':
			if i+escapeWidth > len(segment) {
				return "", fault{i, faultEscape}
			}
			high, low := unhex(segment[i+1]), unhex(segment[i+2])
			if high < 0 || low < 0 {
				return "", fault{i, faultEscape}
			}
			c, width = byte(high<<4|low), escapeWidth
			if c == '/' || c == '\\' || c == '%' {
				return "", fault{i, faultSeparator}
			}
		case c == ' ':
			return "", fault{i, faultSpace}
		case c == '\\':
			return "", fault{i, faultBackslash}
		case c == '#':
			return "", fault{i, faultFragment}
		case c == '?':
			return "", fault{i, faultQuery}
		case c >= utf8.RuneSelf:
			return "", fault{i, faultRaw}
		}
		if c < ' ' || c == 0x7f {
			return "", fault{i, faultControl}
		}
		if c == ';' && !opts.AllowSemicolons {
			return "", fault{i, faultSemicolon}
		}
		if c >= utf8.RuneSelf {
			partial[n] = c
			n++
			if utf8.FullRune(partial[:n]) {
				r, size := utf8.DecodeRune(partial[:n])
				if size != n || r == utf8.RuneError && size == 1 {
					return "", fault{i, faultUTF8}
				}
				if r < 0xa0 { // the C1 controls
					return "", fault{i, faultControl}
				}
				n = 0
			}
		} else if n > 0 {
			return "", fault{i, faultUTF8}
		}
		plain := isPchar(c)
		asIs := width == 1 && plain ||
			width == escapeWidth && !plain && !isLowerHex(segment[i+1]) && !isLowerHex(segment[i+2])
		if !asIs && b == nil {
			b = append(make([]byte, 0, len(segment)+8), segment[:i]...)
		}
		if b != nil {
			if plain {
				b = append(b, c)
			} else {
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			}
		}
		i += width
	}
	if n > 0 {
		return "", fault{len(segment) - escapeWidth, faultUTF8}
	}
	if b != nil {
		segment = string(b)
	}
	// Servlet containers cut `..;x` to `..`.
	name, _, _ := strings.Cut(segment, ";")
	if name == "." || name == ".." {
		return "", fault{0, faultDots}
	}
	return segment, fault{}
}

// unescape decodes canonical text; it allocates only if there is an escape.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+escapeWidth <= len(s) {
			b = append(b, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += escapeWidth - 1
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isPchar(c byte) bool {
	return isLetter(c) || isDigit(c) || c == ';' || strings.IndexByte(pcharUnreserved, c) >= 0
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLowerHex(c byte) bool { return 'a' <= c && c <= 'f' }

// unhex is the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
