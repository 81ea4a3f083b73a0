package suite

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/extauthz/config"
	"github.com/gatehouse-authz/gatehouse/policy"
	testv1 "github.com/gatehouse-authz/gatehouse/proto/gatehouse/test/v1"
)

// maxFileBytes bounds one file of tests.
const maxFileBytes = 64 << 20

// A Suite is a file of tests.
type Suite struct {
	File   string
	Config string            // path of the configuration; "": it names none
	Env    map[string]string // that the configuration sees besides
	Now    time.Time         // zero: the time of the run
	Tests  []Test

	callers  map[string]*testv1.Caller
	document *config.Document
}

// A Test is one decision that must come out as written.
type Test struct {
	Name  string
	At    policy.Position
	Given *testv1.Caller // nil: nobody, or whoever the credential in Call says
	Call  extauthz.Call
	Line  string // the request as it is written
	Want  Want
}

// Want is what must come out. Zero fields may be anything.
type Want struct {
	Outcome  policy.Outcome
	Reason   policy.Reason
	IsReason bool   // Reason is wanted
	Route    string // noRoute: none
	Status   int
	Set      []policy.Pair
	Removed  []string
}

// noRoute is the route of a request that none covers.
const noRoute = "none"

// A Source is a file of tests as it was found.
type Source struct {
	Name string // in problems
	Dir  string // that the configuration's path is relative to
	Data []byte
}

// Open reads a file of tests, or an archive (txtar) of such files and the configurations
// that they name. In an archive the tests are the files called tests.yaml or
// *.tests.yaml, or in a folder tests. Its files are unpacked in a folder of their own,
// which Close removes.
func Open(name string) (*Files, error) {
	data, err := read(name)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(name, ".txtar") {
		return &Files{Sources: []Source{{name, filepath.Dir(name), data}}}, nil
	}
	dir, err := os.MkdirTemp("", "gatehouse-test-")
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", name, err)
	}
	f := &Files{dir: dir}
	if err := f.unpack(name, txtar.Parse(data)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Files are the tests that one argument of the command names.
type Files struct {
	Sources []Source
	dir     string // of an unpacked archive; "" for none
}

// Close removes what was unpacked.
func (f *Files) Close() {
	if f.dir != "" {
		_ = os.RemoveAll(f.dir) // it is in the folder for temporary files
	}
}

// Rename gives text with the places in an unpacked archive as the user knows them.
func (f *Files) Rename(text, name string) string {
	if f.dir == "" {
		return text
	}
	return strings.ReplaceAll(text, f.dir+string(filepath.Separator), name+":")
}

func (f *Files) unpack(name string, archive *txtar.Archive) error {
	for _, file := range archive.Files {
		if !filepath.IsLocal(filepath.FromSlash(file.Name)) {
			return fmt.Errorf("unpacking %s: the file name %q leaves the archive", name, file.Name)
		}
		target := filepath.Join(f.dir, filepath.FromSlash(file.Name))
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
		if err := os.WriteFile(target, file.Data, 0o600); err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
		if isTests(file.Name) {
			f.Sources = append(f.Sources, Source{name + ":" + file.Name, filepath.Dir(target), file.Data})
		}
	}
	if len(f.Sources) == 0 {
		return fmt.Errorf("%s holds no tests: call a file in it tests.yaml, or put it in a folder tests", name)
	}
	return nil
}

func isTests(name string) bool {
	base := path.Base(name)
	return base == "tests.yaml" || strings.HasSuffix(base, ".tests.yaml") ||
		strings.HasSuffix(base, ".yaml") && path.Base(path.Dir(name)) == "tests"
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading tests: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading tests: %w", err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("reading tests: %s is over %d MiB", name, maxFileBytes>>20)
	}
	return data, nil
}

// Load reads the tests of a file. The Suite is nil if the report has an error.
func Load(source Source, env func(string) (string, bool)) (*Suite, *config.Report) {
	m := &testv1.Suite{}
	s := &Suite{File: source.Name, document: config.Decode(source.Name, source.Data, env, m)}
	if !s.document.Report().OK() {
		return nil, s.document.Report()
	}
	s.Env, s.callers = m.GetEnv(), m.GetCallers()
	if s.Config = m.GetConfig(); s.Config != "" && !filepath.IsAbs(s.Config) {
		s.Config = filepath.Join(source.Dir, s.Config)
	}
	if m.GetNow() != "" {
		now, err := time.Parse(time.RFC3339, m.GetNow())
		if err != nil {
			s.document.Errorf(s.document.At(m, "now"), "write it as 2026-01-31T12:00:00Z", "%q is no time", m.GetNow())
		}
		s.Now = now
	}
	for name, caller := range s.callers {
		s.checkCaller(caller)
		if caller.GetAs() != "" {
			s.document.Errorf(s.document.At(caller, "as"), "write the caller out", "caller %q is another caller", name)
		}
	}
	names := map[string]policy.Position{}
	for i, t := range m.GetTests() {
		if first, twice := names[t.GetName()]; twice {
			s.document.Errorf(s.document.At(t, "name"), "say what is different", "two tests are called %q (first in line %d)", t.GetName(), first.Line)
		}
		names[t.GetName()] = s.document.At(t, "name")
		s.Tests = append(s.Tests, s.test(m, i, t))
	}
	if report := s.document.Report(); !report.OK() {
		return nil, report
	}
	return s, s.document.Report()
}

