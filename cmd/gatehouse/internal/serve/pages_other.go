//go:build !linux

package serve

// unmapUnused does nothing: it is for Linux, where the service is run.
func unmapUnused() error { return nil }
