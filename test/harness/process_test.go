package harness

import (
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKillTakesTheGroup starts a shell that starts a child which ignores SIGTERM, and
// proves that neither outlives Stop.
func TestKillTakesTheGroup(t *testing.T) {
	p := Start(t, "shell", exec.Command("sh", "-c", `(trap "" TERM; echo child; exec sleep 300) & echo $!; exec sleep 300`))
	var child int
	p.WaitFor(t, "both lines", 10*time.Second, func(output string) bool {
		for line := range strings.Lines(output) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				child = pid
			}
		}
		return child != 0 && strings.Contains(output, "child")
	})
	p.Stop()
	Eventually(t, 10*time.Second, func() error {
		if err := syscall.Kill(child, 0); err == nil && !zombie(child) {
			return errStillThere
		}
		return nil
	})
}

func TestExitCode(t *testing.T) {
	p := Start(t, "shell", exec.Command("sh", "-c", "echo bye; exit 3"))
	p.WaitFor(t, "bye", 10*time.Second, func(output string) bool { return strings.Contains(output, "bye") })
	<-p.Done()
	if code := p.ExitCode(); code != 3 {
		t.Errorf("ExitCode = %d, want 3", code)
	}
}

var errStillThere = errors.New("the child is still there")

// zombie reports whether a process has ended and only waits for its parent to notice.
func zombie(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err != nil || strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}
