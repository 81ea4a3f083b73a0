package hostile

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// sendBoth sends bytes to both gatehouses, which must agree.
func (s *stack) sendBoth(t *testing.T, name string, message []byte) *answer {
	t.Helper()
	first, second := s.servers[0].send(t, message), s.servers[1].send(t, message)
	// The fast decoder does not look into fields that it has no use for.
	if first.gist() != second.gist() && second.reason != "request_undecodable" {
		t.Errorf("%s: two answers to one message %.100x:\n%s\n%s", name, message, first.gist(), second.gist())
	}
	return first
}

// TestSemantics10BrokenMessages: whatever bytes arrive, there is an answer, and it
// refuses what cannot be decoded.
func TestSemantics10BrokenMessages(t *testing.T) {
	s := start(t)
	good, err := proto.MarshalOptions{Deterministic: true}.Marshal(get("/me/", s.bearer(s.token(nil))...).mapForm())
	if err != nil {
		t.Fatal(err)
	}
	want := func(name string, message []byte, want string) {
		t.Helper()
		a := s.sendBoth(t, name, message)
		if got := fmt.Sprintf("%d %s", a.status, a.reason); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	want("the message itself", good, "200 requirement_met")
	for n := 1; n < len(good); n += 7 {
		if a := s.sendBoth(t, fmt.Sprintf("%d bytes of it", n), good[:n]); a.status == 200 {
			t.Errorf("%d bytes of %d are enough", n, len(good))
		}
	}
	const undecodable = "400 request_undecodable"
	field := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	http := func(content []byte) []byte { return field(1, field(4, field(2, content))) }
	want("nothing", nil, "403 not_http")
	want("no attributes", field(1, nil), "403 not_http")
	want("an unknown field", field(99, []byte("x")), "403 not_http")
	want("an HTTP part without anything", http(nil), "400 method_invalid")
	want("text", []byte("GET / HTTP/1.1\r\n\r\n"), undecodable)
	want("JSON", []byte(`{"attributes":{}}`), undecodable)
	want("zero bytes", make([]byte, 64), undecodable)
	want("0xff", bytes.Repeat([]byte{0xff}, 64), undecodable)
	want("a length beyond the end", []byte{0x0a, 0x7f}, undecodable)
	want("a length of 2^63", append([]byte{0x0a}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), undecodable)
	want("a varint without end", append([]byte{0x0a}, bytes.Repeat([]byte{0x80}, 20)...), undecodable)
	want("field number 0", []byte{0x02, 0x00}, undecodable)
	want("an open group", []byte{0x0b}, undecodable)
	want("an end without a group", []byte{0x0c}, undecodable)
	want("wire type 6", []byte{0x0e, 0x00}, undecodable)
	want("groups in groups", bytes.Repeat([]byte{0x0b}, 100_000), undecodable)
	want("a message behind the message", append(bytes.Clone(good), good...), "200 requirement_met")
	want("another path behind the message", append(bytes.Clone(good), http(field(4, []byte("/internal/")))...), "403 route_forbids")
	want("another type of field", append(bytes.Clone(good), protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)...), "200 requirement_met")
	for name, number := range map[string]protowire.Number{"method": 2, "path": 4, "host": 5, "scheme": 6, "query": 7, "fragment": 8, "body": 11} {
		want("a "+name+" that is no UTF-8", append(bytes.Clone(good), http(field(number, []byte("/\xff")))...), undecodable)
	}
	header := func(name, value string) []byte {
		return http(field(3, append(field(1, []byte(name)), field(2, []byte(value))...)))
	}
	want("a header that is no UTF-8", append(bytes.Clone(good), header("x", "\xff")...), undecodable)
	want("a name that is no UTF-8", append(bytes.Clone(good), header("\xff", "x")...), undecodable)
	want("the credential again, of which the last counts", append(bytes.Clone(good), header("authorization", "Bearer x")...), "401 token_malformed")
	want("a header without a name", append(bytes.Clone(good), header("", "x")...), "200 requirement_met")
	want("a query apart from the path", append(bytes.Clone(good), http(field(7, []byte("a=b")))...), "200 requirement_met")
	want("a fragment apart from the path", append(bytes.Clone(good), http(field(8, []byte("x")))...), "400 path_not_canonical")

	r := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		message := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			message[r.IntN(len(message))] ^= 1 << r.IntN(8)
		}
		s.sendBoth(t, fmt.Sprintf("bits flipped, %d", i), message)
	}
}

