package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
	decisionv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/decision/v1"
)

// oracle is the line by the schema: slow, and obviously what the schema says.
func oracle(t *testing.T, r *extauthz.Record, hide *pseudonyms) string {
	t.Helper()
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(newDecision(r, hide))
	if err != nil {
		t.Fatal(err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil { // protojson varies its white space
		t.Fatal(err)
	}
	return line.String() + "\n"
}

func TestLineIsWhatTheSchemaSays(t *testing.T) {
	odd := "a\"\\\x00\x1f\x7f\b\f\n\r\t\u2028<é🚪\xff\xfe"
	patterns, err := policy.ParsePattern("GET /orders/{id}")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		change func(*extauthz.Record)
	}{
		{"allowed", func(*extauthz.Record) {}},
		{"the zero record", func(r *extauthz.Record) { *r = extauthz.Record{} }},
		{"an empty request and principal", func(r *extauthz.Record) {
			r.Call, r.Request, r.Decision.Principal = nil, &policy.Request{}, &policy.Principal{}
		}},
		{"malformed, as it came", func(r *extauthz.Record) {
			r.Request, r.Call.Host, r.Call.Scheme, r.Call.Target = &policy.Request{}, odd, odd, odd+"?q"
		}},
		{"text of every kind", func(r *extauthz.Record) {
			r.Request.Method, r.Request.Scheme, r.Request.Host, r.Request.Path, r.Request.SourcePrincipal = odd, odd, odd, odd, odd
			p := r.Decision.Principal
			p.Issuer, p.Subject, p.Username, p.TokenID, p.Tenant = odd, odd, odd, odd, odd
			p.Roles, p.Scopes, p.Wildcard, p.Unscoped = []string{odd, "", "b"}, []string{odd}, true, true
			p.Attributes = map[string]policy.Attribute{odd: {Values: []string{odd}}, "b": {List: true}, "a": {}}
			r.Detail = errors.New(odd)
		}},
		{"context: in order, the last of a name", func(r *extauthz.Record) {
			r.Request.Context = []policy.Pair{{Name: "z", Value: "1"}, {Name: "a", Value: odd}, {Name: "z", Value: "2"}, {Name: odd, Value: ""}}
		}},
		{"TCP, IPv6", func(r *extauthz.Record) {
			r.Request.TCP, r.Request.Source = true, netip.MustParseAddr("2001:db8::1")
		}},
		{"shadow, pattern and door", func(r *extauthz.Record) {
			r.Shadow, r.Door = &policy.Decision{Route: r.Decision.Route}, extauthz.Forwarded
			r.Decision.Pattern = &patterns[0]
		}},
		{"an empty shadow", func(r *extauthz.Record) { r.Shadow = &policy.Decision{} }},
	} {
		for _, key := range []string{"", "key-one-0123456789"} {
			var hide *pseudonyms
			if key != "" {
				hide = newPseudonyms([]byte(key))
			}
			r := sample(policy.ReasonMet)
			row.change(r)
			before := "the line before\n"
			if got, want := string(appendLine([]byte(before), r, hide)), before+oracle(t, r, hide); got != want {
				t.Errorf("%s, pseudonyms %v:\n got %s\nwant %s", row.name, hide != nil, got, want)
			}
		}
	}
	for _, nanos := range []int64{0, 1, 1e3, 1e6, 5e8, 999_999_999, 1e9, 1_000_000_001, 61_200_030_000, -1, -1_500_000_000} {
		r := sample(policy.ReasonMet)
		r.Latency, r.Time = time.Duration(nanos), time.Unix(1_800_000_000, nanos).In(time.FixedZone("east", 3600))
		if got, want := string(appendLine(nil, r, nil)), oracle(t, r, nil); got != want {
			t.Errorf("%d ns:\n got %s\nwant %s", nanos, got, want)
		}
	}
}

func TestLineOfARefusalIsWhatTheSchemaSays(t *testing.T) {
	patterns, err := policy.ParsePattern("GET /orders/{id}")
	if err != nil {
		t.Fatal(err)
	}
	at := policy.Position{File: "g.yaml", Line: 4, Column: 2}
	table, problems := policy.NewTable([]*policy.Route{{Name: "orders", Patterns: patterns, Allow: []policy.Requirement{{
		At: at, Roles: &policy.Sets{At: at, Any: []string{"admin", "é\"\xff"}},
		Subjects: &policy.Templates{At: at, Values: []policy.Template{policy.LiteralTemplate("somebody")}},
	}}}}, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, hide := range []*pseudonyms{nil, newPseudonyms([]byte("key-one-0123456789"))} {
		r := sample(policy.ReasonMet)
		r.Decision.Principal.Subject = "eve\xff"
		r.Decision = table.Match(r.Request).Decide(r.Decision.Principal, r.Request)
		if len(r.Decision.Unmet()) != 2 {
			t.Fatalf("unmet = %v, want two", r.Decision.Unmet())
		}
		if got, want := string(appendLine(nil, r, hide)), oracle(t, r, hide); got != want {
			t.Errorf("pseudonyms %v:\n got %s\nwant %s", hide != nil, got, want)
		}
	}
}

// newDecision copies what is to be kept of r. Nothing in it refers to r.
func newDecision(r *extauthz.Record, hide *pseudonyms) *decisionv1.Decision {
	d := &r.Decision
	out := &decisionv1.Decision{
		Id: strings.Clone(r.ID), Time: timestamppb.New(r.Time), Latency: durationpb.New(r.Latency), Door: r.Door.String(),
		Request: newRequest(r, hide), Position: d.At.String(), Outcome: d.Outcome.String(), Reason: d.Reason.String(),
		Status: int32(r.Status), Authenticator: r.Authenticator, Pseudonymous: hide != nil,
	}
	if hide != nil {
		out.PseudonymKeyId = hide.id
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
		out.Unmet = append(out.Unmet, &decisionv1.Unmet{Position: u.At.String(), Condition: u.Condition, Want: valid(u.Want), Got: valid(got)})
	}
	if d.Principal != nil {
		out.Principal = newPrincipal(d.Principal, hide)
	}
	if r.Detail != nil && hide == nil { // it may name somebody
		out.Detail = valid(r.Detail.Error())
	}
	if s := r.Shadow; s != nil {
		out.Shadow = &decisionv1.Shadow{Outcome: s.Outcome.String(), Reason: s.Reason.String()}
		if s.Route != nil {
			out.Shadow.Route = s.Route.Name
		}
	}
	return out
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
