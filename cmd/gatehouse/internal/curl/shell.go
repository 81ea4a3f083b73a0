package curl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// split reads a line into words as a POSIX shell would (XCU §2.2), with bash's $'...'
// which browsers write. What would run something or depend on the environment is
// refused, never guessed.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(line); {
		rest := line[i:]
		switch c := rest[0]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
			i++
		case c == '\\':
			n := 2
			switch {
			case strings.HasPrefix(rest, "\\\r\n"):
				n = 3 // the line goes on
			case len(rest) == 1:
				return nil, errors.New("the line ends in a backslash")
			case rest[1] == '\n':
			default:
				word.WriteByte(rest[1])
				inWord = true
			}
			i += n
		case c == '\'':
			end := strings.IndexByte(rest[1:], '\'')
			if end < 0 {
				return nil, errors.New("a single quote is never closed")
			}
			word.WriteString(rest[1 : 1+end])
			inWord = true
			i += end + 2
		case c == '"':
			n, err := doubleQuoted(rest, &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n
		case strings.HasPrefix(rest, "$'"):
			n, err := ansiQuoted(rest, &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n
		case c == '$' || c == '`':
			return nil, errVariable(rest)
		case strings.IndexByte("|;&<>()", c) >= 0:
			return nil, fmt.Errorf("%q is for a shell: quote it, or give the curl command alone", c)
		case c == '#' && !inWord:
			return nil, errors.New("a comment: give the curl command alone")
		default:
			word.WriteByte(c)
			inWord = true
			i++
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

func errVariable(rest string) error {
	shown := rest[:min(len(rest), 20)]
	return fmt.Errorf("%q is not expanded here: write the value, or let your shell do it with double quotes", shown)
}

// doubleQuoted reads "..." at the beginning of s and returns its length.
func doubleQuoted(s string, word *strings.Builder) (int, error) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1, nil
		case '$', '`':
			return 0, errVariable(s[i:])
		case '\\':
			if i+1 == len(s) {
				break
			}
			i++
			if strings.IndexByte("\\\"$`\n", s[i]) < 0 {
				word.WriteByte('\\') // it stays before anything else
			}
			if s[i] != '\n' {
				word.WriteByte(s[i])
			}
		default:
			word.WriteByte(s[i])
		}
	}
	return 0, errors.New("a double quote is never closed")
}

// ansiEscapes are the single-letter escapes of $'...'.
var ansiEscapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'e': 0x1b, 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
	'\\': '\\', '\'': '\'', '"': '"', '?': '?',
}

// ansiQuoted reads $'...' at the beginning of s and returns its length.
func ansiQuoted(s string, word *strings.Builder) (int, error) {
	for i := 2; i < len(s); i++ {
		if s[i] == '\'' {
			return i + 1, nil
		}
		if s[i] != '\\' || i+1 == len(s) {
			word.WriteByte(s[i])
			continue
		}
		i++
		if plain, ok := ansiEscapes[s[i]]; ok {
			word.WriteByte(plain)
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[i]]
		if digits == 0 {
			return 0, fmt.Errorf(`escape \%c is not understood`, s[i])
		}
		n := 0
		for n < digits && i+1+n < len(s) && strings.IndexByte("0123456789abcdefABCDEF", s[i+1+n]) >= 0 {
			n++
		}
		code, err := strconv.ParseUint(s[i+1:i+1+n], 16, 32)
		if err != nil {
			return 0, fmt.Errorf(`escape \%c has no digits`, s[i])
		}
		if s[i] == 'x' {
			word.WriteByte(byte(code))
		} else {
			if code > utf8.MaxRune {
				return 0, fmt.Errorf(`escape \%c%x is no character`, s[i], code)
			}
			word.WriteRune(rune(code))
		}
		i += n
	}
	return 0, errors.New("a quote $' is never closed")
}
