package extauthz

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Tags of what is written of a CheckResponse (envoy/service/auth/v3, google/rpc).
const (
	responseStatus   = 1<<3 | byte(protowire.BytesType)
	responseDenied   = 2<<3 | byte(protowire.BytesType)
	responseOK       = 3<<3 | byte(protowire.BytesType)
	responseMetadata = 4<<3 | byte(protowire.BytesType)

	statusCode = 1<<3 | byte(protowire.VarintType) // of google.rpc.Status and of HttpStatus

	okHeaders     = 2<<3 | byte(protowire.BytesType)
	okRemove      = 5<<3 | byte(protowire.BytesType)
	okQueryRemove = 8<<3 | byte(protowire.BytesType)

	deniedStatus  = 1<<3 | byte(protowire.BytesType)
	deniedHeaders = 2<<3 | byte(protowire.BytesType)
	deniedBody    = 3<<3 | byte(protowire.BytesType)

	optionHeader = 1<<3 | byte(protowire.BytesType) // of HeaderValueOption
	optionAppend = 2<<3 | byte(protowire.BytesType)
	optionAction = 3<<3 | byte(protowire.VarintType)

	entryKey   = 1<<3 | byte(protowire.BytesType) // of HeaderValue and of map entries
	entryValue = 2<<3 | byte(protowire.BytesType)

	structFields = 1<<3 | byte(protowire.BytesType)
	valueString  = 3<<3 | byte(protowire.BytesType)
	valueList    = 6<<3 | byte(protowire.BytesType)
	listValues   = 1<<3 | byte(protowire.BytesType)

	overwriteOrAdd = 2 // HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
)

// sizeField is the size of a length-delimited field with n bytes of content.
func sizeField(n int) int { return 1 + protowire.SizeBytes(n) }

func appendLength(b []byte, tag byte, n int) []byte {
	return protowire.AppendVarint(append(b, tag), uint64(n))
}

func appendString(b []byte, tag byte, s string) []byte {
	return append(appendLength(b, tag, len(s)), s...)
}

// appendTexts writes a repeated field of strings.
func appendTexts(b []byte, tag byte, texts []string) []byte {
	for _, s := range texts {
		b = appendString(b, tag, s)
	}
	return b
}

// appendHeaders writes HeaderValueOptions that overwrite: append is false and the
// action says so too, because what an unset one means is about to change in Envoy.
func appendHeaders(b []byte, tag byte, headers []policy.Pair) []byte {
	for i := range headers {
		b = appendHeader(b, tag, headers[i].Name, headers[i].Value)
	}
	return b
}

func appendHeader(b []byte, tag byte, name, value string) []byte {
	inner := sizeField(len(name)) + sizeField(len(value))
	const rest = 2 + 2 // an empty BoolValue and the action
	b = appendLength(b, tag, sizeField(inner)+rest)
	b = appendLength(b, optionHeader, inner)
	b = appendString(b, entryKey, name)
	b = appendString(b, entryValue, value)
	return append(b, optionAppend, 0, optionAction, overwriteOrAdd)
}

// readHeaders gives the headers that [appendHeaders] wrote, as pieces of wire.
func readHeaders(wire string, tag byte) []policy.Pair {
	var headers []policy.Pair
	ok := true
	message := unsafe.Slice(unsafe.StringData(wire), len(wire)) // is only read
	for f := (fields{rest: message, ok: &ok}); f.next(); {
		if f.tag != uint64(tag) {
			continue
		}
		for option := (fields{rest: f.bytes, ok: &ok}); option.next(); {
			if option.tag != uint64(optionHeader) {
				continue
			}
			var header policy.Pair
			for entry := (fields{rest: option.bytes, ok: &ok}); entry.next(); {
				switch entry.tag {
				case tagEntryKey:
					header.Name = view(entry.bytes)
				case tagEntryValue:
					header.Value = view(entry.bytes)
				}
			}
			headers = append(headers, header)
		}
	}
	return headers
}

// appendEntry writes the entry `key: "value"` of a Struct.
func appendEntry(b []byte, key, value string) []byte {
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	inner := sizeField(len(value))
	b = appendLength(b, structFields, sizeField(len(key))+sizeField(inner))
	b = appendString(b, entryKey, key)
	b = appendLength(b, entryValue, inner)
	return appendString(b, valueString, value)
}

// appendListEntry writes the entry `key: ["value", …]` of a Struct.
func appendListEntry(b []byte, key string, values []string) []byte {
	var list []byte
	for _, v := range values {
		v = strings.ToValidUTF8(v, "\uFFFD")
		list = appendLength(list, listValues, sizeField(len(v)))
		list = appendString(list, valueString, v)
	}
	inner := sizeField(len(list))
	b = appendLength(b, structFields, sizeField(len(key))+sizeField(inner))
	b = appendString(b, entryKey, key)
	b = appendLength(b, entryValue, inner)
	return append(appendLength(b, valueList, len(list)), list...)
}
