//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Accept takes the next connection of fd, a listening socket, which is made
// non-blocking if it is not: a holder of a duplicate, such as os/exec, may have
// changed it, and accept(2) has no flag like MSG_DONTWAIT. The new socket is non-blocking and close-on-exec and belongs to
// the caller. A connection that its client has given up meanwhile is passed
// over. With a full descriptor table (EMFILE) no connection is lost: the next
// call can still take it. The error is syscall.EAGAIN if there is none, else an
// *os.SyscallError.
func Accept(fd int) (int, error) {
	if Blocking(fd) {
		if err := unix.SetNonblock(fd, true); err != nil {
			return -1, fail("fcntl", err)
		}
	}
	for {
		n, err := accept(fd)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, fail("accept", err)
		}
	}
}
