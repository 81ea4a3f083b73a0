// Package harness runs real programs for the end-to-end tests: gatehouse itself
// ([StartGatehouse]), Envoy with the shipped configuration ([StartEnvoy]) and whatever
// else a test needs ([Start]). Every program belongs to a test: it ends with it, and its
// output is shown if the test failed.
//
// Ports are chosen by the kernel and read back from the program that got them, so that
// tests run beside each other and beside anything else.
package harness

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopTimeout is how long a program may take to end after SIGTERM before it is killed.
const stopTimeout = 10 * time.Second

// pollEvery is how often a condition is looked at again.
const pollEvery = 10 * time.Millisecond

// maxDump is how much of a program's output a failed test shows, in bytes from the end.
const maxDump = 16 << 10

// Process is a running program.
type Process struct {
	name    string
	cmd     *exec.Cmd
	logPath string
	done    chan struct{} // closed when the program has ended
}

// Start runs cmd in a process group of its own, with its output in a file, and stops it
// when the test ends.
func Start(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	logPath := filepath.Join(t.TempDir(), name+".log")
	// Appending: the program may open its own output again, as Envoy does for access logs.
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	p := &Process{name: name, cmd: cmd, logPath: logPath, done: make(chan struct{})}
	if err := startAndWait(cmd, func() { close(p.done) }); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(p.Output(), maxDump))
		}
	})
	return p
}

// Output is what the program has written so far, both streams together.
func (p *Process) Output() string {
	output, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return string(output)
}

// PID is the program's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the program; one that has ended does not mind.
func (p *Process) Signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the status that the program ended with, -1 if by a signal. It may be called
// once Done is closed.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Stop ends the program: SIGTERM, then SIGKILL for it and all that it started.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	p.Kill()
}

// Kill ends the program and all that it started at once, and waits until it has ended.
func (p *Process) Kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// WaitFor calls look with the program's output until it returns true. It fails the test
// when the program ends before that or timeout passes.
func (p *Process) WaitFor(t testing.TB, what string, timeout time.Duration, look func(output string) bool) {
	t.Helper()
	if err := p.Await(what, timeout, look); err != nil {
		t.Fatal(err)
	}
}

// Await is WaitFor for those who know what to do next.
func (p *Process) Await(what string, timeout time.Duration, look func(output string) bool) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if look(p.Output()) {
			return nil
		}
		select {
		case <-p.done:
			if look(p.Output()) { // it may have spoken last
				return nil
			}
			return fmt.Errorf("%s ended (%v) before %s", p.name, p.cmd.ProcessState, what)
		case <-deadline:
			return fmt.Errorf("%s: no %s within %v", p.name, what, timeout)
		case <-tick.C:
		}
	}
}

// Eventually calls check until it returns nil; after timeout it fails the test with the
// last error.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", timeout, err)
		}
		<-tick.C
	}
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	_, s, _ = strings.Cut(s, "\n")
	return "[...]\n" + s
}

// errNotServing says that gatehouse is up and not ready.
var errNotServing = errors.New("not SERVING")

// races tells whether the product is built with the race detector, as "make race" does.
func races() bool { return os.Getenv("RACE") != "" }

// binary builds the product once per test process.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gatehouse")
	args := []string{"build", "-o", path}
	if races() {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/gatehouse-authz/gatehouse/cmd/gatehouse")...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("building gatehouse: %w: %s", err, out), os.RemoveAll(dir))
	}
	return path, nil
})

// BuildWith builds the product with a change in one file, of which nothing is left in the
// tree: before, which must be there once, becomes after. It gives the binary's path.
func BuildWith(t testing.TB, file, before, after string) string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatalf("finding the module: %v", err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), file)
	content, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(content), before) != 1 {
		t.Fatalf("%s does not hold once: %s", file, before)
	}
	text := strings.Replace(string(content), before, after, 1)
	// In the same place each time: the compiler's cache goes by the path, too.
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gatehouse", fmt.Sprintf("overlay-%x", sha256.Sum256([]byte(original+text))))
	changed, overlay, path := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json"), filepath.Join(t.TempDir(), "gatehouse")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err := errors.Join(err, os.MkdirAll(dir, 0o755),
		os.WriteFile(changed, []byte(text), 0o600),
		os.WriteFile(overlay, replace, 0o600)); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "-o", path, "github.com/gatehouse-authz/gatehouse/cmd/gatehouse")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building gatehouse: %v: %s", err, out)
	}
	return path
}

// Main runs the tests of a package that starts gatehouse: the TestMain of it calls
// os.Exit(harness.Main(m)). It builds the binary before the first test and removes it
// after the last.
func Main(m *testing.M) int {
	path, err := binary()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(filepath.Dir(path))
	return m.Run()
}

// Binary is the path of the gatehouse that Main has built.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
