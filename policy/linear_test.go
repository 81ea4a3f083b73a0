package policy

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// routesOf makes one public route of each text, named by it, one line after the other.
func routesOf(t testing.TB, texts ...string) []*Route {
	t.Helper()
	var routes []*Route
	for i, text := range texts {
		at := Position{File: "gatehouse.yaml", Line: i + 1, Column: 3}
		routes = append(routes, &Route{Name: text, At: at, Index: i, Patterns: patternsOf(t, at, text), Public: true})
	}
	return routes
}

func patternsOf(t testing.TB, at Position, texts ...string) []Pattern {
	t.Helper()
	var patterns []Pattern
	for _, text := range texts {
		list, err := ParsePattern(text)
		if err != nil {
			t.Fatalf("ParsePattern(%q): %v", text, err)
		}
		for _, p := range list {
			p.At = at
			patterns = append(patterns, p)
		}
	}
	return patterns
}

func tableOf(t testing.TB, routes ...*Route) *Table {
	t.Helper()
	table, problems := NewTable(routes, nil)
	if table == nil {
		t.Fatalf("NewTable: %v", problems)
	}
	return table
}

func requestOf(t testing.TB, method, host, target string) *Request {
	t.Helper()
	r, reason, ok := ParseRequest(method, host, target, PathOptions{})
	if !ok {
		t.Fatalf("ParseRequest(%q, %q, %q): %v", method, host, target, reason)
	}
	return &r
}

// linearMatch is the plain definition of the winner: of all that match, the one that
// no other is narrower than. With an ambiguous table it may be one of several.
func linearMatch(patterns []*Pattern, r *Request) []*Pattern {
	var matching, best []*Pattern
	for _, p := range patterns {
		if p.Matches(r) {
			matching = append(matching, p)
		}
	}
next:
	for _, p := range matching {
		for _, q := range matching {
			if q.compare(p) == narrower {
				continue next
			}
		}
		best = append(best, p)
	}
	return best
}

// The alphabet is small, so that patterns meet.
var (
	fuzzMethods  = []string{"", "GET", "HEAD", "POST"}
	fuzzHosts    = []string{"", "a.test", "*.test", "*.a.test"}
	fuzzSegments = []string{"a", "b", "{}"}
	fuzzTails    = []string{"", "/", "/{$}", "/{rest...}"}
)

// patternText decodes one pattern out of a few bytes.
func patternText(data []byte, hosts bool) (text string, rest []byte) {
	next := func(n int) int {
		if len(data) == 0 {
			return 0
		}
		v := int(data[0]) % n
		data = data[1:]
		return v
	}
	method := fuzzMethods[next(len(fuzzMethods))]
	if method != "" {
		text = method + " "
	}
	if hosts {
		text += fuzzHosts[next(len(fuzzHosts))]
	}
	depth := next(4)
	for i := range depth {
		s := fuzzSegments[next(len(fuzzSegments))]
		if s == "{}" {
			s = fmt.Sprintf("{p%d}", i)
		}
		text += "/" + s
	}
	tail := fuzzTails[next(len(fuzzTails))]
	if tail == "" && depth == 0 {
		tail = "/"
	}
	return text + tail, data
}

// patternTexts decodes patterns until the bytes end.
func patternTexts(data []byte, hosts bool) []string {
	var texts []string
	for len(data) > 0 && len(texts) < 10 {
		var text string
		text, data = patternText(data, hosts)
		texts = append(texts, text)
	}
	return texts
}

// drawPatterns draws up to ten patterns, each a few bytes of the alphabet.
func drawPatterns(r *rapid.T, hosts bool) []string {
	one := rapid.Custom(func(r *rapid.T) string {
		data := []byte{rapid.SampledFrom([]byte{0, 1, 2, 3}).Draw(r, "method")}
		if hosts {
			data = append(data, rapid.SampledFrom([]byte{0, 1, 2, 3}).Draw(r, "host"))
		}
		depth := rapid.SampledFrom([]byte{0, 1, 2, 2, 3, 3}).Draw(r, "depth")
		data = append(data, depth)
		for range depth {
			data = append(data, rapid.SampledFrom([]byte{0, 1, 2}).Draw(r, "segment"))
		}
		data = append(data, rapid.SampledFrom([]byte{0, 1, 2, 3}).Draw(r, "tail"))
		text, _ := patternText(data, hosts)
		return text
	})
	return rapid.SliceOfN(one, 0, 10).Draw(r, "patterns")
}

