//go:build unix && !aix

package unixmsg

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// DupFile is Dup for the descriptor of f, a file or connection, which stays
// open meanwhile and keeps its blocking mode, as it would not with its method
// Fd. A closed f is os.ErrClosed.
func DupFile(f syscall.Conn) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, os.ErrClosed // the only reason, under more than one name
	}
	if cerr := raw.Control(func(old uintptr) { fd, err = Dup(int(old)) }); cerr != nil {
		return -1, os.ErrClosed
	}
	return fd, err
}

// Dup returns a second, close-on-exec descriptor for the open file behind fd.
// It belongs to the caller. Its number is 3 or more: a socket must not become
// the standard output of a program that was started with that closed. The
// blocking mode is shared by both, and by every other holder of the file.
func Dup(fd int) (int, error) {
	for {
		n, err := sysFcntl(fd, unix.F_DUPFD_CLOEXEC, 3)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fail("fcntl", err)
		}
		return n, nil
	}
}
