//go:build darwin || freebsd

package unixmsg

import (
	"golang.org/x/sys/unix"
)

// PeerCred returns the process, user and group at the other end of the socket
// fd as the kernel noted them when the stream was made. The ids are the
// effective ones; pid is 0 on freebsd. The error is an *os.SyscallError.
// Compiled, not run.
func PeerCred(fd int) (pid int, uid, gid uint32, err error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, 0, 0, fail("getsockopt", err)
	}
	if c.Ngroups < 1 {
		return 0, 0, 0, fail("getsockopt", unix.EINVAL)
	}
	pid, err = peerPID(fd)
	if err != nil {
		return 0, 0, 0, fail("getsockopt", err)
	}
	return pid, c.Uid, c.Groups[0], nil
}
