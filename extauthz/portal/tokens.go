package portal

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

// tokenService is the service Tokens.
type tokenService struct {
	adminv1.UnimplementedTokensServer
	options Options
}

const (
	// maxList bounds the scopes, roles and attributes of one token, each.
	maxList = 256

	// maxGrace bounds how long a rotated secret goes on.
	maxGrace = 24 * time.Hour
)

func (s *tokenService) Create(ctx context.Context, r *adminv1.CreateTokenRequest) (*adminv1.CreateTokenResponse, error) {
	view, err := s.options.view()
	if err != nil {
		return nil, err
	}
	token, err := asked(ctx, view, r)
	if err != nil {
		return nil, err
	}
	record, credential, err := view.Store().Create(ctx, token, callerOf(ctx).Actor)
	if err != nil {
		return nil, answerFor(err)
	}
	return &adminv1.CreateTokenResponse{Record: tokenProto(record), Token: credential.Reveal()}, nil
}

// asked is the token that a request asks for, if the caller may have it.
func asked(ctx context.Context, view *tokens.View, r *adminv1.CreateTokenRequest) (tokens.Token, error) {
	kind, known := kindOf(r.GetKind())
	switch {
	case !known:
		return tokens.Token{}, refuse(codes.InvalidArgument, "unknown kind")
	case max(len(r.GetScopes()), len(r.GetRoles()), len(r.GetAttributes())) > maxList:
		return tokens.Token{}, refuse(codes.InvalidArgument, "too many scopes, roles or attributes")
	case slices.Contains(r.GetScopes(), "") || slices.ContainsFunc(r.GetScopes(), func(s string) bool { return strings.ContainsAny(s, " \t\r\n") }):
		return tokens.Token{}, refuse(codes.InvalidArgument, "a scope is empty or has spaces")
	case slices.Contains(r.GetRoles(), ""):
		return tokens.Token{}, refuse(codes.InvalidArgument, "a role is empty")
	case r.GetNoRoles() && len(r.GetRoles()) > 0:
		return tokens.Token{}, refuse(codes.InvalidArgument, "no_roles and roles exclude each other")
	case r.GetTtl() != nil && (!r.GetTtl().IsValid() || r.GetTtl().AsDuration() <= 0):
		return tokens.Token{}, refuse(codes.InvalidArgument, "ttl is not a positive duration")
	}
	if kind == "" {
		kind = tokens.APIToken
	}
	caller := callerOf(ctx)
	owner := ownerOf(r.GetOwner())
	if owner.Issuer == "" && r.GetRealm() != "" {
		owner.Issuer = tokens.RealmIssuer(r.GetRealm())
	}
	var token tokens.Token
	var err error
	if caller.Principal != nil && kind == tokens.APIToken && (r.GetOwner() == nil || owner == caller.Actor.Owner) {
		token, err = own(caller, r)
	} else {
		token, err = others(ctx, view, caller, owner, r)
	}
	if err != nil {
		return tokens.Token{}, err
	}
	token.Kind, token.Name, token.Scopes = kind, r.GetName(), compact(r.GetScopes())
	if r.GetTtl() != nil {
		token.ExpiresAt = time.Now().Add(r.GetTtl().AsDuration())
	}
	if caller.Token && token.Owner == caller.Actor.Owner {
		// A token's tokens do not outlive it.
		if limit := caller.Principal.Expires; !limit.IsZero() && (token.ExpiresAt.IsZero() || token.ExpiresAt.After(limit)) {
			token.ExpiresAt = limit
		}
	}
	return token, nil
}

// own is a token for the caller: a part of what they are.
func own(caller Caller, r *adminv1.CreateTokenRequest) (tokens.Token, error) {
	p := caller.Principal
	if caller.Actor.Owner.IsZero() {
		return tokens.Token{}, refuse(codes.FailedPrecondition, "the credential has no subject that could own a token")
	}
	if more := without(r.GetScopes(), p.Scopes); len(more) > 0 && !p.Unscoped {
		return tokens.Token{}, refuse(codes.PermissionDenied, "you do not have the scope "+more[0])
	}
	if more := without(r.GetRoles(), p.Roles); len(more) > 0 {
		return tokens.Token{}, refuse(codes.PermissionDenied, "you do not have the role "+more[0])
	}
	if r.GetUsername() != "" || r.GetTenant() != "" && r.GetTenant() != p.Tenant || len(r.GetAttributes()) > 0 {
		return tokens.Token{}, refuse(codes.PermissionDenied, "username, tenant and attributes of your own tokens are yours")
	}
	return tokens.Token{
		Owner: caller.Actor.Owner, Username: p.Username, Tenant: p.Tenant,
		Roles: chosen(r, p.Roles), Attributes: p.Attributes,
	}, nil
}

