package portal

import (
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

func (s *service) Explain(ctx context.Context, r *adminv1.ExplainRequest) (*adminv1.ExplainResponse, error) {
	if _, err := administrator(ctx); err != nil {
		return nil, err
	}
	if s.options.Explain == nil {
		return nil, refuse(codes.FailedPrecondition, "only a running service explains")
	}
	call, err := explained(r)
	if err != nil {
		return nil, err
	}
	told, err := s.options.Explain(ctx, call)
	if err != nil {
		return nil, refuse(codes.InvalidArgument, err.Error())
	}
	text, err := json.Marshal(told)
	if err != nil {
		return nil, refuse(codes.Internal, "the story cannot be written")
	}
	answer := &adminv1.ExplainResponse{Story: &structpb.Struct{}}
	if err := protojson.Unmarshal(text, answer.Story); err != nil {
		return nil, refuse(codes.Internal, "the story cannot be written")
	}
	return answer, nil
}

// explained is the call that a request describes.
func explained(r *adminv1.ExplainRequest) (*extauthz.Call, error) {
	call := &extauthz.Call{
		Door: extauthz.AdminAPI, HTTP: true,
		Method: or(r.GetMethod(), "GET"), Host: r.GetHost(), Target: or(r.GetPath(), "/"), Scheme: or(r.GetScheme(), "https"),
		SourcePrincipal: r.GetSourcePrincipal(),
	}
	for _, h := range r.GetHeaders() {
		call.Headers = append(call.Headers, policy.Pair{Name: strings.ToLower(h.GetName()), Value: h.GetValue()})
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetContext())) {
		call.Context = append(call.Context, policy.Pair{Name: name, Value: r.GetContext()[name]})
	}
	if r.GetSource() != "" {
		source, err := netip.ParseAddr(r.GetSource())
		if err != nil {
			return nil, refuse(codes.InvalidArgument, "source is not an address")
		}
		call.Source = source.Unmap().WithZone("")
	}
	return call, nil
}
