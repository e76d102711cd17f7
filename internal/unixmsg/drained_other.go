//go:build unix && !aix && !linux

package unixmsg

// CanDrain says whether Drained works on this system.
const CanDrain = false

// Drained reports whether the peer of the stream socket fd has read everything
// that was written to it: nobody tells here.
func Drained(fd int) bool { return false }
