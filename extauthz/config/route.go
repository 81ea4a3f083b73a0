package config

import (
	"slices"
	"strings"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
	configv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/config/v1"
)

func (b *builder) buildRoutes() {
	b.gate.Paths = policy.PathOptions{AllowSemicolons: b.config.GetPaths().GetAllowSemicolons()}
	routes := b.config.GetRoutes()
	b.gate.Routes = make([]extauthz.Route, len(routes))
	made := make([]policy.Route, len(routes)) // at once: what is thrown away later leaves no gaps between them
	for i, m := range routes {
		b.gate.Routes[i] = b.route(i, m, &made[i])
	}
}

// route translates one route; r is room for its half that the table has.
func (b *builder) route(index int, m *configv1.Route, r *policy.Route) extauthz.Route {
	*r = policy.Route{
		Name: m.GetName(), At: b.pos.of(m), Index: index,
		Public: m.GetPublic() != nil, Forbid: m.Forbid != nil,
		Accept: b.list(m.GetAccept()), Opens: m.GetOpens(),
		Shadow: m.GetMode() == "shadow", Preflight: m.GetPreflight() == "allow",
	}
	b.patterns(m, r)
	in := setting{what: "route " + quote(r.Name), refs: policy.RefsInAllow, patterns: r.Patterns, accept: r.Accept}
	b.checkWay(m, r, in.what)
	for i, name := range m.GetAccept() {
		b.knownAuthenticator(b.pos.item(m, "accept", i), name)
	}
	for _, requirement := range m.GetAllow() {
		r.Allow = append(r.Allow, b.requirement(requirement, in))
	}
	route := extauthz.Route{
		Policy: r, SignIn: m.SignIn == nil || m.GetSignIn(), Identify: b.identify(m),
		Answers: extauthz.RouteAnswers{
			Unauthenticated: int(m.GetAnswers().GetUnauthenticated()),
			Forbidden:       int(m.GetAnswers().GetForbidden()),
			NoBody:          m.GetAnswers().GetBody() == "none",
		},
	}
	if m.SignIn != nil && !m.GetSignIn() && len(b.config.GetSignIn()) == 0 {
		b.warnf(ruleNoEffect, b.pos.field(m, "sign_in"), "remove the line", "%s turns sign_in off, and there is none", in.what)
	}
	route.Forward = b.routeForward(m, r, in)
	return route
}

// patterns reads where a route counts, and names it.
func (b *builder) patterns(m *configv1.Route, r *policy.Route) {
	for i, text := range m.GetMatch() {
		patterns, err := b.gate.Paths.ParsePattern(text)
		if err != nil {
			b.syntax(m, "match", i, err)
			continue
		}
		for j := range patterns {
			patterns[j].At = b.pos.item(m, "match", i)
		}
		r.Patterns = append(r.Patterns, patterns...)
	}
	switch {
	case r.Name != "":
		if strings.ContainsFunc(r.Name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			b.errorf(b.pos.field(m, "name"), "use visible characters", "the name %s has a control character", quote(r.Name))
		}
	case len(m.GetMatch()) > 0:
		r.Name = m.GetMatch()[0]
		if len(r.Patterns) > 0 && r.Patterns[0].String() == r.Name {
			r.Name = r.Patterns[0].String() // one text instead of two
		}
	case !b.isTainted(m):
		b.errorf(b.pos.of(m), "give match, or a name by which Envoy's context extensions select it", "a route has neither match nor name")
	}
}

// checkWay checks that a route is exactly one of public, allow and forbid.
func (b *builder) checkWay(m *configv1.Route, r *policy.Route, what string) {
	var ways []string
	for _, way := range []struct {
		field string
		given bool
	}{{"public", r.Public}, {"allow", len(m.GetAllow()) > 0}, {"forbid", r.Forbid}} {
		if way.given {
			ways = append(ways, way.field)
		}
	}
	switch {
	case len(ways) == 0 && !b.isTainted(m):
		b.errorf(b.pos.of(m), "give public: true, allow: [...] or forbid: true", "%s does not say who passes", what)
	case len(ways) > 1:
		b.errorf(b.pos.field(m, ways[1]), "keep one", "%s has %s", what, list(ways))
	}
	if r.Public && len(m.GetAccept()) > 0 {
		b.errorf(b.pos.field(m, "accept"), "write public: {identify: [...]} instead", "%s is public, so nobody's credentials are accepted or refused", what)
	}
	if r.Preflight && r.Forbid {
		b.errorf(b.pos.field(m, "preflight"), "remove the line", "%s lets preflights pass and forbids what they ask for", what)
	}
}

