//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Accept takes the next connection of fd, a listening socket that must be
// non-blocking. The new socket is non-blocking and close-on-exec and belongs to
// the caller. A connection that its client has given up meanwhile is passed
// over. With a full descriptor table (EMFILE) no connection is lost: the next
// call can still take it. The error is syscall.EAGAIN if there is none, else an
// *os.SyscallError.
func Accept(fd int) (int, error) {
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
