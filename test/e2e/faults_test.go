package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
	"github.com/gatehouse-authz/gatehouse/test/pg"
)

const (
	// faultTime is how long a fault lasts, acceptanceFaultTime how long for acceptance.
	faultTime, acceptanceFaultTime = time.Second, 15 * time.Second

	// longest is what an answer may take whatever happens: Envoy's timeout of 1 s for
	// gatehouse, its retry, and a machine that does other things as well.
	longest = 5 * time.Second

	// inTime is how soon gatehouse answers while it is there, whatever it waits for: before an
	// attempt of Envoy ends, which is after 1 s, but for what the machine takes.
	inTime = 1500 * time.Millisecond

	// standstill is how long the machine may do nothing for us. If that is longer than Envoy
	// waits it proves nothing, and the fault is made again.
	standstill = 400 * time.Millisecond
)

// A setup is how a stack whose parts can be broken differs from the usual one. The zero
// value does not.
type setup struct {
	issuer    authntest.Options
	change    func(t *testing.T, f *faulty, config string) string // of gatehouse's configuration
	questions []question                                          // further ones
	options   []harness.Option                                    // of gatehouse
	opsTLS    *tls.Config                                         // for its ops listener; nil: plain text
}

// faulty is a stack whose parts can be broken while clients ask.
type faulty struct {
	setup
	issuer    *authntest.Issuer
	config    string
	gatehouse *harness.Gatehouse
	upstream  string
	ports     []int // of Envoy's fronts
	envoy     *harness.Envoy
	traffic   *traffic
}

// startFaulty is the usual stack.
func startFaulty(t *testing.T, options ...harness.Option) *faulty {
	t.Helper()
	return setup{options: options}.start(t)
}

// start runs gatehouse and Envoy at ports of their own, so that they can be started again.
func (s setup) start(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{setup: s, upstream: startEcho(t).Address()}
	var err error
	if f.issuer, err = authntest.Start(s.issuer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.issuer.Close)
	f.config = strings.Replace(config, `grpc: {address: "127.0.0.1:0"}`, fmt.Sprintf(`grpc: {address: "127.0.0.1:%d"}`, idp.FreePort(t)), 1)
	// Longer than Envoy waits: gatehouse has to answer before it knows.
	f.config = strings.Replace(f.config, "keys: {refresh: 1s,", "leeway: 10s\n    keys: {refresh: 1s, timeout: 2s,", 1)
	if s.change != nil {
		f.config = s.change(t, f, f.config)
	}
	f.start(t)
	for range bothFronts {
		f.ports = append(f.ports, idp.FreePort(t))
	}
	f.startEnvoy(t)

	alice, forger := f.issuer.Token(nil), newForger(t, f.issuer)
	stranger := newForger(t, f.issuer)
	f.traffic = startTraffic(t, f.envoy, bothFronts, append([]question{
		{"a key", "GET /me", fixed("x-api-key: " + batchKey), http.StatusOK},
		{"a token seen before", "GET /me", fixed("authorization: Bearer " + alice), http.StatusOK},
		{"a new token each time", "GET /me", func() string {
			return "authorization: Bearer " + f.issuer.Token(map[string]any{"jti": time.Now().String()})
		}, http.StatusOK},
		{"a forged token", "GET /me", func() string { return "authorization: Bearer " + forger.Token(f.issuer.Claims(nil)) }, http.StatusUnauthorized},
		{"a token of an unknown key", "GET /me", func() string {
			header := map[string]any{"alg": stranger.Algorithm, "typ": "JWT", "kid": time.Now().String()}
			return "authorization: Bearer " + stranger.Sign(header, f.issuer.Claims(nil))
		}, http.StatusUnauthorized},
		{"a forbidden path", "GET /internal/x", fixed("x-api-key: " + batchKey), http.StatusForbidden},
	}, s.questions...))
	return f
}

// start starts gatehouse, also again.
func (f *faulty) start(t *testing.T) {
	t.Helper()
	f.gatehouse = startGatehouse(t, f.config, f.issuer.URL(), f.options...)
	f.gatehouse.OpsTLS = f.opsTLS
	f.gatehouse.WaitServing(t)
}