// TestHugeMessages: what is too large is refused, at once.
func TestHugeMessages(t *testing.T) {
	s := start(t)
	good := s.bearer(s.token(nil))
	ask := func(name string, message []byte, want string) {
		t.Helper()
		began := time.Now()
		a := s.sendBoth(t, name, message)
		if got := fmt.Sprintf("%d %s", a.status, a.reason); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if took := time.Since(began); took > askTimeout/2 {
			t.Errorf("%s: answered after %s", name, took)
		}
	}
	many := get("/me/", good...)
	for i := range 2000 {
		many.headers = append(many.headers, header{fmt.Sprintf("x-%d", i), "x"})
	}
	ask("2,000 headers", encode(t, many.mapForm()), "400 headers_too_large")
	ask("2,000 raw headers", encode(t, many.listForm()), "400 headers_too_large")
	ask("one header of 1 MiB", encode(t, get("/me/", good...).with(header{"x", strings.Repeat("x", 1<<20)}).mapForm()), "400 headers_too_large")
	check := get("/me/", good...).mapForm()
	check.Attributes.ContextExtensions = map[string]string{}
	for i := range 2000 {
		check.Attributes.ContextExtensions[fmt.Sprint(i)] = "x"
	}
	ask("2,000 context extensions", encode(t, check), "400 headers_too_large")

	// As many entries as fit into a message, each of another name.
	var entries []byte
	for i := 0; len(entries) < 3<<20; i++ {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), fmt.Sprintf("%x", i))
		entries = protowire.AppendBytes(protowire.AppendTag(entries, 3, protowire.BytesType), entry)
	}
	message := entries
	for _, number := range []protowire.Number{2, 4, 1} {
		message = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), message)
	}
	ask("as many headers as a message holds", message, "400 headers_too_large")

	large := get("/me/", good...).mapForm()
	large.Attributes.Request.Http.Body = strings.Repeat("x", 3<<20)
	ask("a body of 3 MiB", encode(t, large), "200 requirement_met")
}

// TestHeaderForms: what only one of the two forms of headers can say.
func TestHeaderForms(t *testing.T) {
	s := start(t)
	token := s.token(nil)
	for _, test := range []struct {
		name    string
		headers map[string]string
		list    []*corev3.HeaderValue
		want    string
	}{
		{"a value instead of a raw value", nil, []*corev3.HeaderValue{{Key: "authorization", Value: "Bearer " + token}}, "200 requirement_met"},
		{"a value beside a raw value, which counts", nil, []*corev3.HeaderValue{{Key: "authorization", Value: "Bearer " + token, RawValue: []byte("Bearer x")}}, "401 token_malformed"},
		{"in both forms", map[string]string{"authorization": "Bearer " + token}, []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token)}}, "400 credential_repeated"},
		{"two forms, two credentials", map[string]string{"authorization": "Bearer " + token}, []*corev3.HeaderValue{{Key: "x-api-key", RawValue: []byte("wrong")}}, "401 api_key_unknown"},
		{"two spellings in capitals", map[string]string{"authorization": "Bearer " + token, "Authorization": "Bearer " + token}, nil, "400 credential_repeated"},
		{"a raw value that is no UTF-8", nil, []*corev3.HeaderValue{{Key: "authorization", RawValue: []byte("Bearer " + token + "\xff")}}, "401"},
		{"a cookie in the first of two lines", nil, []*corev3.HeaderValue{{Key: "cookie", RawValue: []byte("access_token=" + token)}, {Key: "cookie", RawValue: []byte("a=1")}}, "200 requirement_met"},
		{"a cookie in lines that Envoy joined", map[string]string{"cookie": "access_token=" + token + ",a=1"}, nil, "400 credential_repeated"},
		{"an empty line beside the credential", nil, []*corev3.HeaderValue{{Key: "authorization"}, {Key: "authorization", RawValue: []byte("Bearer " + token)}}, "400 credential_repeated"},
		{"a pseudo header for a credential", map[string]string{":authorization": "Bearer " + token}, nil, "401 no_credential"},
		{"a pseudo header for the path", map[string]string{":path": "/internal/", ":method": "POST", "authorization": "Bearer " + token}, nil, "200 requirement_met"},
	} {
		check, http := get("/me/").check()
		http.Headers = test.headers
		http.HeaderMap = &corev3.HeaderMap{Headers: test.list}
		for _, server := range s.servers {
			a := server.ask(t, check)
			if got := fmt.Sprintf("%d %s", a.status, a.reason); got != test.want && fmt.Sprint(a.status) != test.want {
				t.Errorf("%s: %s: %s, want %s", server.name, test.name, got, test.want)
			}
		}
	}
}
