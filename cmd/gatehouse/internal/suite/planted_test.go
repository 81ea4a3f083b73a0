package suite

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/authn"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	"github.com/gatehouse-authz/gatehouse/policy/diff"
)

// TestEveryPlantedWideningIsFound plants one mistake after the other into a real table and
// asks the gate about each witness that diff gives: the old one refuses, the new one lets
// pass. What opens a route to everybody is always found.
func TestEveryPlantedWideningIsFound(t *testing.T) {
	const file = "../demo/gatehouse.yaml"
	loaded, report := config.Load(file, func(name string) (string, bool) {
		if name == "DEMO_API_KEY" {
			return "example-key", true
		}
		return os.LookupEnv(name)
	}, nil)
	if loaded == nil {
		t.Fatal(report)
	}
	t.Cleanup(loaded.Close)
	side := func(c *extauthz.Config) diff.Side {
		s := diff.Side{Table: c.Table, Tenancy: c.Tenancy}
		for _, e := range c.Set.Entries() {
			s.Authenticators = append(s.Authenticators, diff.Authenticator{Name: e.Name, Realm: e.Realm})
		}
		for i := range c.Routes {
			s.Routes = append(s.Routes, c.Routes[i].Policy)
		}
		return s
	}
	random := rand.New(rand.NewPCG(1, 2))
	all := mutants(loaded.Gate)
	found := 0
	for range 200 {
		m := all[random.IntN(len(all))]
		changed, ok := plant(loaded.Gate, m)
		if !ok {
			continue // it does not load
		}
		widens := 0
		for _, c := range diff.Compare(side(loaded.Gate), side(changed)) {
			if c.Direction != diff.Widens {
				continue
			}
			widens++
			if passesGate(t, loaded.Gate, &c) || !passesGate(t, changed, &c) {
				t.Errorf("%s: the gate does not confirm %s %s by %+v", m.Text, c.Request.Method, c.Request.Path, c.Principal)
			}
		}
		found += widens
		opens := strings.Contains(m.Text, "is public") || strings.HasPrefix(m.Text, "roles.any is dropped") || strings.HasPrefix(m.Text, "tenant is dropped")
		if opens && widens == 0 {
			t.Errorf("%s: no witness", m.Text)
		}
	}
	if found < 50 {
		t.Errorf("%d witnesses, which prove little", found)
	}
}

// plant is the configuration with m in it.
func plant(c *extauthz.Config, m *Mutant) (*extauthz.Config, bool) {
	changed := *c
	changed.Routes = make([]extauthz.Route, len(c.Routes))
	var routes []*policy.Route
	for i := range c.Routes {
		changed.Routes[i] = c.Routes[i]
		r := *c.Routes[i].Policy
		if r.Name == m.Route {
			r = m.route
			r.Index = i
		}
		changed.Routes[i].Policy = &r
		routes = append(routes, &r)
	}
	changed.Table, _ = policy.NewTable(routes, c.Tenancy)
	return &changed, changed.Table != nil
}

func passesGate(t *testing.T, c *extauthz.Config, change *diff.Change) bool {
	t.Helper()
	results, caller, authenticator := []authn.Result(nil), -1, ""
	if p := change.Principal; p != nil {
		results, caller, authenticator = []authn.Result{{Identity: &authn.Identity{Principal: p}}}, 0, p.Authenticator
	}
	asker, err := NewAsker(c, results, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := &change.Request
	answer := asker.Ask(t.Context(), extauthz.Call{
		HTTP: true, Method: r.Method, Host: r.Host, Target: r.Path, Scheme: "https", Context: r.Context, Headers: r.Headers,
	}, authenticator, caller)
	return answer.Decision.Outcome == policy.Allowed
}
