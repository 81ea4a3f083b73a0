package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A process is a server under measurement.
type process struct {
	cmd     *exec.Cmd
	started time.Time
	log     *os.File
}

// start runs a server, with its output in a file of dir and env on top of ours.
func start(dir, name string, env []string, args ...string) (*process, error) {
	log, err := os.CreateTemp(dir, "log-")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(name, args...), started: time.Now(), log: log}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	return p, p.cmd.Start()
}

// output is what the server has printed, as far as it helps to tell what went wrong.
func (p *process) output() string {
	text, err := os.ReadFile(p.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[:min(len(text), 16<<10)])
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	p.log.Close()
}

// freeAddress is a loopback address that nobody listened on a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// cpu is the user and system time that the process has used. /proc counts in ticks
// of 10 ms, so a measurement should span a second or more.
func (p *process) cpu() (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the command's name may hold spaces
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat is not in its form", p.cmd.Process.Pid)
	}
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// resident is what of a process is in memory. What it shares with its file on disk (code
// and constants) is counted as its own, although the kernel can drop it at any time.
type resident struct {
	MiB     float64 `json:"mib"`
	AnonMiB float64 `json:"anon_mib"` // of MiB: heap and stacks
	FileMiB float64 `json:"file_mib"` // of MiB: pages of the binary
	PeakMiB float64 `json:"peak_mib"` // the most MiB was since the start
}

// memory is what is resident now.
func (p *process) memory() (resident, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return resident{}, err
	}
	var r resident
	fields := map[string]*float64{"VmRSS": &r.MiB, "RssAnon": &r.AnonMiB, "RssFile": &r.FileMiB, "VmHWM": &r.PeakMiB}
	found := 0
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		field := fields[name]
		if field == nil {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			return resident{}, err
		}
		*field = kib / 1024
		found++
	}
	if found != len(fields) {
		return resident{}, fmt.Errorf("/proc/%d/status is not in its form", p.cmd.Process.Pid)
	}
	return r, nil
}
