package unixmsg

import "golang.org/x/sys/unix"

// CanDrain says whether Drained works on this system.
const CanDrain = true

// Drained reports whether the peer of the stream socket fd has read everything
// that was written to it. Where a sandbox forbids to ask it is true.
func Drained(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return err != nil || n == 0
}