// startEnvoy starts Envoy, also again.
func (f *faulty) startEnvoy(t *testing.T) {
	t.Helper()
	replicas := []string{f.gatehouse.GRPC}
	f.envoy = harness.StartEnvoy(t, f.upstream,
		harness.Front{Name: "hardened", Gatehouse: replicas, Changes: []harness.Change{harness.Port(f.ports[0])}},
		harness.Front{Name: "fail open", Gatehouse: replicas, Changes: []harness.Change{harness.Port(f.ports[1]), harness.FailOpen}})
}

// during lets the fault last, then mends it and reports how long after the mending began
// the last wrong answer came.
func (f *faulty) during(t *testing.T, fault string, breakIt, mend func()) {
	t.Helper()
	f.duringFor(t, fault, lasts(), breakIt, mend)
}

// lasts is how long a fault lasts.
func lasts() time.Duration {
	if acceptance() {
		return acceptanceFaultTime
	}
	return faultTime
}

func (f *faulty) duringFor(t *testing.T, fault string, lasts time.Duration, breakIt, mend func()) {
	t.Helper()
	for again := range 4 {
		f.traffic.begin()
		breakIt()
		<-time.After(lasts)
		mending := time.Now()
		mend()
		recovery := f.traffic.wellAgain(t, mending)
		if stood := f.traffic.stoodStill(); stood > standstill && again < 3 {
			t.Logf("%s: the machine stood still for %v, so once more", fault, stood.Round(time.Millisecond))
			continue
		}
		t.Logf("%s for %v: well again %v after\n%s", fault, lasts, recovery.Round(time.Millisecond), f.traffic.report())
		break
	}
	if slowest := f.traffic.slowest(); slowest > longest {
		t.Errorf("%s: an answer took %v, want at most %v", fault, slowest, longest)
	}
	f.traffic.neverAllowed(t, "hardened")
}

// only fails the test if a lane saw any other status.
func (f *faulty) only(t *testing.T, front, name string, statuses ...string) {
	t.Helper()
	for status, n := range f.traffic.saw(front, name) {
		if !strings.Contains(" "+strings.Join(statuses, " ")+" ", " "+status+" ") {
			t.Errorf("%s at %s: %d times %s, want only %v", name, front, n, status, statuses)
		}
	}
}

func fixed(header string) func() string { return func() string { return header } }

