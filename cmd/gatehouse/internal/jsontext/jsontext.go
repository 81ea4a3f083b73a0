// Package jsontext appends JSON to a buffer, for the lines that every decision writes. It
// uses no reflection: whoever writes a line says what is in it, in order. Start reading
// at [Writer].
package jsontext

import (
	"strconv"
	"unicode/utf8"
)

// A Writer appends JSON to Buffer and puts commas where they belong. Names are written as
// they are: they are literals that need no escapes. What is opened must be closed.
type Writer struct{ Buffer []byte }

// Begin opens an object that is no member: the line itself, or an item of a list.
func (w *Writer) Begin() {
	w.comma()
	w.Buffer = append(w.Buffer, '{')
}

// BeginObject opens the object that a member holds.
func (w *Writer) BeginObject(name string) {
	w.Name(name)
	w.Buffer = append(w.Buffer, '{')
}

// End closes an object.
func (w *Writer) End() { w.Buffer = append(w.Buffer, '}') }

// BeginList opens the list that a member holds.
func (w *Writer) BeginList(name string) {
	w.Name(name)
	w.Buffer = append(w.Buffer, '[')
}

// EndList closes a list.
func (w *Writer) EndList() { w.Buffer = append(w.Buffer, ']') }

// Name begins a member; the value is for the caller to append.
func (w *Writer) Name(name string) {
	w.comma()
	w.Buffer = append(w.Buffer, '"')
	w.Buffer = append(w.Buffer, name...)
	w.Buffer = append(w.Buffer, '"', ':')
}

// Key is Name for a name that is not ours.
func (w *Writer) Key(key string) {
	w.comma()
	w.Buffer = append(AppendString(w.Buffer, key), ':')
}

// Text adds a text, unless it is empty.
func (w *Writer) Text(name, value string) {
	if value != "" {
		w.Name(name)
		w.Buffer = AppendString(w.Buffer, value)
	}
}

// Texts adds a list of texts, unless it is empty.
func (w *Writer) Texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	w.BeginList(name)
	for _, v := range values {
		w.comma()
		w.Buffer = AppendString(w.Buffer, v)
	}
	w.EndList()
}

// Int adds a number.
func (w *Writer) Int(name string, value int) {
	w.Name(name)
	w.Buffer = strconv.AppendInt(w.Buffer, int64(value), 10)
}

// True adds true, unless value is false.
func (w *Writer) True(name string, value bool) {
	if value {
		w.Name(name)
		w.Buffer = append(w.Buffer, "true"...)
	}
}

// comma separates from what is before, unless that has just been opened.
func (w *Writer) comma() {
	if n := len(w.Buffer); n > 0 && w.Buffer[n-1] != '{' && w.Buffer[n-1] != '[' {
		w.Buffer = append(w.Buffer, ',')
	}
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string (RFC 8259 §7). Quotes, backslashes and control
// characters are escaped; bytes that are no UTF-8 become U+FFFD, one for each run.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start, replaced := 0, false // what is not copied yet; whether the byte before was replaced
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size != 1 {
				i += size
				replaced = false
				continue
			}
			b = append(b, s[start:i]...)
			if !replaced {
				b = append(b, "\uFFFD"...)
			}
			i++
			start, replaced = i, true
			continue
		}
		replaced = false
		if c < ' ' || c == '"' || c == '\\' {
			b = appendEscape(append(b, s[start:i]...), c)
			start = i + 1
		}
		i++
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
