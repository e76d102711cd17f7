//go:build unix && !aix && !linux

package unixmsg

// SendMany sends the first group. Compiled, not run.
func SendMany(fd int, groups []Group, flags Flags) (int, error) { return sendFirst(fd, groups, flags) }