// others is a token for somebody else, which administrators may make: what the
// directory knows of them bounds it.
func others(ctx context.Context, view *tokens.View, caller Caller, owner tokens.Owner, r *adminv1.CreateTokenRequest) (tokens.Token, error) {
	if !caller.Administrator {
		return tokens.Token{}, refuse(codes.PermissionDenied, "only administrators make API keys, and tokens of others")
	}
	if owner.Issuer == "" || owner.Subject == "" {
		return tokens.Token{}, refuse(codes.InvalidArgument, "an owner has an issuer (or a realm) and a subject")
	}
	person, err := find(ctx, view, owner, r.GetRealm())
	if err != nil {
		return tokens.Token{}, answerFor(err)
	}
	if person == nil {
		return unknown(caller, owner, r)
	}
	roles := slices.Concat(person.Roles, person.Granted)
	if more := without(r.GetRoles(), roles); len(more) > 0 && caller.Principal != nil {
		return tokens.Token{}, refuse(codes.PermissionDenied, "the owner does not have the role "+more[0])
	}
	if person.Disabled() {
		return tokens.Token{}, refuse(codes.FailedPrecondition, "the owner is disabled")
	}
	token := tokens.Token{
		Owner: person.Owner, Username: person.Username, Tenant: person.Tenant,
		Roles: chosen(r, roles), Attributes: person.Attributes,
	}
	if caller.Principal == nil {
		token.Username, token.Tenant = or(r.GetUsername(), token.Username), or(r.GetTenant(), token.Tenant)
		if len(r.GetAttributes()) > 0 {
			token.Attributes = attributesOf(r.GetAttributes())
		}
	}
	token.Username = or(token.Username, owner.Subject)
	return token, nil
}

// unknown is a token for somebody whom the directory does not know: the operator says
// what they are; for other administrators they are nothing but a name.
func unknown(caller Caller, owner tokens.Owner, r *adminv1.CreateTokenRequest) (tokens.Token, error) {
	if caller.Principal != nil && (len(r.GetRoles()) > 0 || r.GetTenant() != "" || len(r.GetAttributes()) > 0) {
		return tokens.Token{}, refuse(codes.PermissionDenied, "the directory does not know the owner, so nobody knows their roles, tenant and attributes")
	}
	return tokens.Token{
		Owner: owner, Username: or(r.GetUsername(), owner.Subject), Tenant: r.GetTenant(),
		Roles: compact(r.GetRoles()), Attributes: attributesOf(r.GetAttributes()),
	}, nil
}

// find looks somebody up by issuer and subject, or, of a realm, by username; nil if
// the directory does not know them.
func find(ctx context.Context, view *tokens.View, owner tokens.Owner, realm string) (*tokens.Person, error) {
	writePending(ctx, view)
	person, err := view.Store().Person(ctx, owner)
	if !errors.Is(err, tokens.ErrNotFound) {
		return person, err
	}
	if realm == "" {
		return nil, nil
	}
	people, _, err := view.Store().People(ctx, tokens.PeopleFilter{Realm: realm, Username: owner.Subject, PageSize: 2})
	if err != nil || len(people) != 1 {
		return nil, err // a name that two people have names nobody
	}
	return people[0], nil
}

func (s *tokenService) List(ctx context.Context, r *adminv1.ListTokensRequest) (*adminv1.ListTokensResponse, error) {
	view, err := s.options.view()
	if err != nil {
		return nil, err
	}
	caller := callerOf(ctx)
	kind, known := kindOf(r.GetKind())
	if !known {
		return nil, refuse(codes.InvalidArgument, "unknown kind")
	}
	filter := tokens.Filter{
		Kind: kind, Owner: ownerOf(r.GetOwner()), Tenant: r.GetTenant(),
		PageSize: int(r.GetPageSize()), PageCursor: r.GetPageToken(),
	}
	if !caller.Administrator {
		if caller.Actor.Owner.IsZero() || r.GetOwner() != nil && filter.Owner != caller.Actor.Owner {
			return nil, refuse(codes.PermissionDenied, "only administrators list tokens of others")
		}
		filter.Owner = caller.Actor.Owner
	}
	if r.GetActive() {
		filter.ActiveAt = time.Now()
	}
	writePending(ctx, view)
	list, next, err := view.Store().List(ctx, filter)
	if err != nil {
		return nil, answerFor(err)
	}
	answer := &adminv1.ListTokensResponse{NextPageToken: next}
	for _, t := range list {
		answer.Tokens = append(answer.Tokens, tokenProto(t))
	}
	return answer, nil
}

func (s *tokenService) Get(ctx context.Context, r *adminv1.GetTokenRequest) (*adminv1.Token, error) {
	t, _, err := s.managed(ctx, r.GetId())
	if err != nil {
		return nil, err
	}
	return tokenProto(t), nil
}