// identify names the authenticators that a public route looks at: nil means those
// that need neither I/O nor a password hash.
func (b *builder) identify(m *configv1.Route) []string {
	public := m.GetPublic()
	names := public.GetIdentify()
	for i, name := range names {
		b.knownAuthenticator(b.pos.item(public, "identify", i), name)
	}
	switch {
	case public.GetIdentifyNobody() && len(names) > 0:
		b.errorf(b.pos.field(public, "identify_nobody"), "keep one of the two", "identify_nobody and identify are both given")
	case public.GetIdentifyNobody():
		return []string{}
	case len(names) == 0:
		return nil
	}
	return names
}

func (b *builder) buildTCP() {
	tcp := b.config.GetTcp()
	if tcp == nil {
		return
	}
	route := &policy.Route{Name: extauthz.TCPRoute, At: b.pos.of(tcp)}
	in := setting{what: "tcp", refs: policy.RefContext}
	for _, m := range tcp.GetAllow() {
		route.Allow = append(route.Allow, b.requirement(m, in))
	}
	table, problems := policy.NewTable([]*policy.Route{route}, b.tenancy)
	if len(b.errors) == 0 {
		b.adopt(problems)
	}
	b.gate.TCP = table
}

// checkTable makes the table, which finds what is wrong between routes. It is left
// out while a route is incomplete: what it would say could be wrong.
func (b *builder) checkTable() {
	if len(b.errors) > 0 || b.isTainted(b.config) {
		return
	}
	routes := make([]*policy.Route, len(b.gate.Routes))
	for i := range b.gate.Routes {
		routes[i] = b.gate.Routes[i].Policy
	}
	table, problems := policy.NewTable(routes, b.tenancy)
	b.adopt(problems)
	if table != nil && !b.config.GetPaths().GetLiteralUpstreams() {
		b.adopt(table.OtherSpellings(b.gate.Paths))
	}
	b.gate.Table = table
	b.checkSignInTargets()
}

// checkUse warns of what the file says and nothing uses.
func (b *builder) checkUse() {
	if len(b.errors) > 0 || b.isTainted(b.config) {
		return
	}
	for _, p := range b.parts {
		name := p.config.GetName()
		if !slices.ContainsFunc(b.gate.Routes, func(r extauthz.Route) bool { return consults(r, name) }) && !b.isHelper(name) {
			b.warnf(ruleUnused, b.pos.of(p.config), "add it to a route's accept, or remove it", "no route accepts authenticator %s", quote(name))
		}
	}
	for i := range b.gate.Routes {
		if r := b.gate.Routes[i].Policy; r.Shadow {
			b.warnf(ruleTrial, b.pos.field(b.config.GetRoutes()[i], "mode"), "remove the line once its log looks right", "route %s is a shadow: it decides nothing", quote(r.Name))
		}
	}
}

func consults(r extauthz.Route, name string) bool {
	switch {
	case r.Policy.Forbid:
		return false
	case r.Policy.Public:
		return r.Identify == nil || slices.Contains(r.Identify, name)
	}
	return r.Policy.Accept == nil || slices.Contains(r.Policy.Accept, name)
}

// isHelper says whether another authenticator works with the one called name.
func (b *builder) isHelper(name string) bool {
	return slices.ContainsFunc(b.config.GetAuthenticators(), func(a *configv1.Authenticator) bool {
		return a.GetClientCredentials().GetVerifyWith() == name || a.GetRefreshToken().GetVerifyWith() == name ||
			a.GetJwt().GetApiKeyClaim().GetAuthenticator() == name
	})
}