// newForger is a key that claims to be the issuer's.
func newForger(t *testing.T, issuer *authntest.Issuer) *authntest.Key {
	t.Helper()
	key, err := authntest.NewKey(issuer.Current().ID, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var bothFronts = []string{"hardened", "fail open"}

// asEver fails the test if the usual questions had any but their right answers, but for
// tokens of unknown keys, whose issuer has to be asked: they may be 503, and never pass.
func (f *faulty) asEver(t *testing.T) {
	t.Helper()
	for _, front := range bothFronts {
		f.only(t, front, "a key", "200")
		f.only(t, front, "a token seen before", "200")
		f.only(t, front, "a new token each time", "200")
		f.only(t, front, "a forged token", "401")
		f.only(t, front, "a token of an unknown key", "401", "503")
		f.only(t, front, "a forbidden path", "403")
	}
	f.traffic.neverAllowed(t, "fail open")
}

// TestFaultIssuer: whatever the issuer does, what was known goes on, tokens of known keys
// are verified, forged ones are not, and nothing waits for it longer than Envoy does.
func TestFaultIssuer(t *testing.T) {
	f := setup{
		issuer: authntest.Options{TLS: true},
		change: func(t *testing.T, f *faulty, config string) string {
			ca := filepath.Join(t.TempDir(), "ca.crt")
			if err := os.WriteFile(ca, f.issuer.CAPEM(), 0o600); err != nil {
				t.Fatal(err)
			}
			return strings.Replace(config, "keys: {", fmt.Sprintf("keys: {ca_file: %q, ", ca), 1)
		},
	}.start(t)
	for _, fault := range []authntest.Fault{
		authntest.Status500, authntest.Garbage, authntest.EmptySet, authntest.Hang, authntest.Drip, authntest.Reset, authntest.WrongCertificate,
	} {
		failed := f.failedFetches(t)
		f.during(t, "issuer: "+fault.String(),
			func() { f.issuer.Break(fault, authntest.Everywhere) },
			func() { f.issuer.Break(authntest.NoFault, authntest.Everywhere) })
		if f.failedFetches(t) == failed {
			t.Errorf("issuer: %v: no fetch of its keys failed", fault)
		}
		if slowest := f.traffic.slowest(); slowest > inTime {
			t.Errorf("issuer: %v: an answer took %v, so that Envoy gave up an attempt", fault, slowest)
		}
		f.asEver(t)
	}
}

// failedFetches is how often the issuer's keys could not be fetched.
func (f *faulty) failedFetches(t *testing.T) float64 {
	t.Helper()
	n, err := metric(f.gatehouse, `gatehouse_keyset_fetches_total{authenticator="corp",result="failed"}`)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFaultDNS: the issuer's name cannot be resolved any more. That is an outage like any
// other, also where gatehouse starts with it.
func TestFaultDNS(t *testing.T) {
	dir := t.TempDir()
	hosts, servers := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	write := func(path, content string) {
		// In place: what is mounted is the file, not its name.
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const known = "127.0.0.1 issuer\n"
	write(hosts, known)
	write(servers, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") // where nobody answers
	var proxy *pg.Cutter
	f := setup{
		issuer:  authntest.Options{TLS: true},
		options: []harness.Option{harness.Mounts(fmt.Sprintf("mount --bind %s /etc/hosts && mount --bind %s /etc/resolv.conf", hosts, servers))},
		change: func(t *testing.T, f *faulty, config string) string {
			ca := filepath.Join(dir, "ca.crt")
			write(ca, string(f.issuer.CAPEM()))
			proxy = pg.NewCutter(t, strings.TrimPrefix(f.issuer.URL(), "https://"))
			_, port, err := net.SplitHostPort(proxy.Addr())
			if err != nil {
				t.Fatal(err)
			}
			config = strings.Replace(config, "keys: {", fmt.Sprintf("keys: {ca_file: %q, ", ca), 1)
			return strings.Replace(config, "audiences:", fmt.Sprintf("jwks_url: \"https://issuer:%s/jwks\"\n    audiences:", port), 1)
		},
	}.start(t)
	// Go remembers the file for five seconds, and a connection that is there asks for no name.
	gone := func() {
		failed := f.failedFetches(t)
		write(hosts, "")
		harness.Eventually(t, settle, func() error {
			proxy.Cut()
			proxy.Mend()
			if f.failedFetches(t) == failed {
				return errors.New("the name is still known")
			}
			return nil
		})
	}
	f.during(t, "DNS: gone", gone, func() { write(hosts, known) })
	f.asEver(t)

	f.during(t, "DNS: gone at the start", func() {
		write(hosts, "")
		f.gatehouse.Kill()
		f.start(t)
	}, func() { write(hosts, known) })
	f.only(t, "hardened", "a key", "200", "503")
	f.only(t, "hardened", "a new token each time", "200", "503")
	f.only(t, "hardened", "a forged token", "401", "503")
}

// TestFaultGatehouseKilled: kill -9 and a new start. Behind the shipped configuration
// nobody passes meanwhile; with failure_mode_allow everybody does, which is what it is.
func TestFaultGatehouseKilled(t *testing.T) {
	f := startFaulty(t)
	f.during(t, "gatehouse: kill -9", func() { f.gatehouse.Kill() }, func() { f.start(t) })
	f.only(t, "hardened", "a key", "200", "503")
	f.only(t, "hardened", "a forged token", "401", "503")
	f.only(t, "hardened", "a forbidden path", "403", "503")
	f.only(t, "fail open", "a key", "200", "503") // 503: keys are fetched anew
}

// TestFaultGatehouseHangs: a process that is there and does not answer costs Envoy's
// timeout, not more.
func TestFaultGatehouseHangs(t *testing.T) {
	f := startFaulty(t)
	f.during(t, "gatehouse: stopped",
		func() { f.gatehouse.Signal(syscall.SIGSTOP) },
		func() { f.gatehouse.Signal(syscall.SIGCONT) })
	f.only(t, "hardened", "a key", "200", "503")
	f.only(t, "hardened", "a forged token", "401", "503")
	f.only(t, "hardened", "a forbidden path", "403", "503")
}

// TestFaultDescriptors: a process that may have few descriptors accepts fewer connections,
// says so, and keeps some for itself: operators can look, and files can be read. Where
// there are none at all any more, Envoy's connections, which are there already, go on.
func TestFaultDescriptors(t *testing.T) {
	const most = 96
	f := startFaulty(t, harness.Descriptors(most))
	if log := f.gatehouse.Output(); !strings.Contains(log, "fewer connections are accepted than configured") {
		t.Error("the log does not say that there are fewer connections than configured")
	}
	conns := &connections{address: f.gatehouse.GRPC}
	f.during(t, "descriptors: few", func() {
		conns.open(t, 200)
		f.configureAnew(t)
		if now := resourcesOf(t, f.gatehouse); now.descriptors >= most {
			t.Errorf("%v in use of %d", now, most)
		}
	}, conns.close)
	f.asEver(t)

	limit := func(soft int) {
		out, err := exec.CommandContext(t.Context(), "prlimit", "--pid", fmt.Sprint(f.gatehouse.PID()), fmt.Sprintf("--nofile=%d:", soft)).CombinedOutput()
		if err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	f.during(t, "descriptors: none", func() {
		limit(3)
		conns.open(t, 50)
	}, func() {
		limit(most)
		conns.close()
	})
	f.asEver(t)
}

// configureAnew reloads gatehouse, which reads its files.
func (f *faulty) configureAnew(t *testing.T) {
	t.Helper()
	before, err := metric(f.gatehouse, `gatehouse_reloads_total{result="ok"}`)
	if err != nil {
		t.Fatal(err)
	}
	f.gatehouse.Signal(syscall.SIGHUP)
	harness.Eventually(t, settle, func() error {
		after, err := metric(f.gatehouse, `gatehouse_reloads_total{result="ok"}`)
		if err == nil && after == before {
			err = errors.New("not reloaded")
		}
		return err
	})
}

// TestFaultSlowClients: a thousand connections that send the beginning of something, to
// gatehouse's listeners and to Envoy.
func TestFaultSlowClients(t *testing.T) {
	f := startFaulty(t)
	grpc, ops := &connections{address: f.gatehouse.GRPC}, &connections{address: f.gatehouse.Ops}
	envoy := &connections{address: f.envoy.Address(t, "hardened")}
	f.during(t, "a thousand slow clients", func() {
		grpc.open(t, 600)
		ops.open(t, 200)
		envoy.open(t, 200)
	}, func() {
		grpc.close()
		ops.close()
		envoy.close()
	})
	f.asEver(t)
}

// connections are those of clients that dawdle.
type connections struct {
	address string
	list    []net.Conn
}

// open makes n connections. Some may not come about when the other side has no
// descriptors left, which is what is wanted.
func (c *connections) open(t *testing.T, n int) {
	t.Helper()
	for range n {
		conn, err := net.DialTimeout("tcp", c.address, time.Second)
		if err != nil {
			continue
		}
		_, _ = conn.Write([]byte("PRI * HT")) // of HTTP/2's preface; HTTP/1 waits for more, too
		c.list = append(c.list, conn)
	}
	if len(c.list) == 0 {
		t.Error("no connection came about")
	}
}

func (c *connections) close() {
	for _, conn := range c.list {
		_ = conn.Close()
	}
	c.list = nil
}

// TestFaultMemory: a flood of tokens that nobody has seen, with little memory. The caches
// are bounded, so the process stays far below what would get it killed.
func TestFaultMemory(t *testing.T) {
	const limit = 48 << 20
	f := startFaulty(t, harness.Env(fmt.Sprintf("GOMEMLIMIT=%d", limit)))
	var stop chan struct{}
	flood := func() {
		stop = make(chan struct{})
		stop, forger := stop, newForger(t, f.issuer)
		for range 4 {
			go func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					padding := strings.Repeat("x", 4096)
					token := forger.Token(f.issuer.Claims(map[string]any{"jti": i, "padding": padding}))
					_, _ = harness.TrySend(f.traffic.lanes[0].address, "GET /me", "authorization: Bearer "+token)
				}
			}()
		}
	}
	f.during(t, "a flood of tokens", flood, func() { close(stop) })
	used, err := metric(f.gatehouse, "process_resident_memory_bytes")
	if err != nil || used > 4*limit {
		t.Errorf("%v bytes in use, %v; want less than %d", used, err, 4*limit)
	}
	t.Logf("%.0f MiB in use with GOMEMLIMIT=%d MiB", used/(1<<20), limit>>20)
	f.asEver(t)
}

// TestFaultEnvoyRestarted: kill -9 of Envoy and a new one in its place. gatehouse does not
// mind, and answers the new one at once.
func TestFaultEnvoyRestarted(t *testing.T) {
	f := startFaulty(t)
	f.during(t, "Envoy: kill -9", func() { f.envoy.Kill() }, func() { f.startEnvoy(t) })
	const none = "no answer"
	for _, front := range bothFronts {
		f.only(t, front, "a key", "200", none)
		f.only(t, front, "a new token each time", "200", none)
		f.only(t, front, "a forged token", "401", none)
		f.only(t, front, "a forbidden path", "403", none)
	}
	f.traffic.neverAllowed(t, "fail open")
}

// TestFaultPanic: an authenticator with a mistake in it. Whoever meets it gets a 503, which
// stays one under failure_mode_allow; nobody else notices, and the log has the stack.
func TestFaultPanic(t *testing.T) {
	// The mistake is in no binary but this one.
	const place = "stack [256]byte // longer keys cost an allocation\n"
	const mistake = "if in.Value == \"the-key-of-all-evil\" { panic(\"a mistake\") }\n"
	program := harness.BuildWith(t, "extauthz/authn/apikey.go", "\tvar "+place, mistake+"\tvar "+place)
	f := setup{
		options: []harness.Option{harness.Program(program)},
		questions: []question{
			{"a key that panics", "GET /me", fixed("x-api-key: the-key-of-all-evil"), http.StatusServiceUnavailable},
		},
	}.start(t)
	f.during(t, "gatehouse: panics", func() {}, func() {})
	f.asEver(t)
	for _, front := range bothFronts {
		f.only(t, front, "a key that panics", "503")
	}
	if panics, err := metric(f.gatehouse, "gatehouse_panics_total"); err != nil || panics == 0 {
		t.Errorf("%v panics are counted, %v", panics, err)
	}
	if log := f.gatehouse.Output(); !strings.Contains(log, "a mistake") || !strings.Contains(log, "apikey.go") {
		t.Error("the log has no stack of the panic")
	}
}

// TestFaultClockSkew: an issuer whose clock is ahead or behind by less than the leeway is
// believed; beyond that it is a 401, not an outage.
func TestFaultClockSkew(t *testing.T) {
	f := startFaulty(t)
	for _, row := range []struct {
		name   string
		skew   time.Duration
		status int
	}{
		{"five seconds ahead", 5 * time.Second, http.StatusOK},
		{"five seconds behind", -5 * time.Second, http.StatusOK},
		{"an hour ahead", time.Hour, http.StatusUnauthorized},
		{"an hour behind", -time.Hour, http.StatusUnauthorized},
	} {
		now := time.Now().Add(row.skew)
		token := f.issuer.Token(map[string]any{"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()})
		for _, front := range bothFronts {
			if err := wantStatus(f.envoy.Address(t, front), token, row.status); err != nil {
				t.Errorf("%s: an issuer whose clock is %s: %v", front, row.name, err)
			}
		}
	}
}