func (s *Suite) test(m *testv1.Suite, index int, t *testv1.Test) Test {
	test := Test{
		Name: t.GetName(), At: s.document.Item(m, "tests", index), Line: t.GetWhen().GetRequest(),
		Given: t.GetGiven(), Call: s.call(t.GetWhen()), Want: s.want(t.GetThen()),
	}
	s.checkCaller(test.Given)
	if as := test.Given.GetAs(); as != "" {
		if s.callers[as] == nil {
			s.document.Unknown(s.document.At(test.Given, "as"), "caller", as, sortedKeys(s.callers))
		}
		test.Given = s.callers[as]
	}
	return test
}

// checkCaller finds what contradicts itself in a caller.
func (s *Suite) checkCaller(c *testv1.Caller) {
	if c == nil {
		return
	}
	var given []string
	plain := c.GetSubject() + c.GetUsername() + c.GetIssuer() + c.GetTokenId() + c.GetTenant()
	if plain != "" || c.GetUnscoped() || len(c.GetRoles())+len(c.GetScopes())+len(c.GetAttributes()) > 0 {
		given = append(given, "fields of a principal")
	}
	if c.GetClaims() != nil {
		given = append(given, "claims")
	}
	if c.GetAs() != "" {
		given = append(given, "as")
		if c.GetAuthenticator() != "" {
			given = append(given, "authenticator")
		}
	}
	if len(given) > 1 {
		s.document.Errorf(s.document.At(c, ""), "keep one of them", "a caller has %s", strings.Join(given, " and "))
	}
}

// connection is the request of a test of what `tcp` decides: one without HTTP.
const connection = "tcp"

func (s *Suite) call(m *testv1.Request) extauthz.Call {
	c := extauthz.Call{HTTP: true, Scheme: "https", SourcePrincipal: m.GetSourcePrincipal()}
	if m.GetScheme() != "" {
		c.Scheme = m.GetScheme()
	}
	c.HTTP = m.GetRequest() != connection
	method, rest, ok := strings.Cut(m.GetRequest(), " ")
	host, target, slash := strings.Cut(strings.TrimLeft(rest, " "), "/")
	switch {
	case !c.HTTP && len(m.GetHeaders()) > 0:
		s.document.Errorf(s.document.At(m, "headers"), "remove the headers", "a connection without HTTP has no headers")
	case c.HTTP && (!ok || !slash || method == ""):
		s.document.Errorf(s.document.At(m, "request"), `write it as in "GET /orders/1" or "GET www.example.com/orders/1"`, "%q is no request", m.GetRequest())
	}
	if c.HTTP {
		c.Method, c.Host, c.Target = method, host, "/"+target
		if host == "" {
			c.Host = "localhost"
		}
	}
	if m.GetSource() != "" {
		c.Source, _ = netip.ParseAddr(m.GetSource()) // the schema has checked it
		c.Source = c.Source.Unmap().WithZone("")
	}
	for _, name := range sortedKeys(m.GetHeaders()) {
		c.Headers = append(c.Headers, policy.Pair{Name: strings.ToLower(name), Value: m.GetHeaders()[name]})
	}
	for _, name := range sortedKeys(m.GetContext()) {
		c.Context = append(c.Context, policy.Pair{Name: name, Value: m.GetContext()[name]})
	}
	return c
}

func (s *Suite) want(m *testv1.Expectation) Want {
	w := Want{Route: m.GetRoute(), Status: int(m.GetStatus()), Removed: m.GetRemoved()}
	for o := policy.Forbidden; o <= policy.Unavailable; o++ {
		if o.String() == m.GetOutcome() {
			w.Outcome = o
		}
	}
	if m.GetReason() != "" {
		reason, known := policy.ParseReason(m.GetReason())
		switch at := s.document.At(m, "reason"); {
		case !known:
			s.document.Unknown(at, "reason", m.GetReason(), reasonNames())
		case reason.Outcome() != w.Outcome:
			s.document.Errorf(at, "write outcome: "+reason.Outcome().String()+", or another reason", "reason %s is never one of outcome %s", m.GetReason(), w.Outcome)
		}
		w.Reason, w.IsReason = reason, true
	}
	if len(m.GetSet())+len(m.GetRemoved()) > 0 && w.Outcome != policy.Allowed {
		s.document.Errorf(s.document.At(m, "outcome"), "remove set and removed, or write outcome: allowed", "a request that is %s reaches no upstream", w.Outcome)
	}
	for _, name := range sortedKeys(m.GetSet()) {
		w.Set = append(w.Set, policy.Pair{Name: strings.ToLower(name), Value: m.GetSet()[name]})
		if slices.Contains(m.GetRemoved(), name) {
			s.document.Errorf(s.document.Key(m, "set", name), "keep one of the two", "header %q cannot be both set and removed", name)
		}
	}
	return w
}

func reasonNames() []string {
	var names []string
	for _, r := range policy.Reasons() {
		names = append(names, r.String())
	}
	return names
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
