package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// apart starts a server on one core, and keeps everything of this process on the others
// until release is called: what is measured is how much the server can answer, and not how
// much the load leaves it. It does nothing where there is one core only.
func apart(start func() (*process, error)) (server *process, release func(), err error) {
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, nil, fmt.Errorf("reading the cores of this process: %w", err)
	}
	if all.Count() < 2 {
		server, err = start()
		return server, func() {}, err
	}
	rest := all
	for core := 0; first.Count() == 0; core++ {
		if all.IsSet(core) {
			first.Set(core)
			rest.Clear(core)
		}
	}
	runtime.LockOSThread() // whose cores the server inherits
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		return nil, nil, fmt.Errorf("choosing a core: %w", err)
	}
	server, err = start()
	if moved := move(&rest); err == nil {
		err = moved
	}
	return server, func() { _ = move(&all) }, err
}

// move brings all threads of this process to cores. Those that are made later inherit them.
func move(cores *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := unix.SchedSetaffinity(id, cores); err != nil && err != unix.ESRCH { // it may have ended
			return fmt.Errorf("moving a thread to other cores: %w", err)
		}
	}
	return nil
}
