package diff

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-authz/gatehouse/policy"
)

// TestCompareEqualsBruteForce holds Compare against asking both tables about every request
// of every principal in a small world, on thousands of generated pairs: each region that
// flips is reported in its direction, and every witness is real.
func TestCompareEqualsBruteForce(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		checks, seed := "20", "2" // the same in every run: new pairs are for acceptance
		if os.Getenv("ACCEPTANCE") != "" {
			checks, seed = "3000", "0"
		}
		if err := errors.Join(flag.Set("rapid.checks", checks), flag.Set("rapid.seed", seed)); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = flag.Set("rapid.checks", f.DefValue), flag.Set("rapid.seed", "0") }()
	}
	seen := map[Direction]int{}
	if err := flag.Set("rapid.shrinktime", "0s"); err != nil { // a smaller seed is no simpler
		t.Fatal(err)
	}
	for _, seed := range foundSeeds {
		compareWithBruteForce(t, seed, seen)
	}
	rapid.Check(t, func(t *rapid.T) {
		compareWithBruteForce(t, rapid.Uint64().Draw(t, "seed"), seen)
	})
	for _, d := range []Direction{Widens, Narrows, Forwards, Answers} {
		if seen[d] < 10 {
			t.Errorf("%d of the generated pairs %s, which prove little", seen[d], d)
		}
	}
}

// foundSeeds are of pairs on which Compare and brute force have once differed.
var foundSeeds = []uint64{0x69, 0x3b, 0xbe, 0x161ad, 0x5363346a75, 0x3cc857, 0xf7457911, 0x118ccb04530, 0x1ed9, 0x132e, 0x27f21}

// failer is what a test and a check of rapid have in common.
type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func compareWithBruteForce(t failer, seed uint64, seen map[Direction]int) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(seed, 0))}
	policy, old := g.side()
	new := g.edit(policy)
	if g.oneIn(5) {
		_, new = g.side()
	}
	w := newWorld(old, new)
	want := w.bruteForce(g.Rand)
	got := map[string]bool{}
	for _, change := range Compare(old, new) {
		if change.Direction == Undecided {
			t.Fatalf("undecided: %s", changeText(&change))
		}
		confirm(t, old, new, &change)
		got[w.region(&change.Request)+" "+change.Direction.String()] = true
		seen[change.Direction]++
	}
	for key := range want {
		if !got[key] {
			t.Fatalf("not found: %s\nold %s\nnew %s", key, sideText(old), sideText(new))
		}
	}
}

// confirm asks both tables about a witness.
func confirm(t failer, old, new Side, c *Change) {
	t.Helper()
	w := newWorld(old, new)
	who := &person{}
	if p := c.Principal; p != nil {
		side := &new
		if _, known := new.authenticator(p.Authenticator); c.Direction == Narrows || !known {
			side = &old
		}
		raw := *believe(p, c)
		if raw.Wildcard {
			raw.Tenant = side.Tenancy.Wildcard
		}
		who = w.person(raw, c.Selected)
		if !who.exists(c.Direction == Narrows) {
			t.Fatalf("witness %s: no authenticator makes it\nold %s\nnew %s", changeText(c), sideText(old), sideText(new))
		}
	}
	m, mAsked := w.covers(0, &c.Request)
	n, nAsked := w.covers(1, &c.Request)
	before, after := w.observe(0, &c.Request, m, mAsked, who), w.observe(1, &c.Request, n, nAsked, who)
	want := map[Direction][2]bool{Widens: {false, true}, Narrows: {true, false}, Forwards: {true, true}, Answers: {false, false}}[c.Direction]
	if before.passes != want[0] || after.passes != want[1] || before.passes != c.Old.Allowed || after.passes != c.New.Allowed {
		t.Fatalf("witness %s: old %+v, new %+v\nold %s\nnew %s", changeText(c), before, after, sideText(old), sideText(new))
	}
	was, is := w.sees(0, &c.Request, m, mAsked, before), w.sees(1, &c.Request, n, nAsked, after)
	if (c.Direction == Forwards || c.Direction == Answers) && was == is {
		t.Fatalf("witness %s: both see %s\nold %s\nnew %s", changeText(c), was, sideText(old), sideText(new))
	}
	if c.Direction == Forwards && len(c.Forwarded) == 0 {
		t.Fatalf("witness %s: nothing is said of what is forwarded", changeText(c))
	}
}

// believe makes the expressions of a witness come true.
func believe(p *policy.Principal, c *Change) *policy.Principal {
	if p == nil {
		return nil
	}
	for _, a := range c.Assumed {
		if a.Holds {
			as := *p
			as.Issuer = a.Source
			p = &as
		}
	}
	return p
}

// issued is an expression that asks for what no condition asks for.
type issued string

func (e issued) Holds(_ *policy.Request, p *policy.Principal) policy.Truth {
	if p != nil && p.Issuer == string(e) {
		return policy.True
	}
	return policy.False
}
func (e issued) String() string { return string(e) }

func changeText(c *Change) string {
	return fmt.Sprintf("%v %s %s%s %v %+v %+v %v", c.Direction, c.Request.Method, c.Request.Host, c.Request.Path, c.Request.Context, c.Principal, c.Selected, c.Assumed)
}

func sideText(s Side) string {
	var b strings.Builder
	for _, r := range s.Routes {
		fmt.Fprintf(&b, "\n  %s %v public=%t forbid=%t accept=%v preflight=%t shadow=%t", r.Name, r.Patterns, r.Public, r.Forbid, r.Accept, r.Preflight, r.Shadow)
		for i := range r.Allow {
			fmt.Fprintf(&b, "\n    %s", describe(&r.Allow[i]))
		}
		for _, name := range slices.Sorted(maps.Keys(s.Forwarded(r))) {
			v := s.Forwarded(r)[name]
			fmt.Fprintf(&b, "\n    %s: %s json=%t", name, v.Text, v.JSON)
		}
		for _, why := range refusals {
			fmt.Fprintf(&b, " %s", s.Refused(r, why))
		}
	}
	for _, row := range s.TCP.Rows() {
		for i := range row.Route.Allow {
			fmt.Fprintf(&b, "\n  tcp %s", describe(&row.Route.Allow[i]))
		}
	}
	return fmt.Sprintf("%s\n  tenancy %+v select %t impersonate %t anonymous %+v\n  %s\n  %+v", b.String(), s.Tenancy, s.Select, s.Impersonate, s.Anonymous, s.whoIs(), s.Authenticators)
}
