// Package demo shows gatehouse at work: a real Envoy with the shipped configuration in
// front of an upstream that tells what it saw, a local issuer, and a tour of requests
// whose outcome is checked. Everything runs on loopback and ends with the demo. Start
// reading at [Run], then tour.go and gatehouse.yaml.
package demo

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-authz/gatehouse/envoy"
)

//go:embed gatehouse.yaml
var configuration []byte

const (
	// startTimeout bounds each program's start, also on a busy machine; usually all of
	// them together take half a second.
	startTimeout = 60 * time.Second
	// stopTimeout is how long Envoy may take to end before it is killed.
	stopTimeout = 5 * time.Second
	// pollEvery is how often readiness is asked for.
	pollEvery = 20 * time.Millisecond
)

// Ports that are easy to remember. Where one is taken, the kernel chooses another.
const (
	envoyAddress    = "127.0.0.1:10000"
	grpcAddress     = "127.0.0.1:9191"
	opsAddress      = "127.0.0.1:8082"
	issuerAddress   = "127.0.0.1:9000"
	upstreamAddress = "127.0.0.1:8080"
)

// Options say how the demo runs.
type Options struct {
	Out  io.Writer
	Once bool // end after the tour

	// Serve runs gatehouse with these arguments and variables until ctx ends, and
	// returns its exit code. What it logs, as JSON lines, goes to log.
	Serve func(ctx context.Context, args []string, env map[string]string, log io.Writer) int
}

// ErrTour says that a step of the tour came out otherwise than it must.
var ErrTour = errors.New("the tour did not come out as it must")

// Run starts everything, walks the tour, and stays up until ctx ends unless Once is set.
// A ctx that ends after the tour is no error.
func Run(ctx context.Context, o Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dir, err := os.MkdirTemp("", "gatehouse-demo-")
	if err != nil {
		return fmt.Errorf("making a folder for the demo: %w", err)
	}
	defer os.RemoveAll(dir)

	binary, err := envoy.Find(ctx, o.Out)
	if err != nil {
		return err
	}
	var s stage
	defer s.stop()
	if err := s.startLocal(); err != nil {
		return err
	}
	gatehouse, err := startGatehouse(ctx, cancel, dir, s.issuer.url, o.Serve)
	if err != nil {
		return err
	}
	defer gatehouse.stop()
	proxy, err := startEnvoy(ctx, cancel, dir, binary, gatehouse.grpc, s.upstream)
	if err != nil {
		return err
	}
	defer proxy.stop()

	fmt.Fprintf(o.Out, "envoy      http://%s   (%s)\n", proxy.address, binary)
	fmt.Fprintf(o.Out, "gatehouse  %s, ops on http://%s\n", gatehouse.grpc, gatehouse.ops)
	fmt.Fprintf(o.Out, "issuer     %s\nupstream   http://%s\n\n", s.issuer.url, s.upstream)

	secrets, err := s.secrets()
	if err != nil {
		return err
	}
	g := &guide{out: o.Out, envoy: proxy.address, secret: secrets, log: gatehouse.log, dir: dir}
	wrong, err := g.walk(ctx)
	if err != nil {
		return errors.Join(err, tail("gatehouse", gatehouse.log), tail("Envoy", proxy.log))
	}
	fmt.Fprintf(o.Out, "%d of %d steps came out as they must.\n", len(tour)-wrong, len(tour))
	if wrong > 0 {
		return ErrTour
	}
	if o.Once {
		return nil
	}
	printLines(o.Out, dir, s.issuer.url, proxy.address, gatehouse)
	<-ctx.Done()
	if cause := context.Cause(ctx); errors.Is(cause, errEnded) {
		return errors.Join(cause, tail("gatehouse", gatehouse.log), tail("Envoy", proxy.log))
	}
	return nil
}

// errEnded says that a program of the demo ended by itself.
var errEnded = errors.New("ended before the demo did")

// printLines shows what to try next.
func printLines(w io.Writer, dir, issuer, front string, g *gatehouse) {
	check := `{"attributes": {"request": {"http": {"method": "GET", "host": "localhost", "path": "/me"}}}}`
	fmt.Fprintf(w, `
It stays up until Ctrl-C. Copy and paste:

  ALICE=$(curl -s %[1]s/token/alice)     # bob and carol too
  API_KEY=%[6]s
  curl -i http://%[2]s/tenants/acme/orders/1 -H "authorization: Bearer $ALICE"
  curl -i http://%[2]s/tenants/acme/orders/1 -H "x-api-key: $API_KEY"
  curl -i http://%[2]s/admin/ -H "authorization: Bearer $ALICE"

  grpcurl -plaintext %[3]s list
  grpcurl -plaintext -d '%[7]s' \
    %[3]s envoy.service.auth.v3.Authorization/Check

  curl -s http://%[4]s/metrics | grep gatehouse_decisions_total
  curl -s 'http://%[4]s/readyz?verbose'

The configuration is %[5]s; kill -HUP %[8]d reads it again.
`, issuer, front, g.grpc, g.ops, filepath.Join(dir, "gatehouse.yaml"), apiKey, check, os.Getpid())
}

// A stage is what the demo serves itself: the issuer and the upstream.
type stage struct {
	issuer   *issuer
	upstream string // host:port
	servers  []*http.Server
}

