package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/compare"
	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy/diff"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

func (p *program) diffCommand() *cobra.Command {
	var failOn, output string
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say which requests two configurations answer differently",
		Long: `Compares what two configurations decide, not what they say: for each region of requests,
those that one route decides in the old table and one in the new, it names a smallest
request and principal whose answer changes, or for whom the upstream gets other headers.

It is exact in who passes, in what upstreams get, and in the status of refusals: whatever
is not reported has the same answer, and each witness has been asked of both. Principals
are those that authenticators can make, with what grants add and as whom they may select to
be; they are shown as before grants. A request has one credential, for which both sides make
the same principal. An expression (when) is asked about each witness; where none is found
for which it says what is needed, it is said what is assumed of it. Where a search takes too
long, the change is undecided, which counts as any.

Changes widen, narrow, forward other headers, or refuse with another status (answers).
Not compared request by request, but listed as settings with what they can do: which
credentials authenticators accept, how they map claims, and everything else outside routes,
grants, tenancy and forward. Not compared at all: the text of refusals and their challenges,
and identity that is too large for headers.

Exits with 1 if a request passes that did not before, or may (--fail-on widen, the
default), so that continuous integration can guard it; and if a file cannot be compared.

With --output json: changes have direction (widens, narrows, forwards, answers, undecided),
request (method, host, path, tcp, context, headers), principal (null: nobody), assumed, old
and new (allowed, route, pattern, position, answer), forwarded (name, old, new) and
preflight; settings have path, old, new and effect; notes are texts.`,
		Example: `  gatehouse diff old.yaml new.yaml
  git show main:gatehouse.yaml > old.yaml && gatehouse diff --fail-on any old.yaml gatehouse.yaml
  gatehouse diff --output json old.yaml new.yaml | jq '.changes[] | select(.direction == "widens")'`,
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usagef("the old configuration is missing")
			case 1:
				return usagef("the new configuration is missing")
			case 2:
				return nil
			}
			return usagef("unexpected argument %q", args[2])
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return outputError(output)
			}
			if !slices.Contains([]string{"widen", "narrow", "any"}, failOn) {
				return usagef("invalid --fail-on %q: give widen, narrow or any", failOn)
			}
			d, err := p.compare(args[0], args[1])
			if err != nil {
				return err
			}
			if output == "json" {
				encoder := json.NewEncoder(p.out)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(d); err != nil {
					return err
				}
			} else {
				var text strings.Builder
				d.print(&text)
				p.show(text.String())
			}
			if d.failsOn(failOn) {
				return errRefused
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&failOn, "fail-on", "widen", "exit with 1 on `changes` of this kind: widen, narrow or any")
	outputFlag(cmd, &output)
	return cmd
}

// difference is what two configurations decide differently. Its JSON is for other programs.
type difference struct {
	Old      string    `json:"old"`
	New      string    `json:"new"`
	Changes  []change  `json:"changes"`
	Settings []setting `json:"settings"` // what has changed besides, and what it can do
	Notes    []string  `json:"notes"`
}

type setting struct {
	Path   string `json:"path"`
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	Effect string `json:"effect"` // may widen, may narrow, may widen or narrow, decides nothing
}

type change struct {
	Direction string        `json:"direction"` // widens, narrows, forwards, or undecided
	Request   changeRequest `json:"request"`
	Principal *caller       `json:"principal"` // null: nobody
	Assumed   []assumption  `json:"assumed,omitempty"`
	Old       verdict       `json:"old"`
	New       verdict       `json:"new"`
	Forwarded []forwarding  `json:"forwarded,omitempty"`
	Preflight bool          `json:"preflight,omitempty"`

	who string // the principal in words
}

type changeRequest struct {
	Method  string            `json:"method"`
	Host    string            `json:"host"`
	Path    string            `json:"path"`
	TCP     bool              `json:"tcp,omitempty"` // a connection without HTTP
	Context map[string]string `json:"context,omitempty"`
	Headers map[string]string `json:"headers,omitempty"` // beside the credential
}

type caller struct {
	Authenticator string              `json:"authenticator"`
	Realm         string              `json:"realm"`
	Subject       string              `json:"subject,omitempty"`
	Username      string              `json:"username,omitempty"`
	Tenant        string              `json:"tenant,omitempty"`
	Wildcard      bool                `json:"wildcard,omitempty"`
	Roles         []string            `json:"roles,omitempty"`
	Scopes        []string            `json:"scopes,omitempty"`
	Unscoped      bool                `json:"unscoped,omitempty"`
	Attributes    map[string][]string `json:"attributes,omitempty"`
}

