package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/extauthz/authn/authntest"
	"github.com/gatehouse-authz/gatehouse/test/harness"
	"github.com/gatehouse-authz/gatehouse/test/idp"
)

const (
	// faultTime is how long a fault lasts, acceptanceFaultTime how long for acceptance.
	faultTime, acceptanceFaultTime = time.Second, 15 * time.Second

	// longest is what an answer may take whatever happens: Envoy's timeout of 1 s for
	// gatehouse, its retry, and a machine that does other things as well.
	longest = 5 * time.Second
)

// faulty is a stack whose parts can be broken while clients ask.
type faulty struct {
	issuer    *authntest.Issuer
	config    string
	gatehouse *harness.Gatehouse
	traffic   *traffic
}

// startFaulty runs gatehouse at a port of its own, so that it can be started again.
func startFaulty(t *testing.T, options ...harness.Option) *faulty {
	t.Helper()
	f := &faulty{}
	var err error
	if f.issuer, err = authntest.Start(authntest.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.issuer.Close)
	f.config = strings.Replace(config, `grpc: {address: "127.0.0.1:0"}`, fmt.Sprintf(`grpc: {address: "127.0.0.1:%d"}`, idp.FreePort(t)), 1)
	f.config = strings.Replace(f.config, "keys: {refresh: 1s,", "leeway: 10s\n    keys: {refresh: 1s, timeout: 500ms,", 1)
	f.start(t, options...)
	replicas := []string{f.gatehouse.GRPC}
	envoy := harness.StartEnvoy(t, startEcho(t).Address(),
		harness.Front{Name: "hardened", Gatehouse: replicas},
		harness.Front{Name: "fail open", Gatehouse: replicas, Changes: []harness.Change{harness.FailOpen}})

	alice, forger := f.issuer.Token(nil), newForger(t, f.issuer)
	f.traffic = startTraffic(t, envoy, []string{"hardened", "fail open"}, []question{
		{"a key", "GET /me", fixed("x-api-key: " + batchKey), http.StatusOK},
		{"a token seen before", "GET /me", fixed("authorization: Bearer " + alice), http.StatusOK},
		{"a new token each time", "GET /me", func() string {
			return "authorization: Bearer " + f.issuer.Token(map[string]any{"jti": time.Now().String()})
		}, http.StatusOK},
		{"a forged token", "GET /me", func() string { return "authorization: Bearer " + forger.Token(f.issuer.Claims(nil)) }, http.StatusUnauthorized},
		{"a forbidden path", "GET /internal/x", fixed("x-api-key: " + batchKey), http.StatusForbidden},
	})
	f.traffic.wellAgain(t, time.Now())
	return f
}

func (f *faulty) start(t *testing.T, options ...harness.Option) {
	t.Helper()
	f.gatehouse = startGatehouse(t, f.config, f.issuer.URL(), options...)
	f.gatehouse.WaitServing(t)
}