func (s *tokenService) Revoke(ctx context.Context, r *adminv1.RevokeTokenRequest) (*adminv1.Token, error) {
	_, view, err := s.managed(ctx, r.GetId())
	if err != nil {
		return nil, err
	}
	t, err := view.Store().Revoke(ctx, r.GetId(), callerOf(ctx).Actor)
	if err != nil {
		return nil, answerFor(err)
	}
	catchUp(ctx, view)
	return tokenProto(t), nil
}

func (s *tokenService) Rotate(ctx context.Context, r *adminv1.RotateTokenRequest) (*adminv1.CreateTokenResponse, error) {
	grace := r.GetGrace().AsDuration()
	if r.GetGrace() != nil && (!r.GetGrace().IsValid() || grace < 0 || grace > maxGrace) {
		return nil, refuse(codes.InvalidArgument, "grace is not between 0 and "+maxGrace.String())
	}
	t, view, err := s.managed(ctx, r.GetId())
	if err == nil {
		err = attainable(callerOf(ctx), t)
	}
	if err != nil {
		return nil, err
	}
	t, credential, err := view.Store().Rotate(ctx, r.GetId(), grace, callerOf(ctx).Actor)
	if err != nil {
		return nil, answerFor(err)
	}
	catchUp(ctx, view)
	return &adminv1.CreateTokenResponse{Record: tokenProto(t), Token: credential.Reveal()}, nil
}

func (s *tokenService) RevokeAll(ctx context.Context, r *adminv1.RevokeAllRequest) (*adminv1.RevokeAllResponse, error) {
	caller, err := administrator(ctx)
	if err != nil {
		return nil, err
	}
	empty := r.GetIssuer() == "" && r.GetSubject() == "" && r.GetTenant() == "" && r.GetTokenId() == ""
	if empty != r.GetEverything() {
		return nil, refuse(codes.InvalidArgument, "give a scope, or everything alone")
	}
	revocation := tokens.Revocation{Issuer: r.GetIssuer(), Subject: r.GetSubject(), Tenant: r.GetTenant(), TokenID: r.GetTokenId()}
	if r.GetBefore() != nil {
		revocation.Before = r.GetBefore().AsTime()
	}
	if r.GetExpiresAt() != nil {
		revocation.Expires = r.GetExpiresAt().AsTime()
	}
	view, err := s.options.view()
	if err != nil {
		return nil, err
	}
	revocation, err = view.Store().RevokeAll(ctx, revocation, caller.Actor)
	if err != nil {
		return nil, answerFor(err)
	}
	catchUp(ctx, view)
	return &adminv1.RevokeAllResponse{Before: timeProto(revocation.Before)}, nil
}

// managed reads a token that the caller may manage. One of somebody else's is, for
// those who are not administrators, as if it did not exist.
func (s *tokenService) managed(ctx context.Context, id string) (*tokens.Token, *tokens.View, error) {
	view, err := s.options.view()
	if err != nil {
		return nil, nil, err
	}
	caller := callerOf(ctx)
	t, err := view.Store().Get(ctx, id)
	if err == nil && !caller.Administrator && (caller.Actor.Owner.IsZero() || t.Owner != caller.Actor.Owner || t.Kind != tokens.APIToken) {
		err = tokens.ErrNotFound
	}
	if err != nil {
		return nil, nil, answerFor(err)
	}
	return t, view, nil
}

// attainable refuses the secret of a token that the caller could not make: of one with
// more scopes or roles than the credential that they showed, or of another tenant, and to
// a token that of one that outlives it. Otherwise the narrowest token that may manage
// tokens would be as good as the widest of its owner.
func attainable(caller Caller, t *tokens.Token) error {
	p := caller.Principal
	if caller.Administrator || p == nil {
		return nil
	}
	more := without(t.Scopes, p.Scopes)
	switch {
	case len(more) > 0 && !p.Unscoped:
		return refuse(codes.PermissionDenied, "it has the scope "+more[0]+", and you do not")
	case len(without(t.Roles, p.Roles)) > 0:
		return refuse(codes.PermissionDenied, "it has the role "+without(t.Roles, p.Roles)[0]+", and you do not")
	case t.Tenant != p.Tenant:
		return refuse(codes.PermissionDenied, "it is of another tenant")
	case caller.Token && !p.Expires.IsZero() && (t.ExpiresAt.IsZero() || t.ExpiresAt.After(p.Expires)):
		return refuse(codes.PermissionDenied, "it would outlive the token that you showed")
	}
	return nil
}

// chosen are the roles that a token gets, out of its owner's.
func chosen(r *adminv1.CreateTokenRequest, owners []string) []string {
	switch {
	case r.GetNoRoles():
		return nil
	case len(r.GetRoles()) > 0:
		return compact(r.GetRoles())
	}
	return compact(owners)
}

// without is what a has and b has not.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(one string) bool { return slices.Contains(b, one) })
}

// compact is list with each value once, in order of first appearance.
func compact(list []string) []string {
	var all []string
	for _, one := range list {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	return all
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
