package extauthz

import (
	"fmt"
	"html/template"
	"net/http"
	"runtime"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/mint"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// A Snapshot is one configuration, ready to decide. It is safe for concurrent use,
// and nothing in it changes but caches.
type Snapshot struct {
	config *Config
	limits Limits // with defaults filled in

	routes []route // by policy.Route.Index
	tcp    *authn.Accept

	taken   *taken
	cookies []string // names of the cookies that are credential places
	queries []string // names of the query parameters that are

	// bare is what requests that pass without identity go on with: preflights,
	// connections without HTTP, and what --shadow-all lets pass.
	bare *profile

	anonymous *policy.Principal // of public requests without a principal; nil: none
	kinds     kinds

	signIn       map[string]*SignIn // by host
	minters      []*mint.Minter
	pageTemplate *template.Template
	problems     map[int]string // by status: a problem up to the decision's id
}

// A route is a [Route], prepared.
type route struct {
	*Route
	accept  *authn.Accept
	profile *profile
}

// NewSnapshot precomputes what requests need. config must not be changed afterwards.
// An error is a mistake of whoever built config: a loaded file gives none.
func NewSnapshot(config *Config) (*Snapshot, error) {
	s := &Snapshot{
		config:       config,
		limits:       config.Limits.withDefaults(),
		taken:        newTaken(),
		signIn:       make(map[string]*SignIn),
		pageTemplate: config.Answers.Page,
		problems:     make(map[int]string),
	}
	if s.pageTemplate == nil {
		s.pageTemplate = DefaultPage()
	}
	for _, status := range [...]int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusServiceUnavailable} {
		s.problems[status] = s.problemBefore(status)
	}
	for i := range config.SignIn {
		for _, host := range config.SignIn[i].Hosts {
			if s.signIn[host] == nil {
				s.signIn[host] = &config.SignIn[i]
			}
		}
	}
	if config.AnonymousTenant != "" {
		s.anonymous = &policy.Principal{Tenant: config.AnonymousTenant, Tenants: config.Tenancy.Readable(config.AnonymousTenant)}
	}
	s.minters = mintersOf(config)
	s.takeNames()
	s.bare = s.newProfile(&Forward{})
	return s, s.prepareRoutes()
}

// takeNames collects the header names, cookies and query parameters that clients
// cannot use, over the whole configuration: a header that is set for one upstream is
// removed for all others.
func (s *Snapshot) takeNames() {
	for _, name := range overrideHeaders {
		s.taken.add(name, override)
	}
	s.taken.add(s.config.SelectHeader, selection)
	s.taken.add(s.config.UsernameHeader, selection)
	if s.config.Set != nil {
		for _, p := range s.config.Set.Places() {
			switch p.Kind {
			case authn.InHeader:
				s.taken.add(p.Name, credential)
			case authn.InCookie:
				s.cookies = append(s.cookies, p.Name)
			case authn.InQuery:
				s.queries = append(s.queries, p.Name)
			}
		}
	}
	seen := make(map[*Forward]bool)
	own := func(f *Forward) {
		if f == nil || seen[f] {
			return
		}
		seen[f] = true
		for i := range f.Headers {
			s.taken.add(f.Headers[i].Name, owned)
		}
		for _, name := range f.Remove {
			s.taken.add(name, owned)
		}
		// A place of credentials is cleared anyway, except where a route passes them on:
		// there the upstream does its own login, and a signed token cannot be forged.
		if f.Token != nil && s.taken.why[f.Token.Header]&credential == 0 {
			s.taken.add(f.Token.Header, owned)
		}
	}
	own(s.config.Forward)
	for i := range s.config.Routes {
		own(s.config.Routes[i].Forward)
	}
}

func (s *Snapshot) prepareRoutes() error {
	profiles := make(map[*Forward]*profile)
	accepts := make(map[string]*authn.Accept) // by what is accepted: few differ
	s.routes = make([]route, len(s.config.Routes))
	for i := range s.config.Routes {
		r := &s.config.Routes[i]
		if r.Policy == nil || r.Policy.Index != i || r.Forward == nil {
			return fmt.Errorf("preparing route %d: it is incomplete", i)
		}
		p := profiles[r.Forward]
		if p == nil {
			p = s.newProfile(r.Forward)
			profiles[r.Forward] = p
		}
		key := fmt.Sprintf("%t %q %t %q", r.Policy.Public, r.Policy.Accept, r.Identify == nil, r.Identify)
		a := accepts[key]
		if a == nil {
			var err error
			if a, err = s.accept(r); err != nil {
				return fmt.Errorf("preparing route %q: %w", r.Policy.Name, err)
			}
			accepts[key] = a
		}
		s.routes[i] = route{Route: r, accept: a, profile: p}
	}
	if s.config.TCP != nil && s.config.Set != nil {
		var err error
		if s.tcp, err = s.config.Set.Accept(nil); err != nil {
			return fmt.Errorf("preparing tcp: %w", err)
		}
	}
	return nil
}

func (s *Snapshot) accept(r *Route) (*authn.Accept, error) {
	switch {
	case s.config.Set == nil:
		return nil, nil
	case r.Policy.Public:
		return s.config.Set.AcceptPublic(r.Policy.Accept, r.Identify)
	}
	return s.config.Set.Accept(r.Policy.Accept)
}

func (s *Snapshot) newProfile(f *Forward) *profile {
	p := newProfile(f, s.taken)
	if !p.perRequest {
		p.nobody, _ = p.upstream(s.anonymous, keptCredential{}, nil, policy.Match{}, time.Time{})
	}
	return p
}

// Config is what the snapshot was made of.
func (s *Snapshot) Config() *Config { return s.config }

// route gives what belongs to a route of the table.
func (s *Snapshot) route(r *policy.Route) *route {
	if r == nil || r.Index < 0 || r.Index >= len(s.routes) || s.routes[r.Index].Policy != r {
		return nil
	}
	return &s.routes[r.Index]
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.MessageBytes, DefaultMessageBytes)
	set(&l.HeaderBytes, DefaultHeaderBytes)
	set(&l.Concurrent, DefaultConcurrentPerCore*runtime.GOMAXPROCS(0))
	set(&l.Queue, DefaultQueue)
	return l
}
