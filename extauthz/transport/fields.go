package transport

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// What header blocks of ours are made of (RFC 7541). No field is indexed, so that there is
// no state of an encoder that two goroutines could come to disagree about.
const (
	statusOK      = "\x88"     // :status 200, in the static table
	literalStatus = "\x08\x03" // :status, three digits follow
	textContent   = "\x0f\x10\x0a" + "text/plain"
	grpcContent   = "\x0f\x10\x10" + "application/grpc" // content-type
	grpcStatusOK  = "\x00\x0bgrpc-status\x010"
	answerHead    = statusOK + grpcContent

	// tableOfNothing gives up the dynamic table.
	tableOfNothing = 0x20
)

// A head is the header list of a request as it is being read. What a client may get wrong
// in it makes the request malformed (RFC 9113 section 8.1.1), not the connection.
type head struct {
	fields []hpack.HeaderField // all but the pseudo-headers
	last   []hpack.HeaderField // fields of the request before, which were good

	method, path, scheme, authority string
	contentType, timeout            string
	length                          int64 // by content-length; -1: it does not say

	size      uint32
	limit     uint32
	pseudo    uint8 // which were there
	regular   bool  // a field that is no pseudo-header was there
	truncated bool  // there is more than limit
	malformed bool
}

const (
	hasMethod = 1 << iota
	hasPath
	hasScheme
	hasAuthority
)

func (h *head) reset() {
	last, fields := h.fields, h.last[:0]
	if h.malformed || h.truncated {
		last, fields = last[:0], fields[:0]
	}
	*h = head{fields: fields, last: last, limit: h.limit, length: -1}
}

// add takes the next field.
func (h *head) add(f hpack.HeaderField) {
	if h.truncated {
		return
	}
	if h.size += f.Size(); h.size > h.limit {
		h.truncated = true
		return
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		h.addPseudo(f)
		return
	}
	h.regular = true
	i := len(h.fields)
	h.fields = append(h.fields, f)
	// Clients say the same for each call, nearly, and the table of the decoder gives the
	// same strings, whose comparison ends with the first glance.
	if !(i < len(h.last) && h.last[i].Name == f.Name && h.last[i].Value == f.Value) && !validField(f) {
		h.malformed = true
		return
	}
	switch f.Name {
	case "content-type":
		h.contentType = f.Value
	case "grpc-timeout":
		h.timeout = f.Value
	case "content-length":
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || h.length >= 0 && h.length != int64(n) {
			h.malformed = true
			return
		}
		h.length = int64(n)
	}
}

func (h *head) addPseudo(f hpack.HeaderField) {
	var bit uint8
	switch f.Name {
	case ":method":
		bit, h.method = hasMethod, f.Value
	case ":path":
		bit, h.path = hasPath, f.Value
	case ":scheme":
		bit, h.scheme = hasScheme, f.Value
	case ":authority":
		bit, h.authority = hasAuthority, f.Value
	}
	if bit == 0 || h.pseudo&bit != 0 || h.regular || !httpguts.ValidHeaderFieldValue(f.Value) {
		h.malformed = true
	}
	h.pseudo |= bit
}

// complete tells whether a request has all that it needs.
func (h *head) complete() bool {
	const needed = hasMethod | hasPath | hasScheme
	return !h.malformed && h.pseudo&needed == needed && h.path != ""
}

