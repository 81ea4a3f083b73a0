package harness

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startAndWait starts cmd in its own process group and calls ended when it has ended.
//
// Linux kills the program when the test process dies without cleaning up (a test that ran
// out of time). That is tied to the thread that started it, so the thread is kept until
// the program has ended.
func startAndWait(cmd *exec.Cmd, ended func()) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // cmd.ProcessState says how it ended
			ended()
		}
	}()
	return <-started
}
