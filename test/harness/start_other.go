//go:build !linux

package harness

import (
	"os/exec"
	"syscall"
)

// startAndWait starts cmd in its own process group and calls ended when it has ended.
func startAndWait(cmd *exec.Cmd, ended func()) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_ = cmd.Wait() // cmd.ProcessState says how it ended
		ended()
	}()
	return nil
}