// during lets the fault last, then mends it and reports how long after the mending began
// the last wrong answer came.
func (f *faulty) during(t *testing.T, fault string, breakIt, mend func()) {
	t.Helper()
	lasts := faultTime
	if os.Getenv("ACCEPTANCE") != "" {
		lasts = acceptanceFaultTime
	}
	f.traffic.begin()
	breakIt()
	<-time.After(lasts)
	mending := time.Now()
	mend()
	recovery := f.traffic.wellAgain(t, mending)
	t.Logf("%s for %v: well again %v after\n%s", fault, lasts, recovery.Round(time.Millisecond), f.traffic.report())
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

// TestFaultIssuer: whatever the issuer does, what was known goes on, tokens of known keys
// are verified, forged ones are not, and nothing waits for it.
func TestFaultIssuer(t *testing.T) {
	f := startFaulty(t)
	for _, fault := range []authntest.Fault{
		authntest.Status500, authntest.Garbage, authntest.EmptySet, authntest.Hang, authntest.Drip, authntest.Reset, authntest.WrongCertificate,
	} {
		f.during(t, "issuer: "+fault.String(),
			func() { f.issuer.Break(fault, authntest.Everywhere) },
			func() { f.issuer.Break(authntest.NoFault, authntest.Everywhere) })
		f.traffic.neverAllowed(t, "fail open")
		for _, front := range bothFronts {
			f.only(t, front, "a key", "200")
			f.only(t, front, "a token seen before", "200")
			f.only(t, front, "a new token each time", "200")
			f.only(t, front, "a forged token", "401")
			f.only(t, front, "a forbidden path", "403")
		}
	}
}

// TestFaultGatehouseKilled: kill -9 and a new start. Behind the shipped configuration
// nobody passes meanwhile; with failure_mode_allow everybody does, which is what it is.
func TestFaultGatehouseKilled(t *testing.T) {
	f := startFaulty(t)
	f.during(t, "gatehouse: kill -9", f.gatehouse.Kill, func() { f.start(t) })
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

// TestFaultDescriptors: connections until none can be accepted. Envoy's, which is there
// already, goes on.
func TestFaultDescriptors(t *testing.T) {
	f := startFaulty(t, harness.Descriptors(96))
	conns := &connections{address: f.gatehouse.GRPC}
	f.during(t, "descriptors: exhausted", func() { conns.open(t, 200) }, conns.close)
	for _, front := range bothFronts {
		f.only(t, front, "a key", "200")
		f.only(t, front, "a token seen before", "200")
		f.only(t, front, "a forged token", "401")
		f.only(t, front, "a forbidden path", "403")
	}
	f.traffic.neverAllowed(t, "fail open")
}

// TestFaultSlowClients: a thousand connections that send the beginning of something, to
// every listener.
func TestFaultSlowClients(t *testing.T) {
	f := startFaulty(t)
	grpc, ops := &connections{address: f.gatehouse.GRPC}, &connections{address: f.gatehouse.Ops}
	f.during(t, "a thousand slow clients", func() {
		grpc.open(t, 800)
		ops.open(t, 200)
	}, func() {
		grpc.close()
		ops.close()
	})
	for _, front := range bothFronts {
		f.only(t, front, "a key", "200")
		f.only(t, front, "a new token each time", "200")
		f.only(t, front, "a forged token", "401")
		f.only(t, front, "a forbidden path", "403")
	}
	f.traffic.neverAllowed(t, "fail open")
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
}

// TestFaultMemory: a flood of tokens that nobody has seen, with little memory. The caches
// are bounded, so the process stays far below what would get it killed.
func TestFaultMemory(t *testing.T) {
	const limit = 48 << 20
	f := startFaulty(t, harness.Env(fmt.Sprintf("GOMEMLIMIT=%d", limit)))
	stop := make(chan struct{})
	flood := func() {
		forger := newForger(t, f.issuer)
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
	for _, front := range bothFronts {
		f.only(t, front, "a key", "200")
		f.only(t, front, "a forged token", "401")
	}
}

// TestFaultEnvoyRestarted: gatehouse does not mind, and answers the new one at once.
func TestFaultEnvoyRestarted(t *testing.T) {
	gatehouse := harness.StartGatehouse(t, versioned("one"), harness.Env("KEY="+batchKey))
	gatehouse.WaitServing(t)
	upstream := startEcho(t).Address()
	for i := range 3 {
		envoy := harness.StartEnvoy(t, upstream, harness.Front{Name: "hardened", Gatehouse: []string{gatehouse.GRPC}})
		began := time.Now()
		harness.Eventually(t, settle, func() error { return keyStatus(envoy.Address(t, "hardened"), http.StatusOK) })
		t.Logf("Envoy %d: the first good answer %v after it was ready", i+1, time.Since(began).Round(time.Millisecond))
		envoy.Kill()
	}
}

// TestFaultClockSkew: an issuer whose clock is ahead or behind by less than the leeway is
// believed; beyond that it is a 401, not an outage.
func TestFaultClockSkew(t *testing.T) {
	f := startFaulty(t)
	front := f.traffic.lanes[0].address
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
		if err := wantStatus(front, token, row.status); err != nil {
			t.Errorf("an issuer whose clock is %s: %v", row.name, err)
		}
	}
}
