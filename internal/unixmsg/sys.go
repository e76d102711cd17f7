//go:build unix && !aix && !(linux && imsgfault)

package unixmsg

import "golang.org/x/sys/unix"

// The system calls of this package, each under a second name. In a build with
// the tag imsgfault the same names make calls fail and come up short, as
// fault_linux.go says: a new call gets a name here and one there. Here they
// cost nothing, because the compiler puts the call itself in their place
// (but for fcntl, which happens once in the life of a channel).

func sysFcntl(fd, cmd, arg int) (int, error) { return unix.FcntlInt(uintptr(fd), cmd, arg) }

func sysPoll(fds []unix.PollFd, millis int) (int, error) { return unix.Poll(fds, millis) }

func sysSend(fd int, bufs [][]byte, control []byte, flags Flags) (int, error) {
	return sendmsg(fd, bufs, control, flags)
}

func sysSockopt(fd, option int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
}

func sysSocketpair(domain, typ, proto int) ([2]int, error) {
	return unix.Socketpair(domain, typ, proto)
}
