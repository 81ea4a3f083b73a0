//go:build unix

package serve

import (
	"math"
	"syscall"
)

// descriptorLimit is how many files and connections the process may have open: Go has
// raised the soft limit to the hard one by now.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxInt32 // it cannot be told, so that nothing is cut
	}
	return uint64(limit.Cur) //nolint:unconvert // signed on some systems
}
