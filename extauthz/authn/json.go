package authn

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of objects and lists in a token, a key set, a
// discovery document and whatever else is read here. Nothing real comes near it; without a bound a few kilobytes
// of brackets are a deep recursion.
const maxJSONDepth = 32

var (
	errJSONSyntax    = errors.New("JSON is not well formed")
	errJSONTrailing  = errors.New("JSON is followed by other data")
	errJSONDuplicate = errors.New("JSON object has a member twice")
	errJSONDepth     = fmt.Errorf("JSON is nested deeper than %d", maxJSONDepth)
	errJSONUTF8      = errors.New("JSON text is not valid UTF-8")
	errJSONObject    = errors.New("JSON is not an object")
	errJSONList      = errors.New("JSON is not a list")
)

// DecodeObject reads one JSON object to the letter of RFC 8259, and stricter where
// two readers could differ (RFC 7519 §4, RFC 7515 §5.2): a member that occurs twice
// at any depth, text that is not UTF-8, a lone surrogate, a byte order mark and
// anything after the object are errors. Names keep their case. Numbers are
// [json.Number], lists []any, objects map[string]any, null is nil.
func DecodeObject(data []byte) (map[string]any, error) {
	r := jsonReader{data: data}
	v, err := r.document()
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errJSONObject
	}
	return object, nil
}

// objectMembers reads the members of one JSON object and leaves their values as they
// are written. A repeated name is an error at the top; below, it is the business of
// whoever decodes the value.
func objectMembers(data []byte) (map[string]json.RawMessage, error) {
	r := jsonReader{data: data, lax: true}
	members := make(map[string]json.RawMessage)
	err := r.object(func(name string) error {
		if _, twice := members[name]; twice {
			return errJSONDuplicate
		}
		from := r.at
		_, err := r.value(1)
		members[name] = data[from:r.at:r.at]
		return err
	})
	if err != nil {
		return nil, err
	}
	return members, r.end()
}

// listElements reads the elements of one JSON list and leaves them as they are
// written, like [objectMembers].
func listElements(data []byte) ([]json.RawMessage, error) {
	r := jsonReader{data: data, lax: true}
	var elements []json.RawMessage
	err := r.list(func() error {
		from := r.at
		_, err := r.value(1)
		elements = append(elements, data[from:r.at:r.at])
		return err
	})
	if err != nil {
		return nil, err
	}
	return elements, r.end()
}

// jsonReader reads data from at on.
type jsonReader struct {
	data []byte
	at   int
	lax  bool // repeated members are let through: only the extent of a value matters
}

// document reads the one value that is all of data.
func (r *jsonReader) document() (any, error) {
	r.space()
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	return v, r.end()
}

func (r *jsonReader) end() error {
	r.space()
	if r.at != len(r.data) {
		return errJSONTrailing
	}
	return nil
}

