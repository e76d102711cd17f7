//go:build illumos || solaris

package unixmsg

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// PeerCred returns the process, user and group at the other end of the socket
// fd as the kernel noted them when the stream was made. The ids are the
// effective ones. The error is an *os.SyscallError. Compiled, not run.
func PeerCred(fd int) (pid int, uid, gid uint32, err error) {
	c, err := unix.GetPeerUcred(uintptr(fd))
	if err != nil {
		return 0, 0, 0, fail("getpeerucred", err)
	}
	pid, uid, gid = c.Getpid(), uint32(c.Geteuid()), uint32(c.Getegid())
	runtime.KeepAlive(c) // a finalizer frees what the three calls look at
	return pid, uid, gid, nil
}
