//go:build dragonfly || netbsd || openbsd

package unixmsg

import "golang.org/x/sys/unix"

// PeerCred returns the process, user and group at the other end of the socket
// fd as the kernel noted them when the stream was made. The ids are the
// effective ones; pid is 0 on dragonfly. The error is an *os.SyscallError.
//
// x/sys/unix has no getsockopt for the struct of this system, and OpenBSD
// refuses system calls that do not come from libc. But it has one for any 32
// bytes, which are enough for the fields in front. Compiled, not run.
func PeerCred(fd int) (pid int, uid, gid uint32, err error) {
	words, err := unix.GetsockoptICMPv6Filter(fd, credLevel, credOption)
	if err != nil {
		return 0, 0, 0, fail("getsockopt", err)
	}
	pid, uid, gid = credFrom(words.Filt)
	return pid, uid, gid, nil
}
