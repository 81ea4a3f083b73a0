package extauthz

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// Names of what Envoy is told about a decision, allowed or not, as dynamic metadata
// in the namespace envoy.filters.http.ext_authz, for its access log, RBAC and rate
// limits.
const (
	metadataID       = "decision_id"
	metadataOutcome  = "outcome"
	metadataReason   = "reason"
	metadataRoute    = "route"
	metadataPosition = "position"

	metadataAuthenticator = "authenticator"
	metadataRealm         = "realm"
	metadataSubject       = "subject"
	metadataTenant        = "tenant"
	metadataRoles         = "roles"
)

// metadata is the Struct for an answer.
func metadata(a *Answer) *structpb.Struct {
	fields := make(map[string]*structpb.Value)
	text := func(name, value string) {
		if value != "" {
			fields[name] = structpb.NewStringValue(strings.ToValidUTF8(value, "\uFFFD"))
		}
	}
	d := &a.Decision
	text(metadataID, a.ID)
	text(metadataOutcome, d.Outcome.String())
	text(metadataReason, d.Reason.String())
	if d.Route != nil {
		text(metadataRoute, d.Route.Name)
	}
	text(metadataPosition, d.At.String())
	if p := d.Principal; p != nil {
		text(metadataAuthenticator, p.Authenticator)
		text(metadataRealm, p.Realm)
		text(metadataSubject, p.Subject)
		text(metadataTenant, p.Tenant)
		if len(p.Roles) > 0 {
			roles := make([]*structpb.Value, len(p.Roles))
			for i, r := range p.Roles {
				roles[i] = structpb.NewStringValue(strings.ToValidUTF8(r, "\uFFFD"))
			}
			fields[metadataRoles] = structpb.NewListValue(&structpb.ListValue{Values: roles})
		}
	}
	return &structpb.Struct{Fields: fields}
}

// appendDecisionMetadata writes what differs between the requests of one principal.
func appendDecisionMetadata(b []byte, id string, d *policy.Decision) []byte {
	if id != "" {
		b = appendEntry(b, metadataID, id)
	}
	b = appendEntry(b, metadataOutcome, d.Outcome.String())
	b = appendEntry(b, metadataReason, d.Reason.String())
	if d.Route != nil && d.Route.Name != "" {
		b = appendEntry(b, metadataRoute, d.Route.Name)
	}
	return appendPosition(b, d.At)
}

// appendPosition writes file:line:column without making a string of it first.
func appendPosition(b []byte, at policy.Position) []byte {
	if at.Line == 0 {
		if at.File != "" {
			b = appendEntry(b, metadataPosition, at.File)
		}
		return b
	}
	const twoNumbers = 2 * len(":-9223372036854775808")
	var room [256 + twoNumbers]byte
	text := append(room[:0], at.File...)
	text = strconv.AppendInt(append(text, ':'), int64(at.Line), 10)
	text = strconv.AppendInt(append(text, ':'), int64(at.Column), 10)
	return appendEntry(b, metadataPosition, view(text))
}

// appendKindMetadata writes what many principals have in common.
func appendKindMetadata(b []byte, p *policy.Principal) []byte {
	if p == nil {
		return b
	}
	for _, f := range [...]policy.Pair{
		{Name: metadataAuthenticator, Value: p.Authenticator},
		{Name: metadataRealm, Value: p.Realm},
		{Name: metadataTenant, Value: p.Tenant},
	} {
		if f.Value != "" {
			b = appendEntry(b, f.Name, f.Value)
		}
	}
	if len(p.Roles) > 0 {
		b = appendListEntry(b, metadataRoles, p.Roles)
	}
	return b
}

// appendSubjectMetadata writes what the principals of a kind differ in.
func appendSubjectMetadata(b []byte, p *policy.Principal) []byte {
	if p == nil || p.Subject == "" {
		return b
	}
	return appendEntry(b, metadataSubject, p.Subject)
}
