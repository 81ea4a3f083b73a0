package record

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-authz/gatehouse/extauthz"
	"github.com/gatehouse-authz/gatehouse/policy"
)

// sample is a record with something in every field that has room for a secret.
func sample(reason policy.Reason) *extauthz.Record {
	return &extauthz.Record{
		ID: "d1", Time: time.Unix(1_800_000_000, 0), Latency: 42 * time.Microsecond, Status: 200, Authenticator: "corp",
		Call: &extauthz.Call{HTTP: true, Method: "GET", Target: "/orders/1?access_token=s3cr3t"},
		Request: &policy.Request{
			Method: "GET", Host: "example.com", Path: "/orders/1", Query: "access_token=s3cr3t", Scheme: "https",
			Headers: []policy.Pair{{Name: "authorization", Value: "Bearer s3cr3t"}},
			Context: []policy.Pair{{Name: "listener", Value: "front"}}, Source: netip.MustParseAddr("192.0.2.7"),
			SourcePrincipal: "spiffe://cluster.local/ns/edge/sa/envoy",
		},
		Decision: policy.Decision{
			Outcome: reason.Outcome(), Reason: reason, Requirement: -1,
			Route: &policy.Route{Name: "orders"}, At: policy.Position{File: "g.yaml", Line: 4, Column: 2},
			Principal: &policy.Principal{
				Authenticator: "corp", Realm: "corp", Issuer: "https://idp", Subject: "u1", Username: "eve@example.com", TokenID: "t1",
				Tenant: "acme", Roles: []string{"reader"}, Scopes: []string{"orders:read"},
				Attributes: map[string]policy.Attribute{"department": {Values: []string{"audit"}}, "amr": {Values: []string{"mfa"}, List: true}},
			},
		},
		Detail: errors.New("eve is late"),
	}
}

func open(t *testing.T, change func(*Options)) (*Log, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	o := Options{Out: &out, SampleAllowed: 1, MaxBytes: 1 << 20, Keep: 2, Failed: func(err error) { t.Error(err) }}
	if change != nil {
		change(&o)
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, &out
}

func TestRecordIsReadBack(t *testing.T) {
	l, out := open(t, nil)
	r := sample(policy.ReasonMet)
	l.Write(r)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "s3cr3t") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("the record holds a credential or is no single line: %s", out)
	}
	d, err := find(out, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	if d.GetId() != "d1" || d.GetOutcome() != "allowed" || d.GetReason() != "requirement_met" || d.GetPosition() != "g.yaml:4:2" ||
		d.GetLatency().AsDuration() != 42*time.Microsecond || !d.GetTime().AsTime().Equal(r.Time) || d.GetDetail() == "" {
		t.Errorf("record = %v", d)
	}
	if diff := cmp.Diff(r.Decision.Principal, Principal(d)); diff != "" {
		t.Errorf("principal (-written +read):\n%s", diff)
	}
	want := &extauthz.Call{
		HTTP: true, Method: "GET", Host: "example.com", Target: "/orders/1", Scheme: "https", Source: r.Request.Source,
		SourcePrincipal: r.Request.SourcePrincipal, Context: r.Request.Context,
	}
	if diff := cmp.Diff(want, Call(d), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("call (-written +read):\n%s", diff)
	}
}

func TestPseudonyms(t *testing.T) {
	texts := map[string]string{}
	for _, key := range []string{"key-one-0123456789", "key-two-0123456789"} {
		l, out := open(t, func(o *Options) { o.PseudonymKey = key })
		l.Write(sample(policy.ReasonMet))
		l.Write(sample(policy.ReasonMet))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		for _, personal := range []string{"u1", "eve", "192.0.2.7", key} {
			if strings.Contains(out.String(), personal) {
				t.Errorf("the record holds %q: %s", personal, out)
			}
		}
		lines := strings.SplitAfter(out.String(), "\n")
		if lines[0] != lines[1] {
			t.Errorf("equal values have different pseudonyms:\n%s%s", lines[0], lines[1])
		}
		texts[key] = lines[0]
	}
	if texts["key-one-0123456789"] == texts["key-two-0123456789"] {
		t.Error("pseudonyms do not depend on the key")
	}
}