// slashed is p as ServeMux must be told it, so that every path ends in a slash.
func slashed(p *Pattern) string {
	text := p.print(p.method)
	if !p.subtree && !strings.HasSuffix(text, "{$}") {
		text += "/{$}"
	}
	return text
}

// muxOf registers patterns of one host with the oracle. ok is false if it says that two
// conflict.
func muxOf(patterns []*Pattern) (mux *http.ServeMux, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	mux = http.NewServeMux()
	for _, p := range patterns {
		text := slashed(p)
		mux.HandleFunc(text, func(http.ResponseWriter, *http.Request) {})
	}
	return mux, true
}

var (
	oracleMethods = []string{"GET", "HEAD", "POST", "PUT"}
	oracleHosts   = []string{"", "a.test", "b.test", "x.a.test", "other"}
	oraclePaths   = []string{
		"/", "/a", "/b", "/x", "/a/a", "/a/b", "/b/a", "/x/a", "/a/x", "/x/y", "/a/b/a", "/a/a/b", "/x/b/a",
		"/a/x/y", "/x/y/z", "/a/b/a/b", "/x/y/z/w", "/b/b/b/b/b",
	}
)

// FuzzMatch holds the trie against the linear scan and, for each host, against
// net/http.ServeMux.
func FuzzMatch(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0, 1, 1, 0, 2, 0, 2, 0, 2, 1, 0, 1, 1, 1, 0})
	f.Add([]byte{1, 2, 3, 2, 0, 2, 0, 1, 3, 0, 2, 0, 2, 2, 2, 1, 1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkMatch(t, patternTexts(data, true))
	})
}

func TestMatchAgreesWithOracles(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		checkMatch(r, drawPatterns(r, true))
	})
}

func checkMatch(t interface {
	Fatalf(string, ...any)
	Helper()
}, texts []string) {
	t.Helper()
	b := builder{table: &Table{}}
	f := &b.enforced
	var patterns []*Pattern
	byHost := make(map[string][]*Pattern)
	for _, text := range texts {
		list, err := ParsePattern(text)
		if err != nil {
			t.Fatalf("ParsePattern(%q): %v", text, err)
		}
		p := &list[0]
		if f.insert(p, int32(len(patterns)+1)) != 0 {
			continue // equal to one that is there
		}
		patterns = append(patterns, p)
		byHost[p.HostText()] = append(byHost[p.HostText()], p)
	}
	m := newMatcher(f)
	for _, method := range oracleMethods {
		for _, host := range oracleHosts {
			for _, path := range oraclePaths {
				r := &Request{Method: method, Host: host, Path: path}
				want := linearMatch(patterns, r)
				id := m.match(method, host, path)
				found := id == 0 && len(want) == 0
				for _, p := range want {
					found = found || id != 0 && patterns[id-1] == p
				}
				if !found {
					t.Fatalf("%s %s%s among %v: trie says %d, linear scan %v", method, host, path, patterns, id, want)
				}
			}
		}
	}
	for host, list := range byHost {
		mux, ok := muxOf(withoutHosts(list))
		if !ok {
			continue
		}
		for _, method := range oracleMethods {
			for _, path := range oraclePaths {
				h := m.host(list[0])
				id := m.matchHost(&h, method, strings.TrimSuffix(path, "/"))
				got := ""
				if id != 0 {
					plain := withoutHosts([]*Pattern{patterns[id-1]})
					got = slashed(plain[0])
				}
				target := strings.TrimSuffix(path, "/") + "/"
				_, want := mux.Handler(httptest.NewRequest(method, target, nil))
				if got != want {
					t.Fatalf("%s %s%s among %v: trie says %q, ServeMux %q", method, host, path, list, got, want)
				}
			}
		}
	}
}

func withoutHosts(list []*Pattern) []*Pattern {
	var plain []*Pattern
	for _, p := range list {
		q := *p
		q.host, q.wildHost = "", false
		plain = append(plain, &q)
	}
	return plain
}

// FuzzConflict holds the search for conflicts against net/http.ServeMux, pair by pair,
// and against the plain comparison.
func FuzzConflict(f *testing.F) {
	f.Add([]byte{0, 2, 2, 0, 0, 0, 2, 0, 2, 0})
	f.Add([]byte{1, 0, 1, 0, 1, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) { checkConflicts(t, patternTexts(data, false)) })
}

func TestConflictsAgreeWithServeMux(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		checkConflicts(r, drawPatterns(r, false))
	})
}

// host finds the trees of p's host.
func (m *matcher) host(p *Pattern) flatHost {
	switch {
	case p.host == "":
		return m.any
	case p.wildHost:
		return m.wildcard[p.host]
	}
	return m.exact[p.host]
}

