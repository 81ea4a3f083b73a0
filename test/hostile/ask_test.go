package hostile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// eventually is how long things that happen in the background may take on a busy
// machine, and askTimeout how long one answer may.
const (
	eventually = 30 * time.Second
	askTimeout = 20 * time.Second
)

// A header is one line, as a client sends it.
type header struct{ name, value string }

// A request is what a client sends; two lines of one name are two lines.
type request struct {
	method, host, path string
	headers            []header
	context            map[string]string
	source             string // default 192.0.2.1
	certificate        string // the URI in the client's
}

func get(path string, headers ...header) request {
	return request{method: "GET", host: "h.example", path: path, headers: headers}
}

func (r request) with(headers ...header) request {
	r.headers = slices.Concat(r.headers, headers)
	return r
}

func (r request) check() (*authv3.CheckRequest, *authv3.AttributeContext_HttpRequest) {
	source := r.source
	if source == "" {
		source = "192.0.2.1"
	}
	http := &authv3.AttributeContext_HttpRequest{Method: r.method, Host: r.host, Path: r.path, Scheme: "https", Protocol: "HTTP/1.1", Size: -1}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{
			Principal: r.certificate,
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: source, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 4711},
			}}},
		},
		Request:           &authv3.AttributeContext_Request{Http: http},
		ContextExtensions: r.context,
	}}, http
}

// mapForm is r as Envoy sends it by default: lines of one name joined with a comma.
func (r request) mapForm() *authv3.CheckRequest {
	check, http := r.check()
	http.Headers = map[string]string{":authority": r.host, ":method": r.method, ":path": r.path, ":scheme": "https"}
	for _, h := range r.headers {
		name := strings.ToLower(h.name)
		if before, twice := http.Headers[name]; twice {
			http.Headers[name] = before + "," + h.value
		} else {
			http.Headers[name] = h.value
		}
	}
	return check
}

// listForm is r as Envoy sends it with encode_raw_headers: line by line, in bytes.
func (r request) listForm() *authv3.CheckRequest {
	check, http := r.check()
	http.HeaderMap = &corev3.HeaderMap{}
	add := func(name, value string) {
		http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: name, RawValue: []byte(value)})
	}
	add(":authority", r.host)
	add(":method", r.method)
	add(":path", r.path)
	for _, h := range r.headers {
		add(strings.ToLower(h.name), h.value)
	}
	return check
}

// An answer is what Envoy would make of a CheckResponse.
type answer struct {
	response *authv3.CheckResponse

	status   int // 200 if the request goes on
	reason   string
	set      map[string]string
	removed  []string
	queries  []string          // removed parameters
	replies  map[string]string // headers for the client
	body     string
	metadata map[string]any
}

func (a *answer) String() string {
	text, _ := protojson.Marshal(a.response)
	return string(text)
}

// String of what does not differ between two decisions on one request.
func (a *answer) gist() string {
	replies := maps.Clone(a.replies)
	delete(replies, "x-gatehouse-decision-id")
	delete(replies, "retry-after")
	return fmt.Sprint(a.status, a.reason, a.metadata["outcome"], a.metadata["route"], a.set, a.removed, a.queries, replies)
}

// raw sends and receives bytes.
type raw struct{}

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (raw) Name() string { return "proto" }

// ask sends one message that is well-formed.
func (s server) ask(t testing.TB, check *authv3.CheckRequest) *answer {
	t.Helper()
	return s.send(t, encode(t, check))
}

func encode(t testing.TB, check *authv3.CheckRequest) []byte {
	t.Helper()
	message, err := proto.Marshal(check)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// send sends any bytes as a CheckRequest, and holds the answer to what is true of all.
func (s server) send(t testing.TB, message []byte) *answer {
	t.Helper()
	a, err := s.trySend(message)
	if err != nil {
		t.Errorf("%s: %v, want an answer to every message", s.name, err)
		return &answer{}
	}
	for _, complaint := range a.invariants() {
		t.Errorf("%s: %s\n%s", s.name, complaint, a)
	}
	return a
}

func (s server) trySend(message []byte) (*answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	var reply []byte
	if err := s.conn.Invoke(ctx, "/envoy.service.auth.v3.Authorization/Check", message, &reply, grpc.ForceCodecV2(raw{})); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	response := &authv3.CheckResponse{}
	if err := proto.Unmarshal(reply, response); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return read(response), nil
}

func read(response *authv3.CheckResponse) *answer {
	a := &answer{response: response, set: map[string]string{}, replies: map[string]string{}}
	a.metadata = response.GetDynamicMetadata().AsMap()
	a.reason, _ = a.metadata["reason"].(string)
	if response.GetStatus().GetCode() == 0 {
		a.status = 200
		ok := response.GetOkResponse()
		for _, h := range ok.GetHeaders() {
			a.set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		a.removed = slices.Sorted(slices.Values(ok.GetHeadersToRemove()))
		a.queries = slices.Sorted(slices.Values(ok.GetQueryParametersToRemove()))
		return a
	}
	denied := response.GetDeniedResponse()
	a.status, a.body = int(denied.GetStatus().GetCode()), denied.GetBody()
	for _, h := range denied.GetHeaders() {
		a.replies[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return a
}

// ask sends r in both forms to both gatehouses, which must agree, and gives one answer.
func (s *stack) ask(t testing.TB, r request) *answer {
	t.Helper()
	var first *answer
	for _, server := range s.servers {
		for _, check := range []*authv3.CheckRequest{r.mapForm(), r.listForm()} {
			a := server.ask(t, check)
			for _, complaint := range a.forged(r) {
				t.Errorf("%s: %s\n%s", server.name, complaint, a)
			}
			if first == nil {
				first = a
			} else if first.gist() != a.gist() {
				t.Errorf("%s: two answers to one request:\n%s\n%s", server.name, first.gist(), a.gist())
			}
		}
	}
	return first
}
