//go:build darwin

package unixmsg

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// socket returns a new AF_UNIX socket, non-blocking and close-on-exec. Compiled,
// not run.
func socket(typ int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(unix.AF_UNIX, typ, 0)
	if err != nil {
		return -1, err
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Pair returns the two ends of a new AF_UNIX stream, close-on-exec, and
// non-blocking if nonblock is set. Both belong to the caller. Compiled, not run.
func Pair(nonblock bool) (a, b int, err error) {
	syscall.ForkLock.RLock()
	fds, err := sysSocketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, -1, fail("socketpair", err)
	}
	if nonblock {
		for _, fd := range fds {
			if err := unix.SetNonblock(fd, true); err != nil {
				unix.Close(fds[0])
				unix.Close(fds[1])
				return -1, -1, fail("fcntl", err)
			}
		}
	}
	return fds[0], fds[1], nil
}
