package unixmsg

import "golang.org/x/sys/unix"

// peerPID asks separately: the credentials do not have it. Compiled, not run.
func peerPID(fd int) (int, error) {
	return unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
}
