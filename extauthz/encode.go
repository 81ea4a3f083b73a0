package extauthz

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// CheckResponse makes the message for Envoy: the only function that builds one. Envoy
// takes a response whose status is OK, or that has no status at all, as permission,
// whatever else is in it; so a refusal always has a status that is not OK, a denied
// response and an HTTP status that refuses, and a permission has none of these.
func CheckResponse(a *Answer) *authv3.CheckResponse {
	response := &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(a.code())},
		DynamicMetadata: metadata(a),
	}
	if a.Allowed() {
		response.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers:                 headerOptions(a.SetHeaders()),
			HeadersToRemove:         a.RemovedHeaders(),
			QueryParametersToRemove: a.RemovedQuery(),
		}}
		return response
	}
	response.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
		Status:  &typev3.HttpStatus{Code: typev3.StatusCode(a.refusalStatus())},
		Headers: headerOptions(a.headers),
		Body:    a.body,
	}}
	return response
}

// headerOptions are headers that overwrite. Both ways to say so are used: what an unset
// one means is about to change in Envoy.
func headerOptions(headers []policy.Pair) []*corev3.HeaderValueOption {
	options := make([]*corev3.HeaderValueOption, len(headers))
	for i, h := range headers {
		options[i] = &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: h.Name, Value: h.Value},
			Append:       wrapperspb.Bool(false),
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}
	}
	return options
}
