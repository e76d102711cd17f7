//go:build unix && !aix && (!linux || nosendmmsg)

package unixmsg

// SendMany sends the first group. On Linux the tag nosendmmsg is for qemu's user
// mode, whose sendmmsg(2) goes on behind a message that it sent in part.
func SendMany(fd int, groups []Group, flags Flags) (int, error) { return sendFirst(fd, groups, flags) }
