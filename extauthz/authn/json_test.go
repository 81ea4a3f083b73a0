package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecodeObject(t *testing.T) {
	for _, row := range []struct {
		text string
		want map[string]any
	}{
		{`{}`, map[string]any{}},
		{" {\t\"a\"\n:\r1 } ", map[string]any{"a": json.Number("1")}},
		{`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, map[string]any{"a": "\"\\/\b\f\n\r\té😀"}},
		{`{"a":[true,false,null,-1.5e+3,{}]}`, map[string]any{"a": []any{true, false, nil, json.Number("-1.5e+3"), map[string]any{}}}},
		{`{"a":{"b":1},"A":{"b":1}}`, map[string]any{"a": map[string]any{"b": json.Number("1")}, "A": map[string]any{"b": json.Number("1")}}},
		{`{"a":"\u0000"}`, map[string]any{"a": "\x00"}},
	} {
		got, err := DecodeObject([]byte(row.text))
		if err != nil || !reflect.DeepEqual(got, row.want) {
			t.Errorf("DecodeObject(%q) = %v, %v; want %v", row.text, got, err, row.want)
		}
	}
	for _, row := range []struct {
		text string
		want error
	}{
		{`{"a":1,"a":1}`, errJSONDuplicate},
		{`{"a":[{"b":1,"\u0062":1}]}`, errJSONDuplicate},
		{`{} {}`, errJSONTrailing},
		{`[]`, errJSONObject},
		{`{"a":"\ud800"}`, errJSONUTF8},
		{"{\"a\":\"\xff\"}", errJSONUTF8},
		{"{\"a\":\"\\n\xff\"}", errJSONUTF8},
		{`{"a":` + strings.Repeat("[", 100), errJSONDepth},
		{`{"a"}`, errJSONSyntax},
		{`{`, errJSONSyntax},
		{``, errJSONSyntax},
	} {
		if got, err := DecodeObject([]byte(row.text)); !errors.Is(err, row.want) {
			t.Errorf("DecodeObject(%q) = %v, %v; want %v", row.text, got, err, row.want)
		}
	}
}

// What we accept, the library reads the same way; what we hand on unread is a value
// of its own.
func FuzzDecodeObject(f *testing.F) {
	for _, odd := range oddJSON {
		f.Add([]byte(`{"a":1` + odd.more))
	}
	f.Add([]byte(`{"keys":[{"a":[1,-2.5e3,"\ud83d\ude00"]},null,true]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		members, err := objectMembers(data)
		for name, raw := range members {
			if !json.Valid(raw) {
				t.Errorf("objectMembers(%q)[%q] = %q, which is no JSON", data, name, raw)
			}
		}
		got, strictErr := DecodeObject(data)
		if own, err := decodeOwn(data); !errors.Is(err, strictErr) || !reflect.DeepEqual(own, got) {
			t.Errorf("decodeOwn(%q) = %v, %v, and DecodeObject %v, %v", data, own, err, got, strictErr)
		}
		if strictErr != nil {
			return
		}
		if err != nil {
			t.Errorf("DecodeObject accepts %q, objectMembers says %v", data, err)
		}
		var want map[string]any
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("DecodeObject accepts %q, encoding/json says %v", data, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			t.Fatalf("DecodeObject accepts %q, and encoding/json finds more after it", data)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("DecodeObject(%q) = %v, encoding/json %v", data, got, want)
		}
	})
}

// TestIsPlain compares with a look at every byte: each value at each place of texts of
// several lengths.
func TestIsPlain(t *testing.T) {
	slow := func(b []byte) bool {
		return !slices.ContainsFunc(b, func(c byte) bool { return c < ' ' || c == '\\' || c >= utf8.RuneSelf })
	}
	for n := range 20 {
		for _, rest := range []byte{'a', ' ', '!', '[', ']', 0x7f} {
			b := bytes.Repeat([]byte{rest}, n)
			for at := range n {
				for c := range 256 {
					b[at] = byte(c)
					if got := isPlain(b); got != slow(b) {
						t.Errorf("isPlain(%q) = %v", b, got)
					}
				}
				b[at] = rest
			}
			if !isPlain(b) {
				t.Errorf("%q is not plain", b)
			}
		}
	}
	for range 10_000 {
		b := make([]byte, rand.IntN(24))
		for i := range b {
			b[i] = byte(rand.IntN(256))
			if rand.IntN(4) > 0 {
				b[i] = byte(' ' + rand.IntN('\\'-' '))
			}
		}
		if got := isPlain(b); got != slow(b) {
			t.Errorf("isPlain(%q) = %v", b, got)
		}
	}
}
