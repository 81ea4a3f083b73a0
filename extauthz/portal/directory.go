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
	options Options
}

func (s *directoryService) List(ctx context.Context, r *adminv1.ListPeopleRequest) (*adminv1.ListPeopleResponse, error) {
	_, view, err := s.administrator(ctx)
	if err != nil {
		return nil, err
	}
	writePending(ctx, view)
	people, next, err := view.Store().People(ctx, tokens.PeopleFilter{
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
	_, view, err := s.administrator(ctx)
	if err != nil {
		return nil, err
	}
	return personAnswer(view.Store().Person(ctx, ownerOf(r.GetOwner())))
}

func (s *directoryService) Disable(ctx context.Context, r *adminv1.DisableRequest) (*adminv1.Person, error) {
	caller, view, err := s.administrator(ctx)
	if err != nil {
		return nil, err
	}
	if ownerOf(r.GetOwner()) == caller.Actor.Owner {
		return nil, refuse(codes.FailedPrecondition, "you cannot disable yourself")
	}
	person, err := view.Store().Disable(ctx, ownerOf(r.GetOwner()), caller.Actor)
	catchUp(ctx, view)
	return personAnswer(person, err)
}

func (s *directoryService) Enable(ctx context.Context, r *adminv1.EnableRequest) (*adminv1.Person, error) {
	caller, view, err := s.administrator(ctx)
	if err != nil {
		return nil, err
	}
	person, err := view.Store().Enable(ctx, ownerOf(r.GetOwner()), caller.Actor)
	catchUp(ctx, view)
	return personAnswer(person, err)
}

func (s *directoryService) Grant(ctx context.Context, r *adminv1.GrantRequest) (*adminv1.Person, error) {
	caller, view, err := s.administrator(ctx)
	if err != nil {
		return nil, err
	}
	amends := len(r.GetAdd())+len(r.GetRemove()) > 0
	switch {
	case amends && len(r.GetRoles()) > 0:
		return nil, refuse(codes.InvalidArgument, "roles is the whole list, and excludes add and remove")
	case max(len(r.GetRoles()), len(r.GetAdd()), len(r.GetRemove())) > maxList:
		return nil, refuse(codes.InvalidArgument, "too many roles")
	}
	var person *tokens.Person
	if amends {
		person, err = view.Store().AmendGrant(ctx, ownerOf(r.GetOwner()), r.GetAdd(), r.GetRemove(), caller.Actor)
	} else {
		person, err = view.Store().Grant(ctx, ownerOf(r.GetOwner()), r.GetRoles(), caller.Actor)
	}
	catchUp(ctx, view)
	return personAnswer(person, err)
}

// administrator refuses everybody else, and everything without a store.
func (s *directoryService) administrator(ctx context.Context) (Caller, *tokens.View, error) {
	caller, err := administrator(ctx)
	if err != nil {
		return Caller{}, nil, err
	}
	view, err := s.options.view()
	return caller, view, err
}

func personAnswer(p *tokens.Person, err error) (*adminv1.Person, error) {
	if err != nil {
		return nil, answerFor(err)
	}
	return personProto(p), nil
}

// writePending lets lists show who was seen, and what was used, a moment ago at this
// replica. A store that cannot be written to can still be read.
func writePending(ctx context.Context, view *tokens.View) {
	_ = view.Flush(ctx) // it is kept, and tried again
}

// catchUp puts a change into effect here before it is answered.
func catchUp(ctx context.Context, view *tokens.View) {
	if err := view.Sync(ctx); err != nil {
		view.Wake() // it is made, and heard of as soon as the store answers again
	}
}
