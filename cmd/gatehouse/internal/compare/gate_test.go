package compare

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-authz/gatehouse/cmd/gatehouse/internal/suite"
	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	"github.com/gatehouse-authz/gatehouse/policy/diff"
)

// TestConfigurationsEqualTheGate holds Configurations against the gate itself: of generated
// pairs of files, each file is loaded, and its gate asked about every request of a small
// world by many principals. Whatever changes is reported, and every witness is one to the
// gate.
func TestConfigurationsEqualTheGate(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		checks, seed := "12", "3" // the same in every run: new pairs are for acceptance
		if os.Getenv("ACCEPTANCE") != "" {
			checks, seed = "500", "0"
		}
		if err := errors.Join(flag.Set("rapid.checks", checks), flag.Set("rapid.seed", seed)); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = flag.Set("rapid.checks", f.DefValue), flag.Set("rapid.seed", "0") }()
	}
	if err := flag.Set("rapid.shrinktime", "0s"); err != nil { // a smaller seed is no simpler
		t.Fatal(err)
	}
	dir := t.TempDir()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := &fileGenerator{Rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), dir: dir}
		old, oldText := g.file()
		defer old.Close()
		new, newText := g.edited()
		defer new.Close()
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("%s\n--- old\n%s--- new\n%s", fmt.Sprintf(format, args...), oldText, newText)
		}
		w := newGateWorld(t, g, old, new)
		got := map[string]bool{}
		for _, c := range Configurations(old, new).Changes {
			if c.Direction == diff.Undecided {
				fail("undecided: %+v", c)
			}
			seen[c.Direction.String()]++
			got[w.region(&c.Request)+" "+c.Direction.String()] = true
			if direction := w.direction(&c.Request, c.Principal, c.Selected); len(c.Assumed) == 0 && direction != c.Direction.String() {
				fail("the gate says %q of the witness %s %s%s %v %v %+v %+v, not %s", direction, c.Request.Method, c.Request.Host, c.Request.Path, c.Request.Context, c.Request.Headers, c.Principal, c.Selected, c.Direction)
			}
		}
		for key := range w.flips() {
			if !got[key] {
				fail("not found: %s", key)
			}
		}
	})
	for _, direction := range []string{"widens", "narrows", "forwards", "answers"} {
		if seen[direction] == 0 {
			t.Errorf("none of the generated pairs %s, which proves little", direction)
		}
	}
}

// A gateWorld asks the gates of two configurations.
type gateWorld struct {
	fatal   func(...any)
	loaded  [2]*config.Loaded
	askers  [2]*suite.Asker
	people  []*policy.Principal // nil: nobody
	results [2][]authn.Result
	g       *fileGenerator
}

func newGateWorld(t *rapid.T, g *fileGenerator, old, new *config.Loaded) *gateWorld {
	w := &gateWorld{fatal: t.Fatal, loaded: [2]*config.Loaded{old, new}, g: g, people: append(g.people(), nil)}
	w.people = slices.DeleteFunc(w.people, w.isRefused)
	w.prepare(w.people)
	return w
}

// prepare makes askers for people.
func (w *gateWorld) prepare(people []*policy.Principal) {
	for i, loaded := range w.loaded {
		w.results[i] = nil
		for _, p := range people {
			w.results[i] = append(w.results[i], authn.Result{Identity: &authn.Identity{Principal: w.made(i, p)}})
		}
		var err error
		if w.askers[i], err = suite.NewAsker(loaded.Gate, w.results[i], time.Now); err != nil {
			w.fatal(err)
		}
	}
}

// isRefused tells whether an authenticator of a side refuses a principal because of its
// tenant: claims may not say the wildcard unless it is trusted to.
func (w *gateWorld) isRefused(p *policy.Principal) bool {
	return p != nil && p.Authenticator == "people" && p.Tenant != "" && slices.ContainsFunc(w.loaded[:], func(loaded *config.Loaded) bool {
		return p.Tenant == loaded.Config.GetTenancy().GetWildcard() && !loaded.Config.GetAuthenticators()[0].GetWildcard()
	})
}