func TestSampling(t *testing.T) {
	l, out := open(t, func(o *Options) { o.SampleAllowed = 0 })
	l.Write(sample(policy.ReasonMet))
	l.Write(sample(policy.ReasonExpired))
	l.Write(sample(policy.ReasonRequirement))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), `"allowed"`) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("records = %s, want the two refusals only", out)
	}
	const n = 4000
	half, out := open(t, func(o *Options) { o.SampleAllowed = 0.5 })
	for range n {
		half.Write(sample(policy.ReasonMet))
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	// Six standard deviations: wrong once in 500 million runs.
	if got := strings.Count(out.String(), "\n"); got < n/2-190 || got > n/2+190 {
		t.Errorf("%d of %d allowed decisions are recorded, want about half", got, n)
	}
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "decisions.log")
		l, _ := open(t, func(o *Options) { o.File, o.MaxBytes = file, 2000 })
		for i := range 20 {
			r := sample(policy.ReasonMet)
			r.ID = fmt.Sprint("d", i)
			l.Write(r)
			time.Sleep(2 * flushEvery) // in a bubble
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(file + "*")
		if err != nil || len(names) != 3 {
			t.Fatalf("files = %v, %v, want the log and two before it", names, err)
		}
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil || info.Size() > 2000 || info.Mode().Perm() != logMode {
				t.Errorf("%s: %d bytes, mode %v, %v; want at most 2000 and 0600", name, info.Size(), info.Mode(), err)
			}
		}
		if d, err := Read(file, 0, ""); err != nil || d.GetId() != "d19" {
			t.Errorf("the last record = %v, %v, want d19", d.GetId(), err)
		}
		if d, err := Read(file+".1", 1, ""); err != nil || d.GetId() == "" {
			t.Errorf("the first record of the file before: %v, %v", d, err)
		}
	})
}

func TestConcurrentWrites(t *testing.T) {
	file := filepath.Join(t.TempDir(), "decisions.log")
	l, _ := open(t, func(o *Options) { o.File = file })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l.Write(sample(policy.ReasonMet))
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := os.ReadFile(file + ".1")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got := bytes.Count(content, []byte("\n")) + bytes.Count(rotated, []byte("\n")); got != 1600 {
		t.Errorf("%d records, want 1600", got)
	}
	if l.Write(sample(policy.ReasonMet)) {
		t.Error("a closed log takes a record")
	}
}

func TestFailuresAreTold(t *testing.T) {
	if _, err := Open(Options{File: filepath.Join(t.TempDir(), "missing", "decisions.log")}); err == nil {
		t.Error("a folder that is not there: Open succeeds")
	}
	var told []error
	l, _ := open(t, func(o *Options) {
		o.Out = failing{}
		o.Failed = func(err error) { told = append(told, err) }
	})
	l.Write(sample(policy.ReasonMet))
	_ = l.Close()
	if len(told) != 1 || !errors.Is(told[0], errFull) {
		t.Errorf("told %v, want the one failure", told)
	}
}

var errFull = errors.New("no space left")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestFind(t *testing.T) {
	log := `{"msg":"listening"}` + "\n" + `{"id":"a","outcome":"allowed"}` + "\nnot JSON\n" + `{"id":"b","outcome":"forbidden"}` + "\n"
	for _, row := range []struct {
		name string
		line int
		id   string
		want string // id, or part of the error after "!"
	}{
		{"the last one", 0, "", "b"},
		{"by line", 2, "", "a"},
		{"by id", 0, "a", "a"},
		{"a line that is none", 3, "", "!line 3 is no record"},
		{"a line of something else", 1, "", "!line 1 is no record"},
		{"a line past the end", 9, "", "!ends before line 9"},
		{"an unknown id", 0, "c", "!no decision has the id c"},
	} {
		d, err := find(strings.NewReader(log), row.line, row.id)
		part, isError := strings.CutPrefix(row.want, "!")
		if isError && (err == nil || !errors.Is(err, ErrNoRecord) || !strings.Contains(err.Error(), part)) || !isError && d.GetId() != row.want {
			t.Errorf("%s: %v, %v; want %s", row.name, d, err, row.want)
		}
	}
	if _, err := find(strings.NewReader(""), 0, ""); !errors.Is(err, ErrNoRecord) {
		t.Errorf("an empty file: %v", err)
	}
}

func TestLocation(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "log:7")
	if err := os.WriteFile(odd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		text, file string
		line       int
		id         string
	}{
		{"d.log", "d.log", 0, ""},
		{"d.log:12", "d.log", 12, ""},
		{"d.log:k3vabc", "d.log", 0, "k3vabc"},
		{odd, odd, 0, ""},
		{odd + ":3", odd, 3, ""},
	} {
		if file, line, id := Location(row.text); file != row.file || line != row.line || id != row.id {
			t.Errorf("Location(%q) = %q, %d, %q; want %q, %d, %q", row.text, file, line, id, row.file, row.line, row.id)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	l, err := Open(Options{Out: nowhere{}, SampleAllowed: 1, Failed: func(error) {}})
	if err != nil {
		b.Fatal(err)
	}
	r := sample(policy.ReasonMet)
	b.ReportAllocs()
	for b.Loop() {
		l.Write(r)
	}
	_ = l.Close()
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// TestDeps keeps out what the decision log must not need.
func TestDeps(t *testing.T) {
	forbidden := map[string]string{
		"github.com/gatehouse-authz/gatehouse/extauthz/config": "records tell what was decided, not how it was configured",
		"go.uber.org/zap": "failures are told to the caller",
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		if reason, bad := forbidden[strings.TrimSpace(dep)]; bad {
			t.Errorf("imports %s: %s", strings.TrimSpace(dep), reason)
		}
	}
}