func (r *jsonReader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// peek is the next byte, or 0 at the end: no JSON token starts with NUL.
func (r *jsonReader) peek() byte {
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

// value reads the value that starts at r.at, depth levels below the top.
func (r *jsonReader) value(depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, errJSONDepth
	}
	switch c := r.peek(); {
	case c == '{':
		object := make(map[string]any)
		err := r.object(func(name string) error {
			if _, twice := object[name]; twice && !r.lax {
				return errJSONDuplicate
			}
			v, err := r.value(depth + 1)
			object[name] = v
			return err
		})
		return object, err
	case c == '[':
		list := []any{}
		err := r.list(func() error {
			v, err := r.value(depth + 1)
			list = append(list, v)
			return err
		})
		return list, err
	case c == '"':
		return r.text()
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	case c == 't':
		return true, r.literal("true")
	case c == 'f':
		return false, r.literal("false")
	case c == 'n':
		return nil, r.literal("null")
	}
	return nil, errJSONSyntax
}

// object reads an object; member is called at the start of each value.
func (r *jsonReader) object(member func(name string) error) error {
	r.space()
	if r.peek() != '{' {
		return errJSONObject
	}
	return r.sequence('}', func() error {
		if r.peek() != '"' {
			return errJSONSyntax
		}
		name, err := r.text()
		if err != nil {
			return err
		}
		r.space()
		if r.peek() != ':' {
			return errJSONSyntax
		}
		r.at++
		r.space()
		return member(name)
	})
}

// list reads a list; element is called at the start of each value.
func (r *jsonReader) list(element func() error) error {
	r.space()
	if r.peek() != '[' {
		return errJSONList
	}
	return r.sequence(']', element)
}

// sequence reads items separated by commas, from the opening bracket at r.at to
// the closing one.
func (r *jsonReader) sequence(closing byte, item func() error) error {
	r.at++
	r.space()
	if r.peek() == closing {
		r.at++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		r.space()
		switch r.peek() {
		case ',':
			r.at++
			r.space()
		case closing:
			r.at++
			return nil
		default:
			return errJSONSyntax
		}
	}
}

func (r *jsonReader) literal(word string) error {
	end := r.at + len(word)
	if end > len(r.data) || string(r.data[r.at:end]) != word {
		return errJSONSyntax
	}
	r.at = end
	return nil
}

// number reads the grammar of RFC 8259 §6 and keeps the text.
func (r *jsonReader) number() (json.Number, error) {
	from := r.at
	if r.peek() == '-' {
		r.at++
	}
	switch integer := r.at; {
	case r.digits() == 0:
		return "", errJSONSyntax
	case r.data[integer] == '0' && r.at-integer > 1: // a leading zero
		return "", errJSONSyntax
	}
	if r.peek() == '.' {
		r.at++
		if r.digits() == 0 {
			return "", errJSONSyntax
		}
	}
	if c := r.peek(); c == 'e' || c == 'E' {
		r.at++
		if c := r.peek(); c == '+' || c == '-' {
			r.at++
		}
		if r.digits() == 0 {
			return "", errJSONSyntax
		}
	}
	return json.Number(r.data[from:r.at]), nil
}

func (r *jsonReader) digits() int {
	from := r.at
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	return r.at - from
}

// text reads a string. Without escapes it is one copy.
func (r *jsonReader) text() (string, error) {
	r.at++ // the opening quote
	from := r.at
	for r.at < len(r.data) {
		switch c := r.data[r.at]; {
		case c == '"':
			plain := r.data[from:r.at]
			r.at++
			if !utf8.Valid(plain) {
				return "", errJSONUTF8
			}
			return string(plain), nil
		case c == '\\':
			return r.escapedText(from)
		case c < ' ':
			return "", errJSONSyntax
		default:
			r.at++
		}
	}
	return "", errJSONSyntax
}

// escapedText reads the rest of a string that began at from, now that r.at is at
// its first escape.
func (r *jsonReader) escapedText(from int) (string, error) {
	out := append([]byte(nil), r.data[from:r.at]...)
	for r.at < len(r.data) {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			if !utf8.Valid(out) {
				return "", errJSONUTF8
			}
			return string(out), nil
		case c == '\\':
			decoded, err := r.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, decoded)
		case c < ' ':
			return "", errJSONSyntax
		default:
			out = append(out, c)
			r.at++
		}
	}
	return "", errJSONSyntax
}

// escape reads the escape at r.at. A surrogate counts only as half of a pair.
func (r *jsonReader) escape() (rune, error) {
	r.at++ // the backslash
	c := r.peek()
	r.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		unit, err := r.hex4()
		if err != nil || !utf16.IsSurrogate(unit) {
			return unit, err
		}
		if r.literal(`\u`) != nil {
			return 0, errJSONUTF8
		}
		second, err := r.hex4()
		if err != nil {
			return 0, err
		}
		pair := utf16.DecodeRune(unit, second)
		if pair == utf8.RuneError {
			return 0, errJSONUTF8
		}
		return pair, nil
	}
	return 0, errJSONSyntax
}

func (r *jsonReader) hex4() (rune, error) {
	if r.at+4 > len(r.data) {
		return 0, errJSONSyntax
	}
	var unit rune
	for _, c := range r.data[r.at : r.at+4] {
		unit <<= 4
		switch {
		case c >= '0' && c <= '9':
			unit |= rune(c - '0')
		case c >= 'a' && c <= 'f':
			unit |= rune(c-'a') + 10
		case c >= 'A' && c <= 'F':
			unit |= rune(c-'A') + 10
		default:
			return 0, errJSONSyntax
		}
	}
	r.at += 4
	return unit, nil
}
