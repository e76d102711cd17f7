//go:build !imsgfault

package unixmsg

import "golang.org/x/sys/unix"

// More of sys.go: calls that other systems make in other ways.

func sysRecv(fd int, p, control []byte, flags Flags) (n, size, msgFlags int, errno unix.Errno) {
	// Not in one line: that would be too much for the compiler to inline.
	n, size, msgFlags, errno = recvmsg(fd, p, control, flags)
	return
}

func sysRecvMany(fd int, msgs []mmsghdr, flags Flags) (int, unix.Errno) {
	return recvmmsg(fd, msgs, flags)
}

func sysSendMany(fd int, msgs []mmsghdr, flags Flags) (int, unix.Errno) {
	return sendmmsg(fd, msgs, flags)
}

func sysPeerCred(fd int) (*unix.Ucred, error) {
	return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
}

func sysPassRights(fd, value int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, value)
}
