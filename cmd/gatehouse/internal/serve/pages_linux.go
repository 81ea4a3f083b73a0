package serve

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapUnused takes the pages of the binary, code and constants, out of the page tables.
// Whichever is needed again comes back by a fault of a microsecond or less, with its
// neighbours; those of reading a file, of commands and of libraries' beginnings do not.
//
// The pages stay where they were, in the kernel's cache of the file: clean, shared by all
// processes of the binary, and free to be dropped, which pages that no process has mapped
// are sooner. So what a machine can run more of is less than the resident set says.
// Measured with 1,000 routes: 34 MiB of pages before, 4 after, 20 under load.
func unmapUnused() error {
	binary, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("finding the binary: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("reading the process's mappings: %w", err)
	}
	for line := range strings.Lines(string(maps)) {
		from, to, ok := readOnlyMapping(line, binary)
		if !ok {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmapping pages: %w", errno)
		}
	}
	return nil
}

// readOnlyMapping reads a line of /proc/self/maps: `from-to perms offset device inode path`.
// ok is for mappings of the binary that nobody can have written to: of others,
// MADV_DONTNEED would throw away what was written.
func readOnlyMapping(line, binary string) (from, to uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[1] != "r-xp" && fields[1] != "r--p" || strings.Join(fields[5:], " ") != binary {
		return 0, 0, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	a, errA := strconv.ParseUint(first, 16, strconv.IntSize)
	b, errB := strconv.ParseUint(last, 16, strconv.IntSize)
	return uintptr(a), uintptr(b), errA == nil && errB == nil && a < b
}
