package serve

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// defaultSocketMode lets nobody else in: whoever can ask can also flood.
const defaultSocketMode fs.FileMode = 0o600

// probeTimeout is how long it may take to find out whether somebody listens on a socket.
const probeTimeout = time.Second

// listen opens a listener at "host:port" or "unix:///path". mode is of the socket.
func listen(address string, mode fs.FileMode) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix://")
	if !isUnix {
		return net.Listen("tcp", address)
	}
	return listenUnix(path, mode)
}

// socketMode reads permissions in octal; "" is [defaultSocketMode].
func socketMode(text string) (fs.FileMode, error) {
	if text == "" {
		return defaultSocketMode, nil
	}
	mode, err := strconv.ParseUint(text, 8, 9)
	if err != nil {
		return 0, fmt.Errorf("reading the mode of a socket: %w", err)
	}
	return fs.FileMode(mode), nil
}

// listenUnix makes the socket beside path and renames it into place once it has its mode,
// so that it is never open to more than that. A socket that nobody listens on any more is
// replaced, anything else at path is not.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("listening on %s: a file that is not a socket is in the way", path)
		}
		if conn, err := net.DialTimeout("unix", path, probeTimeout); err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("listening on %s: another process listens there", path)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it has another name then
	if err := errors.Join(os.Chmod(tmp, mode), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(tmp))
	}
	return &unixListener{listener, path}, nil
}

type unixListener struct {
	*net.UnixListener
	path string
}

func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err // closed before: path may be another's by now
	}
	return errors.Join(err, os.Remove(l.path))
}

// shownAddress is how the log and a configuration file write a listener's address.
func shownAddress(a net.Addr) string {
	if a.Network() == "unix" {
		return "unix://" + a.String()
	}
	return a.String()
}
