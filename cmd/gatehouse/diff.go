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

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
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

It is exact: whatever is not reported has the same answer. Expressions (when) are taken as
true or false whatever else holds. Principals are compared as authenticators and grants
make them: that these have changed is told below the list.

Exits with 1 if a request passes that did not before (--fail-on widen, the default), so
that continuous integration can guard it.`,
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
				d.print(p.out)
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
	Old     string   `json:"old"`
	New     string   `json:"new"`
	Changes []change `json:"changes"`
	Notes   []string `json:"notes"` // what has changed besides, which no request shows
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
	Context map[string]string `json:"context,omitempty"`
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
	d := &difference{Old: oldFile, New: newFile, Changes: []change{}, Notes: notes(old, new)}
	for _, c := range diff.Compare(side(old), side(new)) {
		d.Changes = append(d.Changes, newChange(&c))
	}
	return d, nil
}

// side is what is compared of a configuration.
func side(loaded *config.Loaded) diff.Side {
	s := diff.Side{Table: loaded.Gate.Table, Tenancy: loaded.Gate.Tenancy}
	for i := range loaded.Gate.Routes {
		s.Routes = append(s.Routes, loaded.Gate.Routes[i].Policy)
	}
	for _, a := range loaded.Config.GetAuthenticators() {
		if entry := loaded.Gate.Set.Entry(a.GetName()); entry != nil {
			s.Authenticators = append(s.Authenticators, diff.Authenticator{Name: entry.Name, Realm: entry.Realm, Unscoped: a.GetUnscoped()})
		}
	}
	s.Forwarded = func(r *policy.Route) map[string]string { return forwarded(loaded.Gate.Routes[r.Index].Forward) }
	return s
}

// forwarded is what the upstream gets of an allowed request, in words that differ where it does.
func forwarded(f *extauthz.Forward) map[string]string {
	values := map[string]string{"credentials": []string{extauthz.Strip: "strip", extauthz.Keep: "keep", extauthz.Pass: "pass"}[f.Credentials]}
	if f.KeepOverrides {
		values["request_overrides"] = "keep"
	}
	for _, h := range f.Headers {
		values[h.Name] = h.Value.String()
		if h.JSON {
			values[h.Name] += " as JSON"
		}
	}
	if t := f.Token; t != nil {
		values[t.Header] = fmt.Sprintf("identity token for %q, %v", t.Audience, t.TTL)
	}
	return values
}

// notes are what has changed besides the answers of principals to requests.
func notes(old, new *config.Loaded) []string {
	list := []string{}
	before, after := map[string]*configv1.Authenticator{}, map[string]*configv1.Authenticator{}
	for _, a := range old.Config.GetAuthenticators() {
		before[a.GetName()] = a
	}
	for _, a := range new.Config.GetAuthenticators() {
		after[a.GetName()] = a
		switch was := before[a.GetName()]; {
		case was == nil:
			list = append(list, fmt.Sprintf("authenticator %q is new", a.GetName()))
		case !proto.Equal(was, a):
			list = append(list, fmt.Sprintf("authenticator %q has changed: it may accept other credentials, or make other principals of them", a.GetName()))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == nil {
			list = append(list, fmt.Sprintf("authenticator %q is gone", name))
		}
	}
	same := func(what string, a, b proto.Message) {
		if !proto.Equal(a, b) {
			list = append(list, what)
		}
	}
	grants := func(c *configv1.Config) proto.Message { return &configv1.Config{Grants: c.GetGrants()} }
	same("grants have changed: principals may have other roles, scopes and attributes", grants(old.Config), grants(new.Config))
	same("tenancy has changed: principals may have other tenants", old.Config.GetTenancy(), new.Config.GetTenancy())
	same("tcp has changed: connections without HTTP may be decided otherwise", old.Config.GetTcp(), new.Config.GetTcp())
	same("paths have changed: other paths may be malformed", old.Config.GetPaths(), new.Config.GetPaths())
	owned := ownedHeaders(new)
	for _, name := range ownedHeaders(old) {
		if !slices.Contains(owned, name) {
			list = append(list, fmt.Sprintf("header %s is not ours any more: what a client sends reaches the upstream", name))
		}
	}
	return list
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

func newChange(c *diff.Change) change {
	out := change{
		Direction: c.Direction.String(), Preflight: c.Preflight, who: suite.Describe(c.Principal),
		Request: changeRequest{Method: c.Request.Method, Host: c.Request.Host, Path: c.Request.Path},
		Old:     newVerdict(c.Old), New: newVerdict(c.New),
	}
	for _, pair := range c.Request.Context {
		if out.Request.Context == nil {
			out.Request.Context = map[string]string{}
		}
		out.Request.Context[pair.Name] = pair.Value
	}
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
	out := verdict{Allowed: v.Allowed, Position: v.At.String()}
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
	return slices.ContainsFunc(d.Changes, func(c change) bool {
		return kind == "any" || c.Direction == kind+"s" || c.Direction == diff.Undecided.String()
	})
}

func (d *difference) print(w io.Writer) {
	counts := map[string]int{}
	for i := range d.Changes {
		c := &d.Changes[i]
		counts[c.Direction]++
		fmt.Fprintf(w, "%s: %s %s%s", strings.ToUpper(c.Direction), c.Request.Method, c.Request.Host, c.Request.Path)
		if c.Preflight {
			fmt.Fprint(w, " as a CORS preflight")
		}
		for _, name := range slices.Sorted(maps.Keys(c.Request.Context)) {
			fmt.Fprintf(w, " with %s=%s", name, c.Request.Context[name])
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
	for _, note := range d.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	fmt.Fprintf(w, "%s -> %s: ", d.Old, d.New)
	if len(d.Changes) == 0 {
		fmt.Fprintln(w, "every principal gets the same answer to every request")
		return
	}
	var parts []string
	for _, direction := range []diff.Direction{diff.Widens, diff.Narrows, diff.Forwards, diff.Undecided} {
		if n := counts[direction.String()]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, direction))
		}
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

func (v verdict) String() string {
	does := "refused"
	if v.Allowed {
		does = "allowed"
	}
	if v.Route == "" {
		return does + ": no route covers it"
	}
	return fmt.Sprintf("%s by route %q (%s)", does, v.Route, v.Position)
}
