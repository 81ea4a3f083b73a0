//go:build !unix

package serve

import "math"

// descriptorLimit is how many connections the process may have open: there is no limit.
func descriptorLimit() uint64 { return math.MaxInt32 }
