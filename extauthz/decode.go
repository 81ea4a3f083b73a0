package extauthz

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// DecodeCheck reads a serialized CheckRequest with the generated code: the plain way,
// which is the oracle of the fast one. What cannot be decoded is a Call that says so.
func DecodeCheck(message []byte) *Call {
	request := &authv3.CheckRequest{}
	if err := proto.Unmarshal(message, request); err != nil {
		return &Call{Undecodable: true}
	}
	return NewCall(request)
}

// NewCall makes a Call of a decoded CheckRequest.
func NewCall(request *authv3.CheckRequest) *Call {
	attributes := request.GetAttributes()
	source := attributes.GetSource()
	http := attributes.GetRequest().GetHttp()
	p := &parts{
		http:     http != nil,
		method:   http.GetMethod(),
		host:     http.GetHost(),
		path:     http.GetPath(),
		query:    http.GetQuery(),
		fragment: http.GetFragment(),
		scheme:   http.GetScheme(),
		size:     http.GetSize(),
		body:     http.GetBody(),
		rawBody:  http.GetRawBody(),

		sourceAddress:   source.GetAddress().GetSocketAddress().GetAddress(),
		sourcePrincipal: source.GetPrincipal(),

		headers:    sortedPairs(http.GetHeaders()),
		rawHeaders: headerPairs(http.GetHeaderMap()),
		context:    sortedPairs(attributes.GetContextExtensions()),
	}
	c := &Call{}
	p.call(c)
	return c
}

// sortedPairs lists a map by name, so that equal requests are equal calls.
func sortedPairs(m map[string]string) []policy.Pair {
	pairs := make([]policy.Pair, 0, len(m))
	for name, value := range m {
		pairs = append(pairs, policy.Pair{Name: name, Value: value})
	}
	slices.SortFunc(pairs, func(a, b policy.Pair) int { return strings.Compare(a.Name, b.Name) })
	return pairs
}

// headerPairs lists raw headers, which may repeat. Envoy fills raw_value only.
func headerPairs(m *corev3.HeaderMap) []policy.Pair {
	pairs := make([]policy.Pair, 0, len(m.GetHeaders()))
	for _, h := range m.GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		pairs = append(pairs, policy.Pair{Name: h.GetKey(), Value: value})
	}
	return pairs
}
