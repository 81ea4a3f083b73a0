// Package systems serves five existing systems by configuration alone. Each folder holds
// what its operators need; the suite here proves, through a real Envoy, every requirement
// of each, by its number.
package systems

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-authz/gatehouse/test/echo"
	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// A Case is one request and what comes of it. The table of a system is its specification.
type Case struct {
	Requires string // the requirement that it proves: "ORC 7"; several with commas
	Name     string // the sentence that it proves
	Through  string // the address; empty: the first listener of the system's Envoy
	From     string // the local address that the connection comes from
	Request  string // "GET /x"
	Headers  []string
	Status   int
	Upstream map[string]string // headers that the upstream received; "" for none under any spelling
	Client   map[string]string // headers that the client got; "" for none
	Body     string            // text that the client's answer holds
}

// A Suite runs cases and remembers which requirements they prove.
type Suite struct {
	t       *testing.T
	prefix  string
	through string // where cases go that do not say
	store   string // the SQLite file of those systems that have one
	proven  map[string][]string
}

// start runs a system: gatehouse with its configuration and environment, and its Envoy.
func start(t *testing.T, system, prefix string, environment ...string) (*Suite, *harness.Gatehouse, *harness.Envoy) {
	t.Helper()
	upstream := serveEcho(t)
	store := filepath.Join(t.TempDir(), "gatehouse.db")
	g := startGatehouse(t, system, append(environment, "STORE_PATH="+store)...)
	e := harness.StartEnvoyFile(t, filepath.Join(system, "envoy.yaml"), g.GRPC, upstream.Address())
	return &Suite{t: t, prefix: prefix, store: store, proven: map[string][]string{}}, g, e
}

func serveEcho(t *testing.T) *echo.Server {
	t.Helper()
	upstream, err := echo.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { upstream.Close() })
	return upstream
}

// startGatehouse runs gatehouse with the configuration of a system.
func startGatehouse(t *testing.T, system string, environment ...string) *harness.Gatehouse {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(system, "gatehouse.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	options := []harness.Option{
		harness.Env("LISTEN_GRPC=127.0.0.1:0"), harness.Env("LISTEN_HTTP=127.0.0.1:0"), harness.Env("LISTEN_OPS=127.0.0.1:0"),
		harness.Env("STORE_PATH=" + filepath.Join(t.TempDir(), "gatehouse.db")),
	}
	for _, assignment := range environment {
		options = append(options, harness.Env(assignment))
	}
	g := harness.StartGatehouse(t, string(config), options...)
	g.WaitServing(t)
	return g
}

// run sends the request of each case and compares.
func (s *Suite) run(cases ...Case) {
	for _, c := range cases {
		for requirement := range strings.SplitSeq(c.Requires, ", ") {
			s.proven[requirement] = append(s.proven[requirement], c.Name)
		}
		s.t.Run(c.Requires+" "+c.Name, func(t *testing.T) {
			address := c.Through
			if address == "" {
				address = s.through
			}
			source := c.From
			if source == "" {
				source = "127.0.0.1"
			}
			compare(t, c, harness.SendFrom(t, source, address, c.Request, c.Headers...))
		})
	}
}

func compare(t *testing.T, c Case, got harness.Answer) {
	t.Helper()
	if got.Status != c.Status {
		t.Fatalf("%s = %d, want %d\n%v\n%s", c.Request, got.Status, c.Status, got.Header, got.Body)
	}
	if c.Status >= 300 && got.Upstream != nil {
		t.Errorf("%s was refused and reached the upstream", c.Request)
	}
	if !strings.Contains(got.Body, c.Body) {
		t.Errorf("body = %q, want it to hold %q", got.Body, c.Body)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Client)) {
		if value := strings.Join(got.Header.Values(name), " | "); value != c.Client[name] {
			t.Errorf("client got %s: %q, want %q", name, value, c.Client[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Upstream)) {
		var want []string
		if c.Upstream[name] != "" {
			want = []string{name + ": " + c.Upstream[name]}
		}
		if got.Upstream == nil {
			t.Fatalf("%s did not reach the upstream: %s", c.Request, got.Body)
		}
		lines := harness.Folded(got.Upstream, name)
		if len(lines) == 1 && len(want) == 1 && strings.EqualFold(lines[0][:min(len(name), len(lines[0]))], name) {
			lines[0] = name + lines[0][len(name):] // nginx writes capitals
		}
		if !slices.Equal(lines, want) {
			t.Errorf("upstream received %q, want %q", lines, want)
		}
	}
}

// prove marks a requirement that a test proves in a way of its own.
func (s *Suite) prove(requirement, name string, test func(*testing.T)) {
	s.proven[requirement] = append(s.proven[requirement], name)
	s.t.Run(requirement+" "+name, test)
}

// complete fails unless each of the requirements 1 to n has a case, and reports them.
func (s *Suite) complete(n int) {
	s.t.Helper()
	var report strings.Builder
	for i := 1; i <= n; i++ {
		requirement := fmt.Sprintf("%s %d", s.prefix, i)
		cases := s.proven[requirement]
		if len(cases) == 0 {
			s.t.Errorf("%s has no case", requirement)
		}
		fmt.Fprintf(&report, "\n%s: %d cases", requirement, len(cases))
		for _, name := range cases {
			report.WriteString("\n  - " + name)
		}
		delete(s.proven, requirement)
	}
	for requirement := range s.proven {
		s.t.Errorf("there is no requirement %q", requirement)
	}
	s.t.Log(report.String())
}

// gatehouse runs a command on the system's store and returns what it printed.
func (s *Suite) gatehouse(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append(args, "--store="+s.store)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gatehouse %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// bearer is the header with a token.
func bearer(token string) string { return "Authorization: Bearer " + token }

// cat joins headers.
func cat(headers ...string) []string { return headers }
