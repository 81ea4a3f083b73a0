// Package record writes the decision log and reads it back. Start reading at [Log].
package record

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
	decisionv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/decision/v1"
)

// pseudonymBytes of the keyed hash stand for a personal value: enough that no two values
// meet by chance.
const pseudonymBytes = 16

// pseudonyms replaces personal values by a keyed hash, so that equal values stay equal. A
// nil pseudonyms leaves them as they are.
type pseudonyms struct{ key []byte }

func (p *pseudonyms) of(value string) string {
	if p == nil || value == "" {
		return value
	}
	return Pseudonym(p.key, value)
}

// Pseudonym is what stands for a personal value in a log that was written with key.
func Pseudonym(key []byte, value string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(value)) // never fails (hash.Hash)
	return "p:" + hex.EncodeToString(mac.Sum(nil)[:pseudonymBytes])
}

// newDecision copies what is to be kept of r. Nothing in it refers to r.
func newDecision(r *extauthz.Record, hide *pseudonyms) *decisionv1.Decision {
	d := &r.Decision
	out := &decisionv1.Decision{
		Id: strings.Clone(r.ID), Time: timestamppb.New(r.Time), Latency: durationpb.New(r.Latency), Door: r.Door.String(),
		Request: newRequest(r, hide), Position: d.At.String(), Outcome: d.Outcome.String(), Reason: d.Reason.String(),
		Status: int32(r.Status), Authenticator: r.Authenticator, Pseudonymous: hide != nil,
	}
	if r.Snapshot != nil {
		out.Snapshot = r.Snapshot.Config().Hash
	}
	if d.Route != nil {
		out.Route = d.Route.Name
	}
	if d.Pattern != nil {
		out.Pattern = d.Pattern.String()
	}
	for _, u := range d.Unmet() {
		got := u.Got
		if hide != nil && isPersonal(u.Condition) {
			got = ""
		}
		out.Unmet = append(out.Unmet, &decisionv1.Unmet{Position: u.At.String(), Condition: u.Condition, Want: u.Want, Got: got})
	}
	if d.Principal != nil {
		out.Principal = newPrincipal(d.Principal, hide)
	}
	if r.Detail != nil && hide == nil { // it may name somebody
		out.Detail = r.Detail.Error()
	}
	if s := r.Shadow; s != nil {
		out.Shadow = &decisionv1.Shadow{Outcome: s.Outcome.String(), Reason: s.Reason.String()}
		if s.Route != nil {
			out.Shadow.Route = s.Route.Name
		}
	}
	return out
}

// isPersonal tells whether what a condition met says who somebody is.
func isPersonal(condition string) bool {
	name, _, _ := strings.Cut(condition, ".")
	return strings.HasPrefix(name, "subject") || strings.HasPrefix(name, "username") || name == "owner"
}

func newRequest(r *extauthz.Record, hide *pseudonyms) *decisionv1.Request {
	q := r.Request
	if q == nil {
		return nil
	}
	out := &decisionv1.Request{
		Method: q.Method, Scheme: q.Scheme, Host: q.Host, Path: q.Path,
		SourcePrincipal: q.SourcePrincipal, Tcp: q.TCP,
	}
	if q.Path == "" && r.Call != nil {
		out.Method, out.Scheme, out.Host = r.Call.Method, r.Call.Scheme, r.Call.Host
		out.Path, _, _ = strings.Cut(r.Call.Target, "?")
	}
	if q.Source.IsValid() {
		out.Source = hide.of(q.Source.String())
	}
	for _, c := range q.Context {
		if out.Context == nil {
			out.Context = map[string]string{}
		}
		out.Context[valid(c.Name)] = valid(c.Value)
	}
	for _, text := range []*string{&out.Method, &out.Scheme, &out.Host, &out.Path, &out.SourcePrincipal} {
		*text = valid(*text)
	}
	return out
}

// valid is text as protobuf takes it, in memory of its own.
func valid(text string) string { return strings.Clone(strings.ToValidUTF8(text, "\uFFFD")) }

func newPrincipal(p *policy.Principal, hide *pseudonyms) *decisionv1.Principal {
	out := &decisionv1.Principal{
		Authenticator: p.Authenticator, Realm: p.Realm, Issuer: valid(p.Issuer),
		Subject: hide.of(valid(p.Subject)), Username: hide.of(valid(p.Username)), TokenId: valid(p.TokenID),
		Tenant: valid(p.Tenant), Wildcard: p.Wildcard, Roles: allValid(p.Roles), Scopes: allValid(p.Scopes), Unscoped: p.Unscoped,
	}
	for name, a := range p.Attributes {
		if out.Attributes == nil {
			out.Attributes = map[string]*decisionv1.Attribute{}
		}
		out.Attributes[valid(name)] = &decisionv1.Attribute{Values: allValid(a.Values), List: a.List}
	}
	return out
}

func allValid(texts []string) []string {
	var out []string
	for _, t := range texts {
		out = append(out, valid(t))
	}
	return out
}
