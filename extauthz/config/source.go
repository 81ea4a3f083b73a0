package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// maxFileBytes bounds the configuration file. 100,000 routes take about 15 MB.
const maxFileBytes = 64 << 20

// source is the text of the file. Lines and columns count from 1, columns in
// characters, like those of the YAML parser.
type source struct {
	file    string
	data    []byte
	offsets []int // where each line starts
}

var byteOrderMark = []byte("\xef\xbb\xbf")

func newSource(file string, data []byte) *source {
	s := &source{file: file, data: bytes.TrimPrefix(data, byteOrderMark), offsets: []int{0}}
	for i, c := range s.data {
		if c == '\n' {
			s.offsets = append(s.offsets, i+1)
		}
	}
	return s
}

// line is the text of a line without its line break; empty if there is no such line.
func (s *source) line(number int) string {
	if number < 1 || number > len(s.offsets) {
		return ""
	}
	start, end := s.offsets[number-1], len(s.data)
	if number < len(s.offsets) {
		end = s.offsets[number]
	}
	return string(bytes.TrimRight(s.data[start:end], "\r\n"))
}

// at is the place of a byte.
func (s *source) at(line, byteInLine int) policy.Position {
	text := s.data[s.offsets[line-1]:]
	return policy.Position{File: s.file, Line: line, Column: utf8.RuneCount(text[:byteInLine]) + 1}
}

func (s *source) problem(rule Rule, at policy.Position, message, remedy string) Problem {
	return Problem{Rule: rule, At: at, Message: message, Remedy: remedy, Source: s.line(at.Line)}
}

// scan finds what the YAML parser would pass, or report without a usable place:
// bytes that are not UTF-8, control characters, line breaks that only YAML knows,
// directives and further documents. One problem of a sort is enough.
func (s *source) scan() []Problem {
	if bytes.HasPrefix(s.data, []byte{0xff, 0xfe}) || bytes.HasPrefix(s.data, []byte{0xfe, 0xff}) {
		return []Problem{{Rule: ruleYAML, At: policy.Position{File: s.file, Line: 1, Column: 1},
			Message: "the file is UTF-16", Remedy: "save it as UTF-8"}}
	}
	content := false // something other than comments was seen
	for i := range s.offsets {
		number, text := i+1, s.data[s.offsets[i]:]
		if i+1 < len(s.offsets) {
			text = s.data[s.offsets[i]:s.offsets[i+1]]
		}
		text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
		if at, what := badCharacter(text); what != "" {
			problem := s.problem(ruleYAML, s.at(number, at), what, "remove it, or write it as an escape in a double-quoted text")
			if what == notUTF8 {
				problem = s.problem(ruleYAML, s.at(number, at), what, "save the file as UTF-8")
			}
			return []Problem{problem}
		}
		marker := isMarker(text, "---") || isMarker(text, "...")
		switch {
		case content && marker:
			return []Problem{s.problem(ruleYAML, s.at(number, 0), "a second YAML document begins here",
				"the configuration is one document: remove the line and what follows it, or merge the two")}
		case !content && len(text) > 0 && text[0] == '%':
			return []Problem{s.problem(ruleYAML, s.at(number, 0), "YAML directives are not supported", "remove the line")}
		}
		trimmed := bytes.TrimSpace(text)
		if marker {
			trimmed = bytes.TrimSpace(text[3:])
		}
		if len(trimmed) > 0 && trimmed[0] != '#' {
			content = true
		}
	}
	if !content {
		return []Problem{{Rule: ruleYAML, At: policy.Position{File: s.file, Line: 1, Column: 1},
			Message: "the file is empty", Remedy: `begin it with "version: 1"`}}
	}
	return nil
}

func isMarker(line []byte, marker string) bool {
	return bytes.HasPrefix(line, []byte(marker)) && (len(line) == 3 || line[3] == ' ' || line[3] == '\t')
}

const notUTF8 = "the file is not valid UTF-8 here"

// badCharacter finds the first character of a line that must not be in the file.
func badCharacter(text []byte) (at int, what string) {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			if c < ' ' && c != '\t' || c == 0x7f {
				return i, fmt.Sprintf("control character U+%04X", c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return i, notUTF8
		case r == 0x85 || r == 0x2028 || r == 0x2029 || r > 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			return i, fmt.Sprintf("character U+%04X", r)
		}
		i += size
	}
	return 0, ""
}
