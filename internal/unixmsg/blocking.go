//go:build unix && !aix

package unixmsg

import "golang.org/x/sys/unix"

// Blocking reports whether calls on fd wait. If the system cannot tell, as with
// a descriptor that is not open, the answer is no.
func Blocking(fd int) bool {
	mode, err := sysFcntl(fd, unix.F_GETFL, 0)
	return err == nil && mode&unix.O_NONBLOCK == 0
}

// IsOpen reports whether fd is an open descriptor.
func IsOpen(fd int) bool {
	_, err := sysFcntl(fd, unix.F_GETFD, 0)
	return err == nil
}
