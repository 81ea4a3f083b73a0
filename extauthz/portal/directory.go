package portal

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// directoryService is the service Directory.
type directoryService struct {
	adminv1.UnimplementedDirectoryServer
	view *tokens.View
}

func (s *directoryService) List(ctx context.Context, r *adminv1.ListPeopleRequest) (*adminv1.ListPeopleResponse, error) {
	if _, err := administrator(ctx); err != nil {
		return nil, err
	}
	// Whoever was seen here a moment ago is in the list.
	if err := s.view.Flush(ctx); err != nil {
		return nil, answerFor(err)
	}
	people, next, err := s.view.Store().People(ctx, tokens.PeopleFilter{
		Issuer: r.GetIssuer(), Realm: r.GetRealm(), Username: r.GetUsername(), Email: r.GetEmail(), Tenant: r.GetTenant(),
		Disabled: r.GetDisabled(), PageSize: int(r.GetPageSize()), PageCursor: r.GetPageToken(),
	})
	if err != nil {
		return nil, answerFor(err)
	}
	answer := &adminv1.ListPeopleResponse{NextPageToken: next}
	for _, p := range people {
		answer.People = append(answer.People, personProto(p))
	}
	return answer, nil
}

func (s *directoryService) Get(ctx context.Context, r *adminv1.GetPersonRequest) (*adminv1.Person, error) {
	if _, err := administrator(ctx); err != nil {
		return nil, err
	}
	return s.answer(s.view.Store().Person(ctx, ownerOf(r.GetOwner())))
}

func (s *directoryService) Disable(ctx context.Context, r *adminv1.DisableRequest) (*adminv1.Person, error) {
	caller, err := administrator(ctx)
	if err != nil {
		return nil, err
	}
	if ownerOf(r.GetOwner()) == caller.Actor.Owner {
		return nil, refuse(codes.FailedPrecondition, "you cannot disable yourself")
	}
	return s.changed(ctx)(s.view.Store().Disable(ctx, ownerOf(r.GetOwner()), caller.Actor))
}

func (s *directoryService) Enable(ctx context.Context, r *adminv1.EnableRequest) (*adminv1.Person, error) {
	caller, err := administrator(ctx)
	if err != nil {
		return nil, err
	}
	return s.changed(ctx)(s.view.Store().Enable(ctx, ownerOf(r.GetOwner()), caller.Actor))
}

func (s *directoryService) Grant(ctx context.Context, r *adminv1.GrantRequest) (*adminv1.Person, error) {
	caller, err := administrator(ctx)
	if err != nil {
		return nil, err
	}
	return s.changed(ctx)(s.view.Store().Grant(ctx, ownerOf(r.GetOwner()), r.GetRoles(), caller.Actor))
}

func (s *directoryService) answer(p *tokens.Person, err error) (*adminv1.Person, error) {
	if err != nil {
		return nil, answerFor(err)
	}
	return personProto(p), nil
}

// changed answers a change when it is in effect here.
func (s *directoryService) changed(ctx context.Context) func(*tokens.Person, error) (*adminv1.Person, error) {
	return func(p *tokens.Person, err error) (*adminv1.Person, error) {
		if err != nil {
			return nil, answerFor(err)
		}
		if err := s.view.Sync(ctx); err != nil {
			s.view.Wake() // it is made, and heard of as soon as the store answers again
		}
		return personProto(p), nil
	}
}