type assumption struct {
	Expression string `json:"expression"`
	Holds      bool   `json:"holds"`
}

type verdict struct {
	Allowed  bool   `json:"allowed"`
	Route    string `json:"route,omitempty"` // empty: none covers the request
	Pattern  string `json:"pattern,omitempty"`
	Position string `json:"position,omitempty"`
	Answer   string `json:"answer,omitempty"` // how it is refused; where that changes
}

type forwarding struct {
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// compare loads two configurations and compares them.
func (p *program) compare(oldFile, newFile string) (*difference, error) {
	old, err := p.load(oldFile)
	if err != nil {
		return nil, err
	}
	defer old.Close()
	new, err := p.load(newFile)
	if err != nil {
		return nil, err
	}
	defer new.Close()
	compared := compare.Configurations(old, new)
	d := &difference{Old: oldFile, New: newFile, Changes: []change{}, Settings: []setting{}, Notes: notes(old, new)}
	for i := range compared.Changes {
		d.Changes = append(d.Changes, newChange(&compared.Changes[i], new.Config.GetTenancy()))
	}
	for _, s := range compared.Settings {
		d.Settings = append(d.Settings, setting{s.Path, s.Old, s.New, s.Effect.String()})
	}
	return d, nil
}

// notes are what has changed and no request of the lists shows.
func notes(old, new *config.Loaded) []string {
	list := []string{}
	if grants := func(c *configv1.Config) proto.Message { return &configv1.Config{Grants: c.GetGrants()} }; !proto.Equal(grants(old.Config), grants(new.Config)) && hasExpressions(new) {
		list = append(list, "grants have changed, and expressions of routes may read what they add: those are not compared")
	}
	owned := ownedHeaders(new)
	for _, name := range ownedHeaders(old) {
		if !slices.Contains(owned, name) {
			list = append(list, fmt.Sprintf("header %s is not ours any more: what a client sends reaches the upstream", name))
		}
	}
	return list
}

// hasExpressions tells whether a route asks an expression about principals.
func hasExpressions(loaded *config.Loaded) bool {
	return slices.ContainsFunc(loaded.Config.GetRoutes(), func(r *configv1.Route) bool {
		return slices.ContainsFunc(r.GetAllow(), func(q *configv1.Requirement) bool { return strings.Contains(q.GetWhen(), "principal") })
	})
}

// ownedHeaders are the headers that are set or removed on every request that passes.
func ownedHeaders(loaded *config.Loaded) []string {
	owned := map[string]bool{}
	own := func(f *extauthz.Forward) {
		if f == nil {
			return
		}
		for _, h := range f.Headers {
			owned[h.Name] = true
		}
		for _, name := range f.Remove {
			owned[name] = true
		}
		if f.Token != nil {
			owned[f.Token.Header] = true
		}
	}
	own(loaded.Gate.Forward)
	for i := range loaded.Gate.Routes {
		own(loaded.Gate.Routes[i].Forward)
	}
	return slices.Sorted(maps.Keys(owned))
}

func newChange(c *diff.Change, tenancy *configv1.Tenancy) change {
	out := change{
		Direction: c.Direction.String(), Preflight: c.Preflight, who: suite.Describe(c.Principal),
		Request: changeRequest{Method: c.Request.Method, Host: c.Request.Host, Path: c.Request.Path, TCP: c.Request.TCP},
		Old:     newVerdict(c.Old), New: newVerdict(c.New),
	}
	for _, pair := range c.Request.Context {
		if out.Request.Context == nil {
			out.Request.Context = map[string]string{}
		}
		out.Request.Context[pair.Name] = pair.Value
	}
	header := func(name, value string) {
		if name == "" || value == "" {
			return
		}
		if out.Request.Headers == nil {
			out.Request.Headers = map[string]string{}
		}
		out.Request.Headers[name] = value
	}
	for _, pair := range c.Request.Headers {
		header(pair.Name, pair.Value)
	}
	header(tenancy.GetSelectHeader(), c.Selected.Tenant)
	header(tenancy.GetUsernameHeader(), c.Selected.Username)
	for _, a := range c.Assumed {
		out.Assumed = append(out.Assumed, assumption{a.Source, a.Holds})
	}
	for _, f := range c.Forwarded {
		out.Forwarded = append(out.Forwarded, forwarding{f.Name, f.Old, f.New})
	}
	if p := c.Principal; p != nil {
		out.Principal = &caller{
			Authenticator: p.Authenticator, Realm: p.Realm, Subject: p.Subject, Username: p.Username, Tenant: p.Tenant,
			Wildcard: p.Wildcard, Roles: p.Roles, Scopes: p.Scopes, Unscoped: p.Unscoped,
		}
		for name, a := range p.Attributes {
			if out.Principal.Attributes == nil {
				out.Principal.Attributes = map[string][]string{}
			}
			out.Principal.Attributes[name] = a.Values
		}
	}
	return out
}

func newVerdict(v diff.Verdict) verdict {
	out := verdict{Allowed: v.Allowed, Position: v.At.String(), Answer: v.Answer}
	if v.Route != nil {
		out.Route = v.Route.Name
	}
	if v.Pattern != nil {
		out.Pattern = v.Pattern.String()
	}
	return out
}

// failsOn tells whether a change is of a kind. What could not be decided may be any.
func (d *difference) failsOn(kind string) bool {
	if slices.ContainsFunc(d.Settings, func(s setting) bool {
		return s.Effect != compare.Nothing.String() && (kind == "any" || strings.Contains(s.Effect, kind))
	}) {
		return true
	}
	return slices.ContainsFunc(d.Changes, func(c change) bool {
		return kind == "any" || c.Direction == kind+"s" || c.Direction == diff.Undecided.String()
	})
}

func (d *difference) print(w io.Writer) {
	counts := map[string]int{}
	for i := range d.Changes {
		c := &d.Changes[i]
		counts[c.Direction]++
		fmt.Fprintf(w, "%s: %s", strings.ToUpper(c.Direction), c.Request)
		if c.Preflight {
			fmt.Fprint(w, " as a CORS preflight")
		}
		for _, name := range slices.Sorted(maps.Keys(c.Request.Context)) {
			fmt.Fprintf(w, " with %s=%s", name, c.Request.Context[name])
		}
		for _, name := range slices.Sorted(maps.Keys(c.Request.Headers)) {
			fmt.Fprintf(w, " with header %s: %s", name, c.Request.Headers[name])
		}
		fmt.Fprintf(w, " %s\n", c.who)
		for _, a := range c.Assumed {
			fmt.Fprintf(w, "  if %s is %t\n", a.Expression, a.Holds)
		}
		fmt.Fprintf(w, "  old: %s\n  new: %s\n", c.Old, c.New)
		for _, f := range c.Forwarded {
			fmt.Fprintf(w, "  %s: %s, was %s\n", f.Name, orNothing(f.New), orNothing(f.Old))
		}
	}
	settings := 0
	for _, s := range d.Settings {
		fmt.Fprintf(w, "%s: %s: %s, was %s\n", strings.ToUpper(s.Effect), s.Path, orNothing(s.New), orNothing(s.Old))
		if s.Effect != compare.Nothing.String() {
			settings++
		}
	}
	for _, note := range d.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	fmt.Fprintf(w, "%s -> %s: ", d.Old, d.New)
	if len(d.Changes) == 0 && settings == 0 {
		fmt.Fprintln(w, "every principal gets the same answer to every request")
		return
	}
	var parts []string
	for _, direction := range []diff.Direction{diff.Widens, diff.Narrows, diff.Forwards, diff.Answers, diff.Undecided} {
		if n := counts[direction.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, direction))
		}
	}
	if settings > 0 {
		parts = append(parts, fmt.Sprintf("%d settings", settings))
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

func (r changeRequest) String() string {
	if r.TCP {
		return "a connection without HTTP"
	}
	return r.Method + " " + r.Host + r.Path
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

func (v verdict) String() string {
	does := "refused"
	switch {
	case v.Allowed:
		does = "allowed"
	case v.Answer != "":
		does = "refused with " + v.Answer
	}
	if v.Route == "" {
		return does + ": no route covers it"
	}
	return fmt.Sprintf("%s by route %q (%s)", does, v.Route, v.Position)
}