// made is a principal as an authenticator of a side makes it.
func (w *gateWorld) made(side int, p *policy.Principal) *policy.Principal {
	if p == nil {
		return &policy.Principal{}
	}
	for _, a := range w.loaded[side].Config.GetAuthenticators() {
		if a.GetName() != p.Authenticator || a.GetDisabled() {
			continue
		}
		realm := a.GetRealm()
		if realm == "" {
			realm = a.GetName()
		}
		stamp := authn.Stamp{Authenticator: a.GetName(), Realm: realm, Unscoped: a.GetUnscoped(), Wildcard: w.loaded[side].Config.GetTenancy().GetWildcard(), WildcardClaims: a.GetWildcard()}
		return stamp.Principal(*p)
	}
	return p
}

// An observation is what comes of a request.
type observation struct {
	passes bool
	sees   string
}

func (w *gateWorld) observe(side int, r *policy.Request, caller int, selected policy.Selection) observation {
	headers := slices.Clone(r.Headers)
	if selected.Tenant != "" {
		headers = append(headers, policy.Pair{Name: "x-tenant-id", Value: selected.Tenant})
	}
	if selected.Username != "" {
		headers = append(headers, policy.Pair{Name: "x-username", Value: selected.Username})
	}
	target := r.Path
	if r.Query != "" {
		target += "?" + r.Query
	}
	call := extauthz.Call{HTTP: !r.TCP, Method: r.Method, Host: r.Host, Target: target, Scheme: "https", Context: r.Context, Headers: headers}
	authenticator := ""
	if caller >= 0 {
		authenticator = w.results[side][caller].Identity.Principal.Authenticator
	}
	a := w.askers[side].Ask(w.g.context, call, authenticator, caller)
	if a.Decision.Outcome == policy.Allowed {
		return observation{true, fmt.Sprint(a.Set)}
	}
	return observation{false, fmt.Sprint(a.Status)}
}

func direction(before, after observation) string {
	switch {
	case !before.passes && after.passes:
		return "widens"
	case before.passes && !after.passes:
		return "narrows"
	case before.sees == after.sees:
		return ""
	case before.passes:
		return "forwards"
	}
	return "answers"
}

// direction is what becomes of a witness.
func (w *gateWorld) direction(r *policy.Request, p *policy.Principal, selected policy.Selection) string {
	caller := -1
	if p != nil {
		raw := *p
		if p.Wildcard {
			for _, loaded := range w.loaded {
				if name := loaded.Config.GetTenancy().GetWildcard(); name != "" {
					raw.Tenant = name
				}
			}
		}
		one := *w
		one.prepare([]*policy.Principal{&raw})
		return direction(one.observe(0, r, 0, selected), one.observe(1, r, 0, selected))
	}
	return direction(w.observe(0, r, caller, selected), w.observe(1, r, caller, selected))
}

// flips are the regions of the world whose answers change.
func (w *gateWorld) flips() map[string]bool {
	flips := map[string]bool{}
	selections := w.g.selections()
	for _, r := range w.g.requests() {
		key := w.region(&r)
		if key == " -> " {
			continue
		}
		for i, p := range w.people {
			if p == nil {
				i = -1
			}
			for _, selected := range selections {
				if d := direction(w.observe(0, &r, i, selected), w.observe(1, &r, i, selected)); d != "" {
					flips[key+" "+d] = true
				}
				if p == nil || r.TCP {
					break
				}
			}
		}
	}
	return flips
}

// region is what decides a request on both sides.
func (w *gateWorld) region(r *policy.Request) string {
	var texts [2]string
	for i, loaded := range w.loaded {
		asked := *r
		if method, ok := r.Header("access-control-request-method"); ok && r.Method == "OPTIONS" {
			asked.Method = method
			if m := loaded.Gate.Table.Match(&asked); m.Route != nil && m.Route.Preflight && !m.Route.Forbid {
				texts[i] = fmt.Sprint(m.Route.Name, " ", m.Pattern, " as a preflight")
				continue
			}
		}
		switch m := loaded.Gate.Table.Match(r); {
		case r.TCP && loaded.Gate.TCP != nil:
			texts[i] = "tcp"
		case m.Route != nil:
			texts[i] = fmt.Sprint(m.Route.Name, " ", m.Pattern)
		}
	}
	return texts[0] + " -> " + texts[1]
}

// load loads a file that a test wrote.
func (g *fileGenerator) load(text string) *config.Loaded {
	path := filepath.Join(g.dir, "gatehouse.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		panic(err)
	}
	loaded, _ := config.Load(path, environment, nil)
	return loaded
}

// asks tells whether a file refers to something.
func (g *fileGenerator) asks(text string) bool { return strings.Contains(g.texts, text) }
