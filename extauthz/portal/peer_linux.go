package portal

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUID is the user at the other end of a Unix socket (SO_PEERCRED).
func peerUID(conn net.Conn) (int, bool) {
	socket, ok := unixConn(conn)
	if !ok {
		return 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, false
	}
	uid := -1
	err = raw.Control(func(fd uintptr) {
		if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(credentials.Uid)
		}
	})
	return uid, err == nil && uid >= 0
}
