//go:build !linux

package live

import "errors"

func isolated() bool { return false }

func isolate() (int, error) {
	return 1, errors.New("only Linux has network namespaces: run make acceptance there")
}

func network() error { return errors.New("only Linux has network namespaces") }
