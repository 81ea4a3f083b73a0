package portal

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// service is the service Service.
type service struct {
	adminv1.UnimplementedServiceServer
	options Options
}

func (s *service) Status(ctx context.Context, _ *adminv1.StatusRequest) (*adminv1.StatusResponse, error) {
	if _, err := administrator(ctx); err != nil {
		return nil, err
	}
	answer := &adminv1.StatusResponse{}
	if view := s.options.View(); view != nil {
		now := time.Now()
		answer.Store = &adminv1.StatusResponse_Store{Kind: view.Store().Name(), Ready: true}
		if err := view.Ready(now); err != nil {
			answer.Store.Ready, answer.Store.Error = false, err.Error()
		}
		if age := view.Age(now); age >= 0 {
			answer.Store.Age = durationpb.New(age)
		}
	}
	snapshot := s.options.Gate.Snapshot()
	if snapshot == nil {
		return answer, nil
	}
	answer.Configuration = snapshot.Config().Hash
	if set := snapshot.Config().Set; set != nil {
		for _, entry := range set.Entries() {
			if issuer := issuerOf(entry); issuer != nil {
				answer.Issuers = append(answer.Issuers, issuer)
			}
		}
	}
	return answer, nil
}

// issuerOf is the state of an entry's keys; nil if it has none to fetch.
func issuerOf(entry *authn.Entry) *adminv1.StatusResponse_Issuer {
	keyed, ok := entry.Authenticator.(interface{ Keys() *authn.KeySet })
	if !ok || keyed.Keys() == nil {
		return nil
	}
	state := keyed.Keys().State()
	return &adminv1.StatusResponse_Issuer{
		Authenticator: entry.Name, Issuer: state.Issuer, Ready: state.Ready, Error: state.LastError,
		Keys: int32(state.Keys), FetchedAt: timeProto(state.LastSuccess),
	}
}

func (s *service) Audit(ctx context.Context, r *adminv1.AuditRequest) (*adminv1.AuditResponse, error) {
	if _, err := administrator(ctx); err != nil {
		return nil, err
	}
	view, err := s.options.view()
	if err != nil {
		return nil, err
	}
	entries, next, err := view.Store().Audit(ctx, tokens.AuditFilter{
		Actor: ownerOf(r.GetActor()), Target: r.GetTarget(), PageSize: int(r.GetPageSize()), PageCursor: r.GetPageToken(),
	})
	if err != nil {
		return nil, answerFor(err)
	}
	answer := &adminv1.AuditResponse{NextPageToken: next}
	for _, e := range entries {
		detail := &structpb.Struct{}
		if err := protojson.Unmarshal(e.Detail, detail); err != nil {
			return nil, refuse(codes.Internal, "the entry cannot be read")
		}
		answer.Entries = append(answer.Entries, &adminv1.AuditEntry{
			Version: e.Version, At: timeProto(e.At), Actor: ownerProto(e.Actor.Owner), ActorToken: e.Actor.TokenID,
			Action: e.Action, Target: e.Target, Detail: detail,
		})
	}
	return answer, nil
}
