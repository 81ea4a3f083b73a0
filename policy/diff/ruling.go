package diff

import (
	"strings"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// A ruling is what decides a request on one side: a route, or none. A CORS preflight that
// the route it asks for lets pass is decided by a public route of ours, which looks at no
// credential and gives the upstream nothing.
type ruling struct {
	policy.Match
	asked policy.Match // the route that lets a preflight pass; none of other requests
}

// shown is the route that a reader is shown.
func (g *ruling) shown() policy.Match {
	if g.asked.Route != nil {
		return g.asked
	}
	return g.Match
}

// verdict is what a ruling says with the requirement that holds; -1: none.
func (g *ruling) verdict(requirement int) Verdict {
	if g.asked.Route != nil {
		return Verdict{Allowed: true, Route: g.asked.Route, Pattern: g.asked.Pattern, At: g.asked.Route.At}
	}
	return verdict(g.Match, requirement)
}

// verdict is what a match says with the requirement that holds; -1: none.
func verdict(m policy.Match, requirement int) Verdict {
	v := Verdict{Route: m.Route, Pattern: m.Pattern}
	if m.Route == nil {
		return v
	}
	v.At = m.Route.At
	v.Allowed = isPublic(m)
	if requirement >= 0 {
		v.Allowed, v.At = true, m.Route.Allow[requirement].At
	}
	return v
}

func isPublic(m policy.Match) bool { return m.Route != nil && m.Route.Public && !m.Route.Forbid }

// rule finds what decides a request on a side.
func (c *comparison) rule(s *Side, r *policy.Request) ruling {
	if asked, ok := s.preflight(r); ok {
		return ruling{Match: c.bare, asked: asked}
	}
	return ruling{Match: s.match(r)}
}

// preflight finds the route that a CORS preflight asks for, if that lets it pass.
func (s *Side) preflight(r *policy.Request) (policy.Match, bool) {
	if r.Method != "OPTIONS" || r.TCP {
		return policy.Match{}, false
	}
	_, cors := r.Header("origin")
	method, asks := r.Header("access-control-request-method")
	if !cors || !asks || !isAskable(method) {
		return policy.Match{}, false
	}
	asked := *r
	asked.Method = method
	m := s.Table.Match(&asked)
	return m, m.Route != nil && m.Route.Preflight && !m.Route.Forbid
}

// isAskable tells whether preflights may ask for a method: the gate reads no other ones.
func isAskable(method string) bool {
	return method != "" && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_") == ""
}

// asking makes a request the preflight that asks for it.
func asking(r policy.Request) policy.Request {
	r.Headers = []policy.Pair{{Name: "origin", Value: "https://example.com"}, {Name: "access-control-request-method", Value: r.Method}}
	r.Method = "OPTIONS"
	return r
}

// newBare is the public route of preflights.
func newBare() policy.Match {
	table, _ := policy.NewTable([]*policy.Route{{Name: "preflight", Public: true, Accept: []string{}}}, nil)
	return table.Match(&policy.Request{Context: []policy.Pair{{Name: policy.RouteName, Value: "preflight"}}})
}

// match finds what decides a request that is no preflight.
func (s *Side) match(r *policy.Request) policy.Match {
	if !r.TCP {
		return s.Table.Match(r)
	}
	for _, row := range s.TCP.Rows() {
		named := policy.Request{Context: []policy.Pair{{Name: policy.RouteName, Value: row.Route.Name}}}
		return s.TCP.Match(&named)
	}
	return policy.Match{Reason: policy.ReasonNotHTTP}
}