// validField tells whether RFC 9113 sections 8.2.1 and 8.2.2 allow a field.
func validField(f hpack.HeaderField) bool {
	if f.Name == "" || !httpguts.ValidHeaderFieldValue(f.Value) {
		return false
	}
	for i := 0; i < len(f.Name); i++ {
		if c := f.Name[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return false
	case "te":
		return f.Value == "trailers"
	}
	return true
}

// isGRPC tells whether a content type is that of gRPC with messages of any kind.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// longestTimeout is what longer ones count as: some 36 years.
const longestTimeout = time.Duration(1 << 60)

// parseTimeout reads grpc-timeout: at most eight digits and a unit.
func parseTimeout(text string) (time.Duration, bool) {
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch text[len(text)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	n := time.Duration(0)
	for _, c := range []byte(text[:len(text)-1]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + time.Duration(c-'0')
	}
	if n > longestTimeout/unit {
		return longestTimeout, true
	}
	return n * unit, true
}

// incoming is the metadata of a call, as grpc-go shows it to a handler.
func incoming(fields []hpack.HeaderField, contentType, authority string) metadata.MD {
	md := metadata.MD{"content-type": {contentType}}
	if authority != "" {
		md[":authority"] = []string{authority}
	}
	for _, f := range fields {
		value := f.Value
		switch {
		case f.Name == "host": // another name of :authority, which comes first
			if md[":authority"] == nil {
				md[":authority"] = []string{value}
			}
			continue
		case strings.HasSuffix(f.Name, "-bin"):
			decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				continue
			}
			value = string(decoded)
		}
		md[f.Name] = append(md[f.Name], value)
	}
	return md
}

// reserved are the fields that are the transport's business.
func reserved(name string) bool {
	switch name {
	case "content-type", "grpc-timeout", "grpc-encoding", "grpc-message", "grpc-message-type", "grpc-status", "te":
		return true
	}
	return false
}

// appendField appends a field without indexing.
func appendField(dst []byte, name, value string) []byte {
	dst = appendString(append(dst, 0), name)
	return appendString(dst, value)
}

func appendString(dst []byte, s string) []byte {
	const prefix = 1<<7 - 1
	n := uint64(len(s))
	if n < prefix {
		return append(append(dst, byte(n)), s...)
	}
	dst = append(dst, prefix)
	for n -= prefix; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(append(dst, byte(n)), s...)
}

// mostMetadata is up to where metadata of an answer are written: its block is one frame.
const mostMetadata = ourFrameSize/2 - 64

// appendMetadata appends what a handler adds.
func appendMetadata(dst []byte, md metadata.MD) []byte {
	for name, values := range md {
		if name == "" || name[0] == ':' || reserved(name) {
			continue
		}
		for _, value := range values {
			if strings.HasSuffix(name, "-bin") {
				value = base64.RawStdEncoding.EncodeToString([]byte(value))
			}
			f := hpack.HeaderField{Name: name, Value: value}
			if validField(f) && len(dst)+int(f.Size()) < mostMetadata {
				dst = appendField(dst, name, value)
			}
		}
	}
	return dst
}

// appendStatus appends what ends an answer that is not OK. text is cut, so that the block
// fits one frame.
func appendStatus(dst []byte, code codes.Code, text string) []byte {
	dst = appendField(dst, "grpc-status", strconv.FormatUint(uint64(code), 10))
	if text != "" {
		dst = appendField(dst, "grpc-message", percentEncoded(cut(text, maxStatusText)))
	}
	return dst
}

// maxStatusText is how many bytes of a status are told, which become three times as many
// where they are percent-encoded.
const maxStatusText = 2 << 10

// cut is text as UTF-8, of which no more than n bytes are taken and no part of a character.
func cut(text string, n int) string {
	if len(text) > n {
		text = text[:min(len(text), n+utf8.UTFMax)] // no more of it can be needed
	}
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	if len(text) > n {
		for !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	return text
}

// percentEncoded is text as grpc-message carries it.
func percentEncoded(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(text) {
		if ' ' <= c && c <= '~' && c != '%' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// appendHTTPStatus appends the status of an answer that is not gRPC.
func appendHTTPStatus(dst []byte, status int) []byte {
	if status < 100 || status > 999 {
		status = 500
	}
	return strconv.AppendInt(append(dst, literalStatus...), int64(status), 10)
}

// after is when a call that came at arrived ends.
func after(arrived time.Time, timeout time.Duration) time.Time {
	if timeout > math.MaxInt64/2 {
		timeout = longestTimeout
	}
	return arrived.Add(timeout)
}
