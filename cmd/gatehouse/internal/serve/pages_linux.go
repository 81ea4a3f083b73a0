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
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("reading the process's mappings: %w", err)
	}
	for _, m := range readOnlyMappings(string(smaps), binary) {
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmapping pages: %w", errno)
		}
	}
	return nil
}

// A mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// readOnlyMappings reads /proc/self/smaps: for each mapping a line `from-to perms offset
// device inode path`, and lines that count its pages by kind. It gives those of the binary
// that nobody can write to, and nobody has: of others, MADV_DONTNEED would throw away what
// was written, as a dynamic loader does before it write-protects a page.
func readOnlyMappings(smaps, binary string) []mapping {
	var list []mapping
	var last mapping
	ours := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if !strings.HasSuffix(fields[0], ":") { // of a new mapping
			last, ours = readOnlyMapping(fields, binary)
			continue
		}
		// The last line that matters of each mapping; one without it is left alone.
		if fields[0] == "Anonymous:" && fields[1] == "0" && ours {
			list = append(list, last)
		}
	}
	return list
}

func readOnlyMapping(fields []string, binary string) (m mapping, ok bool) {
	if len(fields) < 6 || fields[1] != "r-xp" && fields[1] != "r--p" || strings.Join(fields[5:], " ") != binary {
		return m, false
	}
	first, last, _ := strings.Cut(fields[0], "-")
	from, errFrom := strconv.ParseUint(first, 16, strconv.IntSize)
	to, errTo := strconv.ParseUint(last, 16, strconv.IntSize)
	return mapping{uintptr(from), uintptr(to)}, errFrom == nil && errTo == nil && from < to
}
