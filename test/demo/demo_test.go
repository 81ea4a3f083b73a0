// Package demo runs the demo as somebody does who has the binary and nothing else.
package demo

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-authz/gatehouse/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// demoTimeout is how long the tour may take on a busy machine; usually it is a second.
const demoTimeout = 2 * time.Minute

var allSteps = regexp.MustCompile(`(?m)^(\d+) of (\d+) steps came out as they must\.$`)

func startDemo(t *testing.T, args ...string) *harness.Process {
	t.Helper()
	cmd := exec.Command(harness.Binary(t), append([]string{"demo"}, args...)...)
	cmd.Dir = t.TempDir() // no repository around it
	return harness.Start(t, "demo", cmd)
}

func TestDemoOnce(t *testing.T) {
	p := startDemo(t, "--once")
	select {
	case <-p.Done():
	case <-time.After(demoTimeout):
		t.Fatalf("the demo does not end:\n%s", p.Output())
	}
	m := allSteps.FindStringSubmatch(p.Output())
	if p.ExitCode() != 0 || m == nil || m[1] != m[2] || strings.Contains(p.Output(), "WRONG") {
		t.Errorf("demo --once: exit %d, want 0 and every step as it must be:\n%s", p.ExitCode(), p.Output())
	}
}

// TestDemoStaysUp copies a line that the demo prints, and ends it with Ctrl-C.
func TestDemoStaysUp(t *testing.T) {
	p := startDemo(t)
	p.WaitFor(t, "lines to copy", demoTimeout, func(output string) bool { return strings.Contains(output, "reads it again") })
	line := regexp.MustCompile(`curl -i (http://\S+) -H "x-api-key: \$API_KEY"`).FindStringSubmatch(p.Output())
	key := regexp.MustCompile(`API_KEY=(\S+)`).FindStringSubmatch(p.Output())
	if line == nil || key == nil {
		t.Fatalf("no line with an API key in:\n%s", p.Output())
	}
	out, err := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", line[1], "-H", "x-api-key: "+key[1]).CombinedOutput()
	if err != nil || string(out) != "200" {
		t.Errorf("%s = %s, %v; want 200", line[0], out, err)
	}
	p.Signal(syscall.SIGINT)
	select {
	case <-p.Done():
	case <-time.After(demoTimeout):
		t.Fatalf("Ctrl-C does not end the demo:\n%s", p.Output())
	}
	if p.ExitCode() != 0 {
		t.Errorf("after Ctrl-C: exit %d, want 0:\n%s", p.ExitCode(), p.Output())
	}
}
