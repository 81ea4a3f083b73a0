// Package compare compares two configurations: what they decide, by policy/diff, and the
// settings around it, one by one. Start reading at [Configurations]; makers.go says which
// principals authenticators make, settings.go what a changed setting can do.
package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	"github.com/gatehouse-authz/gatehouse/policy/diff"
)

// A Difference is what two configurations do differently.
type Difference struct {
	Changes  []diff.Change
	Settings []Setting // what has changed besides, and is not compared request by request
}

// Configurations compares two.
func Configurations(old, new *config.Loaded) Difference {
	return Difference{diff.Compare(Side(old), Side(new)), settings(old.Config, new.Config)}
}

// Side is what is compared of a configuration request by request.
func Side(loaded *config.Loaded) diff.Side {
	gate := loaded.Gate
	s := diff.Side{
		Table: gate.Table, TCP: gate.TCP, Tenancy: gate.Tenancy, Grants: gate.Grants,
		Select: gate.SelectHeader != "", Impersonate: gate.UsernameHeader != "",
	}
	for i := range gate.Routes {
		s.Routes = append(s.Routes, gate.Routes[i].Policy)
	}
	for _, a := range loaded.Config.GetAuthenticators() {
		if gate.Set == nil || gate.Set.Entry(a.GetName()) == nil {
			continue
		}
		entry := gate.Set.Entry(a.GetName())
		s.Authenticators = append(s.Authenticators, diff.Authenticator{
			Name: entry.Name, Realm: entry.Realm, Unscoped: a.GetUnscoped(), Impersonate: a.GetImpersonate(), Wildcard: a.GetWildcard(),
			Makes: makers(loaded.Config, a),
		})
	}
	for _, a := range loaded.Config.GetAuthenticators() {
		if keys := a.GetJwt().GetApiKeyClaim().GetAuthenticator(); keys != "" {
			for _, known := range s.Authenticators {
				if known.Name == keys {
					known.Name, known.As = keyIn(keys, a.GetName()), keys
					s.Authenticators = append(s.Authenticators, known)
					break
				}
			}
		}
	}
	s.Consults = func(r *policy.Route) []string { return consults(loaded, r) }
	s.Forwarded = func(r *policy.Route) map[string]diff.Value { return forwarded(route(gate, r).Forward) }
	s.Refused = func(r *policy.Route, why policy.Reason) string { return refused(gate, r, why) }
	if tenant := gate.AnonymousTenant; tenant != "" {
		s.Anonymous = &policy.Principal{Tenant: tenant, Tenants: gate.Tenancy.Readable(tenant)}
	}
	return s
}

// keyIn names the authenticator of keys where the key stands in another's token: a route
// may accept the token, and not the key by itself.
func keyIn(keys, token string) string { return keys + " in " + token }

// route is what the gate does for a route of the table; of tcp it does nothing.
func route(gate *extauthz.Config, r *policy.Route) *extauthz.Route {
	if r != nil && r.Index < len(gate.Routes) && gate.Routes[r.Index].Policy == r {
		return &gate.Routes[r.Index]
	}
	return &extauthz.Route{Policy: r, Forward: &extauthz.Forward{}}
}

// consults names the authenticators whose credentials a route looks at.
func consults(loaded *config.Loaded, r *policy.Route) []string {
	if loaded.Gate.Set == nil {
		return nil
	}
	rt := route(loaded.Gate, r)
	var names []string
	for _, a := range loaded.Config.GetAuthenticators() {
		entry := loaded.Gate.Set.Entry(a.GetName())
		if entry == nil || r.Accept != nil && !slices.Contains(r.Accept, a.GetName()) {
			continue
		}
		if r.Public && (rt.Identify == nil && !isCheap(entry.Kind) || rt.Identify != nil && !slices.Contains(rt.Identify, a.GetName())) {
			continue
		}
		names = append(names, a.GetName())
		if keys := a.GetJwt().GetApiKeyClaim().GetAuthenticator(); keys != "" {
			names = append(names, keyIn(keys, a.GetName()))
		}
	}
	return names
}

// isCheap tells whether public routes look at credentials of a kind unless they say
// otherwise.
func isCheap(k authn.Kind) bool {
	return slices.Contains([]authn.Kind{authn.KindJWT, authn.KindAPIKey, authn.KindMTLS, authn.KindPeer}, k)
}

// forwarded is what the upstream gets of an allowed request.
func forwarded(f *extauthz.Forward) map[string]diff.Value {
	values := map[string]diff.Value{}
	for i := range f.Headers {
		h := &f.Headers[i]
		text := h.Value.String()
		if h.JSON {
			text += " as JSON"
		}
		values[h.Name] = diff.Value{Text: text, Template: &h.Value, JSON: h.JSON}
	}
	if t := f.Token; t != nil {
		values[t.Header] = diff.Value{Text: fmt.Sprintf("identity token for %q, %v", t.Audience, t.TTL), Identity: true}
	}
	setting := func(name, text string) {
		if _, taken := values[name]; taken {
			name += " (not the header)"
		}
		values[name] = diff.Value{Text: text}
	}
	setting("credentials", []string{extauthz.Strip: "strip", extauthz.Keep: "keep", extauthz.Pass: "pass"}[f.Credentials])
	if f.KeepOverrides {
		setting("request_overrides", "keep")
	}
	return values
}

// refused is how a refusal looks to the client: its status, and whether it has a body.
func refused(gate *extauthz.Config, r *policy.Route, why policy.Reason) string {
	rt := route(gate, r)
	var status int
	text := ""
	switch why.Outcome() {
	case policy.Malformed:
		status = 400
	case policy.Unauthenticated:
		status = cmp.Or(rt.Answers.Unauthenticated, 401)
		if rt.SignIn && len(gate.SignIn) > 0 && why != policy.ReasonTenantNotSelectable {
			text = ", or to sign in"
		}
	default:
		status = cmp.Or(rt.Answers.Forbidden, 403)
	}
	if rt.Answers.NoBody {
		text += " without a body"
	}
	return strconv.Itoa(status) + text
}