// Nodes with many children are hash tables: of any size, full of neighbours, they find
// what the linear scan finds.
func TestMatchManyLiterals(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		literals := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c]{1,3}|[a-c]{6,10}|service-[0-9]{1,3}`), 1, 200, rapid.ID[string]).Draw(r, "literals")
		var f forest
		var patterns []*Pattern
		add := func(text string) {
			list, err := ParsePattern(text)
			if err != nil {
				r.Fatalf("ParsePattern(%q): %v", text, err)
			}
			patterns = append(patterns, &list[0])
			f.insert(&list[0], int32(len(patterns)))
		}
		tails := []string{"", "/{x}", "/{x}/z", "/"}
		for _, literal := range literals {
			add("/" + literal + rapid.SampledFrom(tails).Draw(r, "tail"))
		}
		add("/{any}/y")
		m := newMatcher(&f)
		for _, literal := range append(literals, "", "d", "service-", "service-0000", "aaaabbbbcccc") {
			for _, tail := range []string{"", "/y", "/y/z"} {
				req := &Request{Method: "GET", Path: "/" + literal + tail}
				want, id := linearMatch(patterns, req), m.match(req.Method, req.Host, req.Path)
				if found := id != 0 && slices.Contains(want, patterns[id-1]); found != (len(want) > 0) {
					r.Fatalf("%s among %v: the matcher says %d, linear scan %v", req.Path, patterns, id, want)
				}
			}
		}
	})
}

func checkConflicts(t interface {
	Fatalf(string, ...any)
	Helper()
}, texts []string) {
	t.Helper()
	var routes []*Route
	for _, text := range texts {
		list, err := ParsePattern(text)
		if err != nil {
			t.Fatalf("ParsePattern(%q): %v", text, err)
		}
		at := Position{Line: len(routes) + 1}
		list[0].At = at
		routes = append(routes, &Route{At: at, Patterns: list, Forbid: true})
	}
	_, problems := NewTable(routes, nil)
	got := make(map[[2]int]bool)
	for _, p := range problems {
		if p.Kind == ProblemConflict {
			got[[2]int{min(p.At.Line, p.Other.Line), max(p.At.Line, p.Other.Line)}] = true
		}
	}
	forest := forest{}
	for i, r := range routes {
		forest.insert(&r.Patterns[0], int32(i+1))
	}
	for i, a := range routes {
		for j, b := range routes[:i] {
			p, q := &a.Patterns[0], &b.Patterns[0]
			_, fine := muxOf([]*Pattern{p, q})
			rel := comparePatterns(p, q)
			if fine == (rel == equal || rel == overlapping) {
				t.Fatalf("%v and %v: ServeMux takes both is %v, relation %d", p, q, fine, rel)
			}
			if rel == equal {
				continue // only the first of equals is told
			}
			if rel == overlapping {
				common := meet(p, q)
				if comparePatterns(&common, p) != narrower || comparePatterns(&common, q) != narrower {
					t.Fatalf("%v and %v: %v is not what both match", p, q, &common)
				}
				fine = forest.find(&common) != 0
			}
			duplicate := forest.find(p) != int32(i+1) || forest.find(q) != int32(j+1)
			if told := got[[2]int{j + 1, i + 1}]; !duplicate && told == fine {
				t.Fatalf("%v and %v: told as conflict is %v, ServeMux says fine is %v\n%v", p, q, told, fine, problems)
			}
		}
	}
}

// The walk and the candidates of the index find the same conflicts.
func TestConflictsWithAndWithoutIndex(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		texts := drawPatterns(r, false)
		find := func(budget int) string {
			b := builder{table: &Table{}}
			var members []int32
			for _, text := range texts {
				list, err := ParsePattern(text)
				if err != nil {
					r.Fatalf("ParsePattern(%q): %v", text, err)
				}
				id := int32(len(b.table.patterns) + 1)
				if b.enforced.insert(&list[0], id) != 0 {
					continue
				}
				list[0].At = line(int(id))
				b.table.patterns = append(b.table.patterns, tablePattern{&list[0], &entry{route: &Route{}}})
				members = append(members, id)
			}
			b.searchConflicts(&b.enforced, members, false, budget)
			sortProblems(b.problems)
			return fmt.Sprint(b.problems)
		}
		if walked, indexed := find(math.MaxInt), find(0); walked != indexed {
			r.Fatalf("walk finds %s\nindex finds %s", walked, indexed)
		}
	})
}