func (s *stage) startLocal() error {
	listener, err := listenNear(issuerAddress)
	if err != nil {
		return err
	}
	if s.issuer, err = newIssuer("http://"+listener.Addr().String(), time.Now); err != nil {
		return errors.Join(err, listener.Close())
	}
	handler, err := s.issuer.Handler()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s.serve(listener, handler)
	if listener, err = listenNear(upstreamAddress); err != nil {
		return err
	}
	s.upstream = listener.Addr().String()
	s.serve(listener, http.HandlerFunc(upstream))
	return nil
}

func (s *stage) serve(l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: startTimeout}
	s.servers = append(s.servers, server)
	go func() { _ = server.Serve(l) }() // ends by Close; anything else shows in the tour
}

func (s *stage) stop() {
	for _, server := range s.servers {
		_ = server.Close()
	}
}

// secrets are the values that stand behind the names in the tour.
func (s *stage) secrets() (map[string]string, error) {
	secrets := map[string]string{"API_KEY": apiKey}
	var errs []error
	for person := range people {
		token, err := s.issuer.token(person, tokenLifetime)
		errs = append(errs, err)
		secrets[strings.ToUpper(person)] = token
	}
	expired, err := s.issuer.token("alice", -tokenLifetime)
	secrets["EXPIRED"] = expired
	return secrets, errors.Join(append(errs, err)...)
}

// gatehouse is the running service.
type gatehouse struct {
	grpc, ops string // host:port
	log       *lines
	stop      func()
}

func startGatehouse(ctx context.Context, fail context.CancelCauseFunc, dir, issuer string,
	serve func(context.Context, []string, map[string]string, io.Writer) int) (*gatehouse, error) {
	path := filepath.Join(dir, "gatehouse.yaml")
	if err := os.WriteFile(path, configuration, 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	env := map[string]string{
		"DEMO_API_KEY": apiKey, "DEMO_ISSUER": issuer,
		"DEMO_GRPC": free(grpcAddress), "DEMO_OPS": free(opsAddress),
	}
	g := &gatehouse{log: newLines()}
	serving, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		code := serve(serving, []string{"serve", "--config", path, "--drain-delay", "0s"}, env, g.log)
		if serving.Err() == nil {
			fail(fmt.Errorf("gatehouse %w, with exit code %d", errEnded, code))
		}
	}()
	g.stop = func() { cancel(); <-ended }
	err := g.log.waitFor(ctx, "gatehouse to listen", 0, startTimeout, g.listening)
	if err == nil {
		err = g.waitReady(ctx)
	}
	if err != nil {
		g.stop()
		return nil, errors.Join(err, tail("gatehouse", g.log))
	}
	return g, nil
}

// listening reads addresses from a line of the log until both are known.
func (g *gatehouse) listening(line string) bool {
	var said struct{ Msg, Listener, Address string }
	if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "listening" {
		switch said.Listener {
		case "grpc":
			g.grpc = said.Address
		case "ops":
			g.ops = said.Address
		}
	}
	return g.grpc != "" && g.ops != ""
}

// waitReady waits until every condition holds, the issuer's keys included.
func (g *gatehouse) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.ops+"/readyz?verbose", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err == nil && resp.StatusCode == http.StatusOK && !strings.Contains(string(body), "[!]") {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for gatehouse to be ready: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// proxy is the running Envoy.
type proxy struct {
	address string // host:port
	log     *lines
	stop    func()
}

func startEnvoy(ctx context.Context, fail context.CancelCauseFunc, dir, binary, grpc, upstream string) (*proxy, error) {
	config, err := envoy.Render(envoy.Addresses{
		Admin: "127.0.0.1:0", Listen: free(envoyAddress), Gatehouse: []string{grpc}, Upstream: upstream,
	})
	if err != nil {
		return nil, err
	}
	configPath, adminPath := filepath.Join(dir, "envoy.yaml"), filepath.Join(dir, "admin")
	if err := os.WriteFile(configPath, config, 0o600); err != nil {
		return nil, fmt.Errorf("writing Envoy's configuration: %w", err)
	}
	p := &proxy{log: newLines()}
	running, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(running, binary, envoy.Args(configPath, adminPath)...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("starting Envoy: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := cmd.Wait()
		if running.Err() == nil {
			fail(fmt.Errorf("Envoy %w: %w", errEnded, err))
		}
	}()
	p.stop = func() { cancel(); <-ended }
	waiting, done := context.WithTimeout(ctx, startTimeout)
	defer done()
	where, err := envoy.WaitReady(waiting, adminPath)
	if err != nil {
		p.stop()
		return nil, errors.Join(err, tail("Envoy", p.log))
	}
	p.address = where.Listeners["front"]
	return p, nil
}

// listenNear listens on address, or on another port where that one is taken.
func listenNear(address string) (net.Listener, error) {
	return net.Listen("tcp", free(address))
}

// free is address if nobody listens there, else the same host with port 0.
func free(address string) string {
	l, err := net.Listen("tcp", address)
	if err == nil {
		_ = l.Close()
		return address
	}
	host, _, _ := strings.Cut(address, ":")
	return host + ":0"
}

// maxTail is how much of a program's output a failure shows, in bytes.
const maxTail = 4 << 10

// tail is the end of a program's output, as an error to join to the one that it explains.
func tail(name string, l *lines) error {
	text := strings.TrimSpace(l.String())
	if len(text) > maxTail {
		text = "[...]" + text[len(text)-maxTail:]
	}
	return fmt.Errorf("output of %s:\n%s", name, text)
}
