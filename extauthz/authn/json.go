package authn

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
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
	return r.documentObject()
}

// decodeOwn is [DecodeObject] for data that nobody changes any more: texts are pieces of
// it, and keep all of it in memory.
func decodeOwn(data []byte) (map[string]any, error) {
	r := jsonReader{data: data, text: unsafe.String(unsafe.SliceData(data), len(data))}
	return r.documentObject()
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
	lax  bool   // repeated members are let through: only the extent of a value matters
	text string // data, if texts may be pieces of it; "": they are copies
}

// documentObject reads the one object that is all of data.
func (r *jsonReader) documentObject() (map[string]any, error) {
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
		return r.objectValue(depth)
	case c == '[':
		return r.listValue(depth)
	case c == '"':
		return r.string()
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

// objectValue is [jsonReader.object] with the values in a map. It and listValue are written
// out, as nearly all there is to read are such members and elements.
func (r *jsonReader) objectValue(depth int) (map[string]any, error) {
	object := make(map[string]any, r.members(depth))
	for more := r.open('}'); more; {
		name, err := r.name()
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		before := len(object)
		if object[name] = v; len(object) == before && !r.lax {
			return nil, errJSONDuplicate
		}
		if more, err = r.next('}'); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// members guesses how many members an object has, so that its map need not grow: those at
// the top of a token are more than a small map holds.
func (r *jsonReader) members(depth int) int {
	if depth > 0 {
		return 0
	}
	return min(bytes.Count(r.data, []byte(`":`)), maxMembersGuess)
}

const maxMembersGuess = 32

func (r *jsonReader) listValue(depth int) ([]any, error) {
	list := []any{}
	for more := r.open(']'); more; {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if more, err = r.next(']'); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// object reads an object; member is called at the start of each value.
func (r *jsonReader) object(member func(name string) error) error {
	r.space()
	if r.peek() != '{' {
		return errJSONObject
	}
	for more := r.open('}'); more; {
		name, err := r.name()
		if err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if more, err = r.next('}'); err != nil {
			return err
		}
	}
	return nil
}

// list reads a list; element is called at the start of each value.
func (r *jsonReader) list(element func() error) error {
	r.space()
	if r.peek() != '[' {
		return errJSONList
	}
	for more := r.open(']'); more; {
		if err := element(); err != nil {
			return err
		}
		var err error
		if more, err = r.next(']'); err != nil {
			return err
		}
	}
	return nil
}

// name reads the name of a member, and goes to its value.
func (r *jsonReader) name() (string, error) {
	if r.peek() != '"' {
		return "", errJSONSyntax
	}
	name, err := r.string()
	if err != nil {
		return "", err
	}
	r.space()
	if r.peek() != ':' {
		return "", errJSONSyntax
	}
	r.at++
	r.space()
	return name, nil
}

// open goes past the opening bracket at r.at, and tells whether something is before the
// closing one.
func (r *jsonReader) open(closing byte) bool {
	r.at++
	r.space()
	if r.peek() == closing {
		r.at++
		return false
	}
	return true
}

// next goes past the comma or the closing bracket that follows, and tells whether it was a
// comma.
func (r *jsonReader) next(closing byte) (bool, error) {
	r.space()
	switch r.peek() {
	case ',':
		r.at++
		r.space()
		return true, nil
	case closing:
		r.at++
		return false, nil
	}
	return false, errJSONSyntax
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
	return json.Number(r.piece(from, r.at)), nil
}

// piece is a piece of data as a text.
func (r *jsonReader) piece(from, to int) string {
	if r.text != "" {
		return r.text[from:to]
	}
	return string(r.data[from:to])
}

func (r *jsonReader) digits() int {
	from := r.at
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.at++
	}
	return r.at - from
}

// string reads a string. Without escapes it is one copy at most.
func (r *jsonReader) string() (string, error) {
	r.at++ // the opening quote
	from := r.at
	if n := bytes.IndexByte(r.data[from:], '"'); n >= 0 && isPlain(r.data[from:from+n]) { // nearly always
		r.at += n + 1
		return r.piece(from, from+n), nil
	}
	for r.at < len(r.data) {
		switch c := r.data[r.at]; {
		case c == '"':
			to := r.at
			r.at++
			if !utf8.Valid(r.data[from:to]) {
				return "", errJSONUTF8
			}
			return r.piece(from, to), nil
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

// isPlain tells whether b is ASCII without control characters and backslashes: such a text
// is what it is written as.
func isPlain(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	if len(b) < 8 {
		for _, c := range b {
			if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
				return false
			}
		}
		return true
	}
	// The high bit of a byte is set in odd if the byte is one of those, and maybe where one is
	// below it: what counts is whether any is set.
	odd := func(x uint64) uint64 {
		y := x ^ ones*'\\'
		return x | (x - ones*' ') | (y-ones)&^y
	}
	found := odd(binary.LittleEndian.Uint64(b[len(b)-8:]))
	for ; len(b) > 8; b = b[8:] {
		found |= odd(binary.LittleEndian.Uint64(b))
	}
	return found&high == 0
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
