//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

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
