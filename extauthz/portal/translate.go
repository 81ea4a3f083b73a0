package portal

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-authz/gatehouse/extauthz/tokens"
	"github.com/gatehouse-authz/gatehouse/policy"
	adminv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/admin/v1"
)

func ownerProto(o tokens.Owner) *adminv1.Owner {
	if o.IsZero() {
		return nil
	}
	return &adminv1.Owner{Issuer: o.Issuer, Subject: o.Subject}
}

func ownerOf(o *adminv1.Owner) tokens.Owner {
	return tokens.Owner{Issuer: o.GetIssuer(), Subject: o.GetSubject()}
}

func timeProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func attributesProto(attributes map[string]policy.Attribute) map[string]*adminv1.Attribute {
	all := make(map[string]*adminv1.Attribute, len(attributes))
	for name, a := range attributes {
		all[name] = &adminv1.Attribute{Values: a.Values, List: a.List}
	}
	return all
}

func attributesOf(attributes map[string]*adminv1.Attribute) map[string]policy.Attribute {
	all := make(map[string]policy.Attribute, len(attributes))
	for name, a := range attributes {
		all[name] = policy.Attribute{Values: a.GetValues(), List: a.GetList() || len(a.GetValues()) != 1}
	}
	return all
}

func kindProto(k tokens.Kind) adminv1.Kind {
	if k == tokens.APIKey {
		return adminv1.Kind_KIND_API_KEY
	}
	return adminv1.Kind_KIND_TOKEN
}

// kindOf is "" for one that is not given.
func kindOf(k adminv1.Kind) (tokens.Kind, bool) {
	switch k {
	case adminv1.Kind_KIND_UNSPECIFIED:
		return "", true
	case adminv1.Kind_KIND_TOKEN:
		return tokens.APIToken, true
	case adminv1.Kind_KIND_API_KEY:
		return tokens.APIKey, true
	}
	return "", false
}

func tokenProto(t *tokens.Token) *adminv1.Token {
	return &adminv1.Token{
		Id: t.ID, Kind: kindProto(t.Kind), Name: t.Name,
		Owner: ownerProto(t.Owner), Username: t.Username, Tenant: t.Tenant,
		Scopes: t.Scopes, Roles: t.Roles, Attributes: attributesProto(t.Attributes),
		CreatedAt: timeProto(t.CreatedAt), CreatedBy: ownerProto(t.CreatedBy),
		ExpiresAt: timeProto(t.ExpiresAt), LastUsedAt: timeProto(t.LastUsed),
		RevokedAt: timeProto(t.RevokedAt), RevokedBy: ownerProto(t.RevokedBy),
	}
}

func personProto(p *tokens.Person) *adminv1.Person {
	return &adminv1.Person{
		Owner: ownerProto(p.Owner), Realm: p.Realm, Username: p.Username, Email: p.Email, Tenant: p.Tenant,
		Roles: p.Roles, Attributes: attributesProto(p.Attributes), GrantedRoles: p.Granted,
		FirstSeen: timeProto(p.FirstSeen), LastSeen: timeProto(p.LastSeen),
		DisabledAt: timeProto(p.DisabledAt), DisabledBy: ownerProto(p.DisabledBy),
	}
}
